"""The OpenAPI document against the server that serves it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.server import Server, bare_environment, token


def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/openapi.json").json()
    return found


def schemathesis(server: Server, directory: Path, *options: str) -> None:
    """Valid and invalid calls of every operation; no 5xx, every answer as described."""
    program = str(Path(sys.executable).with_name("st"))
    header = f"Authorization: Bearer {token()}"
    command = [
        program,
        "run",
        f"{server.url}/openapi.json",
        "-H",
        header,
        "--checks",
        "all",
        "--no-color",
        *options,
    ]
    ran = subprocess.run(
        [*command, "--max-examples", "25"],
        cwd=directory,
        env=bare_environment(),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]


@pytest.mark.parametrize("server", ["source"], indirect=True)
def test_the_server_does_what_its_document_says(server: Server, tmp_path: Path) -> None:
    schemathesis(server, tmp_path)


def test_a_model_with_prompts_does_what_its_document_says(
    gemma_server: Server, tmp_path: Path
) -> None:
    """But for one thing that a schema cannot say: a title goes with documents alone."""
    schemathesis(gemma_server, tmp_path, "--exclude-checks", "positive_data_acceptance")


def test_every_example_of_the_document_runs(server: Server) -> None:
    described = document(server)
    schemas, ran = described["components"]["schemas"], 0
    with server.client() as client:
        for path, operations in described["paths"].items():
            if "post" in operations:
                reference = operations["post"]["requestBody"]["content"]["application/json"][
                    "schema"
                ]["$ref"]
                for example in schemas[reference.rpartition("/")[2]]["examples"]:
                    answer = client.post(path, json=example)
                    assert answer.status_code == 200, answer.text
                    ran += 1
    assert ran >= 5


def test_the_document_says_what_the_model_that_serves_here_can_do(gemma_server: Server) -> None:
    schemas = document(gemma_server)["components"]["schemas"]
    assert {"query", "document", "search_query", "STS", None} <= set(schemas["Task"]["enum"])
    assert schemas["Dimensions"]["enum"] == [768, 512, 256, 128, None]
    assert schemas["ModelName"]["enum"][1:] == [
        "embeddinggemma-300m-query",
        "embeddinggemma-300m-document",
    ]
    assert list(schemas["EmbeddingsRequest"]["properties"])[:2] == ["input", "model"]
