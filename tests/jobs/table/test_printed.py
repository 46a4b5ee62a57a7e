"""The documents' commands fill a column."""

import subprocess
from pathlib import Path

import psycopg

from lab.server import ROOT, bare_environment
from tests.jobs.table.filling import DOCUMENTS, Filling
from tests.printed import blocks


def commands() -> list[str]:
    """The lines that the page on Supabase gives for a filled column, without the database's URL."""
    remark = f"checked by {Path(__file__).resolve().relative_to(ROOT)}"
    [block] = [block for block in blocks(ROOT / "docs" / "supabase.md") if block.remark == remark]
    _, *lines = block.text.splitlines()
    return lines


def test_the_commands_of_the_page_fill_a_column(
    filling: Filling, connection: psycopg.Connection
) -> None:
    connection.execute(DOCUMENTS)
    connection.execute("INSERT INTO documents (title, body) VALUES ('one', 'a'), ('two', 'b')")
    set_up, work = commands()
    environment = bare_environment() | {"DATABASE_URL": filling.url, "MODEL_QUANTIZATION": "fp32"}
    for command in (set_up, f'{work} ARGS="--once"'):
        subprocess.run(
            ["bash", "-euc", command],
            cwd=ROOT,
            env=environment,
            check=True,
            timeout=300,
        )
    assert filling.assert_filled("documents", "title || E'\\n' || body") == 2
