"""How many bytes each user's files take, and all together."""

from __future__ import annotations

from collections import Counter

from batches.errors import StorageFullError, UserStorageFullError

LEAST = 65_536  # bytes that any file or batch counts: its record is in memory


class Space:
    """Bytes that files take or may come to take.

    Args:
        total: bytes of all users.
        per_user: bytes of one user.
    """

    def __init__(self, *, total: int, per_user: int) -> None:
        self.total = total
        self._per_user = per_user
        self._held: Counter[str] = Counter()
        self.held = 0  # of all users

    def reserve(self, user_id: str, n_bytes: int) -> None:
        """Count bytes before they are written.

        Raises:
            UserStorageFullError: the user would have more than the limit.
            StorageFullError: all users together would.
        """
        held = self._held[user_id]
        if held + n_bytes > self._per_user:
            raise UserStorageFullError(held, n_bytes, self._per_user)
        if self.held + n_bytes > self.total:
            raise StorageFullError
        self.add(user_id, n_bytes)

    def add(self, user_id: str, n_bytes: int) -> None:
        """Count bytes that are there already; a negative number gives bytes back."""
        self._held[user_id] += n_bytes
        self.held += n_bytes
        if self._held[user_id] <= 0:
            del self._held[user_id]


def counted(n_bytes: int) -> int:
    """Bytes that a file of `n_bytes` counts."""
    return max(n_bytes, LEAST)
