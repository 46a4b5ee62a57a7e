"""Whatever happens to a row, its vector becomes that of its present text."""

import psycopg
import pytest

from jobs.embedding import Engine
from jobs.errors import UsageError
from jobs.output.database import Database
from jobs.table import setup
from jobs.table.catalog import find_pgvector
from jobs.table.column import Column, load_columns
from jobs.table.queue import MOST_ATTEMPTS, Queue
from jobs.table.run import Options, Worker
from jobs.table.session import Session
from jobs.table.texts import Embedded, TextEmbedder
from tests.jobs.table.filling import Filling


def queue_of(connection: psycopg.Connection) -> Queue:
    pgvector = find_pgvector(connection)
    assert pgvector
    return Queue(Session(connection), pgvector, lease=60)


def waiting(connection: psycopg.Connection) -> int:
    found = connection.execute("SELECT count(*) FROM embedding_api.queue").fetchone()
    assert found
    return int(found[0])


def embedded_but_not_written(
    filling: Filling, connection: psycopg.Connection
) -> tuple[Queue, Column, list[Embedded]]:
    """Claim and embed the waiting rows, as a worker does before it writes."""
    fingerprint = filling.engine.fingerprint
    queue, embedder = queue_of(connection), TextEmbedder(filling.engine, "truncate")
    [column] = load_columns(connection)
    connection.execute("UPDATE embedding_api.columns SET fingerprint = %s", [fingerprint])
    claim = queue.claim([column.name], fingerprint)
    assert claim
    batch = queue.read(column, claim, fingerprint)
    [embedded] = embedder.embed(batch.texts, column.dimensions)
    return queue, column, embedded


def test_rows_that_were_there_and_rows_that_come_are_filled(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('one'), ('two'), (NULL), (' \n')")
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 4
    documents.execute("UPDATE documents SET body = 'three' WHERE body = 'one'")
    documents.execute("DELETE FROM documents WHERE body = 'two'")
    documents.execute("INSERT INTO documents (body) VALUES ('four')")
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 4


def test_the_rows_of_one_copy_are_filled(filling: Filling, documents: psycopg.Connection) -> None:
    with documents.cursor() as cursor, cursor.copy("COPY documents (body) FROM STDIN") as copy:
        for number in range(1000):
            copy.write_row([f"row {number}"])
    assert waiting(documents) == 1000
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 1000


def test_what_is_rolled_back_leaves_nothing(
    filling: Filling, documents: psycopg.Connection
) -> None:
    with documents.transaction(force_rollback=True):
        documents.execute("INSERT INTO documents (body) VALUES ('never')")
    assert waiting(documents) == 0


def test_an_update_of_another_column_asks_for_nothing(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('one')")
    filling.fill()
    documents.execute("UPDATE documents SET title = 'new', body = 'one'")
    assert waiting(documents) == 0


def test_many_updates_of_a_row_wait_as_one(filling: Filling, documents: psycopg.Connection) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('one')")
    for number in range(20):
        documents.execute(f"UPDATE documents SET body = 'text {number}'")
    assert waiting(documents) == 1
    filling.fill()
    filling.assert_filled("documents")


def test_a_vector_that_is_removed_comes_back(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('one')")
    filling.fill()
    documents.execute("UPDATE documents SET embedding = NULL")
    filling.fill()
    filling.assert_filled("documents")


def test_a_row_that_changes_while_it_is_embedded_gets_the_newest_vector(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('old'), ('gone'), ('kept')")
    queue, column, embedded = embedded_but_not_written(filling, documents)
    documents.execute("UPDATE documents SET body = 'new' WHERE body = 'old'")
    documents.execute("DELETE FROM documents WHERE body = 'gone'")
    assert queue.write(column, embedded, filling.engine.fingerprint) == 1
    found = documents.execute("SELECT body FROM documents WHERE embedding IS NOT NULL").fetchall()
    assert found == [("kept",)]
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 2


def test_a_row_that_somebody_is_writing_is_not_waited_for(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('held'), ('free')")
    queue, column, embedded = embedded_but_not_written(filling, documents)
    with filling.connect() as other, other.transaction():
        other.execute("UPDATE documents SET title = 'busy' WHERE body = 'held'")
        assert queue.write(column, embedded, filling.engine.fingerprint) == 1
    assert waiting(documents) == 1
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 2


def test_a_row_that_fails_is_given_up_with_its_reason_and_holds_nobody_up(
    filling: Filling, documents: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES (repeat('long ', 1000000)), ('short')")
    documents.execute(f"UPDATE embedding_api.queue SET attempts = {MOST_ATTEMPTS - 1} WHERE id = 1")
    assert filling.fill() == 3
    assert filling.command("status") == 3
    said = capsys.readouterr().out
    assert "1 failed" in said
    assert 'public.documents.embedding {"id": 1}: the text has more than 4 MiB' in said
    documents.execute("UPDATE documents SET body = 'shorter' WHERE id = 1")
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 2


def test_a_row_that_ended_its_workers_is_left_alone(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('poison'), ('good')")
    documents.execute(f"UPDATE embedding_api.queue SET attempts = {MOST_ATTEMPTS} WHERE id = 1")
    assert filling.fill() == 3
    found = documents.execute("SELECT last_error FROM embedding_api.queue").fetchall()
    assert found == [("the worker ended each time that it had this row",)]
    filling.set_up("documents", "--text", "body")  # tries it again
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 2


def test_a_row_that_was_claimed_twice_goes_alone(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute(
        "INSERT INTO documents (body) SELECT 'text ' || n FROM generate_series(1, 9) n"
    )
    documents.execute("UPDATE embedding_api.queue SET attempts = 2 WHERE id IN (1, 5)")
    documents.execute("UPDATE embedding_api.columns SET fingerprint = 'ours'")
    queue = queue_of(documents)
    claims = [queue.claim(["public.documents.embedding"], "ours") for _ in range(4)]
    assert [claim and claim.ids for claim in claims] == [(1,), (2, 3, 4, 6, 7, 8, 9), (5,), None]


def test_a_table_that_changed_fails_its_rows_and_not_the_worker(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    filling.set_up("notes", "--text", "body")
    documents.execute("INSERT INTO documents (body) VALUES ('one')")
    documents.execute("INSERT INTO notes VALUES (1, 'two')")
    documents.execute("ALTER TABLE documents RENAME body TO text")
    documents.execute(f"UPDATE embedding_api.queue SET attempts = {MOST_ATTEMPTS - 1} WHERE id = 1")
    assert filling.fill() == 3
    found = documents.execute("SELECT last_error FROM embedding_api.queue").fetchall()
    assert found == [("column t.body does not exist",)]
    [(embedded,)] = documents.execute("SELECT embedding IS NOT NULL FROM notes").fetchall()
    assert embedded


def test_vectors_of_another_model_stay_until_they_are_replaced(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('one'), ('two')")
    filling.fill()
    documents.execute("UPDATE documents SET embedding_fingerprint = 'before'")
    documents.execute("UPDATE embedding_api.columns SET fingerprint = 'before'")
    [column] = load_columns(documents)
    setup.requeue(documents, column, filling.engine.fingerprint)
    assert waiting(documents) == 2
    [(kept,)] = documents.execute("SELECT count(embedding) FROM documents").fetchall()
    assert kept == 2
    filling.fill()
    assert filling.assert_filled("documents") == 2


@pytest.mark.parametrize("change", ["model", "source"])
def test_a_vector_of_a_model_or_a_source_that_was_replaced_meanwhile_is_not_written(
    filling: Filling, documents: psycopg.Connection, change: str
) -> None:
    documents.execute("INSERT INTO documents (title, body) VALUES ('title', 'one')")
    queue = queue_of(documents)
    embedder = TextEmbedder(filling.engine, "truncate")
    ours = filling.engine.fingerprint
    documents.execute("UPDATE embedding_api.columns SET fingerprint = %s", [ours])
    [column] = load_columns(documents)
    claim = queue.claim([column.name], ours)
    assert claim
    [embedded] = embedder.embed(queue.read(column, claim, ours).texts, column.dimensions)
    if change == "model":
        setup.requeue(documents, column, "other")
    else:
        filling.set_up("documents", "--text", "title")
    assert queue.write(column, embedded, ours) == 0
    assert waiting(documents) == 2  # the claimed entry and the new one
    if change == "model":
        setup.requeue(documents, column, ours)
    assert filling.fill() == 0
    assert filling.assert_filled("documents", "body" if change == "model" else "title") == 1


def test_a_worker_that_knows_an_old_source_takes_no_row_for_finished(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("INSERT INTO documents (title, body) VALUES ('title', 'one')")
    assert filling.fill() == 0
    [column] = load_columns(documents)
    filling.set_up("documents", "--text", "title")
    queue = queue_of(documents)
    claim = queue.claim([column.name], filling.engine.fingerprint)
    assert claim
    assert len(queue.read(column, claim, filling.engine.fingerprint).texts) == 1
    documents.execute("UPDATE embedding_api.queue SET ready_at = now()")
    assert filling.fill() == 0
    assert filling.assert_filled("documents", "title") == 1


def test_an_engine_of_another_model_takes_no_rows(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('one')")
    documents.execute("UPDATE embedding_api.columns SET fingerprint = 'other'")
    assert queue_of(documents).claim(["public.documents.embedding"], "ours") is None


def test_a_database_is_given_and_an_engine_is_not_loaded_for_nothing(filling: Filling) -> None:
    nothing = Engine(filling.engine.directory / "none", "", 1, 8, 8)
    with pytest.raises(UsageError, match="run --setup first"):
        Worker(Database(filling.url, ()), nothing, Options((), True, 60, 0, None), lambda _: None)
