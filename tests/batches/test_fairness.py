"""No user's batch keeps those of others waiting, and what fails costs nobody anything."""

from pathlib import Path
from typing import Any

import pytest

from batches import runner as runners
from batches import work
from batches.answering import Answered
from batches.errors import NotNow, StorageFullError
from batches.lines import Amount
from batches.store import Store
from lab.signing import Clock
from tests.batches.echo import (
    Echo,
    created,
    finished,
    line_of,
    lines_of,
    make_quota,
    make_store,
    make_work,
    outcome,
    uploaded,
)
from tests.batches.test_runner import made, runner_of, running, until


@pytest.fixture
def closed(tmp_path: Path, clock: Clock) -> Store:
    """A store that a runner has to open."""
    return make_store(tmp_path / "closed", clock)


async def test_a_user_whose_share_of_the_queue_is_full_keeps_nobody_waiting(
    closed: Store, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = echo.answer

    async def full_for_anna(body: Any, **named: Any) -> Answered:
        if named["user_id"] == "anna":
            raise NotNow(60)
        return await answer(body, **named)

    monkeypatch.setattr(echo, "answer", full_for_anna)
    runner = runner_of(closed, echo)
    async with running(runner):
        waiting = await made(closed, "anna", "a", "a")
        runner.add(waiting)
        await until(lambda: waiting.status == "in_progress")
        other = await made(closed, "bert", *"b" * 200)
        runner.add(other)
        await until(lambda: other.finished)
    assert waiting.progress.completed == 0


async def test_users_with_long_and_short_texts_get_as_many_tokens(
    closed: Store, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "ANSWERED", Amount(lines=1, n_bytes=10_000))
    runner = runner_of(closed, echo)
    async with running(runner):
        long = await made(closed, "anna", *(["a" * 5_000] * 4))
        short = await made(closed, "bert", *(["b" * 50] * 30))
        runner.add(long)
        runner.add(short)
        await until(lambda: long.finished and short.finished)
    before_the_third = echo.answered[: [i for i, t in enumerate(echo.answered) if "a" in t][2]]
    assert sum("b" in text for text in before_the_third) == 30


async def test_a_user_who_comes_later_is_not_given_what_he_did_not_ask_for(
    closed: Store, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "ANSWERED", Amount(lines=1, n_bytes=10_000))
    runner = runner_of(closed, echo)
    async with running(runner):
        first = await made(closed, "anna", *"a" * 60)
        later = await made(closed, "bert", *"b" * 30)
        runner.add(first)
        await until(lambda: first.progress.completed >= 20)
        runner.add(later)
        await until(lambda: later.finished)
        assert first.progress.completed >= 40
        await until(lambda: first.finished)


async def test_a_batch_that_is_cancelled_in_its_turn_ends_at_once(
    closed: Store, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_of(closed, echo)
    async with running(runner):
        batch = await made(closed, "anna", "a")

        async def cancelled(body: Any, **named: Any) -> Answered:
            await closed.cancel(batch)
            runner.add(batch)
            raise NotNow(300, spent=True)

        monkeypatch.setattr(echo, "answer", cancelled)
        runner.add(batch)
        await until(lambda: batch.finished)
        assert outcome(closed, batch) == {"0": "batch_cancelled"}


async def test_old_files_are_deleted_while_the_disk_is_full(
    closed: Store, echo: Echo, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> int:
        raise StorageFullError

    monkeypatch.setattr(work, "append", full)
    monkeypatch.setattr(runners, "SWEEP_EVERY", 0.01)
    runner = runner_of(closed, echo)
    async with running(runner):
        await uploaded(closed, b"old", user="bert")
        batch = await made(closed, "anna", "a")
        runner.add(batch)
        await until(lambda: echo.answered == ["a"])
        clock.now += 4_000
        await until(lambda: not closed.files.of("bert"))


async def test_a_step_that_fails_charges_nothing(
    store: Store, echo: Echo, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, quota = echo.answer, make_quota(per_day=100, clock=clock)
    batch = await created(store, lines_of("aaa", "boom", "cc"))
    running_work = make_work(store, echo, quota)
    await running_work.step(batch)

    async def failing(body: Any, **named: Any) -> Answered:
        answered = await answer(body, **named)
        if body["input"] == "boom":
            raise RuntimeError("broken")
        return answered

    with monkeypatch.context() as patch:
        patch.setattr(echo, "answer", failing)
        with pytest.raises(RuntimeError):
            await running_work.step(batch)
    assert quota.usage_now("anna").tokens_remaining == 100
    await finished(running_work, batch)
    assert quota.usage_now("anna").tokens_remaining == 100 - len("aaaboomcc")


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [([900] * 5, [2, 2, 1]), ([5_000, 1, 2_047, 1], [1, 2, 1]), ([1, 2_048], [1, 1])],
)
async def test_a_part_has_few_texts_however_many_fit_into_its_bytes(
    store: Store, echo: Echo, sizes: list[int], parts: list[int]
) -> None:
    lines = [
        line_of(str(place), "a", body={"input": "a", "n_texts": size})
        for place, size in enumerate(sizes)
    ]
    batch = await created(store, b"".join(lines))
    running_work = make_work(store, echo, make_quota())
    await running_work.step(batch)
    done = []
    while batch.status == "in_progress":
        before = batch.progress.completed
        await running_work.step(batch)
        done.append(batch.progress.completed - before)
    assert done == [*parts, 0]
