"""Records requests and forward passes in the metrics and the log."""

from collections.abc import Collection

import metrics
from api.access_log import write_request
from api.edge import RequestRecord
from batches.records import Batch, Progress
from cache.cached_model import Origins
from embedder.batcher import PackReport
from errors import GateError

SUCCESS = 2  # first digit of a status


def record_request(record: RequestRecord, *, open_to_all: Collection[str]) -> None:
    """Count and log one request.

    Args:
        record: the request and its answer.
        open_to_all: the paths that need no token.
    """
    metrics.REQUESTS.labels(record.route, record.status).inc()
    # A refusal is quick and would hide a slow answer; the status is 0 when the client left first.
    if record.status // 100 == SUCCESS:
        metrics.DURATION.labels(record.route).observe(record.seconds)
    if record.reason:
        metrics.ERRORS.labels(record.route, record.reason).inc()
    if record.caller:
        metrics.CALLER_REQUESTS.labels(record.caller, record.status).inc()
        metrics.CALLER_TOKENS.labels(record.caller).inc(record.tokens)
    if record.route not in open_to_all and (decision := _decision(record)):
        metrics.GATE_DECISIONS.labels(decision).inc()
    write_request(record)


def _decision(record: RequestRecord) -> str | None:
    """What the gate decided; None for a request that was refused before it."""
    if isinstance(record.error, GateError):
        return record.error.reason
    return "admitted" if record.caller else None


def record_pack(pack: PackReport, *, batch_tokens: int) -> None:
    """Count one forward pass.

    Args:
        pack: what was computed.
        batch_tokens: MAX_BATCH_TOKENS.
    """
    metrics.BATCH_TEXTS.observe(pack.texts)
    metrics.BATCH_TOKENS.observe(pack.tokens)
    metrics.BATCH_FILL.observe(pack.tokens / batch_tokens)
    metrics.INFERENCE.observe(pack.seconds)
    metrics.QUEUE_WAIT.observe(pack.waited)


def record_origins(origins: Origins) -> None:
    """Count the texts of one request by where their vectors came from."""
    metrics.CACHE_MISSES.inc(origins.computed)
    for origin in ("memory", "redis", "repeated", "in_flight"):
        metrics.CACHE_HITS.labels(origin).inc(getattr(origins, origin))


def record_batch(batch: Batch, before: Progress) -> None:
    """Count what was written of a batch since `before`."""
    after = batch.progress
    metrics.BATCH_REQUESTS.labels("succeeded").inc(after.completed - before.completed)
    metrics.BATCH_REQUESTS.labels("failed").inc(after.failed - before.failed)
    metrics.CALLER_TOKENS.labels(batch.caller).inc(after.prompt_tokens - before.prompt_tokens)
