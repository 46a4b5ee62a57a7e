"""From settings to batches: their directory, their quota, and their metrics."""

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
        admits=lambda user_id: user_id not in access.blocked_users,
        stopping=stopping,
        report=report,
    )


def watch_batches(batches: Batches) -> None:
    """Add the metrics of batches."""
    store = batches.store

    def count(status: str) -> float:
        return sum(batch.status == status for batch in store)

    metrics.watch_batches(
        counts={status: partial(count, status) for status in STATUSES},
        waiting=lambda: sum(batch.waiting for batch in store),
        n_bytes=lambda: store.space.held,
        limit=store.space.total,
        stalled=lambda: batches.runner.stalled_seconds() if batches.runner else 0.0,
    )
    for result in ("succeeded", "failed"):
        metrics.BATCH_REQUESTS.labels(result)
