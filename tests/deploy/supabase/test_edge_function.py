"""The Edge Function under Deno, with the database and the service that it calls."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from lab.server import Server, bare_environment, free_port
from lab.supabase import SECRET_KEY, running_project
from tests.deploy.supabase.project import BATCH, FOLDER, Project, prepare
from tests.jobs.table.filling import PATIENCE, Filling, wait_until_filled

SECRET = "a-secret-of-the-caller"
RUN = ("run", "--cached-only", "--node-modules-dir=manual", "--allow-net", "--allow-env")


@pytest.fixture
def api(filling: Filling) -> Iterator[str]:
    """The address of the project's API, over a database that is empty so far."""
    with running_project(filling.url) as project:
        yield project.url


@pytest.fixture
def project(api: str, filling: Filling, connection: psycopg.Connection) -> Project:
    project = prepare(filling, connection)
    project.run("edge_function.sql")
    return project


@pytest.fixture(scope="module")
def function(javascript: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the function, with the packages of the examples."""
    directory = tmp_path_factory.mktemp("functions") / "embed"
    shutil.copytree(FOLDER / "functions" / "embed", directory)
    (directory / "node_modules").symlink_to(javascript / "node_modules")
    return directory


@contextmanager
def running(deno: Path, function: Path, api: str, service: str, log: Path) -> Iterator[str]:
    """Serve the function for a project and a service; gives its address."""
    port = free_port()
    environment = bare_environment() | {
        "DENO_SERVE_ADDRESS": f"tcp:127.0.0.1:{port}",
        "SUPABASE_URL": api,
        "SUPABASE_SECRET_KEYS": f'{{"default": "{SECRET_KEY}"}}',
        "EMBEDDING_API_URL": f"{service}/",
        "EMBED_FUNCTION_SECRET": SECRET,
    }
    command: list[str | Path] = [deno, *RUN, function / "index.ts"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=function, env=environment, stdout=output, stderr=output
        )
    try:
        wait_for(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert SECRET_KEY not in log.read_text()
    assert SECRET not in log.read_text()


def wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, log.read_text()
        try:
            httpx.get(f"http://127.0.0.1:{port}")
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


def call(url: str, secret: str = SECRET) -> int:
    return httpx.post(url, json={}, headers={"Authorization": f"Bearer {secret}"}).status_code


def test_a_call_fills_the_column(
    deno: Path, function: Path, api: str, project: Project, service: Server, tmp_path: Path
) -> None:
    rows = 2 * BATCH + 1
    project.insert(rows)
    with running(deno, function, api, service.url, tmp_path / "log") as url:
        for wrong in ("wrong", SECRET_KEY, SECRET + "x"):
            assert call(url, wrong) == 401
        assert httpx.post(url).status_code == 401
        assert project.posts() == []
        assert call(url) == 202
        wait_until_filled(project.connection)
        assert project.filling.assert_filled("documents") == rows
        assert [written for _, written, _ in project.posts()] == [BATCH, BATCH, 1]

        project.secret("embed_function_url", url)
        project.secret("embed_function_secret", SECRET)
        assert project.one("SELECT embedding_api.call_function()") is None
        project.connection.execute("INSERT INTO documents (body) VALUES ('later')")
        assert project.one("SELECT embedding_api.call_function()")
        assert project.net.perform() == 1
        wait_until_filled(project.connection)
        assert project.filling.assert_filled("documents") == rows + 1


def test_a_service_that_is_away_costs_no_row(
    deno: Path, function: Path, api: str, project: Project, tmp_path: Path
) -> None:
    project.connection.execute("INSERT INTO documents (body) VALUES ('one')")
    away = f"http://127.0.0.1:{free_port()}"
    with running(deno, function, api, away, tmp_path / "log") as url:
        assert call(url) == 202
        deadline = time.monotonic() + PATIENCE
        while not [error for _, _, error in project.posts() if error]:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
    [(status, _, error)] = project.posts()
    assert status is None
    assert "error" in str(error).lower()
    assert project.waiting() == 1


def test_the_function_has_no_wrong_types(deno: Path, function: Path) -> None:
    checked = subprocess.run(
        [deno, "check", "--node-modules-dir=manual", function / "index.ts"],
        cwd=function,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", ["EMBEDDING_API_URL", "EMBED_FUNCTION_SECRET"])
def test_a_setting_that_is_missing_is_said(deno: Path, function: Path, name: str) -> None:
    settings = {
        "EMBEDDING_API_URL": "http://127.0.0.1",
        "EMBED_FUNCTION_SECRET": SECRET,
        "SUPABASE_URL": "http://127.0.0.1",
        "SUPABASE_SERVICE_ROLE_KEY": "legacy",
    }
    ran = subprocess.run(
        [deno, *RUN, function / "index.ts"],
        cwd=function,
        env=bare_environment() | {key: value for key, value in settings.items() if key != name},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 1
    assert f"{name} is not set: supabase secrets set {name}=..." in ran.stderr


def test_only_the_secret_key_may_call_its_functions(project: Project) -> None:
    for name in ("embedding_api_claim", "embedding_api_finish"):
        for role, may in (("anon", False), ("authenticated", False), ("service_role", True)):
            found = project.one(
                "SELECT has_function_privilege(%s, oid, 'EXECUTE') FROM pg_proc "
                "WHERE pronamespace = 'public'::regnamespace AND proname = %s",
                role,
                name,
            )
            assert found is may, (role, name)
