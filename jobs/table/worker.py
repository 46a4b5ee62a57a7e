"""The worker: threads that claim rows, embed their texts and write the vectors."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from jobs.errors import JobError, RowError, one_line
from jobs.output.database import OF_A_SESSION, OF_THE_TABLE, Database
from jobs.table import metrics
from jobs.table.catalog import Pgvector
from jobs.table.column import Column
from jobs.table.queue import Claim, Queue
from jobs.table.session import Session
from jobs.table.texts import Embedded, TextEmbedder

THREADS = 2  # one has the engine, the other reads and writes: the engine never waits for PostgreSQL
FIRST_WAIT, LONGEST_WAIT = (
    0.5,
    30.0,
)  # seconds before a connection is tried again, doubled each time
LONGEST_IDLE = 5.0  # seconds between two looks, should word be lost
PURPOSE = "embed_table"


@dataclass
class Signals:
    """What threads tell each other."""

    stop: threading.Event  # end after what is in work
    wake: threading.Event  # there may be rows


class Backoff:
    """Seconds to wait before the next try."""

    def __init__(self) -> None:
        self._next = FIRST_WAIT

    def reset(self) -> None:
        self._next = FIRST_WAIT

    def seconds(self) -> float:
        found = self._next
        self._next = min(2 * found, LONGEST_WAIT)
        return found


class Filler:
    """One thread: a connection, and rows claimed through it."""

    def __init__(
        self,
        database: Database,
        embedder: TextEmbedder,
        signals: Signals,
        columns: Callable[[], Mapping[str, Column]],
        pgvector: Pgvector,
        *,
        lease: float,
        say: Callable[[str], None],
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._signals = signals
        self._columns = columns
        self._pgvector = pgvector
        self._lease = lease
        self._say = say
        self._held: list[int] = []  # claimed and not finished, also over a lost connection
        self._backoff = Backoff()

    def run(self) -> None:
        """Fill until `stop`. A lost connection is made again; what was claimed is given back."""
        while not self._signals.stop.is_set():
            try:
                with self._database.connection(PURPOSE) as connection:
                    self._fill(Queue(Session(connection), self._pgvector, lease=self._lease))
            except JobError as error:
                self._say(str(error))
                self._signals.stop.wait(self._backoff.seconds())

    def _fill(self, queue: Queue) -> None:
        self._give_back(queue)
        while not self._signals.stop.is_set():
            self._signals.wake.clear()
            columns = self._columns()
            fingerprint = self._embedder.profile.fingerprint
            claim = queue.claim([*columns], fingerprint) if columns else None
            self._backoff.reset()
            if claim is None:
                self._signals.wake.wait(LONGEST_IDLE)
                continue
            self._held = [*claim.ids]
            self._handle(queue, claim, columns[claim.name])
            self._give_back(queue)

    def _handle(self, queue: Queue, claim: Claim, column: Column) -> None:
        """A claim, whole. A table that changed under us fails its rows, not the worker."""
        try:
            self._embed(queue, claim, column)
        except psycopg.Error as error:
            state = error.sqlstate or ""
            if state[:2] not in OF_THE_TABLE or state in OF_A_SESSION:
                raise
            self._fail(queue, column, [(number, one_line(error)) for number in self._held])

    def _embed(self, queue: Queue, claim: Claim, column: Column) -> None:
        fingerprint = self._embedder.profile.fingerprint
        batch = queue.read(column, claim, fingerprint)
        self._held = [*(text.id for text in batch.texts), *(number for number, _ in batch.failed)]
        self._fail(queue, column, batch.failed)
        for some in self._embedder.embed(batch.texts, column.dimensions):
            good = [one for one in some if not isinstance(one.vector, RowError)]
            written = queue.write(column, good, fingerprint)
            metrics.ROWS.labels(column.name, "written").inc(written)
            self._drop([one.text.id for one in good])
            self._fail(queue, column, _reasons(some))
            if self._signals.stop.is_set():
                return
            queue.renew(self._held)

    def _fail(self, queue: Queue, column: Column, failed: Sequence[tuple[int, str]]) -> None:
        queue.fail(failed)
        metrics.ROWS.labels(column.name, "failed").inc(len(failed))
        self._drop([number for number, _ in failed])

    def _drop(self, ids: Sequence[int]) -> None:
        finished = {*ids}
        self._held = [number for number in self._held if number not in finished]

    def _give_back(self, queue: Queue) -> None:
        queue.give_back(self._held, after=0)
        self._held = []


def _reasons(some: Sequence[Embedded]) -> list[tuple[int, str]]:
    return [(one.text.id, str(one.vector)) for one in some if isinstance(one.vector, RowError)]
