"""Texts through the HTTP service: waits as long as it is told to, splits what it refuses."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx
import numpy as np

from embedder.postprocess import Vectors
from jobs.errors import JobError, RowError, UsageError, one_line
from jobs.rows import Row

# What a batch may hold; the service takes 2,048 texts and 1 MiB of JSON unless it is set otherwise.
BATCH_TEXTS = 64
BATCH_CHARACTERS = 100_000
SHORTEST_CUT = (
    1024  # bytes; no service takes less, and what is still too large then is not so for its text
)
OUTAGE = 300.0  # seconds without any answer after which a job ends; refusals with Retry-After have no such end
LONGEST_WAIT = 30.0  # seconds between attempts during an outage
# Refusals for what a batch holds, or for how much; a proxy's 413 has no code of ours.
OF_A_TEXT = frozenset(
    {"text_too_long", "invalid_text", "invalid_request", "body_too_large", "embedding_failed"}
)
# Of every text of the job.
OF_THE_JOB = frozenset({"task_unknown", "title_not_taken", "dimensions_not_allowed"})


class RefusedError(UsageError):
    """An option that the service does not take; of a task's column, it is the fault of the rows with that task."""


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

    def __init__(
        self, url: str, token: str, *, concurrency: int, say: Callable[[str], None]
    ) -> None:
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        headers = {"Authorization": f"Bearer {token}"}
        try:
            self._http = httpx.AsyncClient(
                base_url=url, headers=headers, timeout=120, limits=limits
            )
        except (httpx.InvalidURL, UnicodeError) as error:  # of a URL; of a token
            raise UsageError(f"URL or JWT_TOKEN cannot be used: {one_line(error)}") from error
        self._url, self._say = url, say
        self._turn, self._concurrency, self._surplus = (
            asyncio.Semaphore(concurrency),
            concurrency,
            0,
        )
        self._batch_texts, self._batch_characters = (
            BATCH_TEXTS,
            BATCH_CHARACTERS,
        )  # less once that proved too much
        self._not_before = 0.0  # time.monotonic(); all callers wait when one is told to
        self.fingerprint = ""

    async def close(self) -> None:
        await self._http.aclose()

    async def look(self) -> dict[str, Any]:
        """The served model's card. From here on, a service with another vector space is refused.

        Raises UsageError when this is not the URL of a service, and JobError when nothing answers: at once, since
        a service that nobody has seen yet is more likely misspelt than restarting.
        """
        answer = await self._send(lambda: self._http.get("/v1/models"), patient=False)
        _check(answer)
        try:
            card: dict[str, Any] = answer.json()["data"][0]
            self.fingerprint = answer.headers["X-Embedding-Fingerprint"]
            _ = card["max_tokens"], card["dimensions"]
        except (ValueError, LookupError, TypeError) as error:
            raise UsageError(
                f"{self._url} is not the URL of this service: /v1/models answers something else"
            ) from error
        self._http.headers["If-Fingerprint"] = self.fingerprint
        return card

    async def embed(
        self, rows: Sequence[Row], options: dict[str, Any], *, titles: bool
    ) -> list[Result]:
        """One result a row, in their order. `options` go into each body as they are."""
        batches = batched(rows, texts=self._batch_texts, characters=self._batch_characters)
        results = await asyncio.gather(
            *(self._batch(batch, options, titles=titles) for batch in batches)
        )
        return [result for batch in results for result in batch]

    async def _batch(
        self, rows: Sequence[Row], options: dict[str, Any], *, titles: bool
    ) -> list[Result]:
        """A batch that is refused for what is in it is halved, until the text is alone that it was refused for."""
        body = {"texts": [row.text for row in rows], "encoding_format": "base64", **options}
        if titles:
            body["title"] = [row.title for row in rows]
        async with self._one_turn():
            answer = await self._send(lambda: self._http.post("/batch-embed", json=body))
        if answer.status_code == 200:
            return _results(answer.json())
        code, message, param = _complaint(answer)
        if code in OF_THE_JOB:
            raise RefusedError(f"the service refuses this job: {message}")
        if answer.status_code != 413 and code not in OF_A_TEXT:
            _check(answer)
        if len(rows) == 1:
            too_long = answer.status_code == 413 and options.get("truncate", True)
            return [
                await self._cut(rows[0], message, options, titles=titles)
                if too_long
                else RowError(message)
            ]
        middle = len(rows) // 2
        if (
            param == "texts"
        ):  # too many of them, as against one that is wrong ("texts.3") or a title ("title.3")
            self._batch_texts = min(self._batch_texts, middle)
        if answer.status_code == 413:
            self._batch_characters = min(
                self._batch_characters, sum(len(row.text) for row in rows) // 2
            )
        halves = [
            await self._batch(half, options, titles=titles)
            for half in (rows[:middle], rows[middle:])
        ]
        return [*halves[0], *halves[1]]

    async def _cut(
        self, row: Row, message: str, options: dict[str, Any], *, titles: bool
    ) -> Result:
        """A text that no body holds, without its second half: the same vector if the model's limit cuts that too."""
        half = row.text[: len(row.text) // 2]
        if len(half.encode()) < SHORTEST_CUT:
            return RowError(message)
        [result] = await self._batch([replace(row, text=half)], options, titles=titles)
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

    async def _send(
        self, call: Callable[[], Awaitable[httpx.Response]], *, patient: bool = True
    ) -> httpx.Response:
        """The first answer that is not "come back later". Without patience, no answer ends the job at once."""
        wait, down_since = 1.0, float("inf")  # time.monotonic() of the first failure in a row
        while True:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            answer, problem = await self._attempt(call)
            if answer is not None and answer.status_code not in (429, 502, 503, 504):
                return answer
            told = _retry_after(answer) if answer is not None else None
            if answer is not None and (told is not None or answer.status_code == 429):
                down_since = float("inf")
                self._adapt(answer)
            else:
                down_since = min(down_since, time.monotonic())
                if not patient or time.monotonic() - down_since > OUTAGE:
                    raise JobError(
                        f"{self._url} does not answer ({problem}); the same command goes on"
                    )
            self._pause(wait if told is None else told, problem)
            wait = min(wait * 2, LONGEST_WAIT)

    async def _attempt(
        self, call: Callable[[], Awaitable[httpx.Response]]
    ) -> tuple[httpx.Response | None, str]:
        """An answer, or none, and in short what became of the attempt."""
        try:
            answer = await call()
        except httpx.UnsupportedProtocol as error:
            raise UsageError(
                f"{self._url!r} is no URL: it begins with http:// or https://"
            ) from error
        except httpx.TransportError as error:
            return None, f"{type(error).__name__}: {one_line(error)}"
        return answer, f"status {answer.status_code}"

    def _adapt(self, answer: httpx.Response) -> None:
        if _complaint(answer).code == "too_many_concurrent" and self._concurrency > 1:
            self._concurrency, self._surplus = self._concurrency - 1, self._surplus + 1

    def _pause(self, seconds: float, problem: str) -> None:
        until = time.monotonic() + seconds
        if until > self._not_before + 1:
            self._say(f"the service does not embed now ({problem}): waiting {seconds:.0f} s")
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
    return (
        np.stack([answer.vector for answer in answers])
        if answers
        else np.empty((0, dimensions), np.float32)
    )


def _results(body: dict[str, Any]) -> list[Result]:
    vectors = [np.frombuffer(base64.b64decode(text), "<f4") for text in body["embeddings"]]
    cut = set(body["truncated"])
    return [
        Answer(vector, body["tokens"][index], index in cut) for index, vector in enumerate(vectors)
    ]


class Complaint(NamedTuple):
    """Why a request is refused, whoever wrote it; `param` is the field at fault."""

    code: str
    message: str
    param: str | None


def _complaint(answer: httpx.Response) -> Complaint:
    try:
        error = answer.json()["error"]
        return Complaint(str(error["code"]), str(error["message"]), error.get("param"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Complaint("", f"status {answer.status_code}", None)


def _check(answer: httpx.Response) -> None:
    """Raises JobError with what to do about an answer that ends the job."""
    if answer.status_code == 200:
        return
    message = _complaint(answer).message
    advice = {
        401: "put a valid access token in JWT_TOKEN, and the same command goes on",
        404: "see that URL is that of the service, without a path",
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
