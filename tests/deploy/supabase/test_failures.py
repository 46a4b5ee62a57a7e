"""What is refused or not answered: rows wait, and only those at fault are given up."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import psycopg
import pytest

from lab.pg_net import PgNet
from lab.server import free_port
from lab.service_keys import OTHER_KEY
from tests.deploy.supabase.project import BATCH, COLLECT, POST, Project
from tests.jobs.remote.stub_service import served
from tests.jobs.table.filling import PATIENCE


@contextmanager
def answering(
    project: Project, status: int, body: bytes = b"", **headers: str
) -> Iterator[list[str]]:
    """Another service that answers every request so; gives the paths that were asked for."""
    asked = []

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        asked.append(handler.path)
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    url = project.one("SELECT secret FROM vault.secrets WHERE name = 'embedding_api_url'")
    with served(answer) as other:
        project.secret("embedding_api_url", other)
        yield asked
    project.secret("embedding_api_url", url)


def test_after_a_limit_requests_wait_as_long_as_the_service_says(project: Project) -> None:
    project.secret("embedding_api_key", OTHER_KEY)
    project.insert(2 * BATCH)
    project.tick()
    assert [status for status, _, _ in project.posts()] in ([200, 429], [429, 200])
    assert (project.one(POST), project.net.perform()) == (0, 0)
    seconds = project.one(
        "SELECT extract(epoch FROM resume_at - finished_at)::integer FROM embedding_api.posts "
        "WHERE status = 429"
    )
    assert 1 <= seconds <= 60
    attempts, error = project.connection.execute(
        "SELECT max(attempts), min(last_error) FROM embedding_api.queue"
    ).fetchone() or (None, None)
    assert (attempts, error.startswith("429 quota_requests: ")) == (1, True)


@pytest.mark.parametrize(
    ("status", "body", "headers", "seconds"),
    [
        (503, b"", {"Retry_After": "17"}, 17),
        (503, b"", {"retry_after": "99999"}, 300),
        (502, b"<html>a proxy's page</html>", {}, 5),
        (404, b"[]", {"Retry_After": "tomorrow"}, 5),
        (200, b"<html>a page for browsers</html>", {}, 5),
        (200, b'{"embeddings": [[1]], "dimensions": 1, "fingerprint": "x", "empty": []}', {}, 5),
    ],
)
def test_a_service_that_does_not_embed_is_asked_again_and_costs_no_row(
    project: Project, status: int, body: bytes, headers: dict[str, str], seconds: int
) -> None:
    project.insert(1)
    with answering(project, status, body, **headers) as asked:
        project.tick()
        assert project.one(POST) == 0
        assert seconds == project.one(
            "SELECT round(extract(epoch FROM resume_at - finished_at)) FROM embedding_api.posts"
        )
        for _ in range(9):
            project.later()
            project.tick()
    assert asked == 10 * ["/batch-embed"]
    project.later()
    project.fill()
    assert project.filling.assert_filled("documents") == 1


def test_a_service_that_is_away_is_asked_less_and_less_often(project: Project) -> None:
    project.insert(2 * BATCH)
    project.secret("embedding_api_url", f"http://127.0.0.1:{free_port()}/")
    pauses = []
    for _ in range(6):
        project.tick()
        pauses.append(
            project.one(
                "SELECT extract(epoch FROM resume_at - finished_at)::integer "
                "FROM embedding_api.posts ORDER BY id DESC LIMIT 1"
            )
        )
        project.later()
    assert pauses[:2] == [10, 40]  # of two requests at a time
    assert pauses[-2:] == [300, 300]
    assert project.one("SELECT count(*) FROM embedding_api.queue WHERE dead_at IS NOT NULL") == 0


def test_a_text_that_the_service_refuses_is_given_up_and_holds_up_no_other(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.connection.execute("INSERT INTO documents (body) VALUES (repeat('large ', 12000))")
    project.insert(10)
    project.fill()
    assert project.one("SELECT count(*) FROM documents WHERE embedding IS NULL") == 1
    assert project.filling.command("status") == 3
    said = capsys.readouterr().out
    assert "1 failed" in said
    assert 'documents.embedding {"id": 1}: 413 body_too_large: ' in said
    project.connection.execute("UPDATE documents SET body = 'short' WHERE id = 1")
    project.fill()
    assert project.filling.assert_filled("documents") == 11


def test_a_text_that_is_too_long_is_not_sent(project: Project) -> None:
    project.connection.execute("INSERT INTO documents (body) VALUES (repeat('long ', 300000))")
    project.fill()
    assert project.posts() == []
    assert "over 1 MiB" in project.one("SELECT last_error FROM embedding_api.queue")


def test_a_text_that_ends_its_requests_is_told_from_a_service_that_is_away(
    project: Project,
) -> None:
    """A text alone that gets no answer while others do is given up."""
    net = PgNet(project.net.database, most_seconds=0.3)
    hangs = threading.Event()

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if b"hang" in body:
            hangs.wait(PATIENCE)
        handler.send_response(503)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    project.connection.execute("INSERT INTO documents (body) VALUES ('hang'), ('good')")
    url = project.one("SELECT secret FROM vault.secrets WHERE name = 'embedding_api_url'")
    with served(answer) as other:
        project.secret("embedding_api_url", other)
        for _ in range(7):  # nothing is answered, so no row is given up
            project.one(POST)
            net.perform()
            project.one(COLLECT)
            project.later()
        assert project.waiting() == 2
        error = project.one("SELECT last_error FROM embedding_api.queue ORDER BY id LIMIT 1")
        assert error == "Timeout of 300 ms reached."
        for number in range(6):
            project.one(POST)
            project.connection.execute(
                "UPDATE net.http_request_queue SET url = %s WHERE position('hang' in "
                "convert_from(body, 'UTF8')) = 0",
                [f"{url}/batch-embed"],
            )
            net.perform()
            project.one(COLLECT)
            project.connection.execute("INSERT INTO documents (body) VALUES (%s)", [f"{number}"])
            project.later()
        hangs.set()
    project.secret("embedding_api_url", url)
    project.fill()
    assert project.one("SELECT last_error FROM embedding_api.queue")
    assert project.one("SELECT body FROM documents WHERE embedding IS NULL") == "hang"


def test_vectors_of_another_model_are_not_asked_for(project: Project) -> None:
    project.insert(1)
    project.connection.execute("UPDATE embedding_api.columns SET fingerprint = 'before'")
    project.tick()
    [(status, _, error)] = project.posts()
    assert status == 409
    assert error
    assert error.startswith("409 fingerprint_mismatch: ")
    assert project.waiting() == 1


def test_a_task_that_the_model_does_not_have_is_said_and_costs_no_row(project: Project) -> None:
    project.insert(1)
    project.connection.execute("UPDATE embedding_api.columns SET task = 'document'")
    for _ in range(7):
        project.tick()
        project.later()
    [*_, (status, _, error)] = project.posts()
    assert status == 422
    assert error
    assert error.startswith("422 task_unknown: ")
    project.connection.execute("UPDATE embedding_api.columns SET task = NULL")
    project.fill()
    assert project.filling.assert_filled("documents") == 1


def test_a_row_that_the_table_does_not_take_holds_up_no_other(project: Project) -> None:
    project.connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'not today'; END $$"
    )
    project.connection.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON documents FOR EACH ROW WHEN (old.id = 3) "
        "EXECUTE FUNCTION refuse()"
    )
    project.insert(9)
    project.tick()
    assert project.posts() == [(200, 8, None)]
    project.fill()
    [(key, error)] = project.connection.execute(
        "SELECT key, last_error FROM embedding_api.queue WHERE dead_at IS NOT NULL"
    ).fetchall()
    assert (key, error) == ({"id": 3}, "not today")


def test_a_column_that_was_renamed_gives_its_rows_up_with_the_reason(project: Project) -> None:
    project.insert(1)
    project.connection.execute("ALTER TABLE documents RENAME body TO text")
    project.fill()
    assert (
        project.one("SELECT last_error FROM embedding_api.queue") == "column t.body does not exist"
    )


def test_a_row_whose_text_cannot_be_read_holds_up_no_other(project: Project) -> None:
    project.connection.execute(
        "CREATE FUNCTION text_of(documents) RETURNS text IMMUTABLE LANGUAGE sql "
        "RETURN $1.body || 1 / length($1.title)"
    )
    project.filling.set_up("documents", "--function", "public.text_of")
    project.connection.execute("UPDATE embedding_api.columns SET task = NULL")
    project.connection.execute(
        "INSERT INTO documents (title, body) SELECT CASE WHEN n = 3 THEN '' ELSE 'a' END, 'text ' "
        "FROM generate_series(1, 9) n"
    )
    project.tick()
    assert project.posts() == [(200, 8, None)]
    [(key, error)] = project.connection.execute(
        "SELECT key, last_error FROM embedding_api.queue"
    ).fetchall()
    assert (key, error) == ({"id": 3}, "division by zero")


def test_a_column_that_was_set_up_without_functions_is_said(project: Project) -> None:
    project.connection.execute("UPDATE embedding_api.columns SET name = 'public.old.embedding'")
    with pytest.raises(psycopg.Error, match="no functions of public"):
        project.run("posts.sql")


@pytest.mark.parametrize("name", ["embedding_api_url", "embedding_api_key"])
def test_a_secret_that_is_missing_is_said(project: Project, name: str) -> None:
    project.connection.execute("DELETE FROM vault.secrets WHERE name = %s", [name])
    with pytest.raises(psycopg.Error, match=f"Vault has no secret {name}") as missing:
        project.one(POST)
    assert missing.value.diag.message_hint == f"Run: select vault.create_secret('...', '{name}');"
