"""The queue of rows that wait for their vectors.

A claim is a lease: no transaction is open and nothing is locked while the engine works, so nobody
waits for a worker, and rows of a worker that died are taken over when its lease ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from psycopg import sql

from jobs.errors import RowError
from jobs.table.catalog import Pgvector
from jobs.table.column import Column, statement
from jobs.table.session import Session
from jobs.table.texts import Embedded, Text

BATCH_ROWS = 256
MOST_ATTEMPTS = 5  # after so many failures a row is left alone: `status` names it
AGAIN = 1.0  # seconds until a row is tried again that somebody else was writing
KEPT = 600  # seconds for which the rate of rows is known


@dataclass(frozen=True, slots=True)
class Claim:
    """Rows of one column that this worker has for now."""

    name: str  # of the column
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts to embed, and rows of which there is none."""

    texts: list[Text]
    failed: list[tuple[int, str]]  # ids, and why


class Queue:
    """What one connection does with the queue. `lease` is in seconds.

    Every method raises psycopg.Error; none waits for longer than the session's bound.
    """

    def __init__(self, session: Session, pgvector: Pgvector, *, lease: float) -> None:
        self._session = session
        self._pgvector = pgvector
        self._lease = lease

    def claim(self, names: Sequence[str], fingerprint: str) -> Claim | None:
        """The rows that have waited longest, of one of these columns; None when none is ready.

        Columns that another model fills by now are passed over.
        """
        values = {
            "names": list(names),
            "fingerprint": fingerprint,
            "most": BATCH_ROWS,
            "lease": self._lease,
        }
        rows = self._session.run(statement("claim.sql", _literals(values)))
        if not rows:
            return None
        return Claim(rows[0][1], tuple(sorted(row[0] for row in rows)))

    def read(self, column: Column, claim: Claim, fingerprint: str) -> Batch:
        """Texts of a claim. Entries of rows that are gone, or right already, are deleted.

        Entries beyond 16 MiB of texts are given back.
        """
        parts = {
            **column.parts(self._pgvector, sql.Literal(fingerprint)),
            **_literals({"ids": list(claim.ids)}),
        }
        rows = self._session.run(statement("read.sql", parts))
        latest = {row.key_hash: row.id for row in rows}  # by id: the last of a key counts
        waiting = [row for row in rows if latest[row.key_hash] == row.id and row.there]
        waiting = [row for row in waiting if not row.done]
        needed = {row.id for row in waiting}
        self.delete([row.id for row in rows if row.id not in needed])
        self.give_back(sorted({*claim.ids} - {row.id for row in rows}))
        return Batch(
            [
                Text(row.id, row.title, row.text or "", bytes(row.hash))
                for row in waiting
                if not row.too_long
            ],
            [(row.id, "the text has more than 4 MiB") for row in waiting if row.too_long],
        )

    def write(self, column: Column, embedded: Sequence[Embedded], fingerprint: str) -> int:
        """Vectors of texts that are still those of their rows. Returns how many were written.

        Rows that changed, or that somebody else is writing, are tried again; so are all of them
        when the column has another model or source by now.
        """
        if not embedded:
            return 0
        values = {
            "ids": [one.text.id for one in embedded],
            "vectors": [_as_sql(one) for one in embedded],
            "hashes": [one.text.hash for one in embedded],
        }
        parts = {**column.parts(self._pgvector, sql.Literal(fingerprint)), **_literals(values)}
        written = {row.id for row in self._session.run(statement("write.sql", parts))}
        self.give_back([one.text.id for one in embedded if one.text.id not in written])
        return len(written)

    def fail(self, failed: Sequence[tuple[int, str]]) -> None:
        """Note why these rows have no vector, and try them again later: MOST_ATTEMPTS times."""
        if failed:
            self._session.run(
                "UPDATE embedding_api.queue q SET last_error = f.reason, "
                "ready_at = clock_timestamp() + make_interval(secs => power(2, q.attempts)), "
                "dead_at = CASE WHEN q.attempts >= %(most)s THEN clock_timestamp() END "
                "FROM unnest(%(ids)s::bigint[], %(reasons)s::text[]) f(id, reason) "
                "WHERE q.id = f.id",
                {
                    "ids": [number for number, _ in failed],
                    "reasons": [reason[:500] for _, reason in failed],
                    "most": MOST_ATTEMPTS,
                },
            )

    def give_back(self, ids: Sequence[int], *, after: float = AGAIN) -> None:
        """Let these rows be claimed again; the claim does not count as an attempt."""
        if ids:
            self._session.run(
                "UPDATE embedding_api.queue SET attempts = greatest(attempts - 1, 1), "
                "ready_at = clock_timestamp() + make_interval(secs => %(after)s) "
                "WHERE id = ANY(%(ids)s)",
                {"ids": list(ids), "after": after},
            )

    def renew(self, ids: Sequence[int]) -> None:
        """Begin the lease of these rows again."""
        if ids:
            self._session.run(
                "UPDATE embedding_api.queue "
                "SET ready_at = clock_timestamp() + make_interval(secs => %(lease)s) "
                "WHERE id = ANY(%(ids)s)",
                {"ids": list(ids), "lease": self._lease},
            )

    def delete(self, ids: Sequence[int]) -> None:
        if ids:
            self._session.run(
                "DELETE FROM embedding_api.queue WHERE id = ANY(%(ids)s)", {"ids": list(ids)}
            )

    def sweep(self) -> None:
        """Leave rows alone that ended their workers MOST_ATTEMPTS times; forget old rates."""
        self._session.run(
            "UPDATE embedding_api.queue SET dead_at = clock_timestamp(), "
            "last_error = coalesce(last_error, 'the worker ended each time that it had this row') "
            "WHERE dead_at IS NULL AND attempts >= %(most)s AND ready_at <= clock_timestamp()",
            {"most": MOST_ATTEMPTS},
        )
        self._session.run(
            "DELETE FROM embedding_api.written "
            "WHERE written_at < clock_timestamp() - make_interval(secs => %(kept)s)",
            {"kept": KEPT},
        )


def _as_sql(embedded: Embedded) -> str | None:
    """A vector as PostgreSQL reads it: the shortest digits that give the same float32 back."""
    vector = embedded.vector
    if vector is None or isinstance(vector, RowError):
        return None
    return orjson.dumps(np.ascontiguousarray(vector), option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _literals(values: Mapping[str, object]) -> dict[str, sql.Composable]:
    """Not parameters: a template may hold a %, which would begin one."""
    return {name: sql.Literal(value) for name, value in values.items()}
