"""What is behind the gate: bodies in, answers out, fixed pages rendered once."""

import asyncio
import gc
import itertools
import tracemalloc
from collections.abc import Iterator
from typing import Any

import bentoml
import orjson
import pytest
from starlette.requests import Request
from starlette.types import Message

from api.application import SCHEMA_PATH, Application
from api.dialects.native import EmbedRequest
from api.edge import Edge
from api.options import Limits
from api.routes import Page
from tests.api.asgi import Client, turns_during

MB = 1_000_000


RENDERED = itertools.count(1)


@bentoml.service(name="small")
class Small:
    """A service with one route and two pages."""

    @bentoml.api(route="/embed", input_spec=EmbedRequest)
    async def embed(self, request: EmbedRequest, scope: Any) -> dict[str, Any]:
        return {"length": len(request.text)}

    async def fixed(self, _: Request) -> dict[str, Any]:
        return {"rendered": next(RENDERED)}

    async def changing(self, _: Request) -> dict[str, Any]:
        return await self.fixed(_)

    async def many(self, _: Request) -> dict[str, Any]:
        return {"data": ("x" * 50_000 for _ in range(100)), "has_more": False}


@pytest.fixture
def application() -> Application:
    pages = [
        Page("/fixed", "fixed", "", fixed=True),
        Page("/changing", "changing", ""),
        Page("/many", "many", ""),
    ]
    return Application(Small, pages, make=Small, limits=Limits(max_texts=8))


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def started(application: Application) -> Application:
    client = Client()
    messages: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Message:
        return messages.pop(0)

    await application({"type": "lifespan"}, receive, client.send)
    return application


async def get(application: Application, path: str) -> Client:
    client = Client()
    client.scope["path"] = path
    await client.call(application)
    return client


async def test_a_fixed_page_is_rendered_once(application: Application) -> None:
    await started(application)
    bodies = [(await get(application, "/fixed")).body for _ in range(3)]
    assert len(set(bodies)) == 1
    bodies += [(await get(application, "/changing")).body for _ in range(3)]
    first, *others = (orjson.loads(body)["rendered"] for body in bodies[2:])
    assert others == [first + 1, first + 2, first + 3]


async def test_a_long_list_is_sent_in_pieces_between_which_others_run(
    application: Application,
) -> None:
    await started(application)
    client = Client()
    client.scope["path"] = "/many"
    assert await turns_during(client.call(application)) >= 50
    assert max(map(len, client.pieces)) < 150_000
    assert orjson.loads(client.body) == {"data": ["x" * 50_000] * 100, "has_more": False}


async def test_what_bentomls_client_reads_first_is_rendered_once(application: Application) -> None:
    first, second = [await get(application, SCHEMA_PATH) for _ in range(2)]
    assert first.headers[b"etag"] == second.headers[b"etag"]
    assert first.pieces[0] is second.pieces[0]


@pytest.mark.parametrize("ending", [b'"}', b'"]', b'","x":1}'])
async def test_the_body_is_dropped_once_it_is_read(
    application: Application, traced: None, ending: bytes
) -> None:
    """An idle connection keeps the scope of its last request."""
    body = b'{"text":"' + b"a" * 8 * MB + ending
    edge = Edge(
        await started(application), routes=["/embed"], fingerprint="f", record=lambda _: None
    )
    client = Client()
    messages: list[Message] = [{"type": "http.request", "body": body}]
    del body

    async def receive() -> Message:
        return messages.pop(0) if messages else await client.receive()

    client.scope |= {"method": "POST", "path": "/embed"}
    await edge(client.scope, receive, client.send)
    await asyncio.sleep(0)
    gc.collect()
    assert client.status in (200, 400, 422)
    assert tracemalloc.get_traced_memory()[0] < MB
