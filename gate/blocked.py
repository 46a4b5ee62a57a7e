"""Users that the operator refuses: those in the settings, and those in a Redis set."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Literal, cast

from auth.claims import SUBJECT, UUID
from auth.principal import SERVICE
from errors import ConfigurationError
from quota.redis import CALL_TIMEOUT, REDIS_FAILURES, connect

KEY = "blocked_users"  # redis-cli SADD blocked_users USER_ID
INTERVAL = 2.0  # seconds between two reads of the set
MAX_BLOCKED = 10_000  # users that are read from the set, besides those in the settings

log = logging.getLogger(__name__)


class BlockedUsers:
    """User ids to refuse. While Redis cannot be read, those that were read last are used.

    Args:
        always: ids from the settings.
        redis_url: of the set; None for none.
        interval: seconds between two reads.
    """

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
        """Read the set, now and then in the background."""
        await self.read()
        self._watching = asyncio.create_task(self._watch(), name="blocked users")

    async def aclose(self) -> None:
        """Stop reading the set, and disconnect."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._redis is not None:
            await self._redis.aclose()

    async def read(self) -> None:
        """Read the set once, if there is a Redis. Never raises."""
        if self._redis is None:
            return
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                answer = await self._redis.srandmember(KEY, MAX_BLOCKED + 1)
        except REDIS_FAILURES as error:
            self._say_when_unreadable(type(error).__name__)
            return
        self._readable = True
        members = [member.decode("latin-1") for member in cast(list[bytes], answer)]
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
            log.warning(
                "blocked_users_unreadable error=%s; those that were read last are used", error
            )
        self._readable = False


def parse_blocked(text: str, *, subject: Literal["uuid", "any"]) -> frozenset[str]:
    """The user ids of BLOCKED_USERS, which commas separate. Raises ConfigurationError."""
    users = frozenset(user.strip() for user in text.split(",") if user.strip())
    form = UUID if subject == "uuid" else SUBJECT
    people = {user for user in users if not user.startswith(SERVICE)}
    if wrong := sorted(user for user in people if not form.fullmatch(user)):
        raise ConfigurationError(
            f"BLOCKED_USERS: {wrong[0][:64]!r} is no user id. Write the `sub` of their tokens, "
            "or service:NAME, separated by commas."
        )
    return users


def _as_in_tokens(user_id: str) -> str:
    """UUIDs in lower case, as tokens are read; other providers' ids unchanged."""
    return user_id.lower() if UUID.fullmatch(user_id) else user_id
