"""How many calls are served at once, of one user and of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from errors import Overloaded
from gate.errors import TooManyConcurrent


class InFlight:
    """At most ``per_user`` calls of one user at once, and ``limit`` of all users together.

    ``limit`` is for users who have a call in flight already. A user who has none is admitted up to
    twice of it, so those who have many keep nobody out. Holds nothing about users without a call.
    """

    def __init__(self, limit: int, *, per_user: int) -> None:
        self.count = 0
        self._limit = limit
        self._per_user = per_user
        self._calls: Counter[str] = Counter()

    @contextmanager
    def hold(self, user_id: str) -> Iterator[None]:
        """A place for one call. Raises TooManyConcurrent, Overloaded."""
        self._check(self._calls[user_id])
        self.count += 1
        self._calls[user_id] += 1
        try:
            yield
        finally:
            self.count -= 1
            self._calls[user_id] -= 1
            if not self._calls[user_id]:
                del self._calls[user_id]

    def _check(self, calls: int) -> None:
        if calls >= self._per_user:
            raise TooManyConcurrent(
                f"{calls} of your requests are being served. Wait for an answer before the next.",
                retry_after=1,
            )
        if self.count >= (self._limit if calls else 2 * self._limit):
            raise Overloaded(
                "Too many requests are being served. Try again in a second.", retry_after=1
            )
