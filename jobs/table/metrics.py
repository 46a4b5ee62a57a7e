"""The worker's metrics, on a port of their own."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from jobs.errors import UsageError
from jobs.table.state import State

HOST = "127.0.0.1"
REGISTRY = CollectorRegistry()
WAITING = Gauge(
    "embed_table_waiting", "Rows that wait for their vector", ["column"], registry=REGISTRY
)
OLDEST = Gauge(
    "embed_table_oldest_seconds",
    "Age of the row that has waited longest; 0 when none waits",
    ["column"],
    registry=REGISTRY,
)
DEAD = Gauge(
    "embed_table_failed_rows",
    "Rows that were given up after their last attempt",
    ["column"],
    registry=REGISTRY,
)
LOOKED = Gauge(
    "embed_table_looked_timestamp_seconds",
    "When the database was last asked for the other gauges",
    registry=REGISTRY,
)
ROWS = Counter(
    "embed_table_rows_total",
    "Rows of this worker by outcome: written, or failed once more",
    ["column", "outcome"],
    registry=REGISTRY,
)


def serve(port: int) -> None:
    """Answer GET /metrics on this machine. Raises UsageError when the port is taken."""
    try:
        start_http_server(port, addr=HOST, registry=REGISTRY)
    except OSError as error:
        raise UsageError(f"--metrics-port {port}: {error.strerror}; give another") from None


def show(found: Iterable[State]) -> None:
    """Set the gauges."""
    LOOKED.set_to_current_time()
    for state in found:
        WAITING.labels(state.name).set(state.waiting)
        OLDEST.labels(state.name).set(state.oldest_seconds)
        DEAD.labels(state.name).set(state.dead)
