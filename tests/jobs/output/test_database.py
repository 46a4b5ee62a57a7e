"""Connection strings, passwords, and the kinds of errors of PostgreSQL."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from jobs.errors import JobError, UsageError
from jobs.output.database import Database, database_of, shows_password
from lab.server import ROOT
from tests.jobs.conftest import write_jsonl
from tests.jobs.pooler import PASSWORD, Pooler


def reaches(conninfo: str, **environment: str) -> bool:
    """Whether a process with this environment reaches the database."""
    code = (
        "import os, sys\n"
        "from jobs.output.database import database_of\n"
        "database = database_of(sys.argv[1] or None, os.environ)\n"
        "with database.connection('nothing') as connection:\n"
        "    print(connection.execute('SELECT 1').fetchone()[0])\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    ran = subprocess.run(
        [sys.executable, "-c", code, conninfo],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
    )
    assert PASSWORD not in ran.stdout + ran.stderr
    return ran.stdout == "1\n"


def test_a_password_need_not_be_in_the_command(pooler: Pooler, tmp_path: Path) -> None:
    assert not reaches(pooler.url)
    assert reaches(pooler.url, PGPASSWORD=PASSWORD)
    assert reaches("", DATABASE_URL=pooler.with_password)
    assert reaches("", DATABASE_URL=pooler.url, PGPASSWORD=PASSWORD)
    one_by_one = {"PGHOST": "127.0.0.1", "PGPORT": f"{pooler.port}", "PGUSER": "postgres"}
    assert reaches("", **one_by_one, PGPASSWORD=PASSWORD)
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"127.0.0.1:{pooler.port}:*:postgres:{PASSWORD}\n")
    passwords.chmod(0o600)
    assert reaches(pooler.url, PGPASSFILE=str(passwords))
    services = tmp_path / "services"
    services.write_text(
        f"[ours]\nhost=127.0.0.1\nport={pooler.port}\n"
        f"user=postgres\ndbname=postgres\npassword={PASSWORD}\n"
    )
    assert reaches("service=ours", PGSERVICEFILE=str(services))
    assert reaches("", PGSERVICE="ours", PGSERVICEFILE=str(services))


def test_the_command_overrides_the_environment() -> None:
    environment = {"DATABASE_URL": "postgresql://there"}
    assert database_of("postgresql://here", environment) == Database("postgresql://here", ())
    assert database_of(None, environment) == Database("postgresql://there", ())
    assert database_of(None, {}) is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hush@sh@127.0.0.1:1/db",
        "postgresql://user:hush/hush@127.0.0.1:1/db",
        "postgresql://user:hush:hush/@127.0.0.1:1/db",
        "postgresql://user:hu%zzsh@127.0.0.1:1/db",
        "postgresql://user:@hush:hush@127.0.0.1/db",
        "host=127.0.0.1 password=hush hush",
        "hush",
    ],
)
def test_an_unescaped_password_is_reported_and_not_shown(url: str) -> None:
    with pytest.raises(
        UsageError, match=r"is not a connection string: .* as %40 %3A %2F"
    ) as raised:
        database_of(url, {})
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://user:hush@127.0.0.1:1/db",
        "postgresql://user:hu%40sh@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 user=hush password=hush",
        "postgresql://127.0.0.1:1/db?password=hush",
        "postgresql://hush.example.invalid/db?password=hush",
    ],
)
def test_no_error_and_no_trace_has_the_password(conninfo: str) -> None:
    database = database_of(conninfo, {"PGPASSWORD": "hush"})
    assert database is not None
    with pytest.raises(JobError, match="PostgreSQL: ") as raised, database.connection("it"):
        pass
    shown = f"{raised.value} {database!r} {raised.value.__cause__}"
    assert "hush" not in shown
    assert "hu@sh" not in shown


def test_a_password_in_the_command_causes_a_warning(
    pooler: Pooler, model_store: Path, tmp_path: Path
) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])

    def said(to: str, **environment: str) -> str:
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "jobs.embed_dataset", str(source), str(tmp_path / "out")),
                *("--to", to, "--table", "warned"),
            ],
            cwd=ROOT,
            env=os.environ | environment | {"MODEL_QUANTIZATION": "fp32"},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout + ran.stderr

    warning = "everybody on this machine can read the password of --to"
    assert warning in said(pooler.with_password)
    assert warning not in said(pooler.url, PGPASSWORD=PASSWORD)


def test_a_password_is_recognised_in_any_form() -> None:
    assert shows_password("postgresql://user:hush@host/db")
    assert shows_password("host=here password=hush")
    assert not shows_password("postgresql://user@host/db")
    assert not shows_password(None)


ERRORS: Mapping[str, tuple[str, type[JobError]]] = {
    "a column that is not there": ("SELECT nothing", UsageError),
    "a table that is not there": ("SELECT * FROM nowhere", UsageError),
    "a value that does not fit": ("SELECT 300::\"char\"::int2, 'x'::int", UsageError),
    "a statement of another session": ("DEALLOCATE nothing", JobError),
    "a server that stops": ("SELECT pg_terminate_backend(pg_backend_pid())", JobError),
    "a query that is cancelled": ("SELECT pg_cancel_backend(pg_backend_pid())", JobError),
}


@pytest.mark.parametrize("name", ERRORS)
def test_only_errors_of_tables_and_rows_are_usage_errors(name: str, database_url: str) -> None:
    statement, kind = ERRORS[name]
    with pytest.raises(JobError) as raised, Database(database_url, ()).connection("it") as open_:
        open_.execute(statement.encode())
    assert type(raised.value) is kind, raised.value
    assert "\n" not in str(raised.value)


def test_a_port_without_postgresql_is_reported() -> None:
    with (
        pytest.raises(JobError, match="PostgreSQL: "),
        Database("host=127.0.0.1 port=1", ()).connection("it"),
    ):
        pass
