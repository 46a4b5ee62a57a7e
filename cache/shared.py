"""Vectors in Redis, for all processes that share it. Where it does not answer, there are none."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from cache.keys import KEY_BYTES, Keys
from quota.breaker import Breaker
from quota.redis import CALL_TIMEOUT, REDIS_FAILURES, connect, is_denial

SCRIPT = Path(__file__).with_name("store.lua").read_text()
READ_TIMEOUT = 0.005  # seconds for AT_ONCE vectors, of which one takes a millisecond to compute
AT_ONCE = 64  # vectors in one command: 200 KB
MAX_READING = 16 * 2**20  # bytes of vectors that are being read; more are not asked for
MAX_COMMANDS = 16  # at once
MAX_WAITING = 8 * 2**20  # bytes of vectors that wait to be stored; more are not stored
# Bytes of an entry besides the vector and its code, at most: its key, its place in the sorted set,
# and what the allocator adds. tests/cache/test_shared.py measures it.
ENTRY_BYTES = 640

log = logging.getLogger(__name__)


class SharedCache:
    """Reads within milliseconds or not at all, and stores in the background.

    A vector is stored with a code that only a process with the secret can make: others who
    can write to Redis can make the service forget vectors, but not return other ones.

    Args:
        url: of Redis.
        keys: seals what is stored.
        space: names the vector space; the prefix of all keys.
        limit: bytes of all entries, of all processes.
        ttl: seconds that a vector is kept.
        value_bytes: of one vector.
        read_timeout: seconds that a read of AT_ONCE vectors may take.
        report_failure: is called when Redis did not answer in time, or with an error.
    """

    def __init__(
        self,
        url: str,
        *,
        keys: Keys,
        space: str,
        limit: int,
        ttl: int,
        value_bytes: int,
        read_timeout: float = READ_TIMEOUT,
        report_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = connect(url)
        self._script = self._client.register_script(SCRIPT)
        self._keys = keys
        self._prefix = f"vectors:{{{space}}}:"
        self._most = limit // (value_bytes + ENTRY_BYTES)
        self._ttl = ttl
        self._value_bytes = value_bytes
        self._read_timeout = read_timeout
        self._report_failure = report_failure
        self._reads, self._writes = Breaker(), Breaker()
        self._slots = asyncio.Semaphore(MAX_COMMANDS)
        self._reading_bytes = 0
        self._waiting: deque[tuple[str, bytes, bytes]] = deque()  # user, key, vector
        self._writer: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Vectors that wait to be stored."""
        return len(self._waiting)

    async def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The vectors of some of the keys, as far as Redis returns them in time."""
        size = len(keys) * self._value_bytes
        if not keys or self._reading_bytes + size > MAX_READING:
            return {}
        self._reading_bytes += size
        try:
            return await self._read_all(keys)
        finally:
            self._reading_bytes -= size

    async def _read_all(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), AT_ONCE):
            values = await self._read(keys[start : start + AT_ONCE])
            if values is None:
                break
            found |= values
        return found

    async def _read(self, keys: Sequence[bytes]) -> dict[bytes, bytes] | None:
        """The vectors of keys; None if Redis does not answer."""
        if not self._reads.admits():
            return None
        try:
            async with asyncio.timeout(self._read_timeout), self._slots:
                sealed = await self._client.mget([self._prefix + key.hex() for key in keys])
        except (*REDIS_FAILURES, ValueError) as error:
            self._failed(self._reads, error)
            return None
        self._reads.succeeded()
        values = {
            key: self._keys.unseal(key, one)
            for key, one in zip(keys, sealed, strict=True)
            if isinstance(one, bytes) and len(one) == KEY_BYTES + self._value_bytes
        }
        return {key: value for key, value in values.items() if value is not None}

    def store(self, key: bytes, value: bytes, *, user: str) -> None:
        """Store a vector in the background, unless too many wait already."""
        if len(self._waiting) * self._value_bytes >= MAX_WAITING:
            return
        self._waiting.append((user, key, value))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="store vectors")

    async def _write_all(self) -> None:
        while self._waiting:
            user = self._waiting[0][0]
            entries: list[tuple[bytes, bytes]] = []
            while self._waiting and self._waiting[0][0] == user and len(entries) < AT_ONCE:
                _, key, value = self._waiting.popleft()
                entries.append((key, value))
            if self._writes.admits():
                await self._write(user, entries)

    async def _write(self, user: str, entries: Sequence[tuple[bytes, bytes]]) -> None:
        arguments: list[str | bytes | int] = [
            self._prefix, self._keys.owner(user), self._most, self._ttl * 1000
        ]  # fmt: skip
        for key, value in entries:
            arguments += [key.hex(), self._keys.seal(key, value)]
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                await self._script(args=arguments)
        except (*REDIS_FAILURES, ValueError) as error:
            self._failed(self._writes, error)
        else:
            self._writes.succeeded()

    async def flush(self) -> None:
        """Wait until nothing waits to be stored."""
        if self._writer is not None:
            await self._writer

    async def aclose(self) -> None:
        """Finish the command that is under way, within CALL_TIMEOUT, and disconnect."""
        self._waiting.clear()
        await self.flush()
        await self._client.aclose()

    def _failed(self, breaker: Breaker, error: BaseException) -> None:
        if breaker.healthy and is_denial(error):
            log.error(
                "cache_redis_denied: the user of REDIS_URL may not keep vectors. ACL SETUSER it "
                "with ~vectors:* +@read +@write +@scripting +time"
            )
        elif breaker.healthy:
            log.warning("cache_redis_failed error=%s", type(error).__name__)
        breaker.failed()
        self._report_failure()
