"""A batch from its check to its end."""

import asyncio

import pytest

from batches.errors import BatchFinishedError
from batches.store import Store
from lab.signing import Clock
from tests.batches.echo import (
    Echo,
    content_of,
    created,
    finished,
    line_of,
    lines_of,
    make_quota,
    make_work,
    outcome,
)


async def test_answers_come_in_the_order_of_the_requests_and_errors_in_a_file_of_their_own(
    store: Store, echo: Echo
) -> None:
    batch = await created(store, lines_of("a", "bad", "c", "d"))
    await finished(make_work(store, echo, make_quota()), batch)
    assert batch.status == "completed"
    answers = content_of(store, batch, batch.output_file_id)
    assert [line["custom_id"] for line in answers] == ["0", "2", "3"]
    assert answers[0]["response"] == {"status_code": 200, "request_id": "r", "body": {"text": "a"}}
    [error] = content_of(store, batch, batch.error_file_id)
    assert (error["custom_id"], error["response"]["status_code"], error["error"]) == (
        "1",
        422,
        None,
    )
    assert batch.reserved == 0


async def test_blank_lines_are_no_requests(store: Store, echo: Echo) -> None:
    batch = await created(store, b"\n" + lines_of("a") + b"  \n\n" + line_of("x", "b") + b"\n")
    await finished(make_work(store, echo, make_quota()), batch)
    assert (batch.total, outcome(store, batch)) == (2, {"0": "a", "x": "b"})


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"{\n", "invalid_json_line", 1),
        (b"[]\n", "invalid_json_line", 1),
        (lines_of("a") + line_of("0", "b"), "duplicate_custom_id", 2),
        (line_of("a", "a", url="/v1/chat/completions"), "invalid_url", 1),
        (line_of("a", "a", method="GET"), "invalid_method", 1),
        (line_of("a", "a", body=None), "missing_required_parameter", 1),
        (line_of("", "a"), "invalid_custom_id", 1),
        (line_of("a", "a", body=[]), "invalid_type", 1),
        (line_of("a", "x" * 100_000), "line_too_large", 1),
        (b"\n", "empty_file", None),
    ],
)
async def test_a_file_with_a_line_that_is_no_request_fails_as_a_whole(
    store: Store, echo: Echo, content: bytes, code: str, line: int | None
) -> None:
    batch = await created(store, content)
    await finished(make_work(store, echo, make_quota()), batch)
    assert batch.status == "failed"
    assert [(problem.code, problem.line) for problem in batch.problems] == [(code, line)]
    assert echo.answered == []


async def test_answers_that_may_not_fit_fail_before_anything_is_answered(
    store: Store, echo: Echo
) -> None:
    echo.most_bytes = lambda body: 40_000_000  # type: ignore[method-assign]
    batch = await created(store, lines_of("a", "b"))
    await finished(make_work(store, echo, make_quota()), batch)
    assert (batch.status, batch.problems[0].code) == ("failed", "output_too_large")
    assert echo.answered == []


async def test_requests_behind_the_days_last_token_wait_for_the_next_day(
    store: Store, echo: Echo, clock: Clock
) -> None:
    quota = make_quota(per_day=5, clock=clock)
    batch = await created(store, lines_of("aaa", "bb", "ccc", "d"), seconds=10**6)
    work = make_work(store, echo, quota)
    await work.step(batch)
    assert await work.step(batch) > 60
    assert (batch.status, echo.answered, batch.progress.completed) == (
        "in_progress",
        ["aaa", "bb"],
        2,
    )
    clock.now += 86_400
    await finished(work, batch)
    assert outcome(store, batch) == {"0": "aaa", "1": "bb", "2": "ccc", "3": "d"}
    assert echo.answered == ["aaa", "bb", "ccc", "d"]


async def test_a_request_that_comes_while_the_service_is_busy_is_tried_again(
    store: Store, echo: Echo
) -> None:
    echo.busy = 3
    batch = await created(store, lines_of("a", "b"))
    await finished(make_work(store, echo, make_quota()), batch)
    assert outcome(store, batch) == {"0": "a", "1": "b"}


async def test_a_cancelled_batch_keeps_what_was_answered_and_tells_of_the_rest(
    store: Store, echo: Echo, clock: Clock
) -> None:
    quota = make_quota(per_day=2, clock=clock)
    batch = await created(store, lines_of("a", "b", "c"))
    work = make_work(store, echo, quota)
    await work.step(batch)
    await work.step(batch)
    await store.cancel(batch)
    assert "cancelling" in batch.times
    await finished(work, batch)
    assert batch.status == "cancelled"
    assert outcome(store, batch) == {"0": "a", "1": "b", "2": "batch_cancelled"}
    with pytest.raises(BatchFinishedError):
        await store.cancel(batch)


async def test_a_batch_is_cancelled_while_its_requests_wait(
    store: Store, echo: Echo, clock: Clock
) -> None:
    echo.busy = 10**9
    batch = await created(store, lines_of("a", "b"))
    work = make_work(store, echo, make_quota())
    await work.step(batch)
    turn = asyncio.create_task(work.step(batch))
    await asyncio.sleep(0.01)
    await store.cancel(batch)
    await turn
    await finished(work, batch)
    assert outcome(store, batch) == {"0": "batch_cancelled", "1": "batch_cancelled"}


async def test_a_batch_that_takes_too_long_expires_and_tells_of_the_rest(
    store: Store, echo: Echo, clock: Clock
) -> None:
    quota = make_quota(per_day=1, clock=clock)
    batch = await created(store, lines_of("a", "b"), seconds=600)
    work = make_work(store, echo, quota)
    await work.step(batch)
    await work.step(batch)
    clock.now += 600
    await finished(work, batch)
    assert batch.status == "expired"
    assert outcome(store, batch) == {"0": "a", "1": "batch_expired"}


async def test_a_batch_that_expires_before_it_is_checked_answers_nothing(
    store: Store, echo: Echo, clock: Clock
) -> None:
    batch = await created(store, lines_of("a"), seconds=600)
    clock.now += 601
    await finished(make_work(store, echo, make_quota()), batch)
    assert (batch.status, outcome(store, batch), echo.answered) == ("expired", {}, [])


async def test_what_was_charged_for_a_request_that_is_given_up_is_given_back(
    store: Store, echo: Echo, clock: Clock
) -> None:
    quota = make_quota(per_day=100, clock=clock)
    echo.full = {"aaa"}
    batch = await created(store, lines_of("aaa", "bbbb"))
    work = make_work(store, echo, quota)
    await work.step(batch)
    turn = asyncio.create_task(work.step(batch))
    while echo.answered != ["bbbb"]:
        await asyncio.sleep(0.001)
    await store.cancel(batch)
    await turn
    await finished(work, batch)
    assert outcome(store, batch) == {"0": "batch_cancelled", "1": "batch_cancelled"}
    assert quota.usage_now("anna").tokens_remaining == 100
