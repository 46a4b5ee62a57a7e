"""The tokenising thread takes slices of users in turn."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from embedder import heap, tokenising
from embedder.tokenising import LARGE, TokenisingThread
from embedder.tokenized_text import TokenizedText

TEXT = TokenizedText(np.array([1, 2], np.int64), 2, blank=False)


class Slices:
    """Slices of one job. Each is logged, and waits for `gate` if there is one."""

    def __init__(self, name: str, count: int, log: list[str]) -> None:
        self.name, self.count, self.log = name, count, log
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()

    def __iter__(self) -> Iterator[list[TokenizedText]]:
        for _ in range(self.count):
            self.started.set()
            self.gate.wait(30)
            self.log.append(self.name)
            yield [TEXT]


@pytest.fixture
async def thread() -> AsyncIterator[TokenisingThread]:
    made = TokenisingThread()
    made.start()
    yield made
    await made.close()


def run(
    thread: TokenisingThread, slices: Slices, user: str, cost: int = 1_000_000
) -> "asyncio.Task[list[TokenizedText]]":
    return asyncio.create_task(thread.run(iter(slices), user=user, cost=cost))


async def started(slices: Slices) -> None:
    assert await asyncio.to_thread(slices.started.wait, 30)


async def test_the_answer_has_the_texts_of_all_slices(thread: TokenisingThread) -> None:
    assert await thread.run(iter(Slices("a", 3, [])), user="a", cost=1) == [TEXT] * 3
    assert await thread.run(iter(Slices("a", 0, [])), user="a", cost=1) == []


async def test_a_small_request_waits_for_one_slice_of_each_other_user(
    thread: TokenisingThread,
) -> None:
    log: list[str] = []
    first = Slices("a", 50, log)
    first.gate.clear()
    jobs = [run(thread, first, "a")]
    await started(first)
    jobs += [run(thread, Slices("a2", 50, log), "a"), run(thread, Slices("b", 50, log), "b")]
    await asyncio.sleep(0)
    jobs += [run(thread, Slices("c", 1, log), "c", cost=100)]
    await asyncio.sleep(0)
    first.gate.set()
    await asyncio.gather(*jobs)
    assert log.index("c") <= 3  # after the slice that ran, and one of each user
    assert log.count("a") == log.count("a2") == log.count("b") == 50


async def test_requests_of_one_user_are_tokenised_one_after_another(
    thread: TokenisingThread,
) -> None:
    log: list[str] = []
    await asyncio.gather(*(run(thread, Slices(name, 5, log), "a") for name in "123"))
    assert log == [*"111112222233333"]


async def test_a_cancelled_call_is_not_tokenised_further(thread: TokenisingThread) -> None:
    log: list[str] = []
    first, second = Slices("1", 100, log), Slices("2", 100, log)
    first.gate.clear()
    leaving = [run(thread, first, "a"), run(thread, second, "a")]
    await started(first)
    staying = run(thread, Slices("3", 2, log), "a")
    await asyncio.sleep(0)
    for job in leaving:
        job.cancel()
    await asyncio.wait(leaving)
    first.gate.set()
    await staying
    assert log == ["1", "3", "3"]
    assert await thread.run(iter(Slices("4", 1, log)), user="a", cost=1) == [TEXT]


async def test_an_error_reaches_only_its_own_caller(thread: TokenisingThread) -> None:
    class Panic(BaseException):
        """Like pyo3's PanicException."""

    def broken(error: BaseException) -> Iterator[list[TokenizedText]]:
        yield [TEXT]
        raise error

    with pytest.raises(ValueError, match="mine"):
        await thread.run(broken(ValueError("mine")), user="a", cost=1)
    with pytest.raises(RuntimeError, match="tokenizer failed"):
        await thread.run(broken(Panic()), user="a", cost=1)
    assert await thread.run(iter(Slices("b", 1, [])), user="a", cost=1) == [TEXT]


async def test_texts_of_a_failed_request_are_freed_without_a_garbage_collection(
    thread: TokenisingThread,
) -> None:
    class Texts(list[str]):
        """An object that allows weak references."""

    async def fail() -> weakref.ref[Texts]:
        texts = Texts(["a"])

        def broken(texts: Texts) -> Iterator[list[TokenizedText]]:
            yield [TEXT]
            raise ValueError(len(texts))

        with pytest.raises(ValueError, match="1"):
            await thread.run(broken(texts), user="a", cost=1)
        return weakref.ref(texts)

    gc.disable()
    try:
        texts = await fail()
        # Until its next turn the loop refers to the future, and it to the error. The thread refers
        # to the job until it leaves `_step`, which may be later.
        async with asyncio.timeout(10):
            while texts() is not None:
                await asyncio.sleep(0.001)
    finally:
        gc.enable()


async def test_memory_is_returned_once_after_large_requests(
    thread: TokenisingThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenising, "TRIM_DELAY", 0.1)
    given = asyncio.Queue[None]()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(heap, "trim", lambda: loop.call_soon_threadsafe(given.put_nowait, None))
    await thread.run(iter(Slices("small", 1, [])), user="a", cost=LARGE - 1)
    for _ in range(3):
        await thread.run(iter(Slices("large", 1, [])), user="a", cost=LARGE)
    await asyncio.wait_for(given.get(), 10)
    await asyncio.sleep(0.3)
    assert given.empty()


class Unprintable:
    """In place of thousands of tokenised texts, which take seconds to print."""

    def __repr__(self) -> str:
        raise AssertionError("nobody prints texts")


async def test_texts_are_not_printed_when_a_large_request_is_cancelled(
    thread: TokenisingThread,
) -> None:
    def slices() -> Iterator[list[TokenizedText]]:
        yield [Unprintable()]  # type: ignore[list-item]

    done = await asyncio.gather(*(thread.run(slices(), user="a", cost=1) for _ in range(3)))
    assert [len(texts) for texts in done] == [1, 1, 1]
