"""From settings to batches: their directory, their quota, and their metrics."""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import metrics
from access import Access, limits_of_service
from batches.batches import Batches
from batches.directory import Directory
from batches.records import STATUSES, Batch, Progress
from batches.space import Space
from batches.store import Store
from quota.guarded import make_quota
from settings import Settings

HOUR = 3_600  # seconds
FRESH = 1.0  # seconds for which numbers of batches are not counted again


def make_batches(
    settings: Settings,
    access: Access,
    *,
    stopping: Callable[[], bool],
    report: Callable[[Batch, Progress], None],
) -> Batches | None:
    """Batches as the settings say; None without BATCH_DIRECTORY. Connects to nothing yet.

    Args:
        settings: of the process.
        access: who is let in.
        stopping: whether this process ends soon.
        report: is told of a batch and its progress before, whenever more of it is on the disk.
    """
    if settings.batch_directory is None:
        return None
    store = Store(
        Directory(settings.batch_directory),
        Space(total=settings.batch_bytes, per_user=settings.batch_bytes_per_user),
        max_file_bytes=settings.batch_file_bytes,
        retention=settings.batch_retention_hours * HOUR,
    )
    quota = make_quota(
        redis_url=settings.redis_url,
        per_minute=settings.rate_limit_per_min,  # no requests are charged here
        tokens_per_day=settings.batch_tokens_per_day or settings.tokens_per_day,
        on_error=settings.rate_limit_on_error,
        own_limits=partial(limits_of_service, access.service_keys),
        space="batches:",
    )
    return Batches(
        store,
        quota,
        longest_body=settings.max_body_bytes,
        admits=access.serves,
        stopping=stopping,
        report=report,
    )


class _Numbers:
    """Numbers of all batches, counted at most once in FRESH seconds: there may be many."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._until = float("-inf")
        self._by_status: Counter[str] = Counter()
        self._waiting = 0

    def of_status(self, status: str) -> float:
        """How many batches have a status."""
        self._count()
        return self._by_status[status]

    def waiting(self) -> float:
        """How many requests are not answered."""
        self._count()
        return self._waiting

    def _count(self) -> None:
        if time.monotonic() < self._until:
            return
        self._until = time.monotonic() + FRESH
        self._by_status = Counter(batch.status for batch in self._store)
        self._waiting = sum(batch.waiting for batch in self._store)


def watch_batches(batches: Batches) -> None:
    """Add the metrics of batches."""
    store = batches.store
    numbers = _Numbers(store)
    metrics.watch_batches(
        counts={status: partial(numbers.of_status, status) for status in STATUSES},
        waiting=numbers.waiting,
        n_bytes=lambda: store.space.held,
        limit=store.space.total,
        stalled=lambda: batches.runner.stalled_seconds() if batches.runner else 0.0,
    )
    for result in ("succeeded", "failed"):
        metrics.BATCH_REQUESTS.labels(result)
