"""Loads through a transaction pooler, whose sessions others use in between."""

import threading
from pathlib import Path

import psycopg

from tests.jobs.output.loads import load, output, stored, table
from tests.jobs.pooler import SESSIONS, Pooler

PARTS = 50
CLIENTS = 3 * SESSIONS


def test_a_load_and_other_clients_share_the_sessions_of_a_pooler(
    tmp_path: Path, pooler: Pooler, connection: psycopg.Connection
) -> None:
    """Each of the other clients works in transactions and takes turns at the sessions."""
    over = threading.Event()
    served = [0] * CLIENTS
    failed = list[psycopg.Error]()

    def work(number: int) -> None:
        with psycopg.connect(pooler.with_password, prepare_threshold=None) as client:
            while not over.is_set():
                try:
                    with client.transaction():
                        client.execute("CREATE TEMP TABLE own ON COMMIT DROP AS SELECT 1")
                        client.execute("SELECT pg_sleep(0.002)")
                    served[number] += 1
                except psycopg.Error as error:
                    failed.append(error)

    clients = [threading.Thread(target=work, args=[number]) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        ids: list[object] = [*range(2 * PARTS)]
        assert load(table(pooler.with_password), output(tmp_path, ids)) == [2] * PARTS
    finally:
        over.set()
        for client in clients:
            client.join()
    assert stored(connection, "text") == {n: f"text {n}\ufffd" for n in range(2 * PARTS)}
    assert min(served) > 0
    assert not failed
