"""Some lines of a batch that are answered together, and written together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from batches.answering import SUCCESS, Answered, Answerer, LineTokens
from batches.errors import LineFault, NotNow
from batches.lines import Line
from batches.records import Batch, Progress
from batches.requests import BatchRequest, answered_line, request_of, unanswered_line
from quota.quota import Quota

LONGEST_WAIT = 5.0  # seconds between two tries of a request while the service has too much work
LINES_PER_TURN = 64  # that are decoded in one turn of the event loop
TRIES = 3  # of a request in one part, once lines after it may be answered


@dataclass(slots=True)
class Item:
    """One line, and what became of it."""

    line: Line
    request: BatchRequest | None = None
    fault: LineFault | None = None
    answered: Answered | None = None
    tokens: LineTokens | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more happens to the line; blank ones are done."""
        return self.request is None or self.answered is not None

    @property
    def succeeded(self) -> bool:
        """Whether it has a place in the file of answers."""
        return self.answered is not None and self.answered.status == SUCCESS

    def output(self) -> Iterator[bytes]:
        """Its line in the file of answers or errors; nothing for a blank line."""
        if self.request is not None and self.answered is not None:
            yield from answered_line(self.request, self.answered)
        elif self.fault is not None:
            yield unanswered_line(None, code=self.fault.code, message=str(self.fault))


@dataclass(slots=True)
class Part:
    """Lines of one batch.

    Args:
        batch: whose lines they are.
        items: the lines, in their order.
        free_to: the last line that may have been charged before a crash.
        given_up: whether the batch has ended meanwhile, so that no request need wait any longer.
    """

    batch: Batch
    items: list[Item]
    free_to: int
    given_up: Callable[[], bool]
    waits: NotNow | None = field(default=None, init=False)

    async def answer(self, answerer: Answerer, quota: Quota) -> None:
        """Answer the lines, until one has to wait.

        Tokens are charged in the order of the lines: where the day's tokens end, all lines before
        are answered and none after is charged. The vectors are computed together. A line that the
        service has no room for ends the part, so that no batch of another user waits for this
        user's share of the queue. After an unexpected error nothing stays charged: all lines are
        answered again.
        """
        tasks: list[asyncio.Task[None]] = []
        try:
            for item in self.items:
                if item.request is None:
                    continue
                admitted = asyncio.Event()
                task = asyncio.create_task(self._answer(item, answerer, quota, admitted))
                task.add_done_callback(partial(_tell, admitted))
                tasks.append(task)
                await admitted.wait()
                if self.waits is not None:
                    break
            await asyncio.gather(*tasks)
        except Exception:
            await _ended(tasks)
            await _refund(self.items)
            raise
        finally:
            await _ended(tasks)

    async def _answer(
        self, item: Item, answerer: Answerer, quota: Quota, admitted: asyncio.Event
    ) -> None:
        batch, request = self.batch, item.request
        if request is None:
            return
        free = item.line.number <= self.free_to
        for left in reversed(range(TRIES)):
            item.tokens = LineTokens(quota, batch.user_id, free=free, admitted=admitted.set)
            try:
                item.answered = await answerer.answer(
                    request.body, user_id=batch.user_id, caller=batch.caller, tokens=item.tokens
                )
            except NotNow as wait:
                others_began = admitted.is_set()  # then lines after it would be answered again
                if wait.spent or not others_began or not left or self.given_up():
                    self.waits = wait
                    return
                await asyncio.sleep(min(wait.seconds, LONGEST_WAIT))
            else:
                return

    async def take_done(self) -> list[Item]:
        """The items up to the first that waits. Charges of those after it are given back."""
        n_done = next((i for i, item in enumerate(self.items) if not item.done), len(self.items))
        await _refund(item for item in self.items[n_done:] if item.answered is not None)
        return self.items[:n_done]

    @property
    def seconds(self) -> float:
        """Until the part is worth another turn; 0 if all of it is done."""
        if self.waits is None:
            return 0.0
        if self.waits.spent:
            return self.waits.seconds
        return min(self.waits.seconds, LONGEST_WAIT)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _refund(items: Iterable[Item]) -> None:
    for item in items:
        if item.tokens is not None:
            await item.tokens.refund_all()


def _tell(admitted: asyncio.Event, _: object) -> None:
    admitted.set()


async def items_of(lines: Sequence[Line], answerer: Answerer, *, endpoint: str) -> list[Item]:
    """The lines as requests; they were checked before, so a fault means that the file changed."""
    items = []
    for place, line in enumerate(lines):
        if place % LINES_PER_TURN == LINES_PER_TURN - 1:
            await asyncio.sleep(0)
        item = Item(line)
        if line.content or line.too_long:
            try:
                fields = await answerer.decode(line.content)
                item.request = request_of(fields, endpoint=endpoint)
            except LineFault as fault:
                item.fault = fault
        items.append(item)
    return items


def first_of(items: list[Item], answerer: Answerer, *, most_texts: int) -> list[Item]:
    """The first items that have `most_texts` together; at least one."""
    n_texts = 0
    for place, item in enumerate(items):
        n_texts += 0 if item.request is None else answerer.n_texts(item.request.body)
        if place and n_texts > most_texts:
            return items[:place]
    return items


def error_lines(items: Sequence[Item], *, code: str, message: str) -> Iterator[bytes]:
    """The error lines of requests that are not answered any more."""
    for item in items:
        if item.request is not None:
            yield unanswered_line(item.request.custom_id, code=code, message=message)
        else:
            yield from item.output()


def progress_after(
    before: Progress, items: Sequence[Item], *, output_bytes: int, error_bytes: int
) -> Progress:
    """The progress of a batch once `items` are written."""
    last = items[-1].line
    told = [item for item in items if item.request is not None or item.fault is not None]
    n_succeeded = sum(item.succeeded for item in told)
    answered = [item.answered for item in told if item.answered is not None]
    return replace(
        before,
        line=last.number,
        offset=last.end,
        completed=before.completed + n_succeeded,
        failed=before.failed + len(told) - n_succeeded,
        output_bytes=output_bytes,
        error_bytes=error_bytes,
        charged_to=last.number,
        prompt_tokens=before.prompt_tokens + sum(one.prompt_tokens for one in answered),
        cached_tokens=before.cached_tokens + sum(one.cached_tokens for one in answered),
    )
