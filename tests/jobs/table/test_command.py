"""The options of the command, and what it does without a worker."""

import psycopg
import pytest

from jobs import embed_table
from jobs.errors import UsageError
from tests.jobs.table.filling import Filling


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--setup"], "go with a TABLE"),
        (["documents", "--print"], "--print goes with --setup or --teardown"),
        (["documents", "--setup", "--teardown"], "not allowed with"),
        (["--niceness", "20"], "--niceness should be 0 to 19"),
        (["--lease", "nan"], "--lease should be 1 to 3600 seconds"),
        (["--metrics-port", "0"], "--metrics-port should be 1 to 65535"),
        (["--threads", "0"], "--threads should be 1 or more"),
    ],
)
def test_options_that_cannot_work_are_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        embed_table.parse(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_database_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="no database is named: set DATABASE_URL"):
        embed_table.main([])


def test_the_status_counts_what_waits(
    filling: Filling, documents: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('one'), ('two')")
    assert filling.command("status") == 0
    said = capsys.readouterr().out
    assert said.startswith("public.documents.embedding: 2 rows wait, the oldest for ")
    assert "0 failed; model not chosen yet" in said


def test_a_change_of_model_embeds_every_row_again(
    filling: Filling, documents: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents.execute("INSERT INTO documents (body) VALUES ('one'), ('two')")
    documents.execute("UPDATE embedding_api.columns SET fingerprint = 'before'")
    documents.execute("DELETE FROM embedding_api.queue")
    with pytest.raises(UsageError, match=r"no column is filled by this model .* --reembed"):
        filling.fill()
    ours = (filling.engine.directory, filling.model.profile)
    monkeypatch.setattr(embed_table, "find_model", lambda _: ours)
    assert filling.command("documents", "--reembed") == 0
    assert filling.fill() == 0
    assert filling.assert_filled("documents") == 2
