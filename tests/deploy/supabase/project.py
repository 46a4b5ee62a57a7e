"""A database as Supabase has it, with a table that is filled by SQL alone."""

import time
from dataclasses import dataclass
from typing import Any

import psycopg

from lab.pg_net import PgNet
from lab.server import ROOT
from tests.jobs.table.filling import DOCUMENTS, PATIENCE, Filling

FOLDER = ROOT / "deploy" / "supabase"
BATCH = 64  # texts of a request
POST, COLLECT = "SELECT embedding_api.post()", "SELECT embedding_api.collect()"
# As though an hour had gone by: leases have ended, and what waits is ready.
LATER = (
    "UPDATE embedding_api.posts SET leased_until = leased_until - interval '1 hour', "
    "resume_at = resume_at - interval '1 hour' WHERE finished_at IS NULL OR resume_at IS NOT NULL",
    "UPDATE embedding_api.queue SET ready_at = ready_at - interval '1 hour'",
)


@dataclass(frozen=True)
class Project:
    """One database, a connection to it, and the worker of its pg_net."""

    filling: Filling
    connection: psycopg.Connection
    net: PgNet

    def run(self, file: str) -> None:
        """Run a file of deploy/supabase."""
        self.connection.execute((FOLDER / file).read_bytes())

    def secret(self, name: str, value: str) -> None:
        self.connection.execute("DELETE FROM vault.secrets WHERE name = %s", [name])
        self.connection.execute("SELECT vault.create_secret(%s, %s)", [value, name])

    def one(self, query: str, *values: object) -> Any:
        """The single value that a query finds."""
        [(value,)] = self.connection.execute(query, values).fetchall()
        return value

    def insert(self, rows: int) -> None:
        self.connection.execute(
            "INSERT INTO documents (body) SELECT 'text ' || n FROM generate_series(1, %s) n", [rows]
        )

    def tick(self) -> None:
        """What the two jobs and pg_net do once."""
        self.one(POST)
        self.net.perform()
        self.one(COLLECT)

    def later(self) -> None:
        for statement in LATER:
            self.connection.execute(statement)

    def fill(self) -> None:
        """Tick until no row waits, however long the pauses are."""
        deadline = time.monotonic() + PATIENCE
        while self.waiting():
            assert time.monotonic() < deadline, self.one(
                "SELECT json_agg(p) FROM (SELECT * FROM embedding_api.posts ORDER BY id DESC "
                "LIMIT 3) p"
            )
            self.tick()
            self.later()

    def waiting(self) -> int:
        return int(self.one("SELECT count(*) FROM embedding_api.queue WHERE dead_at IS NULL"))

    def posts(self) -> list[tuple[int | None, int | None, str | None]]:
        """Status, rows written and error of each request, in their order."""
        return self.connection.execute(
            "SELECT status, rows, error FROM embedding_api.posts ORDER BY id"
        ).fetchall()


def prepare(filling: Filling, connection: psycopg.Connection) -> Project:
    """A database with the table `documents`, whose column `body` is embedded."""
    net = PgNet(filling.url)
    net.install()
    connection.execute(DOCUMENTS)
    filling.set_up(
        "documents", "--text", "body"
    )  # with no model prepared, it is for EmbeddingGemma
    connection.execute("UPDATE embedding_api.columns SET task = NULL")
    project = Project(filling, connection, net)
    project.run("posts.sql")
    project.run("answers.sql")
    return project
