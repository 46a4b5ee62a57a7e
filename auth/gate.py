"""The gate: every check between a connection and the service, in order, each cheaper than the next.

path -> CORS preflight -> method -> headers -> calls in flight -> failures of the address -> token ->
calls of the user -> quota -> body -> the service
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from auth.admission import FailureBudget, InFlight, PerUser, Receive, read_body, replay
from auth.client_address import TrustedProxies, client_address
from auth.cors import Cors
from auth.errors import (
    MethodNotAllowed,
    Overloaded,
    PathNotFound,
    QuotaExceeded,
    TokenForbidden,
    TokenInvalid,
    TokenMissing,
)
from auth.paths import meant_path, near_paths
from auth.quota import Quota
from auth.receipt import policy_header, set_quota_headers
from auth.request_headers import RequestHeaders, check_headers
from auth.tokens import Principal, TokenVerifier

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

#: What counts against an address. An expired token was good once, and one that is too large may be
#: good: they count against nobody.
FAILURES = (TokenMissing, TokenInvalid, TokenForbidden)


@dataclass(frozen=True)
class Route:
    """One exact path. HEAD comes with GET; a body is taken where a method other than those is."""

    methods: frozenset[str]
    protected: bool

    @property
    def allowed(self) -> frozenset[str]:
        return self.methods | {"HEAD"} if "GET" in self.methods else self.methods

    @property
    def takes_body(self) -> bool:
        return bool(self.methods - {"GET", "HEAD"})


class Gate:
    """ASGI middleware. Raises GateError types; writes no answer but to OPTIONS.

    Appends to ``scope["answer_headers"]`` what every answer must carry, errors included, and sets
    ``scope["principal"]``. The body is read here, after everything that may refuse it.
    """

    def __init__(
        self,
        app: App,
        *,
        routes: Mapping[str, Route],
        verifier: TokenVerifier,
        quota: Quota,
        max_body_bytes: int = 1_048_576,
        body_timeout: float = 10.0,
        max_in_flight: int = 256,
        max_concurrent_per_user: int = 16,
        failed_auth_per_minute: int = 60,
        trusted_proxies: str = "127.0.0.1",
        cors_allow_origins: Iterable[str] = (),
        ready: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._routes = routes
        self._near = near_paths(routes)
        self._verifier = verifier
        self._quota = quota
        self._max_body_bytes = max_body_bytes
        self._body_timeout = body_timeout
        self._in_flight = InFlight(max_in_flight)
        self._per_user = PerUser(max_concurrent_per_user)
        self._failures = FailureBudget(failed_auth_per_minute, clock=clock)
        self._trusted = TrustedProxies.parse(trusted_proxies)
        self._cors = Cors.of(cors_allow_origins)
        self._ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)

    @property
    def in_flight(self) -> int:
        """Protected calls being served."""
        return self._in_flight.count

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = RequestHeaders.of(scope["headers"])
        answer: Headers = scope.setdefault("answer_headers", [])
        answer += self._cors.headers(headers.get(b"origin"))
        route = self._routes.get(scope["path"])
        if route is None:
            raise PathNotFound(meant=meant_path(scope["path"], self._near))
        if scope["method"] == "OPTIONS":
            await self._answer_options(route, headers, answer, send)
            return
        if scope["method"] not in route.allowed:
            raise MethodNotAllowed(allowed=tuple(sorted(route.allowed)))
        check_headers(headers, max_body_bytes=self._max_body_bytes, takes_body=route.takes_body)
        with ExitStack() as held:
            if route.protected:
                await self._admit(scope, headers, held, takes_body=route.takes_body)
            if headers.has_body:
                limit, seconds = self._max_body_bytes, self._body_timeout
                receive = replay(await read_body(receive, limit=limit, seconds=seconds), receive)
            await self._app(scope, receive, send)

    async def _admit(
        self, scope: Scope, headers: RequestHeaders, held: ExitStack, *, takes_body: bool
    ) -> None:
        """Lets a user in, and takes the places that ``held`` gives back in the end."""
        answer = scope["answer_headers"]
        answer.append(policy_header(self._quota.limits))
        if not self._ready():
            raise Overloaded(
                "The service is stopping. Try again in a few seconds.",
                retry_after=5,
                reason="stopping",
            )
        held.enter_context(self._in_flight.hold())
        principal = await self._principal(scope, headers)
        scope["principal"] = principal
        held.enter_context(self._per_user.hold(principal.user_id))
        if takes_body:  # what takes no body costs nothing: /usage answers at the limit too
            self._check_quota(principal, answer)

    async def _principal(self, scope: Scope, headers: RequestHeaders) -> Principal:
        token = bearer_token(headers)
        if principal := self._verifier.recall(token):
            return principal  # so that a stranger's failures never shut out a user behind the same address
        peer = scope["client"][0] if scope.get("client") else None
        address = client_address(peer, headers.all(b"x-forwarded-for"), self._trusted)
        self._failures.check(address)
        try:
            if not token:
                raise TokenMissing(
                    "Send the header Authorization: Bearer <access token of a signed-in user>."
                )
            return await self._verifier.verify(token)
        except FAILURES:
            self._failures.record(address)
            raise

    def _check_quota(self, principal: Principal, answer: Headers) -> None:
        """Raises QuotaExceeded for a user who is known to be over the limit."""
        try:
            set_quota_headers(answer, self._quota.check(principal.user_id))
        except QuotaExceeded as refusal:
            set_quota_headers(answer, refusal.receipt)
            raise

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


def bearer_token(headers: RequestHeaders) -> str:
    """The token of ``Authorization: Bearer …`` (RFC 6750 §2.1), or nothing."""
    scheme, _, token = (headers.get(b"authorization") or b"").partition(b" ")
    return token.strip(b" ").decode("latin-1") if scheme.lower() == b"bearer" else ""
