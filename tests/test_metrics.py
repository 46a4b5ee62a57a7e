"""The page of metrics costs the event loop one rendering per turn, however many ask for it."""

import asyncio

import pytest

import metrics


async def _read() -> bytes:
    return metrics.render()[0]


async def test_requests_of_one_turn_share_a_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter([b"first", b"second"])
    monkeypatch.setattr(metrics, "generate_latest", lambda _: next(made))
    assert set(await asyncio.gather(*(_read() for _ in range(64)))) == {b"first"}
    await asyncio.sleep(0)


async def test_the_next_turn_sees_what_was_counted_meanwhile() -> None:
    before = metrics.render()[0]
    metrics.TOKENS.inc()
    await asyncio.sleep(0)
    assert metrics.render()[0] != before
    await asyncio.sleep(0)
