"""Vectors in the memory of this process, bounded in bytes and fair between users."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

# Bytes that an entry and a user take besides the vector, at most: keys, the slots of the
# dictionaries right after they grew, and headers of blocks. tests/cache/test_memory.py measures it.
ENTRY_BYTES = 480
USER_BYTES = 1_600


@dataclass(slots=True, eq=False)
class _Share:
    """The vectors that one user had computed, least recently used first."""

    user: str
    values: OrderedDict[bytes, bytes] = field(default_factory=OrderedDict)


class MemoryCache:
    """Least recently used vectors go first, of the user who holds most.

    So a user who floods the cache evicts what is theirs: of N users nobody loses a vector while
    they hold less than 1/N of the space.

    Not thread-safe: only the event loop uses it.

    Args:
        limit: bytes of all entries, all that they take included.
        value_bytes: of one vector; all have the same size.
        report_evictions: is called with their number.
    """

    def __init__(
        self,
        limit: int,
        *,
        value_bytes: int,
        report_evictions: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._limit = limit
        self._entry_bytes = value_bytes + ENTRY_BYTES
        self._report_evictions = report_evictions
        self._holders: dict[bytes, _Share] = {}  # by key
        self._shares: dict[str, _Share] = {}  # by user
        self._by_size: dict[int, dict[_Share, None]] = {}  # number of vectors -> who has so many
        self._largest = 0  # number of vectors of the user who holds most

    def __len__(self) -> int:
        """The number of vectors."""
        return len(self._holders)

    @property
    def used_bytes(self) -> int:
        """What all entries take at most."""
        return len(self._holders) * self._entry_bytes + len(self._shares) * USER_BYTES

    def get(self, key: bytes) -> bytes | None:
        """The vector of a key, which is now the one used last; None if there is none."""
        share = self._holders.get(key)
        if share is None:
            return None
        share.values.move_to_end(key)
        return share.values[key]

    def put(self, key: bytes, value: bytes, *, user: str) -> bool:
        """Keep a vector, which counts as the user's. Returns False if there is one already."""
        if key in self._holders:
            return False
        share = self._shares.setdefault(user, _Share(user))
        self._holders[key] = share
        share.values[key] = value
        self._moved(share, before=len(share.values) - 1)
        self._shrink()
        return True

    def _shrink(self) -> None:
        evicted = 0
        while self.used_bytes > self._limit:
            share = next(iter(self._by_size[self._largest]))
            key, _ = share.values.popitem(last=False)
            del self._holders[key]
            self._moved(share, before=len(share.values) + 1)
            evicted += 1
        if evicted:
            self._report_evictions(evicted)

    def _moved(self, share: _Share, *, before: int) -> None:
        """Record that a share has one vector more, or less, than `before`."""
        if before:
            self._leave(share, before)
        size = len(share.values)
        if size:
            self._by_size.setdefault(size, {})[share] = None
        else:
            del self._shares[share.user]
        if size > self._largest or self._largest not in self._by_size:
            self._largest = size

    def _leave(self, share: _Share, size: int) -> None:
        same = self._by_size[size]
        del same[share]
        if not same:
            del self._by_size[size]
