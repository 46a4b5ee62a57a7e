"""What was done, among the metrics and in the log."""

from collections.abc import Collection

import metrics
from api.access_log import write_exchange
from api.edge import Exchange
from embedder.batcher import PackReport
from errors import GateError


def record_exchange(exchange: Exchange, *, open_to_all: Collection[str]) -> None:
    """One request and its answer; `open_to_all` are the paths that need no token."""
    metrics.REQUESTS.labels(exchange.route, exchange.status).inc()
    if 200 <= exchange.status < 300:  # it is 0 when the client left first
        metrics.DURATION.labels(exchange.route).observe(exchange.seconds)
    if exchange.reason:
        metrics.ERRORS.labels(exchange.route, exchange.reason).inc()
    if exchange.route not in open_to_all and (decision := _decision(exchange)):
        metrics.GATE_DECISIONS.labels(decision).inc()
    write_exchange(exchange)


def _decision(exchange: Exchange) -> str | None:
    """The gate's, on a request that it guards; a probe that is told of a stopping service never met it."""
    if isinstance(exchange.error, GateError):
        return exchange.error.reason
    return "admitted" if exchange.user else None


def record_pack(pack: PackReport, *, batch_tokens: int) -> None:
    """One forward pass; `batch_tokens` is what it may hold."""
    metrics.BATCH_TEXTS.observe(pack.texts)
    metrics.BATCH_TOKENS.observe(pack.tokens)
    metrics.BATCH_FILL.observe(pack.tokens / batch_tokens)
    metrics.INFERENCE.observe(pack.seconds)
    metrics.QUEUE_WAIT.observe(pack.waited)
