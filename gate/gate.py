"""The gate: every check between a connection and the service, the cheapest first.

path -> CORS preflight -> method -> headers -> failures of the address -> token or key ->
blocked? -> requests in flight -> one request is charged -> body -> the service
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from auth.authenticator import Authenticator
from auth.errors import TokenForbidden, TokenInvalid, TokenMissing, UnknownKey
from auth.principal import Principal
from errors import Overloaded
from gate.bodies import Bodies, Receive, replay
from gate.client_address import TrustedProxies, client_address
from gate.cors import Cors
from gate.credentials import credential_of, misuse_of_service_key
from gate.errors import BodyTimeout, BodyTooLarge, MethodNotAllowed, PathNotFound, UserBlocked
from gate.failures import FailureBudget
from gate.in_flight import InFlight
from gate.paths import RoutePaths, meant_path, near_paths
from gate.request_headers import RequestHeaders, Takes, check_headers
from gate.streams import StreamedBody
from quota.errors import QuotaExceeded
from quota.quota import Quota
from quota.receipt import Receipt, set_policy, set_quota_headers, tokens_alone
from request_state import RequestState, state_of

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

#: Errors that count against an address. An expired token was valid once, and one that is too large
#: may be valid, so these do not count.
FAILURES = (TokenMissing, TokenInvalid, TokenForbidden, UnknownKey)
#: Statuses that decide on a refund: the first of callers' errors, the first of the service's, and
#: that of a client that disconnected.
CLIENT_ERROR, SERVER_ERROR, CLIENT_LEFT = 400, 500, 499


@dataclass(frozen=True)
class Route:
    """One path, in which {...} stands for a name. HEAD is allowed with GET.

    Attributes:
        methods: POST has a body.
        protected: whether it needs a token.
        charged: whether GET and DELETE cost a request too.
        form_bytes: the largest form that POST takes, and hands on as it comes; None for JSON.
    """

    methods: frozenset[str]
    protected: bool
    charged: bool = False
    form_bytes: int | None = None

    @property
    def allowed(self) -> frozenset[str]:
        """The methods of the path, HEAD included."""
        return self.methods | {"HEAD"} if "GET" in self.methods else self.methods

    def takes(self, method: str) -> Takes:
        """The kind of body of one of its methods."""
        if method != "POST":
            return "nothing"
        return "json" if self.form_bytes is None else "form"


class Gate:
    """ASGI middleware that raises GateError types, and answers only OPTIONS itself.

    It sets the principal of the request's state, and adds the headers that every answer has, errors
    included. A request with a body is charged before the body is read. The service replaces the
    receipt when it spends tokens; refunds are made here. `release_body` of the state releases the
    memory of a large body: the service calls it when it no longer needs the texts, and the gate
    after the answer.
    """

    def __init__(
        self,
        app: App,
        *,
        routes: Mapping[str, Route],
        authenticator: Authenticator,
        quota: Quota,
        max_body_bytes: int,
        body_timeout: float,
        max_in_flight: int,
        max_concurrent_per_user: int,
        failed_auth_per_minute: int,
        trusted_proxies: str = "",
        cors_allow_origins: Iterable[str] = (),
        ready: Callable[[], bool] = lambda: True,
        blocked: Container[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._routes = routes
        self._paths = RoutePaths(routes)
        self._near = near_paths(routes)
        self._authenticator = authenticator
        self._quota = quota
        self._max_body_bytes = max_body_bytes
        self._body_timeout = body_timeout
        self._bodies = Bodies(limit=max_body_bytes, seconds=body_timeout)
        self._in_flight = InFlight(max_in_flight, per_user=max_concurrent_per_user)
        self._failures = FailureBudget(failed_auth_per_minute, clock=clock)
        self._trusted = TrustedProxies.parse(trusted_proxies)
        self._cors = Cors.of(cors_allow_origins)
        self._ready = ready
        self._blocked = blocked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and hand it on."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)

    @property
    def in_flight(self) -> int:
        """Requests of users that are being served."""
        return self._in_flight.count

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = RequestHeaders.of(scope["headers"])
        answer = state_of(scope).answer_headers
        answer += self._cors.headers(headers.get(b"origin"))
        path = self._paths.find(scope["path"])
        if path is None:
            raise PathNotFound(meant=meant_path(scope["path"], self._near))
        route = self._routes[path]
        if scope["method"] == "OPTIONS":
            await self._answer_options(route, headers, answer, send)
            return
        if scope["method"] not in route.allowed:
            raise MethodNotAllowed(allowed=tuple(sorted(route.allowed)))
        takes = route.takes(scope["method"])
        streamed = route.form_bytes if takes == "form" else None
        check_headers(headers, max_body_bytes=streamed or self._max_body_bytes, takes=takes)
        with ExitStack() as held:
            if route.protected:
                await self._admit(scope, headers, held)
            if takes != "nothing" or route.charged:
                await self._serve_charged(scope, headers, receive, send, streamed=streamed)
            else:  # free of charge: /usage must answer when the limit is reached
                await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, headers: RequestHeaders, held: ExitStack) -> None:
        """Find out who is calling, and count the request in `held` while it is served."""
        state = state_of(scope)
        set_policy(state.answer_headers, self._quota.limits)
        if not self._ready():
            raise Overloaded(
                "The service is stopping. Try again in a few seconds.",
                retry_after=5,
                reason="stopping",
            )
        principal = await self._principal(scope, headers)
        state.principal = principal
        set_policy(state.answer_headers, self._quota.limits_of(principal.user_id))
        if principal.user_id in self._blocked:
            raise UserBlocked
        held.enter_context(self._in_flight.hold(principal.user_id))

    async def _principal(self, scope: Scope, headers: RequestHeaders) -> Principal:
        credential = credential_of(headers)
        misuse = misuse_of_service_key(headers, query=scope.get("query_string", b""))
        if misuse is None and (principal := self._authenticator.recall(credential)):
            return principal
        peer = scope["client"][0] if scope.get("client") else None
        address = client_address(peer, headers.all(b"x-forwarded-for"), self._trusted)
        self._failures.check(address)
        try:
            if misuse is not None:
                holder = self._authenticator.recall(misuse.exposed)
                state_of(scope).principal = holder  # named in the log and the metrics
                raise misuse.error
            principal = await self._authenticator.verify(credential)
        except FAILURES:
            self._failures.failed(address)
            raise
        self._failures.succeeded(address)
        return principal

    async def _serve_charged(
        self,
        scope: Scope,
        headers: RequestHeaders,
        receive: Receive,
        send: Send,
        *,
        streamed: int | None,
    ) -> None:
        """Serve one request, from its charge to its answer.

        A body of up to `streamed` bytes is handed on as it comes; with None it is read here.
        """
        state = state_of(scope)
        status = 0
        body = self._stream(receive, streamed) if streamed and headers.has_body else None

        async def settled(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                await self._settle(state, status)
                if body is not None and not body.complete:  # else the server would read the rest
                    state.answer_headers.append((b"connection", b"close"))
            await send(message)

        state.receipt = await self._charge(state)
        try:
            if body is not None:
                receive = body
            elif headers.has_body:
                receive = await self._body(state, headers, receive)
            await self._app(scope, receive, settled)
        except (BodyTimeout, BodyTooLarge):
            raise
        except Exception:
            if not status:
                await self._settle(state, SERVER_ERROR)
            raise
        finally:
            state.release_body()

    async def _body(
        self, state: RequestState, headers: RequestHeaders, receive: Receive
    ) -> Receive:
        """Read the body. Returns a `receive` for the service."""
        content, state.release_body = await self._bodies.read(
            receive, user_id=state.user_id, announced=headers.body_bytes
        )
        return replay(content, receive)

    def _stream(self, receive: Receive, limit: int) -> StreamedBody:
        """A body that may take as long for each byte as the largest body that is read here."""
        return StreamedBody(
            receive,
            limit=limit,
            pace=self._max_body_bytes / self._body_timeout,
            seconds=self._body_timeout,
        )

    async def _charge(self, state: RequestState) -> Receipt:
        try:
            receipt = await self._quota.charge(state.user_id)
        except QuotaExceeded as refusal:
            set_quota_headers(state.answer_headers, refusal.receipt)
            raise
        set_quota_headers(state.answer_headers, receipt)
        return receipt

    async def _settle(self, state: RequestState, status: int) -> None:
        """Refund what an answer of this status does not cost, and set the quota headers."""
        left = state.charged
        if owed := _owed(left, status, getattr(state.error, "reason", None)):
            left = await self._quota.refund(owed)
        elif isinstance(state.error, QuotaExceeded):
            left = state.error.receipt
        set_quota_headers(state.answer_headers, left)

    async def _answer_options(
        self, route: Route, headers: RequestHeaders, answer: Headers, send: Send
    ) -> None:
        answer.append((b"allow", ", ".join(sorted(route.allowed | {"OPTIONS"})).encode()))
        answer += self._cors.preflight(
            headers.get(b"origin"),
            methods=route.allowed,
            asked=headers.get(b"access-control-request-headers") or b"",
        )
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def _owed(receipt: Receipt, status: int, reason: str | None) -> Receipt | None:
    """What to refund: everything if the service failed, the tokens if nothing was embedded.

    A client that disconnected gets nothing back. If the queue is found full after tokenising, the
    request stays charged: otherwise work would be free exactly while there is too much of it.
    """
    if status < CLIENT_ERROR or status == CLIENT_LEFT:
        return None
    if status >= SERVER_ERROR and not (reason == "queue_full" and receipt.spent.tokens):
        return receipt
    return tokens_alone(receipt) if receipt.spent.tokens else None
