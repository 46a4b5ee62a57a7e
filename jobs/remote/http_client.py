"""An HTTP client for a service that may be slow, full, down or hostile.

Answers are bounded in size and time. Requests are retried after a wait.
"""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

from jobs.errors import JobError, UsageError, one_line, printable
from jobs.remote.answers import OTHER_BYTES, Reply, refusal_of

OUTAGE = 300.0  # seconds without an answer after which a job ends; Retry-After may take longer
LONGEST_WAIT = 30.0  # seconds between attempts during an outage
LEAST_WAIT = 1.0  # seconds before the second attempt, doubled before each further one ...
LEAST_WAIT_AT_MOST = 4.0  # ... up to this, if the service answers; Retry-After may only be longer
LONGEST_TOLD = 86_400.0  # seconds of Retry-After at most: the longest quota is one day
DEADLINE = 600.0  # seconds per request; 2,048 long texts take minutes on a small machine
LATER = frozenset({429, 502, 503, 504})  # statuses after which the request is sent again
TOO_SLOW = frozenset({408, 504})  # the body or the answer took too long
TIMEOUT = "timeout"  # how the description of a timeout begins
TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and the most bytes that its answer may have."""

    method: str
    path: str
    content: bytes = b""
    answer_bytes: int = OTHER_BYTES


class TookTooLongError(Exception):
    """No answer within the time limit of the service, or of a proxy before it."""


class HttpClient:
    """Sends requests to one service with one token.

    Args:
        url: of the service, without a path.
        token: the access token.
        connections: the most that are open at a time.
        say: gets a message when requests have to wait.

    Raises:
        UsageError: the URL or the token is invalid.
    """

    def __init__(
        self, url: str, token: str, *, connections: int, say: Callable[[str], None]
    ) -> None:
        if not TOKEN.fullmatch(token):
            raise UsageError("JWT_TOKEN is not an access token: it has spaces or other characters")
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
        self.url = printable(url)
        self._say = say
        # Times of time.monotonic(). A wait that the service asks of one request is for all.
        self._not_before = 0.0
        self._down_since = float("inf")  # the first of the failures in a row

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    def expect(self, fingerprint: str) -> None:
        """Let later requests fail when the service has another vector space."""
        self._http.headers["If-Fingerprint"] = fingerprint

    async def send(
        self,
        request: Request,
        *,
        refused: Callable[[Reply], None] = lambda _: None,
        patient: bool = True,
        may_shrink: bool = False,
    ) -> Reply:
        """Send a request until its answer is final.

        Args:
            request: what is sent.
            refused: is called with each answer after which the request is sent again.
            patient: retry for OUTAGE seconds when there is no answer; otherwise fail at once.
            may_shrink: a smaller request would do.

        Raises:
            JobError: the service does not answer.
            TookTooLongError: it does not, `may_shrink` is true and a smaller request may succeed.
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
        """Delay the requests of all callers for a while, or end the job."""
        told = None if reply is None else reply.retry_after
        least = LEAST_WAIT * 2.0 ** min(attempts, 10)
        if reply is not None and (told is not None or reply.status == 429):
            self._down_since = float("inf")
            seconds = max(told or 0.0, min(least, LEAST_WAIT_AT_MOST))
        else:
            self._down_since = min(self._down_since, time.monotonic())
            if not patient or time.monotonic() - self._down_since > OUTAGE:
                raise JobError(
                    f"{self.url} does not answer ({problem}); the same command resumes the job"
                )
            seconds = min(least, LONGEST_WAIT)
        until = time.monotonic() + seconds
        if until > self._not_before + 1:
            self._say(f"the service does not embed now ({problem}): waiting {seconds:.0f} s")
        self._not_before = max(self._not_before, until)

    async def _attempt(self, request: Request) -> tuple[Reply | None, str]:
        """The answer, or None, and a short description of what happened."""
        try:
            async with asyncio.timeout(DEADLINE):
                reply = await self._exchange(request)
        except TimeoutError:
            return None, f"{TIMEOUT}: no complete answer in {DEADLINE:.0f} s"
        except httpx.UnsupportedProtocol as error:
            raise UsageError(
                f"{self.url!r} is not a URL: it begins with http:// or https://"
            ) from error
        except httpx.ReadTimeout:
            return None, f"{TIMEOUT}: nothing was sent for {DEADLINE:.0f} s"
        except httpx.TransportError as error:
            return None, f"{type(error).__name__}: {printable(one_line(error))}"
        code = refusal_of(reply).code
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
    """Whether a smaller request may succeed, as after several attempts whose connection broke."""
    if reply is not None:
        return reply.status in TOO_SLOW
    return problem.startswith(TIMEOUT) or attempts > 2


def _checked(url: str) -> str:
    parsed = httpx.URL(url)
    if parsed.userinfo:
        raise UsageError("URL may not have a user or password: the token goes into JWT_TOKEN")
    return url


async def _bounded(response: httpx.Response, most: int) -> bytes:
    """The body, at most `most` bytes; a longer refusal is truncated.

    Raises:
        JobError: an answer with status 200 is longer, or compressed.
    """
    packed = response.headers.get("Content-Encoding", "identity").lower() != "identity"
    if packed and response.status_code == 200:
        raise JobError("the answer of the service is compressed, which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            if response.status_code == 200:
                raise JobError(
                    f"the answer of the service is longer than the allowed {most:,} bytes"
                )
            break
    return bytes(body[:most])


def _retry_after(value: str) -> float | None:
    """Seconds of a Retry-After header, which may also be a date (RFC 9110, section 10.2.3)."""
    if value.isascii() and value.isdecimal():
        return min(float(value[:9]), LONGEST_TOLD)
    try:
        seconds = parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_TOLD)
