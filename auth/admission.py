"""What is bounded before any work is done: calls in flight, calls of one user, failed sign-ins, bodies."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from auth.errors import BodyTimeout, BodyTooLarge, Overloaded, TooManyConcurrent, TooManyFailures
from auth.receipt import whole_seconds

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

MAX_ADDRESSES = 4096
FAILURE_WINDOW = 60.0  # seconds


class InFlight:
    """At most ``limit`` calls at once, of all users together."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Raises Overloaded."""
        if self.count >= self._limit:
            raise Overloaded(
                "Too many requests are being served. Try again in a second.", retry_after=1
            )
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


class PerUser:
    """At most ``limit`` calls at once of one user. Holds nothing about users without a call."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: Counter[str] = Counter()

    @contextmanager
    def hold(self, user_id: str) -> Iterator[None]:
        """Raises TooManyConcurrent."""
        if self._calls[user_id] >= self._limit:
            raise TooManyConcurrent(
                f"{self._limit} of your requests are being served. Wait for an answer before the next.",
                retry_after=1,
            )
        self._calls[user_id] += 1
        try:
            yield
        finally:
            self._calls[user_id] -= 1
            if not self._calls[user_id]:
                del self._calls[user_id]


class FailureBudget:
    """At most ``per_minute`` failed tokens from one address, over the addresses seen last."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = per_minute
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()  # window's start, count

    def check(self, address: str) -> None:
        """Raises TooManyFailures."""
        began, count = self._failures.get(address, (0.0, 0))
        left = began + FAILURE_WINDOW - self._clock()
        if count >= self._limit and left > 0:
            raise TooManyFailures(
                "Too many requests without a valid token came from your address. Sign in, then try again.",
                retry_after=whole_seconds(left),
            )

    def record(self, address: str) -> None:
        now = self._clock()
        began, count = self._failures.get(address, (now, 0))
        if now - began >= FAILURE_WINDOW:
            began, count = now, 0
        self._failures[address] = (began, count + 1)
        self._failures.move_to_end(address)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)


async def read_body(receive: Receive, *, limit: int, seconds: float) -> bytes:
    """The whole body, of at most ``limit`` bytes, within ``seconds``.

    Raises BodyTooLarge, BodyTimeout (also for a caller who leaves in mid-body).
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise BodyTimeout(
                        "The connection closed before the body was whole.", reason="client_left"
                    )
                body += message.get("body", b"")
                if len(body) > limit:
                    raise BodyTooLarge(limit=limit)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise BodyTimeout(
            f"The body did not arrive within {seconds:g} seconds. Send it without pauses."
        ) from None


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that hands out ``body`` once, then whatever the server says (a disconnect)."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_body() -> Message:
        return next(messages, None) or await receive()

    return receive_body
