"""Texts through the HTTP service: as many per request as it takes, and fewer where it says so."""

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from jobs.errors import RowError, UsageError
from jobs.input.rows import Row
from jobs.remote.answers import (
    Answer,
    Card,
    Complaint,
    Reply,
    Result,
    answer_bytes,
    answers_of,
    card_of,
    check,
    complaint_of,
)
from jobs.remote.exchange import Exchange, Request, TookTooLongError

# What a request may hold: OpenAI's number of texts, and the service's MAX_BODY_BYTES with room for
# its options. A service that takes less says so, once for each halving.
BATCH_TEXTS = 2048
OTHER_BODY_BYTES = 512  # of a body besides its texts and titles
BATCH_BYTES = (8 << 20) - OTHER_BODY_BYTES
FEW_TEXTS = 64  # a request that takes too long is not made smaller than this
SHORTEST_CUT = (
    1024  # bytes; no service takes less, and what is still too large is not so for its text
)
# Refusals for what a batch holds, or for how much; a proxy's 413 has no code of ours.
OF_A_TEXT = frozenset(
    {"text_too_long", "invalid_text", "invalid_request", "body_too_large", "embedding_failed"}
)
# Of every text of the job.
OF_THE_JOB = frozenset({"task_unknown", "title_not_taken", "dimensions_not_allowed"})
# Of several requests at once; a refused one is charged, so there are fewer from then on.
OF_MANY_REQUESTS = frozenset({"too_many_concurrent", "user_queue_full"})
# How much a service takes, in its message: texts that fit, texts at most, bytes of a body.
LIMIT = re.compile(r"(?:its first|at most|larger than) (\d{1,9}) ")
OF_A_BATCH = re.compile(r"\btext \d{1,9} ")  # of a message: the number is one within a request
OF_ONE = re.compile(r"(?:texts|title)\.(\d{1,9})")  # `param` of a text or title that is wrong


class RefusedError(UsageError):
    """An option that the service does not take; of a task's column, it is the fault of the rows with that task."""


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What is asked for each text of a request, besides the text."""

    fields: dict[str, Any]  # go into the body as they are
    titles: bool


class ServiceClient:
    """One service and one token.

    Args:
        concurrency: requests in flight.
        say: gets a message when requests have to wait.
    """

    def __init__(
        self, url: str, token: str, *, concurrency: int, say: Callable[[str], None]
    ) -> None:
        self._exchange = Exchange(url, token, connections=concurrency, say=say)
        self._turn = asyncio.Semaphore(concurrency)
        self._concurrency, self._surplus = concurrency, 0
        self._batch_texts, self._batch_bytes = (
            BATCH_TEXTS,
            BATCH_BYTES,
        )  # less once that is too much
        self._dimensions = 0

    async def close(self) -> None:
        await self._exchange.close()

    async def look(self) -> Card:
        """The served model's card.

        Raises UsageError when this is not the URL of a service, and JobError when nothing answers:
        at once, since a service that nobody has seen yet is more likely misspelt than restarting.
        """
        reply = await self._exchange.send(Request("GET", "/v1/models"), patient=False)
        check(reply)
        return card_of(self._exchange.url, reply)

    def expect(self, fingerprint: str, dimensions: int) -> None:
        """From here on, other vectors than these are refused."""
        self._exchange.expect(fingerprint)
        self._dimensions = dimensions

    async def embed(
        self, rows: Sequence[Row], options: dict[str, Any], *, titles: bool
    ) -> dict[int, Result]:
        """What became of each row, by its number. `options` go into each body as they are."""
        wanted = RequestOptions(options, titles)
        found = await asyncio.gather(*(self._batch(batch, wanted) for batch in self._batches(rows)))
        return {number: result for results in found for number, result in results.items()}

    async def _batch(self, rows: Sequence[Row], wanted: RequestOptions) -> dict[int, Result]:
        """A batch that is refused for what is in it is split, until the text is alone that it was refused for."""
        found: dict[int, Result] = {}
        waiting: deque[Sequence[Row]] = deque([rows])
        while waiting:
            batches = self._batches(waiting.popleft())  # the limits may be lower by now
            waiting.extendleft(reversed(batches[1:]))
            results, smaller = await self._attempt(batches[0], wanted)
            found |= results
            waiting.extendleft(reversed(smaller))
        return found

    async def _attempt(
        self, rows: Sequence[Row], wanted: RequestOptions
    ) -> tuple[dict[int, Result], list[Sequence[Row]]]:
        """What became of rows, and those that are to be sent again in smaller requests."""
        try:
            async with self._one_turn():
                reply = await self._exchange.send(
                    self._request(rows, wanted),
                    refused=self._adapt,
                    may_shrink=len(rows) > FEW_TEXTS,
                )
        except TookTooLongError:
            self._batch_texts = min(self._batch_texts, max(FEW_TEXTS, len(rows) // 2))
            return {}, self._smaller(rows)
        if reply.status == 200:
            answers = answers_of(reply, len(rows), self._dimensions)
            return {row.number: answer for row, answer in zip(rows, answers, strict=True)}, []
        complaint = complaint_of(reply)
        if complaint.code in OF_THE_JOB:
            raise RefusedError(f"the service refuses this job: {complaint.message}")
        if reply.status != 413 and complaint.code not in OF_A_TEXT:
            check(reply)
        return await self._refused(rows, wanted, reply, complaint)

    async def _refused(
        self, rows: Sequence[Row], wanted: RequestOptions, reply: Reply, complaint: Complaint
    ) -> tuple[dict[int, Result], list[Sequence[Row]]]:
        message = OF_A_BATCH.sub("the text ", complaint.message, count=1)
        if len(rows) == 1:
            return {rows[0].number: await self._alone(rows[0], wanted, reply, message)}, []
        place = OF_ONE.fullmatch(complaint.param or "")
        if place and int(place[1]) < len(rows):  # it is wrong, and the others may be right
            at = int(place[1])
            others = [part for part in (rows[:at], rows[at + 1 :]) if part]
            return {rows[at].number: RowError(message)}, others
        self._learn(rows, reply, complaint)
        return {}, self._smaller(rows)

    def _request(self, rows: Sequence[Row], wanted: RequestOptions) -> Request:
        body = {"texts": [row.text for row in rows], "encoding_format": "base64", **wanted.fields}
        if wanted.titles:
            body["title"] = [row.title for row in rows]
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        return Request("POST", "/batch-embed", content, answer_bytes(len(rows), self._dimensions))

    def _learn(self, rows: Sequence[Row], reply: Reply, complaint: Complaint) -> None:
        """Make later requests as small as this one should have been."""
        told = LIMIT.search(complaint.message)
        limit = int(told[1]) if told else len(rows) // 2
        if complaint.param == "texts":
            self._batch_texts = max(1, min(self._batch_texts, limit))
        elif complaint.code == "too_many_tokens":
            self._at_most(sum(map(_size, rows[:limit])))
        elif complaint.code == "body_too_large" and told:
            self._at_most(limit - OTHER_BODY_BYTES)
        elif reply.status == 413:
            self._at_most(sum(map(_size, rows)) // 2)

    def _at_most(self, size: int) -> None:
        self._batch_bytes = min(self._batch_bytes, max(size, 1))

    def _batches(self, rows: Sequence[Row]) -> list[list[Row]]:
        return batched(rows, texts=self._batch_texts, size=self._batch_bytes)

    def _smaller(self, rows: Sequence[Row]) -> list[Sequence[Row]]:
        """The same rows in two requests or more."""
        batches, middle = self._batches(rows), len(rows) // 2
        return [*batches] if len(batches) > 1 else [rows[:middle], rows[middle:]]

    async def _alone(self, row: Row, wanted: RequestOptions, reply: Reply, message: str) -> Result:
        """A refused text. One that no body holds loses its second half.

        That is the same vector if the model's limit cuts it off too.
        """
        half = row.text[: len(row.text) // 2]
        may_be_cut = reply.status == 413 and wanted.fields.get("truncate", True)
        if not may_be_cut or len(half.encode()) < SHORTEST_CUT:
            return RowError(message)
        [result] = (await self._batch([replace(row, text=half)], wanted)).values()
        if isinstance(result, Answer) and not result.truncated:
            return RowError(f"{message} The half that fits is shorter than what the model reads.")
        return result

    @asynccontextmanager
    async def _one_turn(self) -> AsyncIterator[None]:
        """The right to a request; one that proved too many is not given back."""
        await self._turn.acquire()
        try:
            yield
        finally:
            if self._surplus:
                self._surplus -= 1
            else:
                self._turn.release()

    def _adapt(self, reply: Reply) -> None:
        if complaint_of(reply).code in OF_MANY_REQUESTS and self._concurrency > 1:
            self._concurrency, self._surplus = self._concurrency - 1, self._surplus + 1


def _size(row: Row) -> int:
    """Bytes of a row in a body."""
    shown = json.dumps([row.text, row.title], ensure_ascii=False)
    return len(shown.encode())


def batched(rows: Sequence[Row], *, texts: int, size: int) -> list[list[Row]]:
    """Rows in their order, in batches of what one request may hold; a longer text goes alone."""
    batches: list[list[Row]] = []
    room = 0
    for row in rows:
        needed = _size(row)
        if not batches or len(batches[-1]) >= texts or needed > room:
            batches.append([])
            room = size
        batches[-1].append(row)
        room -= needed
    return batches
