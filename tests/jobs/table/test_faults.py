"""Workers and databases that are killed, restarted or stopped: no row is lost or wrong."""

import random
import time
from dataclasses import replace
from pathlib import Path

import httpx
import psycopg
import pytest

from embedder.model import EmbeddingModel
from jobs.errors import JobError
from jobs.output.database import Database
from jobs.table.listening import LISTENING_SECONDS, POLLING_SECONDS, Listener
from jobs.table.session import ends_within
from lab.postgres_server import PostgresServer, postgres_server
from lab.server import free_port
from tests.jobs.pooler import Pooler
from tests.jobs.table.filling import (
    DOCUMENTS,
    PATIENCE,
    Filling,
    starter_engine,
    wait_until_filled,
    worker,
)

ROWS = 300
LEASE = ("--lease", "2")


def insert(connection: psycopg.Connection, rows: int) -> None:
    connection.execute(
        "INSERT INTO documents (body) SELECT repeat('word ', n % 20) || n "
        f"FROM generate_series(1, {rows}) n"
    )


def change_something(connection: psycopg.Connection, chance: random.Random) -> None:
    row = chance.randint(1, ROWS)
    connection.execute("UPDATE documents SET body = %s WHERE id = %s", [f"new {row}", row])
    connection.execute("DELETE FROM documents WHERE id = %s", [chance.randint(1, ROWS)])
    connection.execute("INSERT INTO documents (body) VALUES (%s)", [f"added {row}"])


def test_workers_that_are_killed_lose_nothing(
    filling: Filling, documents: psycopg.Connection, tmp_path: Path
) -> None:
    chance = random.Random(7)
    insert(documents, ROWS)
    with worker(filling.url, *LEASE, log=tmp_path / "steady"):
        for _ in range(5):
            with worker(filling.url, *LEASE, log=tmp_path / "killed") as killed:
                wait_for_line(tmp_path / "killed", "filling")
                time.sleep(chance.random())
                change_something(documents, chance)
                killed.kill()
                killed.wait(PATIENCE)
            (tmp_path / "killed").unlink()
        wait_until_filled(documents)
    filling.assert_filled("documents")


def test_two_workers_share_the_rows(
    filling: Filling, documents: psycopg.Connection, tmp_path: Path
) -> None:
    insert(documents, ROWS)
    with (
        worker(filling.url, "--once", log=tmp_path / "one") as one,
        worker(filling.url, "--once", log=tmp_path / "other") as other,
    ):
        assert one.wait(PATIENCE) == other.wait(PATIENCE) == 0
    assert filling.assert_filled("documents") == ROWS
    [(written,)] = documents.execute("SELECT sum(rows) FROM embedding_api.written").fetchall()
    assert written == ROWS  # none twice


def test_a_worker_that_is_told_to_end_gives_its_rows_back(
    filling: Filling, documents: psycopg.Connection, tmp_path: Path
) -> None:
    insert(documents, ROWS)
    with worker(filling.url, log=tmp_path / "log") as running:
        wait_for_line(tmp_path / "log", "filling")
        running.terminate()
        assert running.wait(PATIENCE) == 0
    [(held,)] = documents.execute(
        "SELECT count(*) FROM embedding_api.queue WHERE ready_at > clock_timestamp() + '2 s'"
    ).fetchall()
    assert held == 0
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == ROWS


def test_a_commit_wakes_an_idle_worker(
    filling: Filling, documents: psycopg.Connection, tmp_path: Path
) -> None:
    with worker(filling.url, log=tmp_path / "log"):
        wait_for_line(tmp_path / "log", f"looks every {LISTENING_SECONDS:.0f} s")
        for number in range(3):
            documents.execute(f"INSERT INTO documents (body) VALUES ('text {number}')")
            wait_until_filled(documents)
    assert filling.assert_filled("documents") == 3


def test_behind_a_transaction_pooler_a_worker_polls(
    database_url: str, model: EmbeddingModel, pooler: Pooler, tmp_path: Path
) -> None:
    """The pooler knows one database, so this one is tidied up."""
    filling = Filling(database_url, starter_engine(), model)
    with filling.connect() as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("DROP TABLE IF EXISTS documents")
        connection.execute(DOCUMENTS)
        through = replace(filling, url=pooler.with_password)
        through.set_up("documents", "--text", "body")
        try:
            insert(connection, ROWS)
            with worker(pooler.with_password, log=tmp_path / "log"):
                wait_for_line(tmp_path / "log", f"looks every {POLLING_SECONDS:.0f} s")
                wait_until_filled(connection)
                insert(connection, 3)
                wait_until_filled(connection)
            assert filling.assert_filled("documents") == ROWS + 3
        finally:
            through.command("documents", "--teardown")
            connection.execute("DROP TABLE documents")


def test_a_listener_hears_of_commits(filling: Filling, documents: psycopg.Connection) -> None:
    with filling.connect() as connection:
        listener = Listener(connection, Database(filling.url, ()))
        assert listener.seconds == LISTENING_SECONDS
        documents.execute("INSERT INTO documents (body) VALUES ('one')")
        assert listener.wait(PATIENCE)
        assert not listener.wait(0.01)


def test_an_idle_worker_says_how_far_it_is(
    filling: Filling, documents: psycopg.Connection, tmp_path: Path
) -> None:
    port = free_port()
    with worker(filling.url, "--metrics-port", str(port), log=tmp_path / "log"):
        wait_for_line(tmp_path / "log", "filling")
        insert(documents, 3)
        wait_until_filled(documents)
        deadline = time.monotonic() + PATIENCE
        wanted = 'embed_table_rows_total{column="public.documents.embedding",outcome="written"} 3.0'
        while wanted not in (page := httpx.get(f"http://127.0.0.1:{port}/metrics").text):
            assert time.monotonic() < deadline, page
            time.sleep(0.1)
    assert 'embed_table_waiting{column="public.documents.embedding"}' in page
    assert 'embed_table_oldest_seconds{column="public.documents.embedding"}' in page


def test_a_database_that_restarts_is_filled_on(model: EmbeddingModel, tmp_path: Path) -> None:
    with postgres_server() as server:
        filling = Filling(server.url, starter_engine(), model)
        fill_over_a_restart(server, filling, tmp_path / "log")


def fill_over_a_restart(server: PostgresServer, filling: Filling, log: Path) -> None:
    with filling.connect() as connection:
        connection.execute(DOCUMENTS)
        filling.set_up("documents", "--text", "body")
        insert(connection, ROWS)
    with worker(filling.url, *LEASE, log=log):
        wait_for_line(log, "filling")
        server.restart()
        wait_for_line(log, "the worker connects again")
        with filling.connect() as connection:
            insert(connection, 3)
            wait_until_filled(connection)
    assert filling.assert_filled("documents") == ROWS + 3


def test_a_database_that_hangs_does_not_hang_a_worker_for_ever(
    filling: Filling, documents: psycopg.Connection
) -> None:
    with (
        pytest.raises(JobError),
        Database(filling.url, ()).connection("x") as stuck,
        ends_within(stuck, 0.2),
    ):
        stuck.execute("SELECT pg_sleep(60)")


def wait_for_line(log: Path, words: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while words not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
