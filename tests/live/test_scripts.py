"""The scripts that try a running service work, wait, and say what is wrong."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from lab.server import ROOT, Server, bare_environment, token
from tests.live.programs import run

SCRIPTS = ROOT / "embedding-api-tests"
ANON_KEY = "anon-key-of-the-project"
PASSWORD = 'it\'s "quoted" \\ and long'

from_source = pytest.mark.parametrize("server", ["source"], indirect=True)


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


class Limited(BaseHTTPRequestHandler):
    """A service whose first answer says that the limit is reached; all others are `upstream`'s."""

    upstream = ""
    refused = False

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not type(self).refused:
            type(self).refused = True
            self._send(429, b"{}", {"Retry-After": "1"})
            return
        answer = httpx.request(
            self.command,
            self.upstream + self.path,
            content=body,
            headers={name: value.strip() for name, value in self.headers.items()},
            timeout=60,
        )
        limits = {name: answer.headers[name] for name in answer.headers if "ratelimit" in name}
        self._send(answer.status_code, answer.content, limits)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: a test's output is its own."""


@pytest.fixture
def limited(server: Server) -> Iterator[str]:
    """The URL of a service that refuses one call, for one second."""

    class InFront(Limited):
        upstream = server.url

    with ThreadingHTTPServer(("127.0.0.1", 0), InFront) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
    assert InFront.refused


@from_source
def test_the_smoke_test_finds_every_route_working(server: Server) -> None:
    lines = run(SCRIPTS / "test_api.sh", server.url).splitlines()
    assert len(lines) == 13
    assert all(line.startswith("ok ") for line in lines)


@from_source
def test_the_smoke_test_signs_in_where_it_has_no_token(server: Server, supabase: str) -> None:
    signing_in = {
        "JWT_TOKEN": "",
        "SUPABASE_URL": supabase,
        "SUPABASE_ANON_KEY": ANON_KEY,
        "EMAIL": "user@example.com",
        "PASSWORD": PASSWORD,
    }
    lines = run(SCRIPTS / "test_api.sh", server.url, environment=signing_in).splitlines()
    assert all(line.startswith("ok ") for line in lines)


@from_source
@pytest.mark.parametrize("script", ["test_api.sh", "test_with_token.py"])
def test_the_scripts_wait_where_the_limit_is_reached(limited: str, script: str) -> None:
    interpreter = [sys.executable] if script.endswith(".py") else []
    lines = run(*interpreter, SCRIPTS / script, limited).splitlines()
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
def test_the_token_script_signs_in_and_its_token_is_taken(server: Server, supabase: str) -> None:
    project = {"SUPABASE_URL": supabase, "SUPABASE_ANON_KEY": ANON_KEY}
    signed_in = run(
        SCRIPTS / "get_token.sh",
        environment=project | {"EMAIL": "user@example.com", "PASSWORD": PASSWORD},
    ).strip()
    with server.client(signed_in) as client:
        assert client.post("/embed", json={"text": "a"}).status_code == 200


@pytest.mark.parametrize(
    "lines",
    [
        "# SUPABASE_URL=http://other\nSUPABASE_URL={url}\nSUPABASE_ANON_KEY='{key}'\n",
        'SUPABASE_URL="{url}"\r\nSUPABASE_ANON_KEY={key}\r\n',
        "SUPABASE_URL={url} # of the project\nSUPABASE_ANON_KEY='{key}' # it's public\n",
        "SUPABASE_URL={url}  \nSUPABASE_ANON_KEY={key}\n",
        ' SUPABASE_URL = "{url}"\nexport SUPABASE_ANON_KEY= {key}\n',
    ],
)
def test_the_token_script_takes_the_project_from_the_file_of_settings(
    supabase: str, tmp_path: Path, lines: str
) -> None:
    shutil.copytree(SCRIPTS, tmp_path / SCRIPTS.name)
    (tmp_path / ".env").write_bytes(lines.format(url=supabase, key=ANON_KEY).encode())
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
