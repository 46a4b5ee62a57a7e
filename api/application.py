"""The ASGI application behind the gate: which path calls which method, and start and end.

BentoML's own application imports clients and proxies that are not used here: 9 MB and 0.12 s per
start. It also passes each call through ten layers and inspects a signature: 0.1 ms.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from _bentoml_sdk import Service
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.answer import JSON, Answer, json_bytes
from api.disconnect import unless_gone
from api.error_forms import error_response
from api.fixed import Fixed
from api.options import Limits
from api.routes import Page
from api.turns import Turns
from api.unread import UnreadAnswers
from api.wire import read_json
from gate.paths import RoutePaths
from request_state import state_of

LOG = logging.getLogger("embedding_api")
SCHEMA_PATH = "/schema.json"  # BentoML's client reads it first
PIECES_PER_TURN = 1  # 64 KiB of a large body or answer take about a millisecond
Endpoint = Callable[[Request], Awaitable[ASGIApp]]


class Application:
    """The routes of one service, whose instance is made when the server starts.

    It stands behind a gate that lets no other path or method through.

    Args:
        service: its APIs are the POST routes.
        pages: all other routes.
        make: makes the instance of the service's class.
        limits: what the body of one request may hold.
    """

    def __init__(
        self,
        service: Service,
        pages: Iterable[Page],
        *,
        make: Callable[[], object],
        limits: Limits,
    ) -> None:
        self._service = service
        self._limits = limits
        self._make = make
        self._unread = UnreadAnswers()
        self._pieces = Turns(PIECES_PER_TURN)
        self._endpoints: dict[tuple[str, str], Endpoint] = {
            ("GET", SCHEMA_PATH): _rendered_once(self._schema)
        }
        for page in pages:
            self._endpoints[page.verb, page.path] = self._endpoint_of(page)
        for api in service.apis.values():
            self._endpoints["POST", api.route] = self._post(api.func, api.input_spec)
        self._paths = RoutePaths(path for _, path in self._endpoints)
        self._instance: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        request = Request(scope, receive)
        try:
            verb = "GET" if scope["method"] == "HEAD" else scope["method"]
            path = self._paths.find(scope["path"]) or ""
            response = await self._endpoints[verb, path](request)
        except Exception as error:
            state_of(scope).error = error  # the edge logs and counts it
            response = error_response(error, path=scope["path"])
        await response(scope, receive, send)

    def _post(self, method: Callable[..., Any], body_model: type[BaseModel]) -> Endpoint:
        async def endpoint(request: Request) -> Answer:
            turn = partial(self._pieces.wait, user=state_of(request.scope).user_id)
            body = await read_json(body_model, request.receive, limits=self._limits, turn=turn)
            work = method(self._instance, body, request.scope)
            return Answer(await unless_gone(work, request.receive), self._unread, turn)

        return endpoint

    def _endpoint_of(self, page: Page) -> Endpoint:
        if page.fixed:
            return _rendered_once(self._page(page.method))
        return self._get(page.method) if page.body is None else self._with_body(page, page.body)

    def _with_body(self, page: Page, body_model: type[BaseModel]) -> Endpoint:
        """A page that is also given the body, which is small."""

        async def endpoint(request: Request) -> ASGIApp:
            body = await read_json(body_model, request.receive, limits=self._limits)
            answer = await getattr(self._instance, page.method)(request, body)
            return Response(json_bytes(answer), media_type=JSON)

        return endpoint

    def _get(self, method: str) -> Endpoint:
        page = self._page(method)

        async def endpoint(request: Request) -> ASGIApp:
            answer: dict[str, Any] | ASGIApp = await page(request)
            if not isinstance(answer, dict):
                return answer
            turn = partial(self._pieces.wait, user=state_of(request.scope).user_id)
            return Answer(answer, self._unread, turn)

        return endpoint

    def _page(self, method: str) -> Callable[[Request], Awaitable[Any]]:
        return lambda request: getattr(self._instance, method)(request)

    async def _schema(self, _: Request) -> dict[str, Any]:
        schema: dict[str, Any] = self._service.schema()
        return schema

    async def _live(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol of ASGI; BentoML's hooks run when BentoML would run them."""
        await receive()
        try:
            self._instance = self._make()
            await self._run_hooks("__bentoml_startup_hook__")
        except Exception as error:
            LOG.critical("start_failed", extra={"fields": {"reason": repr(error)}})
            await send({"type": "lifespan.startup.failed", "message": type(error).__name__})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._run_hooks("__bentoml_shutdown_hook__")
        await send({"type": "lifespan.shutdown.complete"})

    async def _run_hooks(self, mark: str) -> None:
        for name, member in vars(self._service.inner).items():
            if getattr(member, mark, False):
                await getattr(self._instance, name)()


def _rendered_once(page: Callable[[Request], Awaitable[dict[str, Any]]]) -> Endpoint:
    rendered: Fixed | None = None

    async def endpoint(request: Request) -> Fixed:
        nonlocal rendered
        if rendered is None:
            rendered = Fixed(json_bytes(await page(request)), JSON)
        return rendered

    return endpoint
