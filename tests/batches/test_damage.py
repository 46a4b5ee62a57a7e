"""Records and contents that are not as the service left them, and disks that fail."""

import asyncio
import json
import os
import resource
from pathlib import Path
from typing import Any

import orjson
import pytest

from batches import work
from batches.lines import Amount
from batches.runner import Runner
from batches.store import Store
from lab.signing import Clock
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
    uploaded,
)

KINDS: list[Any] = [
    b"",
    b'{"id": ',
    b"null",
    b"[]",
    {"created_at": "yesterday"},
    {"created_at": None},
    {"user_id": ["anna"]},
    {"id": "file-" + "0" * 32},
    {"progress": None, "n_bytes": {}},
]


def damage(path: Path, kind: Any) -> None:
    path.write_bytes(kind if isinstance(kind, bytes) else orjson.dumps(_changed(path, kind)))


def _changed(path: Path, changes: dict[str, Any]) -> Any:
    return json.loads(path.read_bytes()) | changes


def record(store: Store, name: str) -> Path:
    return store.directory.path / "records" / f"{name}.json"


async def reopened(store: Store, clock: Clock) -> Store:
    store.close()
    other = make_store(store.directory.path, clock)
    await other.open()
    return other


@pytest.mark.parametrize("kind", KINDS)
async def test_a_damaged_record_hides_what_it_names_and_deletes_nothing(
    store: Store, clock: Clock, kind: Any
) -> None:
    file = await uploaded(store, b"texts")
    healthy = await uploaded(store, b"others")
    kept = record(store, file.id).read_bytes()
    damage(record(store, file.id), kind)
    other = await reopened(store, clock)
    assert [one.id for one in other.files.of("anna")] == [healthy.id]
    record(other, file.id).write_bytes(kept)
    again = await reopened(other, clock)
    assert {one.id for one in again.files.of("anna")} == {file.id, healthy.id}
    assert again.directory.content(file.id).read_bytes() == b"texts"
    again.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_answers_of_a_batch_with_a_damaged_record_are_kept(
    store: Store, echo: Echo, clock: Clock, kind: Any
) -> None:
    batch = await created(store, lines_of("a", "b"))
    running = make_work(store, echo, make_quota())
    await running.step(batch)
    await running.step(batch)
    kept = record(store, batch.id).read_bytes()
    damage(record(store, batch.id), kind)
    other = await reopened(store, clock)
    assert other.of("anna") == []
    record(other, batch.id).write_bytes(kept)
    again = await reopened(other, clock)
    found = again.get("anna", batch.id)
    await finished(make_work(again, Echo(), make_quota()), found)
    answers = content_of(again, found, found.output_file_id)
    assert [line["custom_id"] for line in answers] == ["0", "1"]
    again.close()


async def test_a_record_of_a_later_version_is_read(store: Store, clock: Clock) -> None:
    file = await uploaded(store, b"texts")
    damage(record(store, file.id), {"of_a_later_version": 1})
    other = await reopened(store, clock)
    assert [one.id for one in other.files.of("anna")] == [file.id]
    other.close()


async def test_a_start_that_fails_at_first_counts_everything_once(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await created(store, lines_of("a"))
    held = store.space.held
    store.close()
    other = make_store(store.directory.path, clock)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", _failing)
        with pytest.raises(OSError):
            await other.open()
    await other.open()
    assert other.space.held == held
    other.close()


def _failing(path: Path) -> Any:
    raise OSError("a disk that does not answer")


async def test_a_record_without_a_content_does_not_stay(store: Store, clock: Clock) -> None:
    file = await uploaded(store, b"texts")
    store.directory.content(file.id).unlink()
    other = await reopened(store, clock)
    assert not record(other, file.id).exists()
    other.close()


async def answered_in_part(store: Store, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A batch of which the first line is answered, and what works on it."""
    monkeypatch.setattr(work, "ANSWERED", Amount(lines=1, n_bytes=10_000))
    batch = await created(store, lines_of("a", "b"))
    running = make_work(store, echo, make_quota())
    await running.step(batch)
    await running.step(batch)
    assert echo.answered == ["a"]
    return batch, running


@pytest.mark.parametrize("left", [0, 5, None])
async def test_answers_that_were_lost_fail_the_batch_and_are_not_made_up(
    store: Store, echo: Echo, monkeypatch: pytest.MonkeyPatch, left: int | None
) -> None:
    batch, running = await answered_in_part(store, echo, monkeypatch)
    path = store.directory.content(batch.output_file_id)
    path.unlink() if left is None else os.truncate(path, left)
    runner = Runner(store, running, admits=lambda user: True, stopping=lambda: False)
    while not batch.finished:
        await runner._step(batch)
    assert (batch.status, batch.problems[0].code) == ("failed", "output_damaged")
    assert b"\0" not in (path.read_bytes() if path.exists() else b"")
    assert batch.progress.output_bytes == (left or 0)


async def test_a_disk_that_fails_repeats_and_charges_nothing_again(
    store: Store, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "NO_SPACE", 0.01)
    batch, running = await answered_in_part(store, echo, monkeypatch)
    size = store.directory.content(batch.output_file_id).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(store.directory, "keep", lambda record: None)  # the records have a place
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))  # EFBIG, no full disk
    try:
        turn = asyncio.create_task(running.step(batch))
        await asyncio.wait([turn], timeout=0.2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await turn
    monkeypatch.undo()
    await finished(running, batch)
    assert echo.answered == ["a", "b"]
    assert outcome(store, batch) == {"0": "a", "1": "b"}
