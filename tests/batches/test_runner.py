"""The task that runs all batches."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from batches import output, work
from batches.answering import Answered
from batches.errors import StorageFullError
from batches.records import Batch
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
)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def runner_of(store: Store, echo: Echo, *, per_day: int | None = None, blocked: str = "") -> Runner:
    work = make_work(store, echo, make_quota(per_day=per_day))
    return Runner(store, work, admits=lambda user: user != blocked, stopping=lambda: False)


@asynccontextmanager
async def running(runner: Runner) -> AsyncIterator[None]:
    runner.start()
    await until(lambda: runner._store._open)
    yield
    await runner.close()


async def made(store: Store, user: str, *texts: str) -> Batch:
    return await created(store, lines_of(*texts), user=user)


@pytest.fixture
def closed(tmp_path: Path, clock: Clock) -> Store:
    """A store that a runner has to open."""
    return make_store(tmp_path / "closed", clock)


async def test_a_batch_that_is_added_runs_to_its_end(closed: Store, echo: Echo) -> None:
    runner = runner_of(closed, echo)
    async with running(runner):
        batch = await made(closed, "anna", "a", "b")
        runner.add(batch)
        await until(lambda: batch.finished)
        assert outcome(closed, batch) == {"0": "a", "1": "b"}
        await until(lambda: runner.stalled_seconds() == 0)


async def test_what_a_process_before_left_unfinished_is_run(
    store: Store, echo: Echo, clock: Clock
) -> None:
    batch_id = (await made(store, "anna", "a", "b")).id
    store.close()
    other = make_store(store.directory.path, clock)
    async with running(runner_of(other, echo)):
        await until(lambda: other.get("anna", batch_id).finished)
        assert outcome(other, other.get("anna", batch_id)) == {"0": "a", "1": "b"}


async def test_users_take_turns(closed: Store, echo: Echo) -> None:
    runner = runner_of(closed, echo)
    async with running(runner):
        batches = [
            await made(closed, "anna", *(f"a{number}" for number in range(200))),
            await made(closed, "anna", "z"),
            await made(closed, "bert", "b"),
        ]
        for batch in batches:
            runner.add(batch)
        await until(lambda: all(batch.finished for batch in batches))
    assert echo.answered.index("b") < echo.answered.index("a199") < echo.answered.index("z")


async def test_a_user_whose_tokens_are_used_up_does_not_keep_others_waiting(
    closed: Store, echo: Echo
) -> None:
    runner = runner_of(closed, echo, per_day=5)
    async with running(runner):
        waiting = await made(closed, "anna", "aaaa", "bbbb")
        other = await made(closed, "bert", "c")
        runner.add(waiting)
        await until(lambda: waiting.progress.completed == 1)
        runner.add(other)
        await until(lambda: other.finished)
        assert outcome(closed, other) == {"0": "c"}
        assert waiting.status == "in_progress"
        await until(lambda: runner.stalled_seconds() == 0)


async def test_a_blocked_users_requests_are_not_answered(closed: Store, echo: Echo) -> None:
    runner = runner_of(closed, echo, blocked="anna")
    async with running(runner):
        blocked = await made(closed, "anna", "a")
        other = await made(closed, "bert", "b")
        runner.add(blocked)
        await until(lambda: blocked.status == "in_progress")
        runner.add(other)
        await until(lambda: other.finished)
        assert echo.answered == ["b"]


async def test_a_batch_whose_input_is_gone_fails_and_hands_out_what_there_is(
    closed: Store, echo: Echo
) -> None:
    runner = runner_of(closed, echo)
    async with running(runner):
        batch = await made(closed, "anna", "a")
        closed.directory.content(batch.input_file_id).unlink()
        runner.add(batch)
        await until(lambda: batch.finished)
    assert (batch.status, batch.problems[0].code) == ("failed", "input_missing")


async def test_a_step_that_fails_does_not_end_the_others(
    closed: Store, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = echo.answer

    async def failing(body: Any, **named: Any) -> Answered:
        if body["input"] == "boom":
            raise RuntimeError("broken")
        return await answer(body, **named)

    monkeypatch.setattr(echo, "answer", failing)
    runner = runner_of(closed, echo)
    async with running(runner):
        broken = await made(closed, "anna", "boom")
        other = await made(closed, "bert", "b")
        runner.add(broken)
        await until(lambda: broken.status == "in_progress")
        runner.add(other)
        await until(lambda: other.finished)
    assert broken.status == "in_progress"


@pytest.mark.parametrize("part", ["answers", "record"])
async def test_a_full_disk_loses_nothing_and_repeats_nothing(
    store: Store, echo: Echo, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(work, "NO_SPACE", 0.001)
    batch = await made(store, "anna", "a", "b")
    running_work = make_work(store, echo, make_quota())
    await running_work.step(batch)
    full = 3
    keep = store.directory.keep

    async def append(*arguments: Any) -> int:
        nonlocal full
        if part == "answers" and full:
            full -= 1
            raise StorageFullError
        return await output.append(*arguments)

    def kept(record: Any) -> None:
        nonlocal full
        if part == "record" and full and isinstance(record, Batch) and record.progress.line:
            full -= 1
            raise StorageFullError
        keep(record)

    monkeypatch.setattr(work, "append", append)
    monkeypatch.setattr(store.directory, "keep", kept)
    await finished(running_work, batch)
    assert full == 0
    answers = content_of(store, batch, batch.output_file_id)
    assert [line["custom_id"] for line in answers] == ["0", "1"]
    assert echo.answered == ["a", "b"]
