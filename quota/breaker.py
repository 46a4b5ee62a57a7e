"""A circuit breaker: after a few failures in a row, a server is not asked for a while."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Opens for `pause` seconds after `failures` in a row, then admits one probe at a time."""

    def __init__(
        self,
        *,
        failures: int = 3,
        pause: float = 2.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._pause = pause
        self._monotonic = monotonic
        self._failures = 0
        self._probe_at = 0.0

    @property
    def healthy(self) -> bool:
        """Whether the last call succeeded."""
        return self._failures == 0

    def admits(self) -> bool:
        """Whether to call now. A call after a pause begins the next pause."""
        if self._failures < self._limit:
            return True
        now = self._monotonic()
        if now < self._probe_at:
            return False
        self._probe_at = now + self._pause
        return True

    def succeeded(self) -> None:
        """A call has been answered."""
        self._failures = 0

    def failed(self) -> None:
        """A call has failed."""
        self._failures += 1
        if self._failures >= self._limit:
            self._probe_at = self._monotonic() + self._pause
