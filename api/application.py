"""The ASGI application behind the gate: which path runs which method of the service, and its life.

BentoML's own imports its clients and proxies, which serve nothing here: 9 MB and 0.12 s of every
start. It also goes through ten layers and a signature's inspection for each call: 0.1 ms.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar, cast

from _bentoml_sdk import Service
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.errors import ClientGoneError, error_response
from api.wire import json_response, read_json

LOG = logging.getLogger("embedding_api")
SCHEMA_PATH = "/schema.json"  # what BentoML's client reads first
Answer = TypeVar("Answer")
Endpoint = Callable[[Request], Awaitable[Response]]


class Application:
    """Of one service, which is made when the server starts and stopped when that ends.

    Behind a gate that lets no other path or method through.

    Args:
        service: its APIs are the POST routes.
        pages: the GET routes: path and name of the method that answers.
    """

    def __init__(self, service: Service, pages: Iterable[tuple[str, str]]) -> None:
        self._service = service
        self._endpoints: dict[str, Endpoint] = {SCHEMA_PATH: self._schema}
        self._endpoints |= {path: self._get(method) for path, method in pages}
        self._endpoints |= {
            api.route: self._post(api.func, api.input_spec) for api in service.apis.values()
        }
        self._instance: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self._endpoints[scope["path"]](request)
        except Exception as error:
            scope["error"] = error  # for the log line and the metrics of the edge
            response = error_response(error)
        await response(scope, receive, send)

    def _post(self, method: Callable[..., Any], body_model: type[BaseModel]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            body = await read_json(body_model, request.receive)
            work = method(self._instance, body, request.scope)
            return json_response(await _unless_gone(work, request.receive))

        return endpoint

    def _get(self, method: str) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            answer = await getattr(self._instance, method)(request)
            return answer if isinstance(answer, Response) else json_response(answer)

        return endpoint

    async def _schema(self, _: Request) -> Response:
        return json_response(self._service.schema())

    async def _live(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol of ASGI; BentoML's hooks run where they would run under BentoML."""
        await receive()
        try:
            self._instance = self._service()
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


async def _unless_gone(work: Coroutine[Any, Any, Answer], receive: Receive) -> Answer:
    """The result of `work`, cancelled when the client leaves first.

    Raises:
        ClientGoneError: it left.
    """
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    leaving = asyncio.ensure_future(receive())  # the body is read: what can come is a disconnect
    leaving.add_done_callback(cancel := lambda _: task.cancel())
    try:
        return await work
    except asyncio.CancelledError:
        if leaving.done() and not leaving.cancelled():
            task.uncancel()
            raise ClientGoneError from None
        raise
    finally:
        leaving.remove_done_callback(cancel)
        leaving.cancel()
