"""Word of new rows: LISTEN where the connection can, or a poll each second."""

import time
from secrets import token_hex

import psycopg
from psycopg import sql

from jobs.output.database import Database

CHANNEL = "embedding_api"
TEST_SECONDS = 2.0
LISTENING_SECONDS, POLLING_SECONDS = 5.0, 1.0  # between two looks without word


class Listener:
    """A connection that hears of commits, as far as what stands in between passes that on.

    `seconds` is how long to wait for word before looking.
    """

    def __init__(self, connection: psycopg.Connection, database: Database) -> None:
        self._connection = connection
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        hears = self._hears(database)
        self.seconds = LISTENING_SECONDS if hears else POLLING_SECONDS

    def wait(self, seconds: float) -> bool:
        """Whether there was word within `seconds`. Raises psycopg.Error."""
        return any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))

    def _hears(self, database: Database) -> bool:
        """Behind a pooler in transaction mode LISTEN works and nothing ever arrives: try it."""
        word = token_hex(8)
        with database.connection("--setup") as other:
            other.execute("SELECT pg_notify(%s, %s)", [CHANNEL, word])
            deadline = time.monotonic() + TEST_SECONDS
            while (left := deadline - time.monotonic()) > 0:
                for heard in self._connection.notifies(timeout=left, stop_after=1):
                    if heard.payload == word:
                        return True
        return False
