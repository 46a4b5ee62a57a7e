"""Files of a few rows, and jobs that read them."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from jobs.input.rows import BadRow, Row, RowReader
from jobs.job import Job, make_job
from tests.jobs.pooler import Pooler, pooled
from tests.jobs.remote.stub_service import Stub, served

MakeJob = Callable[..., Job]


@pytest.fixture
def make(tmp_path: Path) -> MakeJob:
    """A job of the embed_dataset command with these options."""
    from jobs.embed_dataset import parse

    def make_from(source: Path, *options: str) -> Job:
        return make_job(parse([str(source), str(tmp_path / "out"), *options]))

    return make_from


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    """To a database without the table `corpus`."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS corpus")
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        yield connection


@pytest.fixture(scope="session")
def pooler(database_url: str) -> Iterator[Pooler]:
    with pooled(database_url) as running:
        yield running


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    with served(stub.answer) as stub.url:
        yield stub


def write_jsonl(path: Path, records: Sequence[object]) -> Path:
    path.write_text(
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records),
        encoding="utf-8",
    )
    return path


def everything(job: Job) -> tuple[list[Row], list[BadRow]]:
    """Good and bad rows of all parts."""
    reader = RowReader(job.source, job.columns)
    found = [reader.read(part) for part in job.parts()]
    return [row for rows, _ in found for row in rows], [row for _, bad in found for row in bad]


def texts(job: Job) -> list[str]:
    return [row.text for row in everything(job)[0]]
