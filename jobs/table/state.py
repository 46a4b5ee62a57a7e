"""How far the filling of each column is."""

from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

RATE_SECONDS = 60
_QUERY = """
SELECT c.name, c.fingerprint,
    coalesce(q.waiting, 0) AS waiting, coalesce(q.oldest, 0)::float8 AS oldest_seconds,
    coalesce(q.dead, 0) AS dead, coalesce(w.rows, 0)::float8 / %(seconds)s AS rows_per_second
FROM embedding_api.columns c
LEFT JOIN (
    SELECT name, count(*) FILTER (WHERE dead_at IS NULL) AS waiting,
        extract(epoch FROM clock_timestamp() - min(added_at) FILTER (WHERE dead_at IS NULL))
            AS oldest,
        count(dead_at) AS dead
    FROM embedding_api.queue GROUP BY name
) q USING (name)
LEFT JOIN (
    SELECT name, sum(rows) AS rows FROM embedding_api.written
    WHERE written_at > clock_timestamp() - make_interval(secs => %(seconds)s) GROUP BY name
) w USING (name)
ORDER BY c.name
"""


@dataclass(frozen=True, slots=True)
class State:
    """One column: rows that wait, seconds since the oldest was written, rows that were given up."""

    name: str
    fingerprint: str | None
    waiting: int
    oldest_seconds: float
    dead: int
    rows_per_second: float  # of the last minute

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.waiting:,} rows wait, "
            f"the oldest for {self.oldest_seconds:,.0f} s; "
            f"{self.rows_per_second:,.1f} rows/s; {self.dead:,} failed; "
            f"model {self.fingerprint or 'not chosen yet'}"
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that was given up, and the last error."""

    name: str
    key: str  # JSON
    last_error: str


def states(connection: psycopg.Connection) -> list[State]:
    """Of every column, by name. Raises psycopg.Error where none was ever set up."""
    with connection.cursor(row_factory=class_row(State)) as cursor:
        return cursor.execute(_QUERY, {"seconds": RATE_SECONDS}).fetchall()


def failures(connection: psycopg.Connection, *, most: int) -> list[Failure]:
    """The rows that were given up last."""
    with connection.cursor(row_factory=class_row(Failure)) as cursor:
        return cursor.execute(
            "SELECT name, key::text, coalesce(last_error, '') AS last_error "
            "FROM embedding_api.queue WHERE dead_at IS NOT NULL ORDER BY dead_at DESC LIMIT %s",
            [most],
        ).fetchall()
