"""The progress bar of a job, and its summary at the end."""

import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tqdm import tqdm

from jobs.errors import LONGEST_MESSAGE, printable
from jobs.output.directory import NO_COUNTS, Counts

HOURS_PER_MONTH = 730


@dataclass(frozen=True, slots=True)
class Summary:
    """What this run embedded, and how fast."""

    counts: Counts
    seconds: float
    loading: float  # seconds of those before the first engine was ready
    core_seconds: float  # seconds of engines at work, times their threads
    cores: int | None  # None when the engines are the service's
    price_per_month: float | None
    before: int  # rows finished by an earlier run of the same command

    def __str__(self) -> str:
        counts = self.counts
        seconds = max(self.seconds - self.loading, 1e-9)
        rate = counts.tokens / seconds
        parts = [
            f"{counts.texts:,} texts ({counts.truncated:,} truncated, {counts.failed:,} failed) "
            f"and {counts.tokens:,} tokens in {tqdm.format_interval(self.seconds)}, "
            f"{self.loading:.0f} s of it loading",
            f"{counts.texts / seconds:,.1f} texts/s",
            f"{rate:,.0f} tokens/s",
        ]
        if self.cores:
            parts.append(f"{rate / self.cores:,.0f} tokens/s per core")
            parts.append(f"engine busy {self.core_seconds / self.cores / seconds:.0%}")
        if self.price_per_month is not None and counts.tokens:
            cost = self.price_per_month * self.seconds / (HOURS_PER_MONTH * 3600)
            parts.append(
                f"about {cost:,.4f} for this, {cost / counts.tokens * 1e6:,.4f} per million tokens"
            )
        if self.before:
            parts.append(f"{self.before:,} rows were finished before this run")
        return "; ".join(parts)


class Progress:
    """A bar over rows with rates, time left, and counts of truncated and failed rows.

    Args:
        rows: of the whole input.
        done: of those, rows finished by an earlier run.
        quiet: show nothing.
    """

    def __init__(self, rows: int, *, done: int, quiet: bool) -> None:
        self._bar = tqdm(
            total=rows,
            initial=done,
            unit=" texts",
            disable=quiet,
            file=sys.stderr,
            dynamic_ncols=True,
            smoothing=0.1,
        )
        self._before = done
        self._started = time.monotonic()
        self._loading: float | None = None
        self._core_seconds = 0.0
        self.counts = NO_COUNTS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()  # later output then begins on a new line

    def add(
        self,
        rows: int,
        counts: Counts,
        *,
        seconds: float,
        core_seconds: float = 0.0,
    ) -> None:
        """Count a finished part.

        Args:
            rows: of the part, good and bad.
            counts: what became of them.
            seconds: from the first row read to the file written.
            core_seconds: seconds of the engine, times its threads.
        """
        self.counts += counts
        self._core_seconds += core_seconds
        elapsed = time.monotonic() - self._started
        if self._loading is None:
            self._loading = max(0.0, elapsed - seconds)
        rate = self.counts.tokens / max(elapsed - self._loading, 1e-9)
        self._bar.set_postfix_str(
            f"{rate:,.0f} tokens/s, {self.counts.truncated:,} truncated, "
            f"{self.counts.failed:,} failed",
            refresh=False,
        )
        self._bar.update(rows)

    def say(self, text: str) -> None:
        """Print a message above the bar."""
        if not self._bar.disable:
            self._bar.write(printable(text, most=LONGEST_MESSAGE), file=sys.stderr)

    def summary(self, *, cores: int | None, price_per_month: float | None) -> Summary:
        """The summary of all parts that were added."""
        return Summary(
            counts=self.counts,
            seconds=time.monotonic() - self._started,
            loading=self._loading or 0.0,
            core_seconds=self._core_seconds,
            cores=cores,
            price_per_month=price_per_month,
            before=self._before,
        )
