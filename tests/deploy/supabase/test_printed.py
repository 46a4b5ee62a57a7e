"""What the page prints fills a column, in its order."""

import os
import subprocess
from pathlib import Path

import psycopg

from lab.pg_net import PgNet
from lab.server import ROOT, Server, bare_environment
from lab.service_keys import KEY
from tests.deploy.supabase.project import Project
from tests.jobs.table.filling import DOCUMENTS, Filling
from tests.printed import blocks

PAGE = ROOT / "docs" / "without-worker.md"


def printed(language: str) -> list[str]:
    """The blocks of the page that this module checks."""
    remark = f"checked by {Path(__file__).resolve().relative_to(ROOT)}"
    found = [block for block in blocks(PAGE) if block.remark == remark]
    return [block.text for block in found if block.language == language]


def run(script: str, database: str) -> str:
    environment = bare_environment() | {"MODEL_QUANTIZATION": "fp32", "DATABASE_URL": database}
    lines = [line for line in script.splitlines() if not line.startswith("export ")]
    ran = subprocess.run(
        ["bash", "-euc", "\n".join(lines)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_commands_of_the_page_fill_a_column(
    filling: Filling, connection: psycopg.Connection, service: Server
) -> None:
    project = Project(filling, connection, PgNet(filling.url))
    project.net.install()
    connection.execute(DOCUMENTS)
    connection.execute("INSERT INTO documents (title, body) VALUES ('one', 'a'), ('two', 'b')")
    make_key, set_up, functions = printed("bash")
    jobs, call, state, end = printed("sql")

    assert "embk_" in run(make_key, filling.url)
    run(set_up, filling.url)
    run(functions, filling.url)
    for shown, actual in (("https://embeddings.example.com", service.url), ("embk_...", KEY)):
        assert shown in jobs
        jobs = jobs.replace(shown, actual)
    connection.execute(os.fsencode(jobs))
    run_jobs(project)
    assert filling.assert_filled("documents", "title || E'\\n' || body") == 2
    for query in state.splitlines():
        connection.execute(os.fsencode(query))
    assert [posted[:2] for posted in project.posts()] == [(200, 2)]

    connection.execute(os.fsencode(call))
    connection.execute(os.fsencode(end))
    left = connection.execute("SELECT jobname FROM cron.job ORDER BY jobid").fetchall()
    assert left == [("cron-log",), ("embed-function",)]


def run_jobs(project: Project) -> None:
    """Run each job once, in the order of their ids."""
    for (command,) in project.connection.execute("SELECT command FROM cron.job").fetchall():
        project.connection.execute(command)
        project.net.perform()
