"""What the layers of one request tell one another: one object per request, in its ASGI scope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from auth.principal import Principal
from quota.receipt import Receipt

KEY = "embedding_api.request"


def _nothing() -> None:
    """There is nothing to release or to abort."""


@dataclass(slots=True)
class RequestState:
    """Each field is set by the layer that is named beside it, and read by layers around or behind it."""

    # The connection: what it refused, whether nobody reads the answer, and how to end it now.
    refused: Exception | None = None
    unread: bool = False
    abort_connection: Callable[[], None] = _nothing
    # The edge: the request's id, and what each answer carries, errors included.
    request_id: str = ""
    answer_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    # The gate: who calls, what was charged, and how to give back the room of a large body.
    principal: Principal | None = None
    receipt: Receipt | None = None
    release_body: Callable[[], None] = _nothing
    # The service: tokens of all texts, and bytes that the answer keeps until it is read.
    n_tokens: int = 0
    answer_bytes: int = 0
    # Whoever turned an exception into an answer.
    error: Exception | None = None

    @property
    def charged(self) -> Receipt:
        """The receipt of a request that the gate has charged."""
        if self.receipt is None:
            raise ValueError("this request was not charged")
        return self.receipt

    @property
    def user_id(self) -> str:
        """Of the principal; "" on pages that are open to all."""
        return "" if self.principal is None else self.principal.user_id

    @property
    def caller(self) -> str | None:
        """Of the principal: "user", or "service:NAME"."""
        return None if self.principal is None else self.principal.caller

    @property
    def bulk(self) -> bool:
        """Whether all other work goes before this request."""
        return self.principal is not None and self.principal.bulk


def state_of(scope: Any) -> RequestState:
    """The state of the request with this ASGI scope, made when it is first asked for."""
    state: RequestState | None = scope.get(KEY)
    if state is None:
        state = scope[KEY] = RequestState()
    return state
