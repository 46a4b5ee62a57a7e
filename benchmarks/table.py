"""Measure filled columns: throughput, latency, the service beside a worker, and faults.

    python -m benchmarks.table [--json PATH] [--quick] [--rows N]

Uses the model of MODEL_NAME and MODEL_QUANTIZATION and a PostgreSQL on this machine, which shares
its cores. `within_bar` in the results tells which targets were met. Exits with status 1 when a row
has no vector or a wrong one after the faults. Texts have 12 words on average.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from benchmarks.bulk import bare_engine
from benchmarks.corpus import texts_of
from benchmarks.report import save
from embedder.model import EmbeddingModel
from embedder.threads import available_threads
from lab.figures import percentile
from lab.models import prepared
from lab.postgres_server import PostgresServer, postgres_server
from lab.results import RESULTS
from lab.server import SOURCE, Server, serve
from settings import load_settings

WORDS = 12  # of a text on average
SINGLE_ROWS = 100  # commits to an idle worker
QUERIES = 200  # of a user, beside a worker
KILLS = 10
CHANGES = 2000  # random updates and deletes while workers are killed
CHECKED_AT_ONCE = 1000  # rows
LEAST_SHARE = 0.8  # of the bare engine's tokens per second
MOST_SECONDS = 1.0  # from commit to vector, p95
PATIENCE = 3600.0  # seconds until all rows should have vectors
COMMAND = (sys.executable, "-m", "jobs.embed_table")


class Bench:
    """A database with one filled table, and its workers."""

    def __init__(self, server: PostgresServer, log: Path) -> None:
        self.server = server
        self._log = log
        self._environment = os.environ | {"DATABASE_URL": server.url}

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.server.url, autocommit=True)

    def start(self, *options: str) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*COMMAND, *options], cwd=SOURCE, env=self._environment, stdout=log, stderr=log
            )

    def new_table(self, *, indexed: bool = True) -> None:
        with self.connect() as connection:
            connection.execute("DROP TABLE IF EXISTS documents")
            connection.execute(
                "CREATE TABLE documents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
                "body text NOT NULL)"
            )
            connection.execute("DROP FUNCTION IF EXISTS search_documents")
        index = () if indexed else ("--no-index",)
        setup = self.start("documents", "--setup", "--text", "body", *index)
        if setup.wait() != 0:
            sys.exit(f"the set-up failed:\n{self._log.read_text()}")

    def copy(self, texts: Sequence[str]) -> float:
        """Insert rows with one COPY. Returns the seconds."""
        started = time.perf_counter()
        with (
            self.connect() as connection,
            connection.cursor() as cursor,
            cursor.copy("COPY documents (body) FROM STDIN") as copy,
        ):
            for text in texts:
                copy.write_row([text])
        return time.perf_counter() - started

    def wait_until_filled(self) -> None:
        self.wait_until("SELECT NOT EXISTS (SELECT FROM embedding_api.queue WHERE dead_at IS NULL)")

    def wait_until(self, query: str) -> None:
        """Wait until a query gives true. Raises AssertionError after PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        with self.connect() as connection:
            while connection.execute(query.encode()).fetchone() != (True,):
                assert time.monotonic() < deadline, self._log.read_text()[-2000:]
                time.sleep(0.1)

    @contextmanager
    def worker(self, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
        process = self.start(*options)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def throughput(bench: Bench, directory: Path, texts: list[str]) -> dict[str, Any]:
    """Tokens per second from the worker's first row to the last, against the bare engine."""
    bare = bare_engine(directory, texts, available_threads())
    settings = load_settings()
    model = EmbeddingModel.load(directory, num_threads=1, max_tokens=settings.max_seq_length)
    encoded = model.tokenizer.encode(texts, max_tokens=model.max_tokens)
    tokens = sum(len(text.ids) for text in encoded)
    figures: dict[str, Any] = {"rows": len(texts), "tokens": tokens, "bare_engine": bare}
    for name, indexed in (("with_index", True), ("without_index", False)):
        bench.new_table(indexed=indexed)
        with bench.worker():
            bench.copy(["the first row"])
            bench.wait_until_filled()  # the worker is loaded
            copied = bench.copy(texts)
            started = time.perf_counter()
            bench.wait_until_filled()
            seconds = time.perf_counter() - started
        figures[name] = {
            "copy_seconds": copied,
            "tokens_per_second": tokens / seconds,
            "share": tokens / seconds / bare,
        }
    met = figures["without_index"]["share"] >= LEAST_SHARE
    return {**figures, "within_bar": {f"{LEAST_SHARE} of the bare engine": met}}


def latency(bench: Bench) -> dict[str, Any]:
    """Seconds from the commit of one row to its vector, of an idle worker."""
    bench.new_table()
    seconds = []
    filled = "SELECT embedding IS NOT NULL FROM documents WHERE id = %s"
    with bench.worker(), bench.connect() as connection:
        bench.copy(["the first row"])
        bench.wait_until_filled()
        for number in range(SINGLE_ROWS):
            time.sleep(random.uniform(0.05, 0.3))
            insert = "INSERT INTO documents (body) VALUES (%s) RETURNING id"
            row = connection.execute(insert, [f"row number {number}"]).fetchone()
            started = time.perf_counter()
            while connection.execute(filled, row).fetchone() != (True,):
                time.sleep(0.002)
            seconds.append(time.perf_counter() - started)
    p95 = percentile(seconds, 0.95)
    met = {f"p95 within {MOST_SECONDS} s": p95 <= MOST_SECONDS}
    return {"p50": percentile(seconds, 0.5), "p95": p95, "max": max(seconds), "within_bar": met}


def beside(bench: Bench, texts: list[str], log: Path, pack: float) -> dict[str, Any]:
    """Seconds of a user's query at the service, alone and while a worker has enough rows.

    The bound is that of benchmarks.fairness: three times the median alone and one forward pass.
    """
    bench.new_table()
    limits = {"RATE_LIMIT_PER_MIN": "1000000", **_model_settings()}
    with serve(log, limits) as server:
        alone = _queries(server)
        bench.copy(texts)
        with bench.worker():
            bench.wait_until("SELECT EXISTS (SELECT FROM embedding_api.written)")
            busy = _queries(server)
    bound = 3 * percentile(alone, 0.5) + pack
    met = {"p95 within the fairness bound": percentile(busy, 0.95) <= bound}
    return {
        "bound": bound,
        "alone": {"p50": percentile(alone, 0.5), "p95": percentile(alone, 0.95)},
        "beside_a_worker": {"p50": percentile(busy, 0.5), "p95": percentile(busy, 0.95)},
        "within_bar": met,
    }


def _model_settings() -> dict[str, str]:
    names = ("MODEL_NAME", "MODEL_QUANTIZATION", "BENTOML_HOME")
    return {name: os.environ[name] for name in names if name in os.environ}


def _queries(server: Server) -> list[float]:
    seconds = []
    with server.client() as client:
        for number in range(QUERIES):
            started = time.perf_counter()
            client.post("/embed", json={"text": f"question {number}"}).raise_for_status()
            seconds.append(time.perf_counter() - started)
            time.sleep(0.01)
    return seconds[QUERIES // 10 :]


def faults(bench: Bench, directory: Path, texts: list[str]) -> dict[str, Any]:
    """COPY while two workers run and are killed, a restart, updates and deletes; then compare."""
    bench.new_table()
    chance = random.Random()
    with ExitStack() as stack:
        workers = [bench.start("--lease", "10") for _ in range(2)]
        stack.callback(_kill, workers)
        bench.copy(texts)
        for kill in range(KILLS):
            time.sleep(chance.uniform(2, 6))
            workers[kill % 2].kill()
            workers[kill % 2].wait()
            workers[kill % 2] = bench.start("--lease", "10")
            _change(bench, chance, len(texts), CHANGES // KILLS)
            if kill == KILLS // 2:
                bench.server.restart()
        bench.wait_until_filled()
    found = _compare(bench, directory)
    return {
        "kills": KILLS,
        **found,
        "within_bar": {
            "every row right": not any(found[name] for name in ("wrong", "missing", "given_up"))
        },
    }


def _kill(workers: Sequence["subprocess.Popen[bytes]"]) -> None:
    for worker in workers:
        worker.kill()
        worker.wait()


def _change(bench: Bench, chance: random.Random, rows: int, count: int) -> None:
    with bench.connect() as connection:
        for number in range(count):
            row = chance.randint(1, rows)
            if number % 4:
                text = f"changed {chance.random()}"
                connection.execute("UPDATE documents SET body = %s WHERE id = %s", [text, row])
            else:
                connection.execute("DELETE FROM documents WHERE id = %s", [row])


def _compare(bench: Bench, directory: Path) -> dict[str, int]:
    """Rows whose vector is not that of their text, to the bit; rows without; rows given up."""
    settings = load_settings()
    threads = available_threads()
    model = EmbeddingModel.load(directory, num_threads=threads, max_tokens=settings.max_seq_length)
    rows = wrong = missing = 0
    with bench.connect() as connection, connection.transaction():
        cursor = connection.cursor("rows")
        cursor.execute("SELECT body, embedding::text FROM documents")
        while some := cursor.fetchmany(CHECKED_AT_ONCE):
            rows += len(some)
            there = [row for row in some if row[1] is not None]
            missing += len(some) - len(there)
            stored = [np.array(row[1][1:-1].split(","), np.float32) for row in there]
            expected = model.embed([row[0] for row in there]).astype(np.float16)
            equal = np.array(stored).astype(np.float16) == expected
            wrong += int((~equal.all(axis=1)).sum())
        dead = connection.execute("SELECT count(*) FROM embedding_api.queue").fetchone()
    assert dead
    return {"rows": rows, "wrong": wrong, "missing": missing, "given_up": int(dead[0])}


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--json", type=Path, default=RESULTS / "table.json")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--rows", type=int, default=100_000)
    return parser.parse_args()


def main() -> int:
    options = parse()
    rows = options.rows // (10 if options.quick else 1)
    settings = load_settings()
    model = prepared(settings.model_name, settings.model_quantization)
    texts = texts_of(rows, WORDS)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, postgres_server() as server:
        bench = Bench(server, Path(name) / "log")
        speed = throughput(bench, model, texts[: rows // 5])
        pack = settings.max_batch_tokens / speed["bare_engine"]
        figures: dict[str, Any] = {
            "model": settings.model_name or "starter",
            "quantization": settings.model_quantization,
            "throughput": speed,
            "latency": latency(bench),
            "beside": beside(bench, texts[: rows // 5], Path(name) / "service", pack),
            "faults": faults(bench, model, texts),
        }
    save(options.json, {**figures, "seconds": time.perf_counter() - started})
    return 0 if all(figures["faults"]["within_bar"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
