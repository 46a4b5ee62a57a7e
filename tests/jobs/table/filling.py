"""Tables that are set up, workers over them, and whether every row has the vector of its text."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bentoml
import numpy as np
import psycopg
from numpy.typing import NDArray

from embedder.model import EmbeddingModel
from embedder.prepare import store
from embedder.profile import Profile
from jobs import embed_table
from jobs.embedding import Engine
from jobs.output.database import Database
from jobs.table.run import Options, Worker
from lab.server import SOURCE, bare_environment

SIZE = 384  # of the starter model
DOCUMENTS = (
    "CREATE TABLE documents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "title text, body text)"
)
PATIENCE = 60.0  # seconds


def starter_engine() -> Engine:
    """The prepared starter model, on one thread."""
    found = store.find("all-minilm-l6-v2-fp32")
    assert found
    directory = Path(bentoml.models.get(found[0]).path)
    fingerprint = Profile.load(directory).fingerprint
    return Engine(directory, fingerprint, threads=1, max_tokens=256, batch_tokens=256)


@dataclass(frozen=True)
class Filling:
    """A database of a test's own, and the model that fills it."""

    url: str
    engine: Engine
    model: EmbeddingModel

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True)

    def command(self, *arguments: str) -> int:
        """The exit status of a command that needs no model."""
        return embed_table.main([*arguments, "--database", self.url, "--quiet"])

    def set_up(self, *arguments: str) -> None:
        assert self.command(*arguments, "--setup", "--dimensions", str(SIZE)) == 0

    def fill(self, url: str | None = None, *, lease: float = 60.0) -> int:
        """A worker until nothing waits."""
        options = Options((), once=True, lease=lease, niceness=0, metrics_port=None)
        return Worker(Database(url or self.url, ()), self.engine, options, lambda _: None).run()

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """Of the bare engine, as halfvec holds them."""
        return self.model.embed(texts).astype(np.float16)

    def assert_filled(self, table: str, text: str = "body") -> int:
        """Every row has the vector of its present text, to the bit. Returns the number of rows."""
        with self.connect() as connection:
            rows = connection.execute(
                f"SELECT coalesce({text}, ''), embedding::text, embedding_fingerprint FROM {table}"
            ).fetchall()
            left = connection.execute("SELECT count(*) FROM embedding_api.queue").fetchone()
        assert left == (0,)
        assert {row[2] for row in rows} <= {self.engine.fingerprint}
        texts = [row[0] for row in rows if row[0].strip()]
        stored = [parsed(row[1]) for row in rows if row[0].strip()]
        assert all(row[1] is None for row in rows if not row[0].strip())
        if texts:
            assert np.array_equal(np.array(stored), self.vectors(texts))
        return len(rows)


def parsed(vector: str) -> NDArray[np.float16]:
    assert vector is not None
    return np.array(vector[1:-1].split(","), np.float32).astype(np.float16)


@contextmanager
def worker(url: str, *arguments: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker in a process of its own; killed at the end if it still runs."""
    environment = bare_environment() | {
        "DATABASE_URL": url,
        "MODEL_QUANTIZATION": "fp32",
        "BENTOML_HOME": os.environ["BENTOML_HOME"],
    }
    command = [sys.executable, "-m", "jobs.embed_table", "--threads", "1", *arguments]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=SOURCE, env=environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)


def wait_until_filled(connection: psycopg.Connection) -> None:
    """Until no row waits."""
    deadline = time.monotonic() + PATIENCE
    while connection.execute("SELECT count(*) FROM embedding_api.queue").fetchone() != (0,):
        assert time.monotonic() < deadline, connection.execute(
            "SELECT * FROM embedding_api.queue LIMIT 3"
        ).fetchall()
        time.sleep(0.05)
