"""Wherever a process is killed: each request is answered once, and no token is charged twice."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches import work
from batches.lines import Amount
from batches.records import Batch
from batches.store import Store
from lab.signing import Clock
from quota.memory import MemoryQuota
from tests.batches.echo import (
    Echo,
    content_of,
    created,
    finished,
    lines_of,
    make_quota,
    make_store,
    make_work,
    outcome,
)

PART = 3  # lines
TEXTS = st.lists(st.sampled_from(["a", "bb", "ccc", "bad"]), min_size=1, max_size=14)


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed_after(n_calls: int) -> Iterator[None]:
    """End at the n-th call that changes the disk, before it is done."""
    left = n_calls

    def counted(change: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return change(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "replace"):
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(work, "ANSWERED", Amount(lines=PART, n_bytes=10_000))
        yield


def tear(store: Store) -> None:
    """What a crash may leave behind the last bytes that were written to the disk."""
    for batch in store.directory.batches():  # as the next process finds them
        for file_id in (batch.output_file_id, batch.error_file_id):
            path = store.directory.content(file_id)
            if path.exists() and not batch.finished:
                with path.open("ab") as file:
                    file.write(b'{"id": "torn')


async def process(directory: Path, quota: MemoryQuota, calls: int, batch_id: str) -> Batch | None:
    """One process that runs until it is killed; the batch if it has finished it."""
    store = make_store(directory, Clock())
    try:
        with killed_after(calls):
            await store.open()
            batch = store.get("anna", batch_id)
            running = make_work(store, Echo(), quota)
            if not batch.finished:
                running.found(batch)
            return await finished(running, batch)
    except Killed:
        return None
    finally:
        await asyncio.sleep(0)
        tear(store)
        store.close()


async def run(texts: list[str], crashes: list[int]) -> None:
    clock, quota = Clock(), make_quota(per_day=10**6, clock=Clock())
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name, "batches")
        store = make_store(directory, clock)
        await store.open()
        batch_id = (await created(store, lines_of(*texts))).id
        store.close()
        for calls in [*crashes, 10**6]:
            batch = await process(directory, quota, calls, batch_id)
        assert batch is not None
        store = make_store(directory, clock)
        await store.open()
        batch = store.get("anna", batch_id)
        assert batch.status == "completed"
        answers = {str(place): text for place, text in enumerate(texts) if text != "bad"}
        errors = {str(place): 422 for place, text in enumerate(texts) if text == "bad"}
        assert outcome(store, batch) == answers | errors
        written = content_of(store, batch, batch.output_file_id)
        assert [line["custom_id"] for line in written] == list(answers)
        counts = (batch.total, batch.progress.completed, batch.progress.failed)
        assert counts == (len(texts), len(answers), len(errors))
        charged = 10**6 - (quota.usage_now("anna").tokens_remaining or 0)
        asked = sum(map(len, answers.values()))
        assert asked - PART * 3 * len(crashes) <= charged <= asked
        store.close()


@settings(max_examples=25)
@given(texts=TEXTS, crashes=st.lists(st.integers(0, 40), max_size=5))
def test_any_crashes_leave_each_request_answered_once_and_charged_at_most_once(
    texts: list[str], crashes: list[int]
) -> None:
    asyncio.run(run(texts, crashes))
