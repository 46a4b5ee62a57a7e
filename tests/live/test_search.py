"""What a developer builds: a table with policies, a filled column, and searches of its users."""

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from lab.node import install_node
from lab.server import ROOT, SOURCE, Server, bare_environment, free_port, serve, token
from lab.supabase import PUBLISHABLE_KEY, Project, User, running_project
from tests.printed import blocks

ANN = User("6f1c1c86-6d3c-4c8a-9d0b-2c8f6d1a00a0", "ann@example.com", "password of Ann")
BOB = User("6f1c1c86-6d3c-4c8a-9d0b-2c8f6d1a00b0", "bob@example.com", "password of Bob")
ROWS = {  # the first is nearest to the question
    ANN: ["Bread is baked in an oven", "The stock market fell today"],
    BOB: ["A cake needs flour, sugar and eggs", "It rained in the mountains"],
}
QUESTION = "How is bread made?"
PAGE = ROOT / "docs" / "search.md"
PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Loop:
    """A project with a filled table, the service for its users, and the examples."""

    project: Project
    server: Server
    database_url: str
    examples: Path

    def environment(self, user: User = ANN) -> Mapping[str, str]:
        return bare_environment() | {
            "SUPABASE_URL": self.project.url,
            "SUPABASE_ANON_KEY": PUBLISHABLE_KEY,
            "EMBEDDING_API_URL": self.server.url,
            "EMAIL": user.email,
            "PASSWORD": user.password,
        }

    def search(self, *command: str | Path, user: User = ANN) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*command, QUESTION],
            cwd=self.examples,
            env=self.environment(user),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )


@contextmanager
def new_database(server_url: str) -> Iterator[str]:
    name = f"search_{token_hex(4)}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_conninfo(server_url, dbname=name)
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def signed_in(database_url: str, user: User) -> Iterator[psycopg.Connection]:
    """A transaction as PostgREST begins it for a signed-in user."""
    with psycopg.connect(database_url) as connection:
        connection.execute("SET LOCAL ROLE authenticated")
        connection.execute(
            "SELECT set_config('request.jwt.claims', %s, true)", [json.dumps({"sub": user.id})]
        )
        yield connection


def printed(language: str) -> str:
    """The first block of the page in this language."""
    return next(block.text for block in blocks(PAGE) if block.language == language)


def fill(database_url: str) -> None:
    """Do what the commands of the page do."""
    [options] = re.findall(r'make embed-table ARGS="(.+)"', printed("bash"))
    environment = bare_environment() | {"DATABASE_URL": database_url, "MODEL_QUANTIZATION": "fp32"}
    for arguments in (shlex.split(options), ["--once"]):
        command = [sys.executable, "-m", "jobs.embed_table", *arguments]
        subprocess.run(command, cwd=SOURCE, env=environment, check=True, timeout=300)


@pytest.fixture(scope="module")
def loop(
    database_url: str, model_store: Path, javascript: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Loop]:
    with new_database(database_url) as url, running_project(url, *ROWS) as project:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(printed("sql").encode())
        for user, bodies in ROWS.items():
            with signed_in(url, user) as connection:
                for body in bodies:
                    connection.execute("INSERT INTO documents (body) VALUES (%s)", [body])
        fill(url)
        environment = {
            "MODEL_QUANTIZATION": "fp32",
            "SUPABASE_JWT_SECRET": "",
            "SUPABASE_URL": project.url,
            "RATE_LIMIT_PER_MIN": "1000",
        }
        with serve(tmp_path_factory.mktemp("search") / "log", environment) as server:
            yield Loop(project, server, url, javascript)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_node(tmp_path_factory.mktemp("node"))


# --- programs that sign a user in -----------------------------------------------------------------


@pytest.mark.parametrize("user", ROWS, ids=lambda user: user.email)
@pytest.mark.parametrize("example", ["search_openai.ts", "search_ai_sdk.ts"])
def test_a_program_finds_the_rows_of_its_user_alone_nearest_first(
    loop: Loop, node: Path, example: str, user: User
) -> None:
    ran = loop.search(node, example, user=user)
    assert ran.returncode == 0, ran.stderr
    found = [line.split(maxsplit=1) for line in ran.stdout.splitlines()]
    assert [body for _, body in found] == ROWS[user]
    assert 1 > float(found[0][0]) > float(found[1][0])


@pytest.mark.parametrize("example", ["search_openai.ts", "search_ai_sdk.ts"])
def test_a_program_finds_the_same_under_deno(loop: Loop, deno: Path, example: str) -> None:
    ran = loop.search(deno, "run", "--allow-all", example)
    assert ran.returncode == 0, ran.stderr
    assert [line.split(maxsplit=1)[1] for line in ran.stdout.splitlines()] == ROWS[ANN]


def test_the_page_shows_what_a_program_prints(loop: Loop, node: Path) -> None:
    assert loop.search(node, "search_openai.ts").stdout == printed("")


@pytest.mark.parametrize("example", ["search_openai.ts", "search_ai_sdk.ts"])
def test_a_wrong_password_ends_a_program_before_it_asks_anything(
    loop: Loop, node: Path, example: str
) -> None:
    ran = loop.search(node, example, user=User(ANN.id, ANN.email, "another password"))
    assert ran.returncode != 0
    assert "Invalid login credentials" in ran.stderr
    assert ran.stdout == ""


def test_the_page_shows_the_table_of_the_examples() -> None:
    file = (ROOT / "examples" / "javascript" / "documents.sql").read_text(encoding="utf-8")
    assert file.partition("\ncreate ")[2] == printed("sql").partition("create ")[2]


def check_types(deno: Path, directory: Path) -> None:
    files = [str(file) for file in directory.glob("*.ts")]
    command = [str(deno), "check", "--node-modules-dir=manual", *files]
    checked = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_the_examples_have_no_wrong_types(javascript: Path, deno: Path) -> None:
    check_types(deno, javascript)


def test_the_function_can_be_deployed_with_the_imports_of_the_page(
    javascript: Path, deno: Path, tmp_path: Path
) -> None:
    (tmp_path / "deno.json").write_text(printed("json"))
    (tmp_path / "node_modules").symlink_to(javascript / "node_modules")
    (tmp_path / "index.ts").write_bytes((javascript / "search_function.ts").read_bytes())
    check_types(deno, tmp_path)


# --- the Edge Function ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def function(loop: Loop, deno: Path) -> Iterator[str]:
    """The address of the function under Deno, which may read its settings and use the network."""
    port = free_port()
    environment = {**loop.environment(), "DENO_SERVE_ADDRESS": f"tcp:127.0.0.1:{port}"}
    command = [str(deno), "run", "--node-modules-dir=manual", "--cached-only", "--allow-env"]
    with subprocess.Popen(
        [*command, "--allow-net=127.0.0.1", "search_function.ts"],
        cwd=loop.examples,
        env=environment,
    ) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_answers(url, process)
            yield url
        finally:
            process.terminate()


def wait_until_answers(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None
        try:
            httpx.options(url)
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def ask(url: str, credential: str | None) -> httpx.Response:
    headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
    return httpx.post(url, json={"question": QUESTION}, headers=headers, timeout=PATIENCE)


@pytest.mark.parametrize("user", ROWS, ids=lambda user: user.email)
def test_the_function_finds_the_rows_of_its_caller_alone(
    loop: Loop, function: str, user: User
) -> None:
    answer = ask(function, loop.project.token(user))
    assert answer.status_code == 200, answer.text
    assert [row["body"] for row in answer.json()] == ROWS[user]


@pytest.mark.parametrize(
    ("credential", "expected"),
    [
        (None, (401, "token_missing")),
        (PUBLISHABLE_KEY, (403, "api_key")),
        ("nonsense", (401, "token_invalid")),
        (token(), (401, "token_invalid")),
    ],
    ids=["nobody", "public key", "garbage", "another project"],
)
def test_the_function_serves_nobody_else_and_says_why(
    function: str, credential: str | None, expected: tuple[int, str]
) -> None:
    answer = ask(function, credential)
    assert (answer.status_code, answer.json()["error"]["code"]) == expected


def test_a_page_may_call_the_function(function: str) -> None:
    answer = httpx.options(function, headers={"Origin": "https://app.example.com"})
    assert answer.status_code == 200
    assert "authorization" in answer.headers["access-control-allow-headers"]


# --- what the policies allow ----------------------------------------------------------------------


def test_a_caller_who_is_not_signed_in_finds_nothing(loop: Loop) -> None:
    vector = json.dumps([1.0] * 384)
    for credential, bodies in ((PUBLISHABLE_KEY, []), (loop.project.token(ANN), ROWS[ANN])):
        answer = httpx.post(
            f"{loop.project.url}/rest/v1/rpc/search_documents",
            json={"query": vector},
            headers={"apikey": PUBLISHABLE_KEY, "Authorization": f"Bearer {credential}"},
        )
        assert answer.status_code == 200
        assert {row["body"] for row in answer.json()} == set(bodies)


def test_a_user_cannot_write_rows_of_another(loop: Loop) -> None:
    row = "INSERT INTO documents (body, user_id) VALUES ('not by Bob', %s)"
    with (
        signed_in(loop.database_url, ANN) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(row, [BOB.id])
