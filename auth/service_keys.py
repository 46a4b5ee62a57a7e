"""The service keys that count now: those of the settings, and those of a file that may change."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from hmac import compare_digest
from pathlib import Path

from auth.principal import SERVICE, Principal
from auth.service_key_list import CallerLimits, ServiceKey, check_list, parse_list
from errors import ConfigurationError

INTERVAL = 1.0  # seconds between two readings of the file
MAX_FILE_BYTES = 65_536
USERS = CallerLimits(requests=None, tokens=None)

log = logging.getLogger(__name__)


class ServiceKeys:
    """The keys of `listed` and of `file`, which is read again every `interval` seconds.

    While the file cannot be read, or is wrong, the keys that it held last stay valid.

    Args:
        listed: entries as in `auth/service_key_list.py`, separated by commas.
        file: one entry per line.
        users: the limits of users, for keys whose entry states none.
        interval: seconds.
        clock: seconds from any beginning.

    Raises:
        ConfigurationError: an entry is wrong, or the file cannot be read.
    """

    def __init__(
        self,
        listed: str = "",
        *,
        file: Path | None = None,
        users: CallerLimits = USERS,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._users = users
        self._file = file
        self._interval = interval
        self._listed = parse_list(listed.split(","), source="SERVICE_KEYS", users=users)
        self._clock = clock
        self._text = ""  # of the file, when its keys were taken last
        self._read_at = clock()
        self._fault = ""  # that was logged last
        self._watching: asyncio.Task[None] | None = None
        self._use(self._listed, source="SERVICE_KEYS")
        if file is not None:
            self._take(_read(file))

    @property
    def count(self) -> int:
        """How many keys count now."""
        return len(self._keys)

    @property
    def age(self) -> float:
        """Seconds since the file was read and nothing was wrong with it."""
        return self._clock() - self._read_at

    def find(self, digest: bytes) -> Principal | None:
        """Who holds the key with this SHA-256; every key is compared, in constant time."""
        found = None
        for key in self._keys:
            if compare_digest(key.digest, digest):
                found = key
        return None if found is None else found.principal

    def limits_of(self, user_id: str) -> CallerLimits | None:
        """The limits of a service; None for anybody else."""
        return self._limits.get(user_id)

    async def start(self) -> None:
        """Read the file again and again, in the background."""
        if self._file is not None:
            self._watching = asyncio.create_task(self._watch(self._file), name="service keys")

    async def aclose(self) -> None:
        """End what `start` began."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self, file: Path) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._look(file)

    async def _look(self, file: Path) -> None:
        """Use what the file says now; log once what is wrong with it."""
        try:
            text = await asyncio.to_thread(_read, file)
            if text != self._text:
                self._take(text)
                log.warning("service_keys_changed count=%d", self.count)
        except (ConfigurationError, RuntimeError) as error:  # the latter where threads run out
            if str(error) != self._fault:
                log.error("service_keys_not_read: the previous keys stay valid. %s", error)
            self._fault = str(error)
        else:
            self._fault = ""
            self._read_at = self._clock()

    def _take(self, text: str) -> None:
        """Raises ConfigurationError, and then changes nothing."""
        source = "SERVICE_KEYS_FILE"
        of_file = parse_list(text.splitlines(), source=source, users=self._users)
        self._use([*self._listed, *of_file], source=source)
        self._text = text

    def _use(self, keys: list[ServiceKey], *, source: str) -> None:
        self._keys = check_list(keys, source=source)
        self._limits = {SERVICE + key.name: key.limits for key in self._keys}


def _read(file: Path) -> str:
    """Raises ConfigurationError."""
    try:
        if file.exists() and not file.is_file():  # a named pipe would block for ever
            raise ValueError("not a file")
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ValueError("the file is too large")
        return content.decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no text of at most 64 KiB"
        raise ConfigurationError(
            f"SERVICE_KEYS_FILE cannot be read ({reason}). Name a file with one key per line."
        ) from error
