"""A worker from its start to its end: which columns it fills, and when it ends."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType

import psycopg

from embedder.errors import OptionError
from embedder.overflow import TRUNCATE, Overflow
from jobs.embedding import Engine
from jobs.errors import SOME_ROWS_BAD, JobError, UsageError, one_line
from jobs.output.database import Database
from jobs.table import metrics
from jobs.table.catalog import Pgvector, find_pgvector
from jobs.table.column import Column, load_columns
from jobs.table.listening import Listener
from jobs.table.queue import Queue
from jobs.table.session import SILENT_SECONDS, Session, ends_within
from jobs.table.state import State, states
from jobs.table.texts import TextEmbedder
from jobs.table.worker import PURPOSE, THREADS, Backoff, Filler, Signals

TICK = 0.5  # seconds in which a signal is noticed
LOOK_SECONDS = 5.0  # between two looks at what is set up and how far it is
LOOK_SHARE = 20  # times as long as a look took: a queue of a million rows is counted in 0.2 s
STUCK_SECONDS = 30.0  # beyond a lease, in which `--once` sees no row finished: it ends


@dataclass(frozen=True, slots=True)
class Options:
    """How a worker works. Seconds; `names` are columns, all of them when it is empty."""

    names: tuple[str, ...]
    once: bool
    lease: float
    niceness: int
    metrics_port: int | None
    overflow: Overflow = TRUNCATE


class Worker:
    """Fills columns until SIGTERM or SIGINT, or until nothing waits.

    Raises:
        UsageError: nothing is set up for this model, or the role may not see all rows.
        JobError: the database cannot be reached at the start.
    """

    def __init__(
        self, database: Database, engine: Engine, options: Options, say: Callable[[str], None]
    ) -> None:
        self._database = database
        self._options = options
        self._say = say
        # It warns of each lost connection, which we tell of in one line.
        logging.getLogger("psycopg").setLevel(logging.ERROR)
        self._signals = Signals(threading.Event(), threading.Event())
        self._columns: Mapping[str, Column] = {}
        os.nice(options.niceness)  # threads that are started from here on have it too
        with database.connection(PURPOSE) as connection:
            pgvector = find_pgvector(connection)
            if pgvector is None or not self._set_up(connection):
                raise UsageError("no column is set up: run --setup first")
        self._pgvector: Pgvector = pgvector
        self._embedder = TextEmbedder(engine, options.overflow)
        with database.connection(PURPOSE) as connection:
            self._look(connection, starting=True)
        if not self._columns:
            raise UsageError(
                f"no column is filled by this model ({self._embedder.profile.fingerprint}): "
                "set MODEL_NAME and MODEL_QUANTIZATION, or run --reembed for this one"
            )
        if options.metrics_port is not None:
            metrics.serve(options.metrics_port)

    def run(self) -> int:
        """Work, and return the exit status."""
        self._database = replace(self._database, remedy="the worker connects again")
        with ThreadPoolExecutor(THREADS, thread_name_prefix="fill") as pool, self._on_signals():
            fillers = [pool.submit(self._filler().run) for _ in range(THREADS)]
            try:
                left = self._watch(fillers)
            finally:
                self._stop()
        for filler in fillers:
            filler.result()
        return SOME_ROWS_BAD if self._options.once and left else 0

    def _filler(self) -> Filler:
        return Filler(
            self._database,
            self._embedder,
            self._signals,
            lambda: self._columns,
            self._pgvector,
            lease=self._options.lease,
            say=self._say,
        )

    def _watch(self, fillers: Sequence[Future[None]]) -> int:
        """Wake the threads until the end. Returns how many rows have no vector, if known."""
        backoff = Backoff()
        progress = Progress(self._options.lease + STUCK_SECONDS)
        while not self._signals.stop.is_set():
            try:
                with self._database.connection(PURPOSE) as connection:
                    listener = Listener(connection, self._database)
                    self._say(self._description(listener))
                    self._attend(connection, listener, fillers, progress, backoff)
            except JobError as error:
                self._say(str(error))
                self._signals.stop.wait(backoff.seconds())
        return progress.left

    def _attend(
        self,
        connection: psycopg.Connection,
        listener: Listener,
        fillers: Sequence[Future[None]],
        progress: "Progress",
        backoff: Backoff,
    ) -> None:
        next_look = next_wake = 0.0
        while not self._signals.stop.is_set():
            now = time.monotonic()
            if now >= next_look:
                found = self._look(connection)
                backoff.reset()
                if self._options.once and progress.over(found, now):
                    return self._stop()
                seconds = TICK if self._options.once else LOOK_SECONDS
                next_look = now + max(seconds, LOOK_SHARE * (time.monotonic() - now))
            if listener.wait(TICK) or now >= next_wake:
                next_wake = now + listener.seconds
                self._signals.wake.set()
            if any(filler.done() for filler in fillers):
                return self._stop()
        return None

    def _look(self, connection: psycopg.Connection, *, starting: bool = False) -> list[State]:
        """Find out what is set up and how far it is, and update the metrics."""
        with ends_within(connection, SILENT_SECONDS):
            return self._looked(connection, starting=starting)

    def _looked(self, connection: psycopg.Connection, *, starting: bool) -> list[State]:
        columns = {}
        for column in self._set_up(connection):
            try:
                if self._adopt(connection, column):
                    columns[column.name] = column
            except UsageError as error:
                if starting:
                    raise
                self._say(str(error))
        gone = self._columns.keys() - columns.keys()
        for name in sorted(gone):
            self._say(f"{name} is not filled any more: it was removed, or has another model")
        self._columns = columns
        if not columns:
            return []
        Queue(Session(connection), self._pgvector, lease=self._options.lease).sweep()
        found = [state for state in states(connection) if state.name in columns]
        metrics.show(found)
        return found

    def _set_up(self, connection: psycopg.Connection) -> list[Column]:
        with connection.transaction():
            connection.execute("SET LOCAL search_path = ''")
            return load_columns(connection, self._options.names)

    def _adopt(self, connection: psycopg.Connection, column: Column) -> bool:
        """Whether this model fills the column; one that has no model yet gets this one.

        Raises:
            UsageError: the size or the titles are not the model's, or rows are hidden from us.
        """
        fingerprint = self._embedder.profile.fingerprint
        if column.fingerprint not in (None, fingerprint):
            return False
        try:
            self._embedder.check(column.dimensions, titles=column.source.title is not None)
        except OptionError as error:
            raise UsageError(f"{column.name}: {one_line(error)}") from None
        hidden = connection.execute(
            "SELECT row_security_active(%s::oid)", [column.table.oid]
        ).fetchone()
        if hidden == (True,):
            raise UsageError(
                f"{column.name}: policies hide rows from this role; "
                "connect as the table's owner or a role with BYPASSRLS"
            )
        if column.fingerprint is None:
            connection.execute(
                "UPDATE embedding_api.columns SET fingerprint = %s "
                "WHERE name = %s AND fingerprint IS NULL",
                [fingerprint, column.name],
            )
        return True

    def _description(self, listener: Listener) -> str:
        profile = self._embedder.profile
        return (
            f"filling {', '.join(sorted(self._columns))} with {profile.model_id} "
            f"({profile.fingerprint}); looks every {listener.seconds:.0f} s"
        )

    def _stop(self) -> None:
        self._signals.stop.set()
        self._signals.wake.set()

    @contextmanager
    def _on_signals(self) -> Iterator[None]:
        def stop(_: int, __: FrameType | None) -> None:
            self._stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Progress:
    """When `--once` ends: nothing waits, or no row was finished for `patience` seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._fewest: int | None = None
        self._since = 0.0
        self.left = 0  # rows without a vector

    def over(self, found: Sequence[State], now: float) -> bool:
        waiting = sum(state.waiting for state in found)
        self.left = waiting + sum(state.dead for state in found)
        if self._fewest is None or waiting < self._fewest:
            self._fewest = waiting
            self._since = now
        return waiting == 0 or now - self._since > self._patience
