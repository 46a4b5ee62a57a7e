"""Ways to attack: each runs at full speed until it is cancelled, and counts its outcomes."""

import asyncio
import base64
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from hostile.wire import PIECE, Call, Connection

ATTACKER, VICTIM = "203.0.113.9", "198.51.100.7"  # client addresses in X-Forwarded-For
UNSENDABLE = (OSError, EOFError)  # asyncio.IncompleteReadError is an EOFError
Bearer = Literal["users", "nobody", "forged", "made-up key", "too large"]


@dataclass
class Front:
    """The target of an attack: the port, the tokens of the attackers, and counts of outcomes."""

    port: int
    tokens: Sequence[str]
    outcomes: Counter[str] = field(default_factory=Counter)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A new connection, finally aborted. An error of it is counted and followed by a pause."""
        opened: Connection | None = None
        try:
            opened = await Connection.open(self.port)
            yield opened
        except UNSENDABLE:
            self.outcomes["closed"] += 1
            await asyncio.sleep(0.01)
        finally:
            if opened is not None:
                opened.abort()


class Attack(Protocol):
    """A way to attack."""

    async def run(self, front: Front) -> None:
        """Attack until cancelled."""


@dataclass(frozen=True)
class Flood:
    """Each user sends requests on several connections, and the next when the answer is read.

    Attributes:
        calls: sent in turns.
        connections: per user.
        depth: requests that are pipelined on a connection.
        bearer: the kind of token.
        address: in X-Forwarded-For; empty for another in each request.
    """

    calls: tuple[Call, ...]
    connections: int = 16
    depth: int = 1
    bearer: Bearer = "users"
    address: str = ATTACKER

    async def run(self, front: Front) -> None:
        tokens = front.tokens if self.bearer == "users" else [""]
        loops = (self._loop(front, token) for token in tokens for _ in range(self.connections))
        await asyncio.gather(*loops)

    async def _loop(self, front: Front, token: str) -> None:
        calls = itertools.cycle(self.calls)
        while True:
            async with front.connection() as connection:
                while True:
                    for _ in range(self.depth):
                        connection.send(next(calls).request(*self._headers(front, token)))
                    for _ in range(self.depth):
                        front.outcomes[await connection.answer()] += 1
                    if not connection.usable:
                        break

    def _headers(self, front: Front, token: str) -> list[str]:
        number = next(front.numbers)
        address = self.address or f"203.0.{number // 256 % 256}.{number % 256}"
        shown = token or bad_token(self.bearer, number)
        return [f"X-Forwarded-For: {address}"] + [f"Authorization: Bearer {shown}"] * bool(shown)


@dataclass(frozen=True)
class Trickle:
    """Bad tokens from the victim's address: `burst` at once, then one every `pause` seconds."""

    call: Call
    burst: int = 60
    pause: float = 0.5

    async def run(self, front: Front) -> None:
        flood = Flood((self.call,), bearer="forged", address=VICTIM)
        while True:
            async with front.connection() as connection:
                while True:
                    if front.outcomes.total() >= self.burst:
                        await asyncio.sleep(self.pause)
                    connection.send(self.call.request(*flood._headers(front, "")))
                    front.outcomes[await connection.answer()] += 1


@dataclass(frozen=True)
class Leave:
    """Each user sends a request, disconnects `after` some seconds, and repeats."""

    call: Call
    connections: int
    after: float

    async def run(self, front: Front) -> None:
        await _each(front, self.connections, self._loop)

    async def _loop(self, front: Front, token: str) -> None:
        request = self.call.request(*_bearer(token))
        while True:
            async with front.connection() as connection:
                connection.send(request)
                try:
                    async with asyncio.timeout(self.after):
                        front.outcomes[await connection.answer()] += 1
                except TimeoutError:
                    front.outcomes["left"] += 1


@dataclass(frozen=True)
class SlowBody:
    """Each user announces a body of `length` bytes and sends it slowly.

    `first` bytes are sent at once, then `drop` bytes per second.
    """

    call: Call
    connections: int
    length: int
    first: int = 1
    drop: int = 1

    async def run(self, front: Front) -> None:
        await _each(front, self.connections, self._loop)

    async def _loop(self, front: Front, token: str) -> None:
        head = self.call.head(*_bearer(token), length=self.length)
        while True:
            async with front.connection() as connection:
                connection.send(head + b" " * self.first)
                dripping = asyncio.create_task(self._drip(connection))
                try:
                    front.outcomes[await connection.answer()] += 1
                finally:
                    dripping.cancel()

    async def _drip(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(1)
            connection.send(b" " * self.drop)


@dataclass(frozen=True)
class Unread:
    """Each user requests large answers, and reads none of them."""

    call: Call
    connections: int

    async def run(self, front: Front) -> None:
        await _each(front, self.connections, self._ask)

    async def _ask(self, front: Front, token: str) -> None:
        async with front.connection() as connection:
            connection.stop_reading()
            connection.send(self.call.request(*_bearer(token)))
            front.outcomes["asked"] += 1
            await asyncio.Event().wait()


@dataclass(frozen=True)
class Silent:
    """Connections that are idle, or with `drip` send one byte of a head per second."""

    connections: int
    drip: bool = False

    async def run(self, front: Front) -> None:
        await asyncio.gather(*(self._hold(front) for _ in range(self.connections)))

    async def _hold(self, front: Front) -> None:
        while True:
            async with front.connection() as connection:
                front.outcomes["opened"] += 1
                dripping = asyncio.create_task(self._drip(connection))
                try:
                    await connection.closed()
                    front.outcomes["ended by the service"] += 1
                finally:
                    dripping.cancel()

    async def _drip(self, connection: Connection) -> None:
        for byte in b"GET /embed HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 1_000:
            if self.drip:
                connection.send(bytes([byte]))
            await asyncio.sleep(1)


@dataclass(frozen=True)
class LargeHead:
    """A head of `size` bytes: `start`, then `line` repeated."""

    size: int
    line: bytes
    start: bytes = b"GET /embed HTTP/1.1\r\nHost: x\r\n"
    connections: int = 1

    async def run(self, front: Front) -> None:
        await asyncio.gather(*(self._send(front) for _ in range(self.connections)))

    async def _send(self, front: Front) -> None:
        piece = self.line * (PIECE // len(self.line))
        while True:
            async with front.connection() as connection:
                answered = asyncio.create_task(self._count(front, connection))
                try:
                    await connection.push(self.start)
                    for _ in range(self.size // len(piece)):
                        await connection.push(piece)
                    await connection.push(b"\r\n\r\n")
                    front.outcomes["whole head sent"] += 1
                    await answered
                finally:
                    answered.cancel()

    async def _count(self, front: Front, connection: Connection) -> None:
        with contextlib.suppress(*UNSENDABLE):
            front.outcomes[await connection.answer()] += 1


def bad_token(kind: Bearer, number: int) -> str:
    """A token with an invalid signature, different for each `number`."""
    if kind == "forged":
        header = _base64('{"alg":"HS256"}')
        return f"{header}.{_base64(str(number))}.{random.getrandbits(256):064x}"
    if kind == "made-up key":
        header = f'{{"alg":"ES256","kid":"{number:08d}"}}'
        return f"{_base64(header)}.{_base64('{}')}.{'A' * 86}"
    return "A" * 9_000 if kind == "too large" else ""


def _base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


async def _each(
    front: Front, connections: int, work: Callable[[Front, str], Awaitable[None]]
) -> None:
    """Run `work` on some connections of each user."""
    await asyncio.gather(
        *(work(front, token) for token in front.tokens for _ in range(connections))
    )


def _bearer(token: str) -> list[str]:
    return [f"Authorization: Bearer {token}", f"X-Forwarded-For: {ATTACKER}"]
