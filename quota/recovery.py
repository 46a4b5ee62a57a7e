"""Reports that Redis lost counts, and restores what this process knows of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from quota.memory import MemoryQuota
from quota.redis import RedisQuota

TOLD_EVERY = 60.0  # seconds between two log lines

log = logging.getLogger(__name__)


class Recovery:
    """Restores `shared` from `local`, which has what this process admitted.

    Attributes:
        undecided: ids of requests that Redis has not answered yet; they are not restored.
    """

    def __init__(
        self,
        shared: RedisQuota,
        local: MemoryQuota,
        *,
        report: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.undecided: set[str] = set()
        self._shared = shared
        self._local = local
        self._report = report
        self._clock = clock
        self._told_at = float("-inf")
        self._generation: object = None

    async def look(self) -> None:
        """Restore the counts of all users, if all are lost. Raises REDIS_FAILURES."""
        before, self._generation = self._generation, await self._shared.generation()
        if before is None:
            await self._check_policy()
        if before not in (None, self._generation):
            self._tell()
            for user_id in self._local.users():
                await self._restore(user_id)

    async def mend(self, user_id: str) -> None:
        """Restore the lost counts of one user. Raises REDIS_FAILURES."""
        self._tell()
        await self._restore(user_id)

    async def _check_policy(self) -> None:
        policy = await self._shared.eviction_policy()
        if policy not in ("", "noeviction"):
            log.warning(
                "redis_may_evict: with maxmemory-policy %s a full Redis forgets requests. "
                "Set it to noeviction",
                policy,
            )

    async def _restore(self, user_id: str) -> None:
        ages = self._local.ages(user_id)
        decided = {id: age for id, age in ages.items() if id not in self.undecided}
        await self._shared.restore(user_id, decided)

    def _tell(self) -> None:
        self._report()
        now = self._clock()
        if now - self._told_at >= TOLD_EVERY:
            self._told_at = now
            log.warning(
                "redis_lost_counts: what this process admitted is brought back. Was Redis flushed, "
                "does it evict (maxmemory-policy), or does it restart without its data?"
            )
