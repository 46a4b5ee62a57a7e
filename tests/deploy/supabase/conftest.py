"""One service for all databases of these tests."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lab.server import Server, serve
from lab.service_keys import KEY, OTHER_KEY
from lab.supabase import SECRET_KEY
from tests.deploy.supabase.project import Project, prepare
from tests.jobs.table.conftest import connection, filling, model
from tests.jobs.table.filling import Filling

__all__ = ["connection", "filling", "model"]
LARGEST_BODY = 65_536  # bytes


def entry(name: str, key: str, options: str) -> str:
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}:{options}"


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[Server]:
    """The starter model in fp32; KEY has no limits, OTHER_KEY one request per minute."""
    keys = (
        entry("indexer", KEY, "requests=none:tokens=none"),
        entry("limited", OTHER_KEY, "requests=1:tokens=none"),
        entry("edge", SECRET_KEY, "requests=none:tokens=none"),
    )
    settings = {
        "MODEL_QUANTIZATION": "fp32",
        "SERVICE_KEYS": ",".join(keys),
        "MAX_BODY_BYTES": str(LARGEST_BODY),
    }
    with serve(tmp_path_factory.mktemp("service") / "log", settings) as running:
        yield running


@pytest.fixture
def project(filling: Filling, connection: psycopg.Connection, service: Server) -> Project:
    """A database that posts to the service, until something else is put into its Vault."""
    project = prepare(filling, connection)
    project.run("pg_net.sql")
    project.secret("embedding_api_url", service.url)
    project.secret("embedding_api_key", KEY)
    return project
