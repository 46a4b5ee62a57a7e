"""Bounds the requests that are served at once, per user and over all users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from errors import Overloaded
from gate.errors import TooManyConcurrent


class InFlight:
    """At most `per_user` requests of one user at once, and `limit` of all users together.

    `limit` holds for users who have a request in flight already. A user without one is admitted up
    to twice `limit`, so users with many requests cannot keep others from being served. Nothing is
    stored about users without a request.
    """

    def __init__(self, limit: int, *, per_user: int) -> None:
        self.count = 0
        self._limit = limit
        self._per_user = per_user
        self._calls: Counter[str] = Counter()

    @contextmanager
    def hold(self, user_id: str) -> Iterator[None]:
        """Count one request while it is served. Raises TooManyConcurrent, Overloaded."""
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
