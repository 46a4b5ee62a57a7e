"""Accepts more than one new connection per turn of the event loop.

libuv 1.45 and later accept one connection per listening socket and turn. With 600 busy connections
a turn takes 60 ms, and a new connection waited until these had stopped (measured: 4 s).
"""

import os
import socket

import uvicorn

ACCEPTED = 4  # per turn: so many copies of the socket are listened to


def accept_many_per_turn() -> None:
    """Replace how uvicorn listens; call before it starts."""
    uvicorn.Server.startup = _startup  # type: ignore[method-assign]


_uvicorn_startup = uvicorn.Server.startup


async def _startup(self: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
    await _uvicorn_startup(self, sockets and [copy for one in sockets for copy in _copies(one)])


def _copies(listening: socket.socket) -> list[socket.socket]:
    """Copies that share one queue of connections; closing them leaves `listening` open."""
    return [socket.socket(fileno=os.dup(listening.fileno())) for _ in range(ACCEPTED)]
