"""A new connection waits for one turn of the event loop, not for as many as there are before it."""

import asyncio
import socket
from contextlib import ExitStack

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from api import listening
from api.listening import ACCEPTED

NEWCOMERS = 2 * ACCEPTED
TURNS = 4  # of the loop: two to accept them all, and one each to begin and to look


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Never called: nobody sends a request."""


async def connected_after(turns: int) -> int:
    """How many of NEWCOMERS that the kernel has queued are accepted then."""
    server = uvicorn.Server(uvicorn.Config(application, lifespan="off", log_config=None))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    with ExitStack() as stack:
        door = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=NEWCOMERS))
        await server.startup(sockets=[door])
        for _ in range(NEWCOMERS):
            stack.enter_context(socket.create_connection(door.getsockname()))
        for _ in range(turns):
            await asyncio.sleep(0)
        found = len(server.server_state.connections)
        for listener in server.servers:
            listener.close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        return found


def test_many_newcomers_are_let_in_within_a_few_turns() -> None:
    listening.accept_many_per_turn()
    try:
        assert uvloop.run(connected_after(TURNS)) == NEWCOMERS
    finally:
        uvicorn.Server.startup = listening._uvicorn_startup  # type: ignore[method-assign]


def test_uvicorn_alone_lets_one_in_per_turn() -> None:
    assert uvloop.run(connected_after(TURNS)) <= TURNS
