"""Bounds the memory of answers that clients have not read yet."""

import fcntl
import sys
import termios
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
    read_at: float  # when the client last read some of it

    def progress(self) -> None:
        """The client has read some of it."""
        self.read_at = self.clock()


class UnreadAnswers:
    """All answers that are being sent. When they hold too much memory, one or more are aborted.

    The user whose answers hold the most memory loses one first: the one that has not been read for
    the longest time. So a user with one answer loses it only if no other user holds more.

    Args:
        limit: bytes; a single answer may be larger.
        clock: seconds, monotonic.
    """

    def __init__(
        self, limit: int = MAX_UNREAD_BYTES, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._held: set[Unread] = set()

    @property
    def n_bytes(self) -> int:
        """Bytes that all of them hold."""
        return sum(answer.n_bytes for answer in self._held)

    @contextmanager
    def hold(self, n_bytes: int, *, user: str, abort: Callable[[], None]) -> Iterator[Unread]:
        """Count an answer of `n_bytes` while it is sent; `abort` is called to make room."""
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


def unacknowledged(descriptor: int) -> int:
    """Bytes in a socket of the kernel that its peer has not acknowledged (tcp(7), SIOCOUTQ)."""
    answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)
