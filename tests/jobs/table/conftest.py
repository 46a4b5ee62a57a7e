"""A database for each test, in the server of the session."""

from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from embedder.model import EmbeddingModel
from tests.jobs.table.filling import DOCUMENTS, Filling, starter_engine


@pytest.fixture(scope="session")
def model(model_store: Path) -> EmbeddingModel:
    engine = starter_engine()
    return EmbeddingModel.load(engine.directory, num_threads=1, max_tokens=engine.max_tokens)


@pytest.fixture
def filling(database_url: str, model: EmbeddingModel) -> Iterator[Filling]:
    name = f"filling_{token_hex(4)}"
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield Filling(make_conninfo(database_url, dbname=name), starter_engine(), model)
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def connection(filling: Filling) -> Iterator[psycopg.Connection]:
    with filling.connect() as connection:
        yield connection


@pytest.fixture
def documents(filling: Filling, connection: psycopg.Connection) -> psycopg.Connection:
    """A table `documents` whose column `body` is embedded."""
    connection.execute(DOCUMENTS)
    filling.set_up("documents", "--text", "body")
    return connection
