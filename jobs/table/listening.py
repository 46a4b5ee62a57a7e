"""Notifications of new rows where they arrive; where they do not, a poll each second."""

import time
from secrets import token_hex

import psycopg
from psycopg import sql

from jobs.output.database import Database

CHANNEL = "embedding_api"
TEST_SECONDS = 2.0
LISTENING_SECONDS = 5.0  # between two claims without a notification, should one be lost
POLLING_SECONDS = 1.0  # the same where none arrive


class Listener:
    """A connection that is notified of commits, unless a pooler stands in between.

    `seconds` is how long to wait for a notification before rows are claimed without one.
    """

    def __init__(self, connection: psycopg.Connection, database: Database) -> None:
        self._connection = connection
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        arrives = self._arrives(database)
        self.seconds = LISTENING_SECONDS if arrives else POLLING_SECONDS
        if not arrives:
            connection.execute("UNLISTEN *")

    def wait(self, seconds: float) -> bool:
        """Whether a notification came within `seconds`. Raises psycopg.Error."""
        return any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))

    def _arrives(self, database: Database) -> bool:
        """Try it: behind a pooler in transaction mode LISTEN succeeds and nothing ever arrives."""
        payload = token_hex(8)
        with database.connection(CHANNEL) as other:
            other.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])
            deadline = time.monotonic() + TEST_SECONDS
            while (left := deadline - time.monotonic()) > 0:
                for notification in self._connection.notifies(timeout=left, stop_after=1):
                    if notification.payload == payload:
                        return True
        return False
