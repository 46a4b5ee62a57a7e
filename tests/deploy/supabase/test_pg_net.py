"""A column that pg_net and pg_cron fill: whatever happens, a vector is that of its row's text."""

import threading

import psycopg

from tests.deploy.supabase.project import BATCH, COLLECT, POST, Project
from tests.jobs.table.filling import wait_until_filled


def test_rows_are_filled_in_batches(project: Project) -> None:
    project.connection.execute("INSERT INTO documents (body) VALUES (NULL), (''), (E' \\n'), ('a')")
    project.insert(3 * BATCH)
    for _ in range(3):
        project.tick()
    assert project.filling.assert_filled("documents") == 3 * BATCH + 4
    assert [rows for _, rows, _ in project.posts()] == [BATCH, BATCH, BATCH, 4]
    project.connection.execute("UPDATE documents SET body = 'new' WHERE id = 7")
    project.connection.execute("DELETE FROM documents WHERE id = 8")
    project.tick()
    assert project.filling.assert_filled("documents") == 3 * BATCH + 3


def test_an_empty_tick_does_nothing(project: Project) -> None:
    assert (project.one(POST), project.one(COLLECT)) == (0, 0)
    assert project.net.perform() == 0
    project.insert(1)
    project.tick()
    assert (project.one(POST), project.one(COLLECT)) == (0, 0)
    assert project.one("SELECT count(*) FROM net._http_response") == 0  # read, and deleted


def test_a_row_that_changes_in_flight_gets_the_newest_vector(project: Project) -> None:
    project.connection.execute("INSERT INTO documents (body) VALUES ('old'), ('gone'), ('kept')")
    project.one(POST)
    project.net.perform()
    project.connection.execute("UPDATE documents SET body = 'new' WHERE body = 'old'")
    project.connection.execute("DELETE FROM documents WHERE body = 'gone'")
    assert project.one(COLLECT) == 1
    assert project.one("SELECT body FROM documents WHERE embedding IS NOT NULL") == "kept"
    project.fill()
    assert project.filling.assert_filled("documents") == 2


def test_a_row_that_somebody_is_writing_is_not_waited_for(project: Project) -> None:
    project.connection.execute("INSERT INTO documents (body) VALUES ('held'), ('free')")
    project.one(POST)
    project.net.perform()
    with project.filling.connect() as other, other.transaction():
        other.execute("UPDATE documents SET title = 'busy' WHERE body = 'held'")
        assert project.one(COLLECT) == 1
    project.fill()
    assert project.filling.assert_filled("documents") == 2


def test_answers_that_are_lost_are_asked_for_again(project: Project) -> None:
    """pg_net's tables are empty after a crash, and its ids begin again."""
    project.insert(BATCH)
    project.one(POST)
    project.net.perform()
    project.connection.execute("TRUNCATE net._http_response, net.http_request_queue")
    project.connection.execute("ALTER SEQUENCE net.http_request_queue_id_seq RESTART")
    assert (project.one(COLLECT), project.one(POST)) == (0, 0)
    project.insert(1)
    project.tick()  # its request has the id of the lost one
    assert [rows for _, rows, _ in project.posts()] == [None, 1]
    project.fill()
    assert [error for _, _, error in project.posts()] == ["no answer came", None, None]
    assert project.filling.assert_filled("documents") == BATCH + 1


def test_a_tick_that_overlaps_another_does_nothing_twice(project: Project) -> None:
    project.insert(4 * BATCH)
    with project.filling.connect() as other, other.transaction():
        assert other.execute(POST).fetchone() == (2,)
        assert project.one(POST) == 0
    assert project.one(POST) == 0  # as many are in flight as may be
    project.net.perform()
    with project.filling.connect() as other, other.transaction():
        assert other.execute(COLLECT).fetchone() == (2 * BATCH,)
        assert project.one(COLLECT) == 0
    project.fill()
    assert [rows for _, rows, _ in project.posts()] == 4 * [BATCH]
    assert project.filling.assert_filled("documents") == 4 * BATCH


def test_many_ticks_at_once_lose_nothing_while_rows_change(project: Project) -> None:
    project.insert(3 * BATCH)
    stop = threading.Event()
    failures: list[Exception] = []

    def repeat(statement: str) -> None:
        with project.filling.connect() as connection:
            while not stop.wait(0.05):
                try:
                    connection.execute(statement)
                except psycopg.Error as error:
                    failures.append(error)

    jobs = [threading.Thread(target=repeat, args=[job]) for job in (POST, POST, COLLECT, COLLECT)]
    with project.net.working():
        for job in jobs:
            job.start()
        try:
            for number in range(30):
                project.connection.execute(
                    "UPDATE documents SET body = %s WHERE id = %s",
                    [f"new {number}", 1 + 5 * number],
                )
                project.connection.execute("DELETE FROM documents WHERE id = %s", [3 + 5 * number])
            wait_until_filled(project.connection)
        finally:
            stop.set()
            for job in jobs:
                job.join()
    assert not failures
    assert project.filling.assert_filled("documents") == 3 * BATCH - 30


def test_titles_and_composite_keys_go_along(project: Project) -> None:
    project.connection.execute(
        "CREATE TABLE notes (a int, b text, title text, body text, PRIMARY KEY (a, b))"
    )
    project.connection.execute(
        "INSERT INTO notes VALUES (1, 'x', 'one', 'two'), (1, 'y', NULL, 'b')"
    )
    project.filling.set_up("notes", "--text", "body", "--title", "title")
    request = project.one("SELECT embedding_api.claim_post(2)")
    assert request["body"] == {
        "texts": ["b", "two"], "title": [None, "one"], "task": "document", "dimensions": 384,
    }  # fmt: skip
