"""Shares of each turn of the event loop: which user works now, and who waits for the next turn."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeAlias

Start: TypeAlias = Callable[[], None]
Turn: TypeAlias = Callable[[], Awaitable[None]]


async def next_turn() -> None:
    """Wait until everything else that is ready has run once."""
    await asyncio.sleep(0)


class Turns:
    """A number of pieces of work per turn of the event loop, taken from one user after another.

    One request takes several turns: its head, its body, two answers of Redis, the vectors. With 64
    busy connections of a stranger each turn took 6 ms, and another user's request 40 ms. Here a
    user with one piece of work waits for one turn, however much work others have.

    Args:
        per_turn: pieces; together they should take about a millisecond.
    """

    def __init__(self, per_turn: int) -> None:
        self._per_turn = self._left = per_turn
        # By user; a user whose work was started goes to the end.
        self._waiting: dict[Hashable, deque[tuple[Start, int]]] = {}
        self._next_turn: asyncio.Handle | None = None

    def take(self, *, user: Hashable, later: Start, cost: int = 1) -> bool:
        """Whether to work now; if not, `later` is called in one of the next turns.

        Args:
            user: whose piece of work it is.
            later: starts the work; called at most once.
            cost: in pieces; the last one of a turn may cost more than is left.
        """
        self._begin_next_turn_later()
        if self._left > 0 and not self._waiting:
            self._left -= cost
            return True
        self._waiting.setdefault(user, deque()).append((later, cost))
        return False

    async def wait(self, *, user: Hashable) -> None:
        """Wait until a piece of work may be done. A cancelled caller still uses its share."""
        turn = asyncio.Event()
        if not self.take(user=user, later=turn.set):
            await turn.wait()

    def _begin_next_turn_later(self) -> None:
        if self._next_turn is None:
            self._next_turn = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._next_turn = None
        self._left = self._per_turn
        while self._left > 0 and self._waiting:
            self._begin_next_turn_later()
            start, cost = self._next()
            self._left -= cost
            start()

    def _next(self) -> tuple[Start, int]:
        user = next(iter(self._waiting))
        waiting = self._waiting.pop(user)
        first = waiting.popleft()
        if waiting:
            self._waiting[user] = waiting
        return first
