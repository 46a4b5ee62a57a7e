"""Texts through the HTTP service: waits as long as it is told to, splits what it refuses."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import numpy as np

from embedder.postprocess import Vectors
from jobs.errors import JobError, UsageError
from jobs.rows import Row, RowError

# What a batch may hold; the service takes 2,048 texts and 1 MiB of JSON unless it is set otherwise.
BATCH_TEXTS = 64
BATCH_CHARACTERS = 100_000
OUTAGE = 300.0  # seconds without any answer after which a job ends; refusals with Retry-After have no such end
LONGEST_WAIT = 30.0  # seconds between attempts during an outage
# Refusals for what a batch holds, or for how much; a proxy's 413 has no code of ours.
OF_A_TEXT = frozenset({"text_too_long", "invalid_text", "invalid_request", "body_too_large", "embedding_failed"})
# Of every text of the job.
OF_THE_JOB = frozenset({"task_unknown", "title_not_taken", "dimensions_not_allowed"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service gave for one text."""

    vector: np.ndarray[Any, np.dtype[np.float32]]
    tokens: int
    truncated: bool


Result = Answer | RowError


class ServiceClient:
    """One service and one token.

    Args:
        concurrency: requests in flight.
        say: told why nothing happens for a while.
    """

    def __init__(self, url: str, token: str, *, concurrency: int, say: Callable[[str], None]) -> None:
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=120, limits=limits
        )
        self._turn, self._concurrency = asyncio.Semaphore(concurrency), concurrency
        self._batch_texts, self._batch_characters = BATCH_TEXTS, BATCH_CHARACTERS  # less once that proved too much
        self._say = say
        self._not_before = 0.0  # time.monotonic(); all callers wait when one is told to
        self.fingerprint = ""

    async def close(self) -> None:
        await self._http.aclose()

    async def look(self) -> dict[str, Any]:
        """The served model's card. From here on, a service with another vector space is refused."""
        answer = await self._send(lambda: self._http.get("/v1/models"))
        _check(answer)
        self.fingerprint = answer.headers["X-Embedding-Fingerprint"]
        self._http.headers["If-Fingerprint"] = self.fingerprint
        card: dict[str, Any] = answer.json()["data"][0]
        return card

    async def embed(self, rows: Sequence[Row], options: dict[str, Any], *, titles: bool) -> list[Result]:
        """One result a row, in their order. `options` go into each body as they are."""
        batches = batched(rows, texts=self._batch_texts, characters=self._batch_characters)
        results = await asyncio.gather(*(self._batch(batch, options, titles=titles) for batch in batches))
        return [result for batch in results for result in batch]

    async def _batch(self, rows: Sequence[Row], options: dict[str, Any], *, titles: bool) -> list[Result]:
        """A batch that is refused for what is in it is halved, until the text is alone that it was refused for."""
        body = {"texts": [row.text for row in rows], "encoding_format": "base64", **options}
        if titles:
            body["title"] = [row.title for row in rows]
        async with self._turn:
            answer = await self._send(lambda: self._http.post("/batch-embed", json=body))
        if answer.status_code == 200:
            return _results(answer.json())
        code, message = _complaint(answer)
        if code in OF_THE_JOB:
            raise UsageError(f"the service refuses this job: {message}")
        if answer.status_code != 413 and code not in OF_A_TEXT:
            _check(answer)
        if len(rows) == 1:
            return [RowError(message)]
        middle = len(rows) // 2
        if code == "invalid_request" and len(rows) == self._batch_texts:
            self._batch_texts = middle
        if answer.status_code == 413:
            self._batch_characters = min(self._batch_characters, sum(len(row.text) for row in rows) // 2)
        halves = [await self._batch(half, options, titles=titles) for half in (rows[:middle], rows[middle:])]
        return [*halves[0], *halves[1]]

    async def _send(self, call: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        """The first answer that is not "come back later"."""
        wait, answered = 1.0, time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            try:
                answer = await call()
            except httpx.TransportError as error:
                if time.monotonic() - answered > OUTAGE:
                    raise JobError(
                        f"the service does not answer ({type(error).__name__}); the same command goes on"
                    ) from error
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)
                continue
            if answer.status_code not in (429, 503, 502, 504):
                return answer
            wait = min(wait * 2, LONGEST_WAIT)
            if _complaint(answer)[0] == "too_many_concurrent" and self._concurrency > 1:
                self._concurrency -= 1
                await self._turn.acquire()  # never given back: from here on, one request fewer at a time
            self._pause(_retry_after(answer) or wait, answer.status_code)
            answered = time.monotonic()

    def _pause(self, seconds: float, status: int) -> None:
        until = time.monotonic() + seconds
        if until > self._not_before + 1:
            self._say(f"the service says {status}: waiting {seconds:.0f} s")
        self._not_before = max(self._not_before, until)


def batched(rows: Sequence[Row], *, texts: int, characters: int) -> list[list[Row]]:
    """Rows in their order, in batches of what one request may hold; a longer text goes alone."""
    batches: list[list[Row]] = []
    room = 0
    for row in rows:
        if not batches or len(batches[-1]) >= texts or len(row.text) > room:
            batches.append([])
            room = characters
        batches[-1].append(row)
        room -= len(row.text)
    return batches


def stack(answers: Sequence[Answer], dimensions: int) -> Vectors:
    """(n, dimensions) float32, also of none."""
    return np.stack([answer.vector for answer in answers]) if answers else np.empty((0, dimensions), np.float32)


def _results(body: dict[str, Any]) -> list[Result]:
    vectors = [np.frombuffer(base64.b64decode(text), "<f4") for text in body["embeddings"]]
    cut = set(body["truncated"])
    return [Answer(vector, body["tokens"][index], index in cut) for index, vector in enumerate(vectors)]


def _complaint(answer: httpx.Response) -> tuple[str, str]:
    """Code and message of a refusal, whoever wrote it."""
    try:
        error = answer.json()["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "", f"status {answer.status_code}"


def _check(answer: httpx.Response) -> None:
    """Raises JobError with what to do about an answer that ends the job."""
    if answer.status_code == 200:
        return
    _, message = _complaint(answer)
    advice = {
        401: "put a valid access token in JWT_TOKEN, and the same command goes on",
        409: "another model is served now than when this job began",
    }.get(answer.status_code, "the same command goes on once that is mended")
    raise JobError(f"the service answers {answer.status_code} ({message}): {advice}")


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds; a header may also hold a date (RFC 9110, section 10.2.3)."""
    value = answer.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
