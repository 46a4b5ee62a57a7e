"""Every example runs as its reader runs it."""

import sys
from pathlib import Path

import psycopg
import pytest

from lab.server import ROOT, Server
from tests.live.programs import run
from tests.printed import blocks

EXAMPLES = ROOT / "examples"
SEARCH = ROOT / "docs" / "search.md"

from_source = pytest.mark.parametrize("server", ["source"], indirect=True)


def test_the_bentoml_example_runs(server: Server) -> None:
    first, second = run(sys.executable, EXAMPLES / "bentoml_client.py", server.url).splitlines()
    assert " 384 [" in first
    assert second.startswith("2 {")


@from_source
def test_the_openai_example_runs(server: Server) -> None:
    lines = run(sys.executable, EXAMPLES / "openai_client.py", server.url).splitlines()
    assert [line.split("[")[0] for line in lines[:2]] == ["0 384 ", "1 384 "]


@from_source
def test_the_langchain_example_finds_the_nearest_passage(server: Server) -> None:
    nearest, _ = run(sys.executable, EXAMPLES / "langchain_client.py", server.url).splitlines()
    assert nearest == "Someone plays an instrument"


def test_the_langchain_example_uses_the_prompts_there_are(gemma_server: Server) -> None:
    assert (
        len(run(sys.executable, EXAMPLES / "langchain_client.py", gemma_server.url).splitlines())
        == 2
    )


@from_source
def test_the_llamaindex_example_scores_the_nearest_passage_highest(server: Server) -> None:
    lines = run(sys.executable, EXAMPLES / "llamaindex_client.py", server.url).splitlines()
    assert max(lines, key=lambda line: float(line.split()[0])).endswith(
        "Someone plays an instrument"
    )


@from_source
def test_the_javascript_example_runs(server: Server, javascript: Path) -> None:
    lines = run("node", javascript / "openai_client.mjs", server.url).splitlines()
    assert [line.split("[")[0] for line in lines[:2]] == ["0 384 ", "1 384 "]


def test_the_printed_table_has_the_bits_of_the_service(
    gemma_server: Server, database_url: str
) -> None:
    """pgvector's own bits of a stored vector are those of `"encoding_format": "binary"`."""
    _, schema = (block.text for block in blocks(SEARCH) if block.language == "sql")
    with gemma_server.client() as client:
        answers = {
            encoding: client.post(
                "/embed", json={"text": "Mars", "encoding_format": encoding}
            ).json()["embedding"]
            for encoding in ("float", "binary")
        }
    expected = "".join(f"{byte:08b}" for byte in answers["binary"])
    with psycopg.connect(database_url) as database:
        database.execute(schema.encode())
        database.execute(
            "insert into documents (text, embedding) values ('Mars', %s)", [str(answers["float"])]
        )
        [(bits,)] = database.execute("select bits::text from documents").fetchall()
    assert bits == expected
