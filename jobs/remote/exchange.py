"""HTTP with a service that may be slow, full, down or hostile: bounded answers, retries after a wait."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

from jobs.errors import JobError, UsageError, one_line, printable
from jobs.remote.answers import OTHER_BYTES, Reply, complaint_of

OUTAGE = 300.0  # seconds without any answer after which a job ends; refusals with Retry-After have no such end
LONGEST_WAIT = 30.0  # seconds between attempts during an outage
LEAST_WAIT = 1.0  # seconds before the second attempt, twice as many before each further one ...
LEAST_WAIT_AT_MOST = 4.0  # ... up to this; what a service says in Retry-After may only be longer
LONGEST_TOLD = 86_400.0  # seconds of Retry-After at most; the longest quota is one of a day
DEADLINE = 600.0  # seconds of one exchange; 2,048 long texts take a small machine minutes
LATER = frozenset({429, 502, 503, 504})  # statuses of "come back later"
TOO_SLOW = frozenset({408, 504})  # the body took too long, or the answer
TIMEOUT = "timeout"  # of a problem
TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and how long its answer may be."""

    method: str
    path: str
    content: bytes = b""
    answer_bytes: int = OTHER_BYTES


class TookTooLongError(Exception):
    """No answer within the time that the service or a proxy before it gives a request."""


class Exchange:
    """One service and one token.

    Args:
        url: of the service, without a path.
        connections: at most so many at a time.
        say: gets a message when requests have to wait.
    """

    def __init__(
        self, url: str, token: str, *, connections: int, say: Callable[[str], None]
    ) -> None:
        if not TOKEN.fullmatch(token):
            raise UsageError("JWT_TOKEN is no access token: it has spaces or other characters")
        try:
            self._http = httpx.AsyncClient(
                base_url=_checked(url),
                headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
                timeout=httpx.Timeout(DEADLINE, connect=30),
                limits=httpx.Limits(
                    max_connections=connections, max_keepalive_connections=connections
                ),
            )
        except (httpx.InvalidURL, UnicodeError) as error:
            raise UsageError(f"URL cannot be used: {printable(one_line(error))}") from error
        self.url, self._say = printable(url), say
        self._not_before = (
            0.0  # time.monotonic(); a wait that one caller was asked for holds for all
        )
        self._down_since = float("inf")  # time.monotonic() of the first failure in a row

    async def close(self) -> None:
        await self._http.aclose()

    def expect(self, fingerprint: str) -> None:
        """From here on, a service with another vector space is refused."""
        self._http.headers["If-Fingerprint"] = fingerprint

    async def send(
        self,
        request: Request,
        *,
        refused: Callable[[Reply], None] = lambda _: None,
        patient: bool = True,
        may_shrink: bool = False,
    ) -> Reply:
        """The first answer that is not "come back later"; `refused` sees each of those.

        Raises JobError when no answer comes for too long, or at once without patience, and
        TookTooLongError when a smaller request might have one.
        """
        attempts = 0
        while True:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            reply, problem = await self._attempt(request)
            if reply is not None and reply.status not in LATER:
                self._down_since = float("inf")
                if may_shrink and reply.status in TOO_SLOW:
                    raise TookTooLongError
                return reply
            self._wait(reply, problem, attempts, patient=patient)
            attempts += 1
            if may_shrink and _too_slow(reply, problem, attempts):
                raise TookTooLongError
            if reply is not None:
                refused(reply)

    def _wait(self, reply: Reply | None, problem: str, attempts: int, *, patient: bool) -> None:
        """Keep all callers from the service for a while, or end the job."""
        told = None if reply is None else reply.retry_after
        least = LEAST_WAIT * 2.0 ** min(attempts, 10)
        if reply is not None and (told is not None or reply.status == 429):
            self._down_since = float("inf")
            seconds = max(told or 0.0, min(least, LEAST_WAIT_AT_MOST))
        else:
            self._down_since = min(self._down_since, time.monotonic())
            if not patient or time.monotonic() - self._down_since > OUTAGE:
                raise JobError(f"{self.url} does not answer ({problem}); the same command goes on")
            seconds = min(least, LONGEST_WAIT)
        until = time.monotonic() + seconds
        if until > self._not_before + 1:
            self._say(f"the service does not embed now ({problem}): waiting {seconds:.0f} s")
        self._not_before = max(self._not_before, until)

    async def _attempt(self, request: Request) -> tuple[Reply | None, str]:
        """An answer, or none, and in short what became of the attempt."""
        try:
            async with asyncio.timeout(DEADLINE):
                reply = await self._exchange(request)
        except TimeoutError:
            return None, f"{TIMEOUT}: no whole answer in {DEADLINE:.0f} s"
        except httpx.UnsupportedProtocol as error:
            raise UsageError(
                f"{self.url!r} is no URL: it begins with http:// or https://"
            ) from error
        except httpx.ReadTimeout:
            return None, f"{TIMEOUT}: nothing was sent for {DEADLINE:.0f} s"
        except httpx.TransportError as error:
            return None, f"{type(error).__name__}: {printable(one_line(error))}"
        code = complaint_of(reply).code
        return reply, f"status {reply.status}{f', {printable(code)}' if code else ''}"

    async def _exchange(self, request: Request) -> Reply:
        headers = {"Content-Type": "application/json"} if request.content else {}
        async with self._http.stream(
            request.method, request.path, content=request.content, headers=headers
        ) as response:
            most = request.answer_bytes if response.status_code == 200 else OTHER_BYTES
            body = await _bounded(response, most)
        return Reply(
            response.status_code,
            body,
            response.headers.get("X-Embedding-Fingerprint", ""),
            _retry_after(response.headers.get("Retry-After", "")),
        )


def _too_slow(reply: Reply | None, problem: str, attempts: int) -> bool:
    """Whether a smaller request may get through: also where large ones are cut off again and again."""
    if reply is not None:
        return reply.status in TOO_SLOW
    return problem.startswith(TIMEOUT) or attempts > 2


def _checked(url: str) -> str:
    parsed = httpx.URL(url)
    if parsed.userinfo:
        raise UsageError("URL should have no user and no password in it: the token is JWT_TOKEN")
    return url


async def _bounded(response: httpx.Response, most: int) -> bytes:
    """The body; of a refusal, what fits. Raises JobError for a longer answer, or a packed one."""
    packed = response.headers.get("Content-Encoding", "identity").lower() != "identity"
    if packed and response.status_code == 200:
        raise JobError("the answer of the service is compressed, which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            if response.status_code == 200:
                raise JobError(
                    f"the answer of the service is longer than the {most:,} bytes it may have"
                )
            break
    return bytes(body[:most])


def _retry_after(value: str) -> float | None:
    """Seconds; a header may also hold a date (RFC 9110, section 10.2.3)."""
    if value.isascii() and value.isdecimal():
        return min(float(value[:9]), LONGEST_TOLD)
    try:
        seconds = parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_TOLD)
