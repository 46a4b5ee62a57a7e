"""Users whom the operator refuses: those of the settings, and those of a set in Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Literal, cast

from auth.claims import SUBJECT, UUID
from errors import ConfigurationError
from quota.redis import CALL_TIMEOUT, REDIS_FAILURES, connect

KEY = "blocked_users"  # redis-cli SADD blocked_users USER_ID
INTERVAL = 2.0  # seconds between two looks
MAX_BLOCKED = 10_000  # users of the set that are read; those of the settings count besides

log = logging.getLogger(__name__)


class BlockedUsers:
    """User ids to refuse. While Redis cannot be read, what it said last counts."""

    def __init__(
        self,
        always: Iterable[str] = (),
        *,
        redis_url: str | None = None,
        interval: float = INTERVAL,
    ) -> None:
        self._always = frozenset(map(_as_in_tokens, always))
        self._listed: frozenset[str] = frozenset()
        self._redis = connect(redis_url) if redis_url else None
        self._interval = interval
        self._readable = True
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._always or user_id in self._listed

    async def start(self) -> None:
        """Reads the set, and goes on reading it in the background."""
        await self.read()
        self._watching = asyncio.create_task(self._watch(), name="blocked users")

    async def aclose(self) -> None:
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._redis is not None:
            await self._redis.aclose()

    async def read(self) -> None:
        """One look at the set, if there is a Redis; never raises."""
        if self._redis is None:
            return
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                answer = await self._redis.srandmember(KEY, MAX_BLOCKED + 1)
        except REDIS_FAILURES as error:
            self._say_when_unreadable(type(error).__name__)
            return
        self._readable = True
        members = (member.decode("latin-1") for member in cast(list[bytes], answer))
        self._take(frozenset(map(_as_in_tokens, members)))

    async def _watch(self) -> None:
        while not self._closed:  # wait_for of Python 3.11, in redis-py, may swallow a cancellation
            await asyncio.sleep(self._interval)
            await self.read()

    def _take(self, listed: frozenset[str]) -> None:
        if listed == self._listed:
            return
        if len(listed) > MAX_BLOCKED:
            log.error("blocked_users_too_many: %d of them are refused", MAX_BLOCKED)
        log.warning("blocked_users_changed count=%d", len(listed))
        self._listed = listed

    def _say_when_unreadable(self, error: str) -> None:
        if self._readable:
            log.warning("blocked_users_unreadable error=%s: the last ones count", error)
        self._readable = False


def parse_blocked(text: str, *, subject: Literal["uuid", "any"]) -> frozenset[str]:
    """The user ids in BLOCKED_USERS, with commas between. Raises ConfigurationError."""
    users = frozenset(user.strip() for user in text.split(",") if user.strip())
    form = UUID if subject == "uuid" else SUBJECT
    if wrong := sorted(user for user in users if not form.fullmatch(user)):
        raise ConfigurationError(
            f"BLOCKED_USERS: {wrong[0][:64]!r} is no user id. Write what `sub` of their tokens says, "
            "with commas between."
        )
    return users


def _as_in_tokens(user_id: str) -> str:
    """UUIDs are compared in lower case; other providers' ids as they are."""
    return user_id.lower() if UUID.fullmatch(user_id) else user_id
