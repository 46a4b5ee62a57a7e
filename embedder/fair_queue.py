"""A queue of weighted items that is fair between users."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
FORGET_ABOVE = 1024  # users without items, whose finishing times may be over: rare enough


class _Turn(NamedTuple):
    """The order of a user's first item among those of all users."""

    deadline: int  # the item with the earliest is next
    arrival: int
    start: int
    user: str


class FairQueue(Generic[Item]):
    """First in, first out for each user; between users, fair by cost.

    Virtual time counts cost. An item starts when its user's previous item finishes, or now if that
    is over, and finishes `cost` later. The item with the earliest finish is next. So each user with
    much waiting gets an equal share, and a user who takes less does not wait for large items of
    others. A user who has used no more than their share is next, whatever the item costs and
    however many items wait.

    "Now" is the latest start of any item taken, as in start-time fair queueing (Goyal, Vin and
    Cheng, SIGCOMM 1996). Items are not ordered by their start as there: a short query would wait
    for one item of every user with the same start, and ten users with texts of equal length have
    the same start again and again.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[Item, int]]] = {}
        self._turns: list[_Turn] = []  # a heap, one for each user who waits
        self._finish: dict[str, int] = {}
        self._now = 0
        self._arrivals = itertools.count()

    def push(self, user: str, item: Item, cost: int) -> None:
        """Add an item of `cost` >= 1 at the end of the user's items."""
        line = self._waiting.get(user)
        if line is not None:
            line.append((item, cost))
            return
        self._waiting[user] = deque([(item, cost)])
        finish = self._finish.get(user, 0)
        if finish <= self._now:
            self._schedule(user, self._now, deadline=self._now)
        else:
            self._schedule(user, finish, deadline=finish + cost)

    def peek(self) -> Item | None:
        """The next item, which stays in the queue; None if there is none."""
        return self._waiting[self._turns[0].user][0][0] if self._turns else None

    def pop(self, *, free: bool = False) -> Item:
        """Remove and return the next item, which costs its user nothing if it is `free`.

        Raises:
            IndexError: the queue is empty.
        """
        turn = heapq.heappop(self._turns)
        self._now = max(self._now, turn.start)
        line = self._waiting[turn.user]
        item, cost = line.popleft()
        self._finish[turn.user] = finish = turn.start + (0 if free else cost)
        if line:
            self._schedule(turn.user, finish, deadline=finish + line[0][1])
        else:
            self._leave(turn.user)
        return item

    def drop(self, user: str, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Remove and return the user's unwanted items, which then cost nothing."""
        line = self._waiting.get(user, deque())
        self._waiting[user] = kept = deque(entry for entry in line if not unwanted(entry[0]))
        if not kept:
            self._turns = [turn for turn in self._turns if turn.user != user]
            heapq.heapify(self._turns)
            self._leave(user)
        return [item for item, _ in line if unwanted(item)]

    def _schedule(self, user: str, start: int, *, deadline: int) -> None:
        heapq.heappush(self._turns, _Turn(deadline, next(self._arrivals), start, user))

    def _leave(self, user: str) -> None:
        """Remove a user without items.

        Finish times matter only while other users wait, and only those that are not over.
        """
        del self._waiting[user]
        if not self._turns:
            self._finish.clear()
            self._now = 0
        elif len(self._finish) > FORGET_ABOVE:
            self._finish = {user: end for user, end in self._finish.items() if end > self._now}
