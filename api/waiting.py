"""The connections that wait for their clients, to send a head or to read: the newest stay."""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Connection = TypeVar("Connection", bound=Hashable)


class Waiting(Generic[Connection]):
    """Who waits, in the order in which they began to, and the bytes of head that each has sent."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._sent: dict[Connection, int] = {}

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._sent

    def wait(self, connection: Connection, *, sent: int = 0) -> None:
        """Begin to wait, or go on with so many bytes, at the same place."""
        self._bytes += sent - self._sent.get(connection, 0)
        self._sent[connection] = sent

    def end(self, connection: Connection) -> None:
        self._bytes -= self._sent.pop(connection, 0)

    def beyond(self, *, connections: int = 0) -> Iterator[Connection]:
        """Takes out those who have waited longest: so many, and until the bytes are within bounds."""
        while self._sent and (connections > 0 or self._bytes > self._max_bytes):
            connections -= 1
            oldest = next(iter(self._sent))
            self.end(oldest)
            yield oldest
