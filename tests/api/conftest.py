"""A running server for the tests of connections."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from api import protocol
from api.bounds import READS_PER_TURN
from api.edge import Edge
from api.protocol import Connection
from api.refused import behind_connection
from api.turns import Turns
from tests.api.connections import ANSWER_TIMEOUT, HEAD_TIMEOUT, Served


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", HEAD_TIMEOUT)
    monkeypatch.setattr(Connection, "answer_timeout", ANSWER_TIMEOUT)
    monkeypatch.setattr(Connection, "turns", Turns(READS_PER_TURN))  # of this event loop
    app = Served()
    edge = Edge(behind_connection(app), routes=["/ok"], fingerprint="f", record=app.records.append)
    options: dict[str, Any] = {"ws": "none", "loop": "uvloop", "lifespan": "off"}
    config = uvicorn.Config(
        edge, http=Connection, log_level="error", timeout_keep_alive=1, **options
    )
    server = uvicorn.Server(config)
    app.connections = server.server_state.connections  # type: ignore[assignment]
    listener = socket.create_server(("127.0.0.1", 0))
    app.port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield app
    server.should_exit = server.force_exit = True
    thread.join(10)
    listener.close()
