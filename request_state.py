"""The state of one request that its layers share: one object per request, in its ASGI scope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from auth.principal import Principal
from quota.quota import TokenAccount
from quota.receipt import Receipt

KEY = "embedding_api.request"


def _nothing() -> None:
    """Nothing to release or to abort."""


@dataclass(slots=True)
class RequestState:
    """Each field is set by the layer named above it, and read by the layers around or behind it."""

    # The connection: what it refused, whether the client does not read, and how to abort it.
    refused: Exception | None = None
    unread: bool = False
    abort_connection: Callable[[], None] = _nothing
    # The edge: the request's id, and headers of the answer, errors included.
    request_id: str = ""
    answer_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    # The gate: who calls, what was charged, and how to free the room of a large body.
    principal: Principal | None = None
    receipt: Receipt | None = None
    release_body: Callable[[], None] = _nothing
    # A batch: what charges the tokens of its requests, in place of the quota of all other requests.
    tokens: TokenAccount | None = None
    # The service: tokens of all texts, and of those that were not computed for this request; and
    # bytes that the answer holds until it is read.
    n_tokens: int = 0
    cached_tokens: int = 0
    answer_bytes: int = 0
    # The layer that answered an exception.
    error: Exception | None = None

    @property
    def charged(self) -> Receipt:
        """The receipt of a request that the gate has charged.

        Raises:
            ValueError: the gate has not charged it.
        """
        if self.receipt is None:
            raise ValueError("this request was not charged")
        return self.receipt

    @property
    def user_id(self) -> str:
        """The principal's user id; "" on pages that need no token."""
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
