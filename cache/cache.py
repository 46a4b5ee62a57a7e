"""Vectors by key: in memory, and in Redis where that is shared."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cache.keys import Keys
from cache.memory import MemoryCache
from cache.shared import SharedCache
from cache.values import Values


class Cache:
    """Memory before Redis.

    Args:
        keys: name texts.
        values: how vectors are kept.
        memory: of this process.
        shared: of all processes; None for none.
    """

    def __init__(
        self, *, keys: Keys, values: Values, memory: MemoryCache, shared: SharedCache | None = None
    ) -> None:
        self.keys, self.values = keys, values
        self.memory, self._shared = memory, shared

    async def find_shared(self, keys: Sequence[bytes], *, user: str) -> dict[bytes, bytes]:
        """The vectors that Redis has of the keys. They are in memory then, as the user's."""
        if self._shared is None:
            return {}
        found = await self._shared.find(keys)
        for key, value in found.items():
            self.memory.put(key, value, user=user)
        return found

    def keep(self, key: bytes, row: NDArray[np.float32], user: str) -> None:
        """Keep a vector that was computed for a user."""
        value = self.values.pack(row)
        if self.memory.put(key, value, user=user) and self._shared is not None:
            self._shared.store(key, value, user=user)

    async def aclose(self) -> None:
        """Disconnect from Redis."""
        if self._shared is not None:
            await self._shared.aclose()
