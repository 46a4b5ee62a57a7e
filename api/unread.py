"""Answers that clients have not read yet, and the memory that they keep meanwhile."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MAX_UNREAD_BYTES = 64_000_000


@dataclass(slots=True, eq=False)
class Unread:
    """One answer that is being sent."""

    n_bytes: int
    user: str
    abort: Callable[[], None]
    clock: Callable[[], float]
    read_at: float  # when the client last took some of it

    def progress(self) -> None:
        """Some of it was read."""
        self.read_at = self.clock()


class UnreadAnswers:
    """All answers that are being sent. When they keep too much memory, one or more are aborted.

    Those of the user whose answers keep the most come first, and of these the one that has not been read
    for the longest. So a user with one answer loses it only when nobody else has more.

    Args:
        limit: bytes; an answer that is alone may be larger.
    """

    def __init__(
        self, limit: int = MAX_UNREAD_BYTES, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._held: set[Unread] = set()

    @property
    def n_bytes(self) -> int:
        """Bytes that all of them keep."""
        return sum(answer.n_bytes for answer in self._held)

    @contextmanager
    def hold(self, n_bytes: int, *, user: str, abort: Callable[[], None]) -> Iterator[Unread]:
        """Count an answer of `n_bytes` while it is sent; `abort` is called when it has to make room."""
        answer = Unread(n_bytes, user, abort, self._clock, self._clock())
        self._make_room(n_bytes)
        self._held.add(answer)
        try:
            yield answer
        finally:
            self._held.discard(answer)

    def _make_room(self, n_bytes: int) -> None:
        while self._held and self.n_bytes + n_bytes > self._limit:
            of_user = Counter[str]()
            for answer in self._held:
                of_user[answer.user] += answer.n_bytes
            chosen = max(self._held, key=lambda answer: (of_user[answer.user], -answer.read_at))
            self._held.remove(chosen)
            chosen.abort()
