"""The search function finds what its caller may see."""

from collections.abc import Iterator

import psycopg
import pytest

from jobs.errors import UsageError
from tests.jobs.table.filling import Filling

ROWS = 400


@pytest.fixture
def reader(documents: psycopg.Connection) -> Iterator[str]:
    """A role that a policy shows few of many rows."""
    role = f"reader_{documents.info.backend_pid}"
    documents.execute(f"CREATE ROLE {role}")
    documents.execute(f"GRANT SELECT ON documents TO {role}")
    documents.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    documents.execute(
        f"CREATE POLICY own ON documents FOR SELECT TO {role} USING (title = 'public')"
    )
    yield role
    documents.execute(f"DROP OWNED BY {role}")
    documents.execute(f"DROP ROLE {role}")


def test_a_search_finds_the_nearest_rows_that_policies_show(
    filling: Filling, documents: psycopg.Connection, reader: str
) -> None:
    documents.execute(
        "INSERT INTO documents (title, body) "
        "SELECT CASE WHEN n % 40 = 0 THEN 'public' ELSE 'secret' END, 'text number ' || n "
        f"FROM generate_series(1, {ROWS}) n"
    )
    assert filling.fill() == 0
    [(query,)] = documents.execute(
        "SELECT embedding::text FROM documents WHERE title = 'secret' LIMIT 1"
    ).fetchall()
    with documents.transaction():
        documents.execute(f"SET LOCAL ROLE {reader}")
        documents.execute("SET LOCAL enable_seqscan = off")
        found = documents.execute(
            "SELECT id, body, similarity FROM search_documents(%s::halfvec, 10)", [query]
        ).fetchall()
    assert sorted(row[0] for row in found) == [40 * n for n in range(1, 11)]
    assert [row[2] for row in found] == sorted((row[2] for row in found), reverse=True)
    everything = documents.execute(
        "SELECT similarity FROM search_documents(%s::halfvec, 1)", [query]
    ).fetchall()
    assert everything[0][0] == pytest.approx(1, abs=1e-3)


def test_a_search_may_ask_for_vectors_of_one_model_alone(
    filling: Filling, documents: psycopg.Connection
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('old'), ('new')")
    filling.fill()
    documents.execute("UPDATE documents SET embedding_fingerprint = 'before' WHERE body = 'old'")
    search = (
        "SELECT body FROM search_documents("
        "(SELECT embedding FROM documents WHERE body = 'old'), 10, %s)"
    )
    found = documents.execute(search, [filling.engine.fingerprint]).fetchall()
    assert found == [("new",)]
    assert len(documents.execute(search, [None]).fetchall()) == 2


def test_a_worker_that_does_not_see_every_row_refuses_to_work(
    filling: Filling, documents: psycopg.Connection, reader: str
) -> None:
    """It would take the rows that a policy hides for deleted ones."""
    documents.execute(f"ALTER ROLE {reader} LOGIN")
    documents.execute(f"GRANT USAGE ON SCHEMA embedding_api TO {reader}")
    documents.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA embedding_api TO {reader}"
    )
    with pytest.raises(UsageError, match="policies hide rows from this role"):
        filling.fill(filling.url.replace("user=postgres", f"user={reader}"))
