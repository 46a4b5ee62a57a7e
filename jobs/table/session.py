"""A connection on which no statement takes longer than its bound."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import namedtuple_row

STATEMENT_SECONDS = 60  # of the server; a batch is written in less than 1 s
SILENT_SECONDS = STATEMENT_SECONDS + 15  # of a server that does not even say that time is over


class Session:
    """Statements, each in a transaction of its own: a transaction pooler may stand in between."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._bound = sql.SQL("SET LOCAL statement_timeout = {}").format(
            sql.Literal(f"{STATEMENT_SECONDS}s")
        )

    def run(self, query: Any, values: Mapping[str, Any] | None = None) -> list[Any]:
        """Rows of one statement as named tuples. Raises psycopg.Error."""
        connection = self._connection
        with (
            ends_within(connection, SILENT_SECONDS),
            connection.cursor(row_factory=namedtuple_row) as cursor,
        ):
            with connection.pipeline(), connection.transaction():
                connection.execute(self._bound)
                cursor.execute(query, values)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def ends_within(connection: psycopg.Connection, seconds: float) -> Iterator[None]:
    """Break the connection when the block takes longer: its caller gets an error."""
    timer = Timer(seconds, _break, [connection.fileno()])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _break(descriptor: int) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as broken:
        broken.shutdown(socket.SHUT_RDWR)
