"""What the set-up makes, what it refuses, and that nothing of it is left."""

import subprocess
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from jobs import embed_table
from jobs.errors import UsageError
from tests.jobs.table.filling import DOCUMENTS, SIZE, Filling

CATALOG = """
SELECT 'relation ' || oid::regclass || ' ' || relkind::text FROM pg_class
    WHERE relnamespace::regnamespace::text !~ '^pg_|^information_schema'
UNION ALL SELECT 'column ' || attrelid::regclass || '.' || attname FROM pg_attribute
    WHERE attrelid = 'documents'::regclass AND NOT attisdropped AND attnum > 0
UNION ALL SELECT 'function ' || p.oid::regprocedure FROM pg_proc p
    WHERE p.pronamespace::regnamespace::text !~ '^pg_|^information_schema'
UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_'
"""


def catalog(connection: psycopg.Connection) -> list[tuple[str]]:
    return sorted(connection.execute(CATALOG).fetchall())


def test_a_set_up_that_is_run_again_changes_nothing(
    filling: Filling, documents: psycopg.Connection
) -> None:
    before = catalog(documents)
    documents.execute("INSERT INTO documents (body) VALUES ('one')")
    filling.fill()
    filling.set_up("documents", "--text", "body")
    assert catalog(documents) == before
    assert filling.assert_filled("documents") == 1


def test_a_tear_down_leaves_nothing(filling: Filling, connection: psycopg.Connection) -> None:
    connection.execute("CREATE EXTENSION vector")
    connection.execute(DOCUMENTS)
    before = catalog(connection)
    filling.set_up("documents", "--text", "body")
    connection.execute("INSERT INTO documents (body) VALUES ('one')")
    assert filling.command("documents", "--teardown") == 0
    assert catalog(connection) == before
    connection.execute("INSERT INTO documents (body) VALUES ('two')")


def test_a_column_that_was_there_before_stays(
    filling: Filling, connection: psycopg.Connection
) -> None:
    connection.execute("CREATE EXTENSION vector")
    connection.execute(DOCUMENTS)
    connection.execute(f"ALTER TABLE documents ADD COLUMN vec vector({SIZE})")
    before = catalog(connection)
    filling.set_up("documents", "--text", "body", "--column", "vec", "--type", "vector")
    connection.execute("INSERT INTO documents (body) VALUES ('one')")
    assert filling.fill() == 0
    assert filling.command("documents", "--teardown", "--column", "vec") == 0
    assert catalog(connection) == before
    [(filled,)] = connection.execute("SELECT vec IS NOT NULL FROM documents").fetchall()
    assert filled


def test_the_schema_stays_while_another_column_needs_it(
    filling: Filling, documents: psycopg.Connection
) -> None:
    filling.set_up("documents", "--text", "title", "--column", "titles", "--search", "by_title")
    documents.execute("INSERT INTO documents (title, body) VALUES ('one', 'two')")
    assert filling.command("documents", "--teardown", "--column", "titles") == 0
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 1


def test_a_dropped_table_is_forgotten_by_the_next_set_up(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('one')")
    documents.execute("DROP TABLE documents")
    documents.execute(DOCUMENTS)
    filling.set_up("documents", "--text", "body", "--search", "find")
    documents.execute("INSERT INTO documents (body) VALUES ('two')")
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 1


def test_a_renamed_table_goes_on(filling: Filling, documents: psycopg.Connection) -> None:
    documents.execute("ALTER TABLE documents RENAME TO papers")
    documents.execute("INSERT INTO papers (body) VALUES ('one')")
    assert filling.fill() == 0
    assert filling.assert_filled("papers") == 1


def test_the_printed_script_does_the_same(
    filling: Filling,
    connection: psycopg.Connection,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    connection.execute(DOCUMENTS)
    before = catalog(connection)
    assert filling.command("documents", "--setup", "--text", "body", "--print") == 0
    assert catalog(connection) == before
    script = tmp_path / "setup.sql"
    script.write_text(capsys.readouterr().out.replace("768", str(SIZE)))
    psql = ["psql", "--quiet", "--set", "ON_ERROR_STOP=1", "--file", str(script), filling.url]
    subprocess.run(psql, check=True, timeout=60)
    connection.execute("INSERT INTO documents (body) VALUES ('one')")
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 1
    assert filling.command("documents", "--teardown") == 0


def test_without_an_index_there_is_none_until_the_next_set_up(
    filling: Filling, connection: psycopg.Connection
) -> None:
    connection.execute(DOCUMENTS)
    filling.set_up("documents", "--text", "body", "--no-index")
    count = "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%hnsw%'"
    assert connection.execute(count).fetchone() == (0,)
    filling.set_up("documents", "--text", "body")
    assert connection.execute(count).fetchone() == (1,)


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        ("nothing", (), "there is no table nothing: write its schema too"),
        ("a_view", (), "a_view is no table"),
        ("without_key", (), "without_key has no primary key"),
        ("documents", ("--text", "bodi"), "no column 'bodi': it has id, title, body"),
        ("documents", ("--text", "body", "--template", "{body}"), "one of --text"),
        ("documents", ("--dimensions", "4001"), "halfvec of at most 4000 dimensions"),
        ("documents", ("--column", "title"), r"documents.title is text, not halfvec\(384\)"),
        ("documents", ("--search", "taken"), "there is a function public.taken already"),
    ],
)
def test_what_cannot_be_set_up_is_told_in_one_line(
    filling: Filling,
    connection: psycopg.Connection,
    table: str,
    options: tuple[str, ...],
    said: str,
) -> None:
    connection.execute(DOCUMENTS)
    connection.execute("CREATE VIEW a_view AS SELECT 1 AS id, 'x' AS body")
    connection.execute("CREATE TABLE without_key (id int, body text)")
    connection.execute("CREATE FUNCTION taken() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    arguments = [] if "--text" in options else ["--text", "body"]
    arguments += [] if "--dimensions" in options else ["--dimensions", str(SIZE)]
    with pytest.raises(UsageError, match=said) as raised:
        filling.command(table, "--setup", *arguments, *options)
    assert "\n" not in str(raised.value)


def test_what_was_never_set_up_is_told(filling: Filling, connection: psycopg.Connection) -> None:
    connection.execute(DOCUMENTS)
    with pytest.raises(UsageError, match="is not set up: run --setup first"):
        filling.command("documents", "--teardown")
    assert filling.command("status") == 0


def test_an_owner_who_is_no_superuser_sets_up_and_fills(
    filling: Filling, connection: psycopg.Connection
) -> None:
    """As on Supabase, each time through a new connection."""
    role = f"owner_{connection.info.backend_pid}"
    connection.execute("CREATE EXTENSION vector")
    connection.execute(f"CREATE ROLE {role} LOGIN")
    connection.execute(f"ALTER DATABASE {connection.info.dbname} OWNER TO {role}")
    connection.execute(f"GRANT ALL ON SCHEMA public TO {role}")
    theirs = replace(filling, url=filling.url.replace("user=postgres", f"user={role}"))
    with theirs.connect() as owner:
        owner.execute(DOCUMENTS)
        owner.execute("INSERT INTO documents (body) VALUES ('one')")
    for _ in range(2):
        theirs.set_up("documents", "--text", "body")
        assert theirs.fill() == 0
    with theirs.connect() as owner:
        found = owner.execute(
            "SELECT body FROM search_documents((SELECT embedding FROM documents), 1)"
        ).fetchall()
        assert found == [("one",)]
    assert theirs.assert_filled("documents") == 1
    assert theirs.command("documents", "--teardown") == 0
    connection.execute(f"REASSIGN OWNED BY {role} TO postgres")
    connection.execute(f"DROP OWNED BY {role}")
    connection.execute(f"DROP ROLE {role}")


def test_who_may_write_to_the_table_need_not_see_the_queue(
    filling: Filling, documents: psycopg.Connection
) -> None:
    """And cannot make the trigger, which has its owner's rights, use objects of the writer."""
    role = f"writer_{documents.info.backend_pid}"
    documents.execute(f"CREATE ROLE {role}")
    documents.execute(f"GRANT INSERT, UPDATE, SELECT ON documents TO {role}")
    with documents.transaction():
        documents.execute(f"SET LOCAL ROLE {role}")
        documents.execute("CREATE TEMP TABLE queue (name text, key jsonb, key_hash bytea)")
        documents.execute("CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (false)")
        documents.execute("SET LOCAL search_path = pg_temp, public")
        documents.execute("INSERT INTO public.documents (body) VALUES ('one')")
        documents.execute("UPDATE public.documents SET body = 'two'")
        assert documents.execute("SELECT * FROM queue").fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege), documents.transaction():
            documents.execute("SELECT * FROM embedding_api.queue")
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 1
    documents.execute("DROP OWNED BY " + role)
    documents.execute("DROP ROLE " + role)


def test_a_password_that_others_can_read_is_told_of(
    filling: Filling, documents: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = filling.url.replace("user=postgres", "user=postgres password=hush")
    assert embed_table.main(["status", "--database", shown]) == 0
    said = capsys.readouterr().err
    assert "every user of this machine can read the password in --database" in said
    assert "hush" not in said
