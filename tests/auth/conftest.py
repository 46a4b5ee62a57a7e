"""A key server that a test scripts."""

from collections.abc import AsyncIterator

import pytest

from tests.auth.key_server import KeyServer


@pytest.fixture
async def key_server() -> AsyncIterator[KeyServer]:
    async with KeyServer().running() as server:
        yield server
