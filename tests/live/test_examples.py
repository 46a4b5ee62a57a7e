"""Every example runs as its reader runs it."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest

from lab.server import ROOT, Server, bare_environment, token
from tests.printed import blocks

EXAMPLES = ROOT / "examples"
SCRIPTS = ROOT / "embedding-api-tests"
SEARCH = ROOT / "docs" / "search.md"
ANON_KEY = "anon-key-of-the-project"
PASSWORD = 'it\'s "quoted" \\ and long'

from_source = pytest.mark.parametrize("server", ["source"], indirect=True)


def run(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """What a command says that ends well."""
    everything = bare_environment() | {"JWT_TOKEN": token()} | dict(environment or {})
    ran = subprocess.run(
        [*map(str, command)], env=everything, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_bentoml_example_runs(server: Server) -> None:
    first, second = run(sys.executable, EXAMPLES / "bentoml_client.py", server.url).splitlines()
    assert " 384 [" in first
    assert second.startswith("2 {")


@from_source
def test_the_smoke_test_finds_every_route_working(server: Server) -> None:
    lines = run(SCRIPTS / "test_api.sh", server.url).splitlines()
    assert len(lines) == 13
    assert all(line.startswith("ok ") for line in lines)


@from_source
def test_the_smoke_test_fails_where_something_does_not_work(server: Server) -> None:
    environment = bare_environment() | {"JWT_TOKEN": "nonsense"}
    ran = subprocess.run(
        [SCRIPTS / "test_api.sh", server.url], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert "FAIL POST /embed 401 instead of 200" in ran.stdout


@from_source
def test_the_python_script_of_the_contract_finds_everything_working(server: Server) -> None:
    lines = run(sys.executable, SCRIPTS / "test_with_token.py", server.url).splitlines()
    assert len(lines) == 6
    assert all(line.startswith("ok ") for line in lines)


@from_source
def test_the_python_script_fails_where_something_does_not_work(server: Server) -> None:
    environment = bare_environment() | {"JWT_TOKEN": "nonsense"}
    ran = subprocess.run(
        [sys.executable, SCRIPTS / "test_with_token.py", server.url],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1
    assert "FAIL one text has a unit vector: the status is 401 instead of 200" in ran.stdout
    assert "Traceback" not in ran.stderr


@from_source
def test_the_openai_example_runs(server: Server) -> None:
    lines = run(sys.executable, EXAMPLES / "openai_client.py", server.url).splitlines()
    assert [line.split("[")[0] for line in lines[:2]] == ["0 384 ", "1 384 "]


@from_source
def test_the_langchain_example_finds_the_nearest_passage(server: Server) -> None:
    nearest, _ = run(sys.executable, EXAMPLES / "langchain_client.py", server.url).splitlines()
    assert nearest == "Someone plays an instrument"


def test_the_langchain_example_uses_the_prompts_there_are(gemma_server: Server) -> None:
    assert (
        len(run(sys.executable, EXAMPLES / "langchain_client.py", gemma_server.url).splitlines())
        == 2
    )


@from_source
def test_the_llamaindex_example_scores_the_nearest_passage_highest(server: Server) -> None:
    lines = run(sys.executable, EXAMPLES / "llamaindex_client.py", server.url).splitlines()
    assert max(lines, key=lambda line: float(line.split()[0])).endswith(
        "Someone plays an instrument"
    )


@from_source
def test_the_javascript_example_runs(server: Server, javascript: Path) -> None:
    lines = run("node", javascript / "openai_client.mjs", server.url).splitlines()
    assert [line.split("[")[0] for line in lines[:2]] == ["0 384 ", "1 384 "]


class Supabase(BaseHTTPRequestHandler):
    """Supabase Auth's password sign-in, as far as a client sees it."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = (self.headers["apikey"], body) == (
            ANON_KEY,
            {"email": "user@example.com", "password": PASSWORD},
        )
        right = self.path == "/auth/v1/token?grant_type=password" and known
        answer = {"access_token": token(), "token_type": "bearer", "expires_in": 3600}
        refusal = {
            "code": 400,
            "error_code": "invalid_credentials",
            "msg": "Invalid login credentials",
        }
        self.send_response(200 if right else 400)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer if right else refusal).encode())

    def log_message(self, *_: object) -> None:
        """Nothing: a test's output is its own."""


@pytest.fixture
def supabase() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Supabase) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@from_source
def test_the_token_script_signs_in_and_its_token_is_taken(server: Server, supabase: str) -> None:
    project = {"SUPABASE_URL": supabase, "SUPABASE_ANON_KEY": ANON_KEY}
    signed_in = run(
        SCRIPTS / "get_token.sh",
        environment=project | {"EMAIL": "user@example.com", "PASSWORD": PASSWORD},
    ).strip()
    with server.client(signed_in) as client:
        assert client.post("/embed", json={"text": "a"}).status_code == 200


def test_the_token_script_takes_the_project_from_the_file_of_settings(
    supabase: str, tmp_path: Path
) -> None:
    shutil.copytree(SCRIPTS, tmp_path / SCRIPTS.name)
    (tmp_path / ".env").write_text(
        f"# SUPABASE_URL=http://other\nSUPABASE_URL={supabase}\nSUPABASE_ANON_KEY='{ANON_KEY}'\n"
    )
    ran = subprocess.run(
        ["./get_token.sh"],
        cwd=tmp_path / SCRIPTS.name,
        env=bare_environment() | {"EMAIL": "user@example.com", "PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
    )
    assert ran.stdout.startswith("eyJ"), ran.stderr


def test_the_token_script_asks_for_what_it_is_not_given(supabase: str) -> None:
    environment = bare_environment() | {"SUPABASE_URL": supabase, "SUPABASE_ANON_KEY": ANON_KEY}
    ran = subprocess.run(
        [SCRIPTS / "get_token.sh"],
        env=environment,
        input=f"user@example.com\n{PASSWORD}\n",
        capture_output=True,
        text=True,
    )
    assert ran.stdout.startswith("eyJ"), ran.stderr
    assert PASSWORD not in ran.stdout + ran.stderr


def test_the_token_script_says_why_it_has_no_token(supabase: str) -> None:
    environment = {
        "SUPABASE_URL": supabase,
        "SUPABASE_ANON_KEY": ANON_KEY,
        "EMAIL": "a@b.c",
        "PASSWORD": "wrong",
    }
    ran = subprocess.run(
        [SCRIPTS / "get_token.sh"],
        env=bare_environment() | environment,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "Invalid login credentials" in ran.stderr


def test_the_printed_table_has_the_bits_of_the_service(
    gemma_server: Server, database_url: str
) -> None:
    """pgvector's own bits of a stored vector are those of `"encoding_format": "binary"`."""
    _, schema = (block.text for block in blocks(SEARCH) if block.language == "sql")
    with gemma_server.client() as client:
        answers = {
            encoding: client.post(
                "/embed", json={"text": "Mars", "encoding_format": encoding}
            ).json()["embedding"]
            for encoding in ("float", "binary")
        }
    expected = "".join(f"{byte:08b}" for byte in answers["binary"])
    with psycopg.connect(database_url) as database:
        database.execute(schema.encode())
        database.execute(
            "insert into documents (text, embedding) values ('Mars', %s)", [str(answers["float"])]
        )
        [(bits,)] = database.execute("select bits::text from documents").fetchall()
    assert bits == expected
