"""Connections that wait: for their clients, or with what they have read for their turn."""

from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Connection = TypeVar("Connection", bound=Hashable)


class Waiting(Generic[Connection]):
    """The waiting connections, oldest first, and the bytes of head that each has sent."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._sent: dict[Connection, int] = {}

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._sent

    def wait(self, connection: Connection, *, sent: int = 0) -> None:
        """Begin to wait, or update the bytes of one that waits; its place in the order stays."""
        self._bytes += sent - self._sent.get(connection, 0)
        self._sent[connection] = sent

    def end(self, connection: Connection) -> None:
        """Stop waiting, if it was."""
        self._bytes -= self._sent.pop(connection, 0)

    def beyond(self, *, connections: int = 0) -> Iterator[Connection]:
        """Remove and return those that have waited longest.

        Args:
            connections: how many to remove at least; more until the bytes are within bounds.
        """
        while self._sent and (connections > 0 or self._bytes > self._max_bytes):
            connections -= 1
            oldest = next(iter(self._sent))
            self.end(oldest)
            yield oldest


class HeldBytes:
    """Bytes that were read and wait for their turn, per user.

    Args:
        max_per_user: bytes.
        small: bytes of a read that may always wait.
    """

    def __init__(self, *, max_per_user: int, small: int) -> None:
        self._max_per_user = max_per_user
        self._small = small
        self._held = Counter[str]()

    def add(self, user: str, count: int) -> bool:
        """Count the bytes of one read, unless they are too many. Whether they may wait."""
        if count > self._small and self._held[user] + count > self._max_per_user:
            return False
        self._held[user] += count
        return True

    def remove(self, user: str, count: int) -> None:
        """Their turn has come."""
        self._held[user] -= count
        if not self._held[user]:
            del self._held[user]
