"""A served model whose engine hangs or ends: it is noticed, and no caller waits for it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from embedder import model as models
from embedder.errors import (
    EngineEndedError,
    EngineStalledError,
    TextTooLongError,
    TooManyTokensError,
)
from embedder.postprocess import Vectors
from embedder.serving import ServedModel
from embedder.tokenized_text import TokenIds, TokenizedText
from tests.embedder.conftest import LoadModel


class Breakdown(BaseException):
    """An error that no engine should raise."""


class FailingEngine:
    """Returns zeros until it is told to hang or to fail."""

    kernel = "none"

    def __init__(self) -> None:
        self.runs = threading.Event()
        self.runs.set()
        self.breaks = False

    def forward(self, token_ids: Sequence[TokenIds]) -> Vectors:
        self.runs.wait(30)
        if self.breaks:
            raise Breakdown
        return np.zeros((len(token_ids), 384), np.float32)


@pytest.fixture
def directory(starter: LoadModel, starter_directory: Path) -> Path:
    starter("fp32")
    return starter_directory


@asynccontextmanager
async def serving(
    directory: Path, monkeypatch: pytest.MonkeyPatch, queue_tokens: int = 1_000_000
) -> AsyncIterator[tuple[FailingEngine, ServedModel]]:
    engine = FailingEngine()
    monkeypatch.setattr(models, "_engine", lambda *_, **__: engine)
    model = ServedModel(
        directory,
        num_threads=1,
        max_tokens=256,
        batch_tokens=256,
        batch_size=8,
        queue_tokens=queue_tokens,
        user_queue_tokens=queue_tokens,
        deadline=0.1,
        report=lambda _: None,
    )
    assert not model.serves
    await model.start()
    assert model.serves
    yield engine, model
    engine.runs.set()
    await model.close()


async def embed(model: ServedModel, tokens: Sequence[TokenizedText], user: str) -> Vectors:
    answer = await model.answer([text.ids for text in tokens], [None] * len(tokens), user=user)
    return answer.vectors


async def test_a_forward_pass_beyond_its_deadline_is_noticed_and_its_callers_get_an_error(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(directory, monkeypatch) as (engine, model):
        tokens = await model.tokenise(["a"], [""], overflow="truncate", user="a")
        engine.runs.clear()
        calls = [asyncio.create_task(embed(model, tokens, user)) for user in "ab"]
        await asyncio.sleep(0.2)
        assert model.running_seconds > 0.1
        assert not model.serves
        with pytest.raises(EngineStalledError) as stalled:
            model.require_running()
        model.abandon(stalled.value)
        assert await asyncio.gather(*calls, return_exceptions=True) == [stalled.value] * 2
        with pytest.raises(EngineStalledError):
            await embed(model, tokens, "c")


async def test_callers_of_a_broken_engine_get_an_error(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(directory, monkeypatch) as (engine, model):
        tokens = await model.tokenise(["a"], [""], overflow="truncate", user="a")
        engine.breaks = True
        for _ in range(2):
            with pytest.raises(EngineEndedError):
                await asyncio.wait_for(embed(model, tokens, "a"), 10)
        with pytest.raises(EngineEndedError):
            model.require_running()
        assert not model.serves


@pytest.mark.parametrize("texts", [["a"] * 1_999, ["word " * 10_000] * 50])
async def test_large_requests_do_not_block_the_event_loop(
    directory: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str]
) -> None:
    """A title of 1,000 characters is put in front of each text, however short."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with serving(directory, monkeypatch) as (_, model):
        task = asyncio.create_task(others())
        prompts = ["title: " + "t" * 1_000] * len(texts)
        tokens = await model.tokenise(texts, prompts, overflow="truncate", user="a")
        task.cancel()
    assert len(tokens) == len(texts)
    assert turns > 10


@pytest.mark.parametrize("words", [300, 30_000])
async def test_a_text_that_may_not_be_truncated_is_refused_with_its_least_length(
    directory: Path, monkeypatch: pytest.MonkeyPatch, words: int
) -> None:
    async with serving(directory, monkeypatch) as (_, model):
        texts = ["fine", "word " * words, "fine"]
        with pytest.raises(TextTooLongError, match=r"text 1 has at least \d+ .* limit is 256"):
            await model.tokenise(texts, ["", "", ""], overflow="error", user="a")


async def test_tokenising_stops_at_too_many_tokens(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(directory, monkeypatch, queue_tokens=1_000) as (_, model):
        texts = ["word " * 100] * 500
        with pytest.raises(TooManyTokensError) as refusal:
            await model.tokenise(texts, [""] * 500, overflow="truncate", user="a")
    assert refusal.value.fit == refusal.value.limit // 102
    assert refusal.value.cost < 10_000  # of 51,000


async def test_cutting_at_the_start_stops_at_too_many_tokens(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(directory, monkeypatch, queue_tokens=1_000) as (_, model):
        texts = ["word " * 300] * 500
        with pytest.raises(TooManyTokensError) as refusal:
            await model.tokenise(texts, [""] * 500, user="a", overflow="truncate", cut_start=True)
    assert refusal.value.fit == 3
    assert refusal.value.cost == 4 * 256  # of 128,000
