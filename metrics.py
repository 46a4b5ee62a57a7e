"""Every Prometheus metric and bucket."""

import asyncio
import os
import resource
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

# BentoML sets a directory of memory-mapped files for prometheus_client, for many processes.
# This service has one worker: plain counters are faster and leave nothing on disk. This must run
# before prometheus_client is first imported.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
# They would be a second series for each counter, which nothing reads.
os.environ["PROMETHEUS_DISABLE_CREATED_SERIES"] = "true"

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

REGISTRY = CollectorRegistry()
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

REQUESTS = Counter(
    "embed_requests_total", "Requests by route and status", ["route", "status"], registry=REGISTRY
)
DURATION = Histogram(
    "embed_request_duration_seconds",
    "Time from request to answer of requests that were served (2xx)",
    ["route"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
ERRORS = Counter(
    "embed_errors_total",
    "Requests refused or failed, by reason",
    ["route", "reason"],
    registry=REGISTRY,
)
GATE_DECISIONS = Counter(
    "embed_gate_decisions_total",
    "Requests admitted, or refused and why",
    ["decision"],
    registry=REGISTRY,
)
CALLER_REQUESTS = Counter(
    "embed_caller_requests_total",
    "Requests of users together and of each service key, by status",
    ["caller", "status"],
    registry=REGISTRY,
)
CALLER_TOKENS = Counter(
    "embed_caller_tokens_total",
    "Tokens of texts that users together, and each service key, sent",
    ["caller"],
    registry=REGISTRY,
)
TOKENS = Counter("embed_tokens_total", "Tokens the model read", registry=REGISTRY)
TEXTS = Counter("embed_texts_total", "Texts embedded", registry=REGISTRY)
BATCH_TEXTS = Histogram(
    "embed_batch_texts",
    "Texts in one forward pass",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
    registry=REGISTRY,
)
BATCH_TOKENS = Histogram(
    "embed_batch_tokens",
    "Tokens in one forward pass",
    buckets=(16, 32, 64, 128, 256, 512, 1024, 2048),
    registry=REGISTRY,
)
BATCH_FILL = Histogram(
    "embed_batch_fill_ratio",
    "Tokens in one forward pass divided by MAX_BATCH_TOKENS; above 1 for a longer text",
    buckets=(0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1, 2, 4, 8),
    registry=REGISTRY,
)
INFERENCE = Histogram(
    "embed_inference_seconds", "Time of one forward pass", buckets=_SECONDS, registry=REGISTRY
)
QUEUE_WAIT = Histogram(
    "embed_queue_wait_seconds",
    "Longest wait of a text in a batch",
    buckets=_SECONDS,
    registry=REGISTRY,
)
CACHE_HITS = Counter(
    "embed_cache_hits_total",
    "Texts that were not computed for their request, by where the vector came from",
    ["origin"],
    registry=REGISTRY,
)
CACHE_MISSES = Counter(
    "embed_cache_misses_total", "Texts that were looked up and computed", registry=REGISTRY
)
CACHE_EVICTIONS = Counter(
    "embed_cache_evictions_total",
    "Vectors that left the memory of the process for others",
    registry=REGISTRY,
)
CACHE_BYTES = Gauge(
    "embed_cache_bytes", "Memory of kept vectors, as CACHE_BYTES counts it", registry=REGISTRY
)
CACHE_REDIS_FAILURES = Counter(
    "embed_cache_redis_failures_total",
    "Times that Redis did not answer the cache, in time or at all",
    registry=REGISTRY,
)
BATCH_REQUESTS = Counter(
    "embed_batches_requests_total",
    "Requests of batches that were answered, or failed",
    ["result"],
    registry=REGISTRY,
)
QUEUE_TOKENS = Gauge(
    "embed_queue_tokens",
    "Tokens that wait or run, as MAX_QUEUE_TOKENS counts them",
    registry=REGISTRY,
)
IN_FLIGHT = Gauge("embed_in_flight_requests", "Requests being served", registry=REGISTRY)
TASKS = Gauge("embed_asyncio_tasks", "Tasks of the event loop", registry=REGISTRY)
FORWARD_PASS = Gauge(
    "embed_forward_pass_running_seconds",
    "Age of the forward pass under way, 0 when idle",
    registry=REGISTRY,
)
READY = Gauge("embed_ready", "1 when a request sent here would be served", registry=REGISTRY)
QUOTA_DEGRADED = Gauge(
    "embed_quota_degraded",
    "1 while RATE_LIMIT_ON_ERROR applies because Redis is away",
    registry=REGISTRY,
)
QUOTA_LOST = Counter(
    "embed_quota_lost_total",
    "Times that Redis was found to have lost its counts",
    registry=REGISTRY,
)
MODEL_INFO = Gauge(
    "embed_model_info",
    "The served model",
    [
        "model",
        "revision",
        "architecture",
        "quantization",
        "backend",
        "kernel",
        "fingerprint",
        "version",
    ],
    registry=REGISTRY,
)
ProcessCollector(registry=REGISTRY)


def watch_jwks_age(age: Callable[[], float]) -> None:
    """Add the age of the key set; only a process with a key server has one."""
    gauge = Gauge(
        "embed_jwks_age_seconds",
        "Time since the key set was fetched; +Inf until it was",
        registry=REGISTRY,
    )
    gauge.set_function(age)


def watch_service_keys_age(age: Callable[[], float]) -> None:
    """Add the age of the service keys of a file; only a process with such a file has one."""
    gauge = Gauge(
        "embed_service_keys_age_seconds",
        "Time since SERVICE_KEYS_FILE was read and nothing was wrong with it",
        registry=REGISTRY,
    )
    gauge.set_function(age)


def watch_batches(
    *,
    counts: Mapping[str, Callable[[], float]],
    waiting: Callable[[], float],
    n_bytes: Callable[[], float],
    limit: int,
    stalled: Callable[[], float],
) -> None:
    """Add what only a process with batches has.

    Args:
        counts: of batches by status.
        waiting: requests of batches that are not answered.
        n_bytes: that files take, or may come to take.
        limit: of these.
        stalled: seconds since a batch could have had a turn and had none.
    """
    by_status = Gauge("embed_batches", "Batches by status", ["status"], registry=REGISTRY)
    for status, count in counts.items():
        by_status.labels(status).set_function(count)
    Gauge(
        "embed_batches_waiting_requests",
        "Requests of batches that are not answered yet",
        registry=REGISTRY,
    ).set_function(waiting)
    Gauge(
        "embed_batches_bytes",
        "Bytes of files, and of answers that may come, as BATCH_BYTES counts them",
        registry=REGISTRY,
    ).set_function(n_bytes)
    Gauge("embed_batches_bytes_limit", "BATCH_BYTES", registry=REGISTRY).set(limit)
    Gauge(
        "embed_batches_stalled_seconds",
        "Time since a batch could have had a turn and had none",
        registry=REGISTRY,
    ).set_function(stalled)


def watch_supervisor(process_id: int) -> None:
    """Add the memory of the process above this one (Linux only)."""
    path = Path(f"/proc/{process_id}/statm")
    if path.exists():
        gauge = Gauge(
            "embed_supervisor_resident_memory_bytes",
            "Memory of the process that restarts the worker",
            registry=REGISTRY,
        )
        gauge.set_function(lambda: _resident_bytes(path))


def _resident_bytes(statm: Path) -> float:
    """Resident bytes; 0 for a process that has ended."""
    try:
        return int(statm.read_bytes().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0.0


def begin(routes: Iterable[str], *, reasons: Collection[str], decisions: Iterable[str]) -> None:
    """Create the series of the service's own failures at 0.

    Prometheus sees no increase in a series that begins at 1.
    """
    for decision in decisions:
        GATE_DECISIONS.labels(decision)
    for route in routes:
        DURATION.labels(route)
        for status in (200, 500, 503):
            REQUESTS.labels(route, status)
        for reason in reasons:
            ERRORS.labels(route, reason)


_rendered: bytes | None = None


def render() -> tuple[bytes, str]:
    """All metrics in Prometheus's text format, and its media type; needs a running event loop.

    One rendering serves all requests of the same turn of the loop: it takes 2 ms, and 64 callers at
    once would block the loop for 230 ms.
    """
    global _rendered
    if _rendered is None:
        _rendered = generate_latest(REGISTRY)
        asyncio.get_running_loop().call_soon(_forget)
    return _rendered, CONTENT_TYPE_LATEST


def _forget() -> None:
    global _rendered
    _rendered = None
