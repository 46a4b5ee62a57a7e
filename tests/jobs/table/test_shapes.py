"""Tables of every shape: keys, partitions, templates, functions."""

import psycopg
import pytest

from embedder.errors import DimensionsError, TitleError
from jobs import embed_table
from jobs.errors import UsageError
from tests.jobs.table.filling import DOCUMENTS, SIZE, Filling

KEYS = {
    "uuid": "gen_random_uuid()",
    "timestamptz": "now() + n * interval '1 microsecond'",
    "date": "date '2020-01-01' + n",
    "numeric": "n / 3.0",
    "float8": "n / 3.0",
    "bytea": r"decode(lpad(to_hex(n), 4, '0'), 'hex')",
    "text": "'quoted '' \" \\ ' || repeat('k', 2000) || n",
    "char(4)": "n::text",
    "inet": "inet '10.0.0.0' + n",
    "interval": "n * interval '1 day 3 seconds'",
    "boolean": "n = 1",
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_may_be_of_any_type(
    filling: Filling, connection: psycopg.Connection, kind: str
) -> None:
    connection.execute(f"CREATE TABLE documents (id {kind} PRIMARY KEY, body text)")
    filling.set_up("documents", "--text", "body")
    connection.execute("SET datestyle = 'SQL, DMY'; SET bytea_output = 'escape'")
    connection.execute(
        f"INSERT INTO documents SELECT {KEYS[kind]}, 'text ' || n FROM generate_series(1, 2) n"
    )
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 2


def test_keys_of_several_columns(filling: Filling, connection: psycopg.Connection) -> None:
    connection.execute('CREATE SCHEMA "My app"')
    connection.execute(
        'CREATE TABLE "My app"."Doc""s" ("the id" int, body text, tenant uuid, '
        'PRIMARY KEY (tenant, "the id"))'
    )
    filling.set_up('"My app"."Doc""s"', "--text", "body")
    connection.execute(
        'INSERT INTO "My app"."Doc""s" SELECT n % 10, \'text \' || n, '
        "('00000000-0000-0000-0000-00000000000' || n / 10)::uuid FROM generate_series(0, 29) n"
    )
    assert filling.fill() == 0
    assert filling.assert_filled('"My app"."Doc""s"') == 30


def test_a_key_that_changes_takes_its_row_along(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('one')")
    documents.execute("UPDATE documents SET id = DEFAULT")
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 1


def test_rows_of_partitions_are_filled_wherever_they_go(
    filling: Filling, connection: psycopg.Connection
) -> None:
    connection.execute(
        "CREATE TABLE documents (id bigint, year int, body text, PRIMARY KEY (id, year)) "
        "PARTITION BY LIST (year)"
    )
    for year in (2024, 2025):
        connection.execute(f"CREATE TABLE y{year} PARTITION OF documents FOR VALUES IN ({year})")
    filling.set_up("documents", "--text", "body")
    filling.set_up("documents", "--text", "body")
    connection.execute("CREATE TABLE y2026 PARTITION OF documents FOR VALUES IN (2026)")
    connection.execute(
        "INSERT INTO documents VALUES (1, 2024, 'a'), (2, 2025, 'b'), (3, 2026, 'c')"
    )
    connection.execute("INSERT INTO y2025 VALUES (4, 2025, 'd')")
    connection.execute("UPDATE documents SET year = 2026 WHERE id = 1")
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 4
    connection.execute("UPDATE documents SET year = 2024, body = 'e' WHERE id = 3")
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 4
    found = connection.execute(
        "SELECT id FROM search_documents((SELECT embedding FROM documents WHERE id = 4), 1)"
    ).fetchall()
    assert found == [(4,)]


def test_columns_are_joined_by_a_template(filling: Filling, connection: psycopg.Connection) -> None:
    connection.execute(DOCUMENTS)
    filling.set_up("documents", "--template", r"{title}: 100%\n{body}")
    connection.execute(
        "INSERT INTO documents (title, body) VALUES ('one', 'a'), (NULL, 'b'), ('three', NULL)"
    )
    assert filling.fill() == 0
    text = "coalesce(title, '') || E': 100%\\n' || coalesce(body, '')"
    assert filling.assert_filled("documents", text) == 3
    connection.execute("UPDATE documents SET title = 'two' WHERE title IS NULL")
    assert filling.fill() == 0
    assert filling.assert_filled("documents", text) == 3


def test_a_function_of_the_row_may_say_what_is_embedded(
    filling: Filling, connection: psycopg.Connection
) -> None:
    connection.execute(DOCUMENTS)
    connection.execute("ALTER TABLE documents ADD COLUMN seen json")
    connection.execute(
        "CREATE FUNCTION text_of(d documents) RETURNS text LANGUAGE sql STABLE "
        "AS $$ SELECT upper(d.title) || ' ' || d.body $$"
    )
    filling.set_up("documents", "--function", "public.text_of")
    connection.execute("INSERT INTO documents (title, body) VALUES ('one', 'a'), ('two', 'b')")
    assert filling.fill() == 0
    assert filling.assert_filled("documents", "text_of(documents)") == 2
    connection.execute("UPDATE documents SET body = 'c' WHERE title = 'one'")
    assert filling.fill() == 0
    assert filling.assert_filled("documents", "text_of(documents)") == 2


def test_a_title_or_size_that_the_model_does_not_have_is_told_by_the_set_up(
    filling: Filling, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.execute(DOCUMENTS)
    monkeypatch.setattr(embed_table, "prepared", lambda _: filling.model.profile)
    with pytest.raises(TitleError, match="only documents have a title"):
        filling.set_up("documents", "--text", "body", "--title", "title")
    with pytest.raises(DimensionsError, match=str(SIZE)):
        filling.command("documents", "--setup", "--text", "body", "--dimensions", "100")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--title", "title", "--dimensions", str(SIZE)), "embedding: only documents have a title"),
        (("--dimensions", "100"), f"embedding: .*{SIZE}"),
    ],
    ids=["title", "size"],
)
def test_a_worker_says_what_its_model_does_not_have(
    filling: Filling,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    said: str,
) -> None:
    connection.execute(DOCUMENTS)
    monkeypatch.setattr(embed_table, "prepared", lambda _: None)
    assert filling.command("documents", "--setup", "--text", "body", *options) == 0
    with pytest.raises(UsageError, match=said):
        filling.fill()
