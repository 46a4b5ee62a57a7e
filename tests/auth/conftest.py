"""What the gate's tests run against: real keys, a real Redis, a real key server."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.auth.servers import KeyServer, RedisServer
from tests.auth.signing import Clock, Project


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def project() -> Project:
    return Project()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for every test that leaves it alive; users are told apart by their ids."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def fragile_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, to be killed, hung and broken."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def key_server() -> AsyncIterator[KeyServer]:
    async with KeyServer().running() as server:
        yield server
