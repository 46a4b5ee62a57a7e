"""A worker that sends the requests of pg_net's tables, as that of the extension does."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

EXTENSIONS = Path(__file__).with_name("extensions.sql")
AT_ONCE = 200  # pg_net.batch_size
TAKE = (
    "DELETE FROM net.http_request_queue WHERE id IN "
    "(SELECT id FROM net.http_request_queue ORDER BY id LIMIT %s) RETURNING *"
)
ANSWER = (
    "INSERT INTO net._http_response "
    "(id, status_code, content_type, headers, content, timed_out, error_msg) VALUES "
    "(%(id)s, %(status_code)s, %(content_type)s, %(headers)s, %(content)s, %(timed_out)s, "
    "%(error_msg)s)"
)
NOTHING: dict[str, Any] = dict.fromkeys(
    ("status_code", "content_type", "headers", "content", "timed_out", "error_msg")
)


@dataclass(frozen=True, slots=True)
class PgNet:
    """The worker of one database. `most_seconds` cuts the time-outs of requests short."""

    database: str
    most_seconds: float = 60.0

    def install(self) -> None:
        """Create the schema `net`, and those of the extensions that are used with it."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(EXTENSIONS.read_bytes())

    def perform(self) -> int:
        """Send what is queued, and note all answers when the last has come. Returns how many."""
        with psycopg.connect(self.database) as connection, ThreadPoolExecutor(8) as pool:
            with connection.cursor(row_factory=dict_row) as cursor:
                requests = cursor.execute(TAKE, [AT_ONCE]).fetchall()
                if requests:
                    cursor.executemany(ANSWER, list(pool.map(self._send, requests)))
            return len(requests)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Send what is queued, in the background."""
        stop = threading.Event()

        def work() -> None:
            while not stop.wait(0.02):
                self.perform()

        thread = threading.Thread(target=work, name="pg_net")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _send(self, request: dict[str, Any]) -> dict[str, Any]:
        seconds = min(request["timeout_milliseconds"] / 1000, self.most_seconds)
        try:
            answer = httpx.request(
                request["method"],
                request["url"],
                headers={**request["headers"], "User-Agent": "pg_net/0.20.0"},
                content=request["body"],
                timeout=seconds,
                follow_redirects=True,
            )
        except httpx.TimeoutException:
            said = f"Timeout of {seconds * 1000:.0f} ms reached."
            return NOTHING | {"id": request["id"], "timed_out": True, "error_msg": said}
        except httpx.TransportError as error:
            return NOTHING | {"id": request["id"], "timed_out": False, "error_msg": str(error)}
        return NOTHING | {
            "id": request["id"],
            "status_code": answer.status_code,
            "content_type": answer.headers.get("Content-Type"),
            "headers": Jsonb(dict(answer.headers)),
            "content": answer.text or None,
            "timed_out": False,
        }
