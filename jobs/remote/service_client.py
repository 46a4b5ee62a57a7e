"""Embed texts over HTTP: in requests as large as the service accepts."""

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from embedder.overflow import TRUNCATE
from jobs.errors import RowError, UsageError
from jobs.input.rows import Row
from jobs.remote.answers import (
    Answer,
    ModelCard,
    Refusal,
    Reply,
    Result,
    answer_bytes,
    answers_of,
    card_of,
    check,
    refusal_of,
)
from jobs.remote.http_client import HttpClient, Request, TookTooLongError

# What a request may hold: OpenAI's limit of texts, and the default MAX_BODY_BYTES. The answers of a
# service with lower limits make later requests smaller.
BATCH_TEXTS = 2048
OTHER_BODY_BYTES = 512  # of a body, besides its texts and titles
BATCH_BYTES = (8 << 20) - OTHER_BODY_BYTES
FEW_TEXTS = 64  # a request that takes too long is not made smaller than this
SHORTEST_CUT = 1024  # bytes; a service that refuses shorter texts does not do so for their length
# Codes of refusals for a text, or for the size of a batch. The 413 of a proxy has no code.
OF_A_TEXT = frozenset(
    {"text_too_long", "invalid_text", "invalid_request", "body_too_large", "embedding_failed"}
)
# Codes of refusals that concern every text of the job.
OF_THE_JOB = frozenset({"task_unknown", "title_not_taken", "dimensions_not_allowed"})
# Codes of refusals for too many requests at once. Refused requests are charged, so later ones
# are fewer at a time.
OF_MANY_REQUESTS = frozenset({"too_many_concurrent", "user_queue_full"})
# The limit in a message: texts that fit, the most texts, or bytes of a body.
LIMIT = re.compile(r"(?:its first|at most|larger than) (\d{1,9}) ")
OF_A_BATCH = re.compile(r"\btext \d{1,9} ")  # in a message: an index within the request
OF_ONE = re.compile(r"(?:texts|title)\.(\d{1,9})")  # `param` of a wrong text or title


class RefusedError(UsageError):
    """The service does not accept an option. Of a task in a column, this concerns its rows only."""


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The options of a request."""

    fields: dict[str, Any]  # fields of the body
    titles: bool  # whether rows are sent with their titles


class ServiceClient:
    """Embeds rows with one service and one token.

    Args:
        url: of the service, without a path.
        token: the access token.
        concurrency: the most requests in flight.
        say: gets a message when requests have to wait.

    Raises:
        UsageError: the URL or the token is invalid.
    """

    def __init__(
        self, url: str, token: str, *, concurrency: int, say: Callable[[str], None]
    ) -> None:
        self._client = HttpClient(url, token, connections=concurrency, say=say)
        self._turn = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._surplus = 0  # turns that are not released when their request ends
        self._batch_texts = BATCH_TEXTS  # lowered when the service refuses as many
        self._batch_bytes = BATCH_BYTES  # lowered likewise
        self._dimensions = 0

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def look(self) -> ModelCard:
        """The model that the service serves.

        Fails at once without an answer: at the start of a job the URL is more likely wrong than the
        service restarting.

        Raises:
            UsageError: this is not the URL of a service.
            JobError: the service does not answer.
        """
        reply = await self._client.send(Request("GET", "/v1/models"), patient=False)
        check(reply)
        return card_of(self._client.url, reply)

    def expect(self, fingerprint: str, dimensions: int) -> None:
        """Refuse vectors of another space or size in later answers."""
        self._client.expect(fingerprint)
        self._dimensions = dimensions

    async def embed(
        self, rows: Sequence[Row], options: dict[str, Any], *, titles: bool
    ) -> dict[int, Result]:
        """Embed rows.

        Args:
            rows: those to embed.
            options: fields of each request's body.
            titles: whether rows are sent with their titles.

        Returns:
            The result of each row, by row number.

        Raises:
            RefusedError: the service does not accept an option.
            JobError: the service does not answer, or refuses the job.
        """
        wanted = RequestOptions(options, titles)
        found = await asyncio.gather(*(self._batch(batch, wanted) for batch in self._batches(rows)))
        return {number: result for results in found for number, result in results.items()}

    async def _batch(self, rows: Sequence[Row], wanted: RequestOptions) -> dict[int, Result]:
        """Embed a batch. One refused for its content is split until the refused text is alone."""
        found: dict[int, Result] = {}
        waiting: deque[Sequence[Row]] = deque([rows])
        while waiting:
            batches = self._batches(waiting.popleft())  # again: the limits may be lower now
            waiting.extendleft(reversed(batches[1:]))
            results, smaller = await self._attempt(batches[0], wanted)
            found |= results
            waiting.extendleft(reversed(smaller))
        return found

    async def _attempt(
        self, rows: Sequence[Row], wanted: RequestOptions
    ) -> tuple[dict[int, Result], list[Sequence[Row]]]:
        """Send one request; returns results, and rows to send again in smaller requests."""
        try:
            async with self._one_turn():
                reply = await self._client.send(
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
        refusal = refusal_of(reply)
        if refusal.code in OF_THE_JOB:
            raise RefusedError(f"the service refuses this job: {refusal.message}")
        if reply.status != 413 and refusal.code not in OF_A_TEXT:
            check(reply)
        return await self._refused(rows, wanted, reply, refusal)

    async def _refused(
        self, rows: Sequence[Row], wanted: RequestOptions, reply: Reply, refusal: Refusal
    ) -> tuple[dict[int, Result], list[Sequence[Row]]]:
        message = OF_A_BATCH.sub("the text ", refusal.message, count=1)
        if len(rows) == 1:
            return {rows[0].number: await self._alone(rows[0], wanted, reply, message)}, []
        place = OF_ONE.fullmatch(refusal.param or "")
        if place and int(place[1]) < len(rows):  # it is wrong, and the others may be right
            at = int(place[1])
            others = [part for part in (rows[:at], rows[at + 1 :]) if part]
            return {rows[at].number: RowError(message)}, others
        self._learn(rows, reply, refusal)
        return {}, self._smaller(rows)

    def _request(self, rows: Sequence[Row], wanted: RequestOptions) -> Request:
        body = {"texts": [row.text for row in rows], "encoding_format": "base64", **wanted.fields}
        if wanted.titles:
            body["title"] = [row.title for row in rows]
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        return Request("POST", "/batch-embed", content, answer_bytes(len(rows), self._dimensions))

    def _learn(self, rows: Sequence[Row], reply: Reply, refusal: Refusal) -> None:
        """Lower the limits of later requests to what the service accepts."""
        told = LIMIT.search(refusal.message)
        limit = int(told[1]) if told else len(rows) // 2
        if refusal.param == "texts":
            self._batch_texts = max(1, min(self._batch_texts, limit))
        elif refusal.code == "too_many_tokens":
            self._at_most(sum(map(_size, rows[:limit])))
        elif refusal.code == "body_too_large" and told:
            self._at_most(limit - OTHER_BODY_BYTES)
        elif reply.status == 413:
            self._at_most(sum(map(_size, rows)) // 2)

    def _at_most(self, size: int) -> None:
        self._batch_bytes = min(self._batch_bytes, max(size, 1))

    def _batches(self, rows: Sequence[Row]) -> list[list[Row]]:
        return batched(rows, texts=self._batch_texts, size=self._batch_bytes)

    def _smaller(self, rows: Sequence[Row]) -> list[Sequence[Row]]:
        """The same rows in two or more requests."""
        batches = self._batches(rows)
        if len(batches) > 1:
            return [*batches]
        middle = len(rows) // 2
        return [rows[:middle], rows[middle:]]

    async def _alone(self, row: Row, wanted: RequestOptions, reply: Reply, message: str) -> Result:
        """The result of a text that was refused alone.

        A text too large for a request is sent without its second half: if the model truncates that
        half too, the vector is the same.
        """
        half = row.text[: len(row.text) // 2]
        may_be_cut = reply.status == 413 and wanted.fields.get("overflow") in (None, TRUNCATE)
        if not may_be_cut or len(half.encode()) < SHORTEST_CUT:
            return RowError(message)
        [result] = (await self._batch([replace(row, text=half)], wanted)).values()
        if isinstance(result, Answer) and not result.truncated:
            return RowError(f"{message} The half that fits is shorter than what the model reads.")
        return result

    @asynccontextmanager
    async def _one_turn(self) -> AsyncIterator[None]:
        """Wait for a turn to send a request."""
        await self._turn.acquire()
        try:
            yield
        finally:
            if self._surplus:
                self._surplus -= 1
            else:
                self._turn.release()

    def _adapt(self, reply: Reply) -> None:
        if refusal_of(reply).code in OF_MANY_REQUESTS and self._concurrency > 1:
            self._concurrency = self._concurrency - 1
            self._surplus = self._surplus + 1


def _size(row: Row) -> int:
    """Bytes of a row in the body of a request."""
    shown = json.dumps([row.text, row.title], ensure_ascii=False)
    return len(shown.encode())


def batched(rows: Sequence[Row], *, texts: int, size: int) -> list[list[Row]]:
    """Group rows, in order, into batches that fit a request. A larger row is a batch of its own.

    Args:
        rows: those to send.
        texts: the most rows of a batch.
        size: the most bytes of a batch.
    """
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
