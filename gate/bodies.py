"""Reads request bodies within bounds of size, time and the memory of all bodies."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from errors import Overloaded
from gate.body_memory import Body, BodyMemory
from gate.errors import BodyTimeout, BodyTooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Release = Callable[[], None]

SMALL = 65_536  # bytes; a body that is announced as no larger never waits
USERS = 4  # whose largest bodies fit into memory together
STALL = 5.0  # seconds without a byte after which a body is ended
WAITS = 3  # times the seconds of a body: how long one waits for memory
TICK = 0.25  # seconds between checks for slow bodies that others wait for


class Bodies:
    """Reads bodies.

    The memory of large bodies is bounded per user (`limit`) and over all users (USERS times
    `limit`), until they are released. While there is no memory, nothing is read from a sender. That
    wait does not count as time of the body. It is bounded too: WAITS times as long.

    Args:
        limit: bytes of one body.
        seconds: for one body to arrive.
    """

    def __init__(self, *, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._memory = BodyMemory(USERS * limit, per_user=limit)
        self._turns: dict[Body, asyncio.Future[None]] = {}
        self._timers: dict[Body, asyncio.Timeout] = {}

    async def read(
        self, receive: Receive, *, user_id: str, announced: int | None
    ) -> tuple[bytes, Release]:
        """Read a whole body.

        Args:
            receive: of the ASGI server.
            user_id: whose memory it takes.
            announced: bytes; None if not known.

        Returns:
            The body, and a function that releases its memory. A second call of it does nothing.

        Raises:
            BodyTooLarge: it has more than `limit` bytes.
            BodyTimeout: it came too slowly, or the client disconnected.
            Overloaded: there was no memory for it in time.
        """
        if announced is not None and announced <= SMALL:
            return await self._read(receive, None), nothing
        body = self._memory.enter(user_id, announced or self._limit)
        try:
            content = await self._read(receive, body)
        except BaseException:
            self._leave(body)
            raise
        self._memory.complete(body)
        return content, partial(self._leave, body)

    async def _read(self, receive: Receive, body: Body | None) -> bytes:
        """Read into one buffer, which becomes the result without a copy.

        The buffer is closed on failure: the traceback keeps this frame, and may exist for long.
        """
        with io.BytesIO() as buffer:
            left = self._seconds
            more = True
            while more:
                if body is not None:
                    await self._turn(body)
                began = _now()
                before = buffer.tell()
                more = _take(await self._next(receive, body, left), buffer)
                left -= _now() - began
                if buffer.tell() > self._limit:
                    raise BodyTooLarge(limit=self._limit)
                if body is not None:
                    self._memory.received(body, buffer.tell() - before)
            return buffer.getvalue()

    async def _next(self, receive: Receive, body: Body | None, left: float) -> Message:
        try:
            async with asyncio.timeout(min(left, STALL)) as timer:
                if body is not None:
                    self._timers[body] = timer
                message = await receive()
        except TimeoutError:
            raise self._too_slow(body, left) from None
        finally:
            if body is not None:
                self._timers.pop(body, None)
        require_connection(message)
        if body is not None and body not in self._memory:
            raise self._too_slow(body, left)
        return message

    def _too_slow(self, body: Body | None, left: float) -> BodyTimeout:
        if body is not None and body not in self._memory:
            return BodyTimeout(
                "The body came too slowly while others waited. Send fewer texts at a time."
            )
        if left > STALL:
            return BodyTimeout(
                f"No byte of the body came for {STALL:g} seconds. Send it without pauses."
            )
        return BodyTimeout(
            f"The body did not arrive within {self._seconds:g} seconds. Send fewer texts at a time."
        )

    async def _turn(self, body: Body) -> None:
        """Wait until there is memory for another piece. Raises Overloaded."""
        self._memory.ask(body)
        self._grant()
        until = _now() + WAITS * self._seconds
        while self._memory.waits(body):
            self._end_slow_bodies()
            if not self._memory.waits(body):
                return
            if _now() >= until:
                raise Overloaded(
                    "Too many large bodies are being sent. Try again in a few seconds.",
                    retry_after=3,
                )
            turn = self._turns[body] = asyncio.get_running_loop().create_future()
            await asyncio.wait([turn], timeout=TICK)

    def _grant(self) -> None:
        for body in self._memory.grant():
            if (turn := self._turns.pop(body, None)) and not turn.done():
                turn.set_result(None)

    def _end_slow_bodies(self) -> None:
        """End bodies that come slowly while others wait."""
        while late := self._memory.slowest():
            self._leave(late)
            if (timer := self._timers.get(late)) and not timer.expired():
                timer.reschedule(_now())

    def _leave(self, body: Body) -> None:
        self._memory.leave(body)
        self._turns.pop(body, None)
        self._grant()


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns `body` once, and then what the server says (a disconnect)."""
    waiting = [body]

    async def receive_body() -> Message:
        if not waiting:
            return await receive()
        return {"type": "http.request", "body": waiting.pop(), "more_body": False}

    return receive_body


def require_connection(message: Message) -> None:
    """Raises BodyTimeout if the client left before the end of its body."""
    if message["type"] == "http.disconnect":
        raise BodyTimeout(
            "The connection closed before the body was complete.", reason="client_left"
        )


def _take(message: Message, buffer: io.BytesIO) -> bool:
    """Append a message's part of the body. Returns whether more follows."""
    buffer.write(message.get("body", b""))
    return bool(message.get("more_body", False))


def _now() -> float:
    return asyncio.get_running_loop().time()


def nothing() -> None:
    """Release a small body, which is not counted."""
