"""Unmodified clients of every API get the vectors of our own route, set up as `docs` says."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from lab.clients import CLIENTS, LOCKS, Client
from lab.deno import INSTALL
from lab.server import ROOT, Server, bare_environment, serve, token

TEXT = "A man is playing a guitar"
RUNNER = ROOT / "tests" / "live" / "run_clients.py"
PYTHONS = {"dev": Path(sys.executable), "clients": ROOT / ".venv-clients" / "bin" / "python"}
QUIET = {"HAYSTACK_TELEMETRY_ENABLED": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
QUIET |= {"BENTOML_DO_NOT_TRACK": "true"}
# LangChain's Cohere class tries again after each error; LlamaIndex's TEI class reads no status.
HEEDLESS = {("LangChain", "Cohere"), ("LlamaIndex", "TEI")}
HEEDFUL = [client for client in CLIENTS if (client.name, client.api) not in HEEDLESS]
GOOD, BAD = token(), "nonsense"
CALLS = [*((client, GOOD) for client in CLIENTS), *((client, BAD) for client in HEEDFUL)]

Call: TypeAlias = tuple[Client, str]  # a client and its token
Outcomes: TypeAlias = Mapping[Call, dict[str, Any]]


@pytest.fixture(scope="module")
def aliased(gemma_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model with prompts, by the names that the clients ask for."""
    environment = {
        "MODEL_QUANTIZATION": "fp32",
        "MODEL_NAME": str(gemma_directory),
        "MODEL_ALIASES": "text-embedding-3-small, embed-v4.0, embeddinggemma",
        "RATE_LIMIT_PER_MIN": "100000",
        "FAILED_AUTH_PER_MIN": "100000",
    }
    with serve(tmp_path_factory.mktemp("aliased") / "log", environment) as running:
        yield running


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, javascript: Path) -> Mapping[str, Path]:
    """The directories with the packages of JavaScript, by lock."""
    directory = tmp_path_factory.mktemp("clients") / "javascript"
    unwanted = shutil.ignore_patterns("node_modules")
    shutil.copytree(LOCKS["npm"].parent, directory, ignore=unwanted)
    subprocess.run(INSTALL, cwd=directory, check=True)
    return {"npm": directory, "examples": javascript}


def by_python(lock: str, server: Server) -> Outcomes:
    """What becomes of the calls of a lock's clients, in one process."""
    python = PYTHONS[lock]
    assert python.exists(), "run `make clients` first"
    calls = [(client, bearer) for client, bearer in CALLS if client.lock == lock]
    programs = [
        ("\n".join([*client.lines, f"vector = {client.vector}"]), bearer)
        for client, bearer in calls
    ]
    told = {"names": {"url": server.url, "text": TEXT}, "calls": programs}
    return dict(zip(calls, run([python, RUNNER], json.dumps(told)), strict=True))


def by_javascript(directory: Path, lock: str, server: Server) -> Outcomes:
    """What becomes of the calls of a lock's clients, each in a process of its own."""
    return {
        (client, bearer): run(["node", program(client, directory), server.url, bearer, TEXT], "")
        for client, bearer in CALLS
        if client.lock == lock
    }


JAVASCRIPT = """
{imports}
const [url, token, text] = process.argv.slice(2);
try {{
  {lines}
  console.log(JSON.stringify({{ vector: {vector} }}));
}} catch ({{ name, message }}) {{
  console.log(JSON.stringify({{ error: name, message }}));
}}
"""


def program(client: Client, directory: Path) -> Path:
    """A file with the lines of a client in JavaScript, beside its packages."""
    imports = [line for line in client.lines if line.startswith("import ")]
    lines = client.lines[len(imports) :]
    file = directory / f"{client.package.replace('/', '-')}.mjs"
    file.write_text(
        JAVASCRIPT.format(
            imports="\n".join(imports), lines="\n  ".join(lines), vector=client.vector
        )
    )
    return file


def run(command: list[Any], told: str) -> Any:
    ran = subprocess.run(
        [*map(str, command)],
        input=told,
        env=bare_environment() | QUIET,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def outcomes(aliased: Server, packages: Mapping[str, Path]) -> Outcomes:
    """What becomes of every call."""
    found: dict[Call, dict[str, Any]] = {}
    for lock in PYTHONS:
        found |= by_python(lock, aliased)
    for lock, directory in packages.items():
        found |= by_javascript(directory, lock, aliased)
    return found


def name_of(client: Client) -> str:
    return f"{client.name} for {client.api}"


@pytest.mark.parametrize("client", CLIENTS, ids=name_of)
def test_a_client_gets_the_vector_of_our_own_route(
    client: Client, outcomes: Outcomes, aliased: Server
) -> None:
    said = outcomes[client, GOOD]
    assert "vector" in said, said
    task = {"task": "search_query"} if client.api == "Cohere" else {}
    with aliased.client() as own:
        expected = own.post("/embed", json={"text": TEXT} | task).json()["embedding"]
    found = np.array(said["vector"], np.float32)
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


@pytest.mark.parametrize("client", HEEDFUL, ids=name_of)
def test_a_client_tells_why_a_token_is_refused(client: Client, outcomes: Outcomes) -> None:
    said = outcomes[client, BAD]
    assert "error" in said
    assert "JSON Web Token" in said["message"] or "401" in said["message"], said
