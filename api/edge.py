"""The outermost ASGI layer: request id, headers of every answer, errors as answers, one record a request."""

import hashlib
import re
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import FingerprintError, error_response, reason_of
from auth.principal import USER
from request_state import state_of

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ALWAYS = [(b"x-content-type-options", b"nosniff")]


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request and its answer, as logs and metrics may know them: no text, no token, no raw path."""

    request_id: str
    method: str
    route: str  # a path of ours, or "other"
    status: int  # 0 when the client left before an answer began
    seconds: float
    tokens: int
    caller: str | None  # "user", or "service:NAME"; None where nobody was let in
    user: str | None  # first 16 hex digits of SHA-256 of the id of a user
    reason: str | None  # why it was refused or failed
    error: Exception | None


class Edge:
    """Wraps the gate. Whatever is raised below becomes an error envelope here, once."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Collection[str],
        fingerprint: str,
        record: Callable[[RequestRecord], None],
    ) -> None:
        self.app, self.routes, self.record = app, frozenset(routes), record
        self.fingerprint = fingerprint
        self.always = [*_ALWAYS, (b"x-embedding-fingerprint", fingerprint.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        state = state_of(scope)
        state.request_id = _request_id(scope)
        headers = state.answer_headers
        headers += [*self.always, (b"x-request-id", state.request_id.encode())]
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        try:
            _check_fingerprint(scope, self.fingerprint)
            await self.app(scope, receive, answer)
        except Exception as error:
            state.error = error
            if status == 0:
                if _announces_body(
                    scope
                ):  # unread on the wire: the server would read it all before the next request
                    headers.append((b"connection", b"close"))
                await error_response(error)(scope, receive, answer)
        finally:
            self.record(self._record(scope, status, time.perf_counter() - started))
            # Its traceback keeps every frame, and a body with it, which keep the scope: a circle
            # that would only be found by the garbage collector.
            state.error = None

    def _record(self, scope: Scope, status: int, seconds: float) -> RequestRecord:
        state = state_of(scope)
        return RequestRecord(
            request_id=state.request_id,
            method=scope["method"]
            if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS")
            else "other",
            route=scope["path"] if scope["path"] in self.routes else "other",
            status=status,
            seconds=seconds,
            tokens=state.n_tokens,
            caller=state.caller,
            user=_pseudonym(state.user_id) if state.caller == USER else None,
            reason=reason_of(state.error) if state.error else None,
            error=state.error,
        )


def _pseudonym(user_id: str) -> str:
    return hashlib.sha256(user_id.encode()).hexdigest()[:16]


def _check_fingerprint(scope: Scope, fingerprint: str) -> None:
    """Raises FingerprintError when the request wants the vectors of another vector space."""
    for name, value in scope["headers"]:
        if name == b"if-fingerprint" and value.strip(b'" ') != fingerprint.encode():
            raise FingerprintError(value.decode("latin-1")[:64], fingerprint)


def _announces_body(scope: Scope) -> bool:
    return any(
        name in (b"content-length", b"transfer-encoding") and value != b"0"
        for name, value in scope["headers"]
    )


def _request_id(scope: Scope) -> str:
    """The caller's X-Request-ID where it is harmless, else a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
