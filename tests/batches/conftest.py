"""A store on a disk, with a clock that a test sets."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batches.store import Store
from lab.signing import Clock
from tests.batches.echo import Echo, make_store


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    store = make_store(tmp_path / "batches", clock)
    await store.open()
    yield store
    store.close()


@pytest.fixture
def echo() -> Echo:
    return Echo()
