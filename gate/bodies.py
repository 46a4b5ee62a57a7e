"""Request bodies on their way in: bounded in size, in time and in the memory of all of them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from errors import Overloaded
from gate.body_room import Body, BodyRoom
from gate.errors import BodyTimeout, BodyTooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Release = Callable[[], None]

SMALL = 65_536  # bytes; a body announced as no larger waits for nobody
USERS = 4  # whose largest bodies fit in memory together
STALL = 5.0  # seconds without a byte after which a sender is given up
TICK = 0.25  # seconds between looks at who keeps others out


class Bodies:
    """Reads bodies of at most ``limit`` bytes, each within ``seconds``.

    Bytes of large bodies are bounded over all users (USERS times ``limit``) and for each (``limit``),
    until they are released: a sender is not read from until there is room. Waiting takes nothing
    from its ``seconds``, and lasts as long at most.
    """

    def __init__(self, *, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._room = BodyRoom(USERS * limit, per_user=limit)
        self._turns: dict[Body, asyncio.Future[None]] = {}
        self._timers: dict[Body, asyncio.Timeout] = {}

    async def read(
        self, receive: Receive, *, user_id: str, announced: int | None
    ) -> tuple[bytes, Release]:
        """The whole body, and what gives its room back; calling that again does nothing.

        ``announced``: bytes, None where that is not known. Raises BodyTooLarge, BodyTimeout (also
        for a caller who leaves in mid-body), Overloaded (no room came).
        """
        if announced is not None and announced <= SMALL:
            return await self._read(receive, None), nothing
        body = self._room.enter(user_id, announced or self._limit)
        try:
            content = await self._read(receive, body)
        except BaseException:
            self._leave(body)
            raise
        self._room.complete(body)
        return content, partial(self._leave, body)

    async def _read(self, receive: Receive, body: Body | None) -> bytes:
        """Into one buffer, which becomes the result without a copy.

        A failure closes it: its traceback, which keeps this frame, may live for long.
        """
        with io.BytesIO() as buffer:
            left, more = self._seconds, True
            while more:
                if body is not None:
                    await self._turn(body)
                began, before = _now(), buffer.tell()
                more = _take(await self._next(receive, body, left), buffer)
                left -= _now() - began
                if buffer.tell() > self._limit:
                    raise BodyTooLarge(limit=self._limit)
                if body is not None:
                    self._room.received(body, buffer.tell() - before)
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
        if message["type"] == "http.disconnect":
            raise BodyTimeout(
                "The connection closed before the body was whole.", reason="client_left"
            )
        if body is not None and body not in self._room:
            raise self._too_slow(body, left)
        return message

    def _too_slow(self, body: Body | None, left: float) -> BodyTimeout:
        if body is not None and body not in self._room:
            return BodyTimeout(
                "The body came so slowly that it kept others out. Send fewer texts at a time."
            )
        if left > STALL:
            return BodyTimeout(
                f"No byte of the body came for {STALL:g} seconds. Send it without pauses."
            )
        return BodyTimeout(
            f"The body did not arrive within {self._seconds:g} seconds. Send fewer texts at a time."
        )

    async def _turn(self, body: Body) -> None:
        """Until there is room for another piece. Raises Overloaded."""
        self._room.ask(body)
        self._grant()
        until = _now() + self._seconds
        while self._room.waits(body):
            self._make_room()
            if not self._room.waits(body):
                return
            if _now() >= until:
                raise Overloaded(
                    "Too many large bodies are being sent. Try again in a few seconds.",
                    retry_after=3,
                )
            turn = self._turns[body] = asyncio.get_running_loop().create_future()
            await asyncio.wait([turn], timeout=TICK)

    def _grant(self) -> None:
        for body in self._room.grant():
            if (turn := self._turns.pop(body, None)) and not turn.done():
                turn.set_result(None)

    def _make_room(self) -> None:
        """Ends bodies that come slowly while others wait."""
        while late := self._room.slowest():
            self._leave(late)
            if (timer := self._timers.get(late)) and not timer.expired():
                timer.reschedule(_now())

    def _leave(self, body: Body) -> None:
        self._room.leave(body)
        self._turns.pop(body, None)
        self._grant()


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that hands out ``body`` once, then whatever the server says (a disconnect)."""
    waiting = [body]

    async def receive_body() -> Message:
        if not waiting:
            return await receive()
        return {"type": "http.request", "body": waiting.pop(), "more_body": False}

    return receive_body


def _take(message: Message, buffer: io.BytesIO) -> bool:
    """Whether more is to come."""
    buffer.write(message.get("body", b""))
    return bool(message.get("more_body", False))


def _now() -> float:
    return asyncio.get_running_loop().time()


def nothing() -> None:
    """A small body takes no room."""
