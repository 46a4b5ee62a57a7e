"""A queue of weighted items that is fair between users."""

import heapq
import itertools
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """First in, first out for each user; between users, start-time fair queueing by cost.

    Each item starts at the later of the queue's virtual time and its user's previous finish, and ends
    `cost` later; the earliest start goes next. A user with one short text therefore waits for at most
    one item of a user with thousands (Goyal, Vin and Cheng, SIGCOMM 1996).
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[Item, int]]] = {}
        self._heads: list[tuple[int, int, str]] = []  # (start, tie-break by arrival, user)
        self._finish: dict[str, int] = {}
        self._now = 0
        self._arrivals = itertools.count()

    def push(self, user: str, item: Item, cost: int) -> None:
        """Add an item of `cost` (tokens) at the end of the user's line."""
        line = self._waiting.get(user)
        if line is None:
            line = self._waiting[user] = deque()
            self._schedule(user)
        line.append((item, cost))

    def peek(self) -> Item | None:
        """The item that goes next, left where it is."""
        return self._waiting[self._heads[0][2]][0][0] if self._heads else None

    def pop(self) -> Item:
        """Take the item that goes next.

        Raises:
            IndexError: nothing waits.
        """
        self._now, _, user = heapq.heappop(self._heads)
        item, cost = self._waiting[user].popleft()
        self._finish[user] = self._now + cost
        if self._waiting[user]:
            self._schedule(user)
        else:
            del self._waiting[user]
            self._forget_settled()
        return item

    def _schedule(self, user: str) -> None:
        start = max(self._now, self._finish.get(user, 0))
        heapq.heappush(self._heads, (start, next(self._arrivals), user))

    def _forget_settled(self) -> None:
        """Nobody owes anything once nobody waits, nor a user whose last item ended before now."""
        if not self._heads:
            self._finish.clear()
            self._now = 0
        elif len(self._finish) > 1024:  # rare enough to cost nothing
            self._finish = {user: end for user, end in self._finish.items() if end > self._now}
