"""What a job shows while it runs, and in the end."""

import sys
import time
from dataclasses import dataclass

from tqdm import tqdm

from jobs.output import NOTHING, Counts

HOURS_PER_MONTH = 730


@dataclass(frozen=True, slots=True)
class Summary:
    """What this run did, and how fast."""

    counts: Counts
    seconds: float
    loading: float  # of those, until the first engine was ready
    cores: int | None  # None: another machine's
    price_per_month: float | None

    def __str__(self) -> str:
        counts, seconds = self.counts, max(self.seconds - self.loading, 1e-9)
        rate = counts.tokens / seconds
        parts = [
            f"{counts.texts:,} texts ({counts.truncated:,} truncated, {counts.failed:,} failed) and {counts.tokens:,} "
            f"tokens in {tqdm.format_interval(self.seconds)}, {self.loading:.0f} s of it loading",
            f"{counts.texts / seconds:,.1f} texts/s",
            f"{rate:,.0f} tokens/s",
        ]
        if self.cores:
            parts.append(f"{rate / self.cores:,.0f} tokens/s per core")
        if self.price_per_month is not None and counts.tokens:
            cost = self.price_per_month * self.seconds / (HOURS_PER_MONTH * 3600)
            parts.append(f"about {cost:,.4f} for this, {cost / counts.tokens * 1e6:,.4f} a million tokens")
        return "; ".join(parts)


class Progress:
    """A bar over rows: rates, time left, what was cut or failed. `quiet` shows nothing."""

    def __init__(self, rows: int, *, done: int, quiet: bool) -> None:
        self._bar = tqdm(
            total=rows, initial=done, unit=" texts", disable=quiet, file=sys.stderr, dynamic_ncols=True, smoothing=0.1
        )
        self._started = time.monotonic()
        self._loading: float | None = None
        self.counts = NOTHING

    def add(self, rows: int, counts: Counts, *, seconds: float) -> None:
        """Another part is there: its rows, good and bad, and how long it took."""
        self.counts += counts
        elapsed = time.monotonic() - self._started
        if self._loading is None:
            self._loading = max(0.0, elapsed - seconds)
        rate = self.counts.tokens / max(elapsed - self._loading, 1e-9)
        self._bar.set_postfix_str(
            f"{rate:,.0f} tokens/s, {self.counts.truncated:,} truncated, {self.counts.failed:,} failed", refresh=False
        )
        self._bar.update(rows)

    def say(self, text: str) -> None:
        """Something that happens meanwhile."""
        if not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def close(self, *, cores: int | None, price_per_month: float | None) -> Summary:
        """End the bar."""
        self._bar.close()
        return Summary(self.counts, time.monotonic() - self._started, self._loading or 0.0, cores, price_per_month)
