"""The search example over its own table and over loaded ones, as its reader runs it."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from lab.server import ROOT, Server, bare_environment, token
from tests.jobs.pooler import PASSWORD, pooled
from tests.live import bulk

PASSAGES = {
    "music": "The guitarist tuned her strings before the show.",
    "money": "The central bank raised interest rates to slow inflation.",
    "bread": "Knead the dough, let it rise, then bake the bread for forty minutes.",
    "sport": "The striker scored twice and the home team won the match.",
}

from_source = pytest.mark.parametrize("server", ["source"], indirect=True)


def search(
    question: str, server: Server, database_url: str, *options: str, password: str = ""
) -> "subprocess.CompletedProcess[str]":
    environment = {"JWT_TOKEN": token(), "DATABASE_URL": database_url, "PGPASSWORD": password}
    return subprocess.run(
        [sys.executable, "examples/semantic_search.py", question, server.url, *options],
        cwd=ROOT,
        env=bare_environment() | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def found(ran: "subprocess.CompletedProcess[str]") -> list[str]:
    assert ran.returncode == 0, ran.stderr
    return [line.split(" ", 1)[1] for line in ran.stdout.splitlines()]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "passages.csv"
    rows = "".join(f'{key};"{text}"\n' for key, text in PASSAGES.items())
    path.write_text(f"id;body\n{rows}")
    return path


def load(corpus: Path, database_url: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    options = ("--id", "id", "--text", "body", "--table", "passages")
    more = {"DATABASE_URL": database_url} | environment
    name = environment.get("MODEL_NAME", "starter").rpartition("/")[2]
    return bulk.run("embed_dataset", corpus, corpus.parent / name, *options, more=more)


@from_source
@pytest.mark.parametrize(
    ("question", "right"),
    [
        ("Who plays music?", {"The guitarist tuned", "An orchestra rehearses"}),
        ("How do I make bread?", {"Knead the dough"}),
        ("Why did borrowing become more expensive?", {"The central bank"}),
        ("renewable energy", {"Solar panels"}),
    ],
)
def test_the_example_finds_the_right_passages(
    server: Server, database_url: str, question: str, right: set[str]
) -> None:
    first = found(search(question, server, database_url))[: len(right)]
    assert all(any(text.startswith(start) for start in right) for text in first), first


@from_source
def test_a_loaded_table_is_searched_as_the_load_says(
    server: Server, database_url: str, corpus: Path
) -> None:
    search("Who plays music?", server, database_url)  # whose table is another one
    ran = load(corpus, database_url)
    assert ran.returncode == 0, ran.stderr
    assert "4 rows loaded into passages; search them: JWT_TOKEN=... DATABASE_URL=..." in ran.stdout
    assert "python examples/semantic_search.py QUESTION --table passages" in ran.stdout
    nearest, *_ = found(search("Who won?", server, database_url, "--table", "passages"))
    assert nearest == PASSAGES["sport"]
    again = load(corpus, database_url)
    assert again.stdout.startswith("0 texts")
    assert "4 rows were finished before this run\n4 rows loaded into passages" in again.stdout


@from_source
def test_the_example_works_through_a_transaction_pooler(server: Server, database_url: str) -> None:
    with pooled(database_url) as pooler:
        nearest, *_ = found(search("How do I make bread?", server, pooler.url, password=PASSWORD))
    assert nearest == PASSAGES["bread"]


@from_source
def test_a_model_of_another_size_is_told_in_one_line(
    server: Server,
    gemma_server: Server,
    gemma_directory: Path,
    database_url: str,
    corpus: Path,
) -> None:
    found(search("Who won?", server, database_url))
    assert load(corpus, database_url).returncode == 0
    for options in ((), ("--table", "passages")):
        ran = search("Who won?", gemma_server, database_url, *options)
        assert ran.returncode == 1
        assert "holds vectors of another model than the service's: drop it, or" in ran.stderr
        assert len(ran.stderr.splitlines()) == 1
    ran = load(corpus, database_url, MODEL_NAME=str(gemma_directory))
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
    assert "is halfvec(384), and vectors have 768 dimensions: give another --table" in ran.stderr
    with psycopg.connect(database_url) as database:
        database.execute("DROP TABLE example_passages")
    assert len(found(search("Who won?", gemma_server, database_url))) == 3
    with psycopg.connect(database_url) as database:
        database.execute("DROP TABLE example_passages")


@from_source
@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (None, 'relation "other" does not exist'),
        ("id int, embedding halfvec(384)", 'column "fingerprint" does not exist'),
    ],
)
def test_a_table_that_cannot_be_searched_is_told_in_one_line(
    server: Server, database_url: str, schema: str | None, told: str
) -> None:
    with psycopg.connect(database_url) as database:
        database.execute("CREATE EXTENSION IF NOT EXISTS vector")
        database.execute("DROP TABLE IF EXISTS other")
        if schema:
            database.execute(f"CREATE TABLE other ({schema})".encode())
    ran = search("Who won?", server, database_url, "--table", "other")
    assert ran.returncode == 1
    assert told in ran.stderr
    assert "load it with `python -m jobs.embed_dataset ... --table other`" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
