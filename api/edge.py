"""The outermost ASGI layer: request ids, answer headers, errors as answers, records of requests."""

import hashlib
import re
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.error_forms import error_response
from api.errors import FingerprintError, reason_of
from auth.principal import USER
from gate.paths import RoutePaths
from request_state import state_of

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
_ALWAYS = [(b"x-content-type-options", b"nosniff")]


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request and its answer, as logs and metrics may show them: no text, token or raw path."""

    request_id: str
    method: str
    route: str  # a path of the service, or "other"
    status: int  # 0 when the client left before an answer began
    seconds: float
    tokens: int
    caller: str | None  # "user", or "service:NAME"; None if no one was let in
    user: str | None  # first 16 hex digits of SHA-256 of the id of a user
    reason: str | None  # why it was refused or failed
    error: Exception | None


class Edge:
    """Wraps the gate. Every exception that is raised below becomes an error answer here."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Collection[str],
        fingerprint: str,
        record: Callable[[RequestRecord], None],
    ) -> None:
        self.app, self.routes, self.record = app, RoutePaths(routes), record
        self.fingerprint = fingerprint
        self.always = [*_ALWAYS, (b"x-embedding-fingerprint", fingerprint.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and record it."""
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
                if _announces_body(scope):
                    # It may be unread: the server would read it all before the next request.
                    headers.append((b"connection", b"close"))
                await error_response(error, path=scope["path"])(scope, receive, answer)
        finally:
            self.record(self._record(scope, status, time.perf_counter() - started))
            # Its traceback refers to every frame, and so to the body and the scope: a reference
            # cycle that only the garbage collector would free.
            state.error = None

    def _record(self, scope: Scope, status: int, seconds: float) -> RequestRecord:
        state = state_of(scope)
        return RequestRecord(
            request_id=state.request_id,
            method=scope["method"] if scope["method"] in _METHODS else "other",
            route=self.routes.find(scope["path"]) or "other",
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
    """Raises FingerprintError if If-Fingerprint names another vector space."""
    for name, value in scope["headers"]:
        if name == b"if-fingerprint" and value.strip(b'" ') != fingerprint.encode():
            raise FingerprintError(value.decode("latin-1")[:64], fingerprint)


def _announces_body(scope: Scope) -> bool:
    return any(
        name in (b"content-length", b"transfer-encoding") and value != b"0"
        for name, value in scope["headers"]
    )


def _request_id(scope: Scope) -> str:
    """The caller's X-Request-ID if it is short and plain, else a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
