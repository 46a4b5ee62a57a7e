"""OpenAI's unmodified client for JavaScript, and the programs that the playground shows."""

import json
import re
import shutil
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.server import ROOT, Server, bare_environment, token
from tests.live.client_texts import MANY, MODEL, TEXTS
from tests.live.occupied import occupied, refusals, wait_until_refused

JAVASCRIPT = """
import OpenAI from "openai";
const [url, apiKey, body] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey });
const started = Date.now();
try {
  const { data } = await client.embeddings.create(JSON.parse(body));
  const vectors = data.map((item) => item.embedding);
  console.log(JSON.stringify({ vectors, ms: Date.now() - started }));
} catch (error) {
  const { status, message } = error;
  console.log(JSON.stringify({ error: error.constructor.name, status, message }));
}
"""


def by_javascript(directory: Path, server: Server, bearer: str, **body: Any) -> dict[str, Any]:
    script = directory / "call.mjs"
    script.write_text(JAVASCRIPT)
    command = ["node", str(script), server.url, bearer, json.dumps(body)]
    ran = subprocess.run(
        command, env=bare_environment(), capture_output=True, text=True, check=True
    )
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


def test_javascript_gets_the_vectors_of_our_own_route(
    server: Server, expected: np.ndarray, javascript: Path
) -> None:
    said = by_javascript(javascript, server, token(), model=MODEL, input=TEXTS)
    np.testing.assert_array_equal(np.array(said["vectors"], np.float32), expected)


def test_javascript_reads_an_answer_that_comes_in_pieces(
    server: Server, expected: np.ndarray, javascript: Path
) -> None:
    said = by_javascript(javascript, server, token(), model=MODEL, input=MANY)
    vectors = np.array(said["vectors"], np.float32)
    np.testing.assert_allclose(vectors, np.tile(expected, (150, 1)), atol=1e-5)


@pytest.mark.parametrize(
    ("bearer", "body", "error", "told"),
    [
        ("nonsense", {"model": MODEL, "input": "a"}, "AuthenticationError", "JSON Web Token"),
        (token(), {"model": "gpt", "input": "a"}, "NotFoundError", MODEL),
        (token(), {"model": MODEL, "input": [1, 2]}, "UnprocessableEntityError", "token ids"),
    ],
)
def test_a_refusal_is_javascripts_own_exception(
    server: Server, javascript: Path, bearer: str, body: dict[str, Any], error: str, told: str
) -> None:
    said = by_javascript(javascript, server, bearer, **body)
    assert said["error"] == error
    assert told in said["message"]


def test_javascript_waits_as_long_as_retry_after_says(
    one_at_a_time: Server, javascript: Path
) -> None:
    user = str(uuid.uuid4())
    said: list[dict[str, Any]] = []
    before = refusals(one_at_a_time, "/v1/embeddings")
    with occupied(one_at_a_time, user):
        call = threading.Thread(
            target=lambda: said.append(
                by_javascript(javascript, one_at_a_time, token(user), model=MODEL, input="a")
            )
        )
        call.start()
        wait_until_refused(one_at_a_time, "/v1/embeddings", before=before)
    call.join(20)
    assert said[0]["ms"] >= 1000


SHOWN = """
import { PROGRAMS } from "./programs.js";
const [language, address, body] = Deno.args;
console.log(PROGRAMS[language](address, JSON.parse(body)));
"""


def of_playground(deno: Path, directory: Path, language: str, server: Server, body: Any) -> str:
    """What the playground shows for a call."""
    site = ROOT / "api" / "playground" / "site"
    shutil.copy(site / "programs.js", directory)
    script = directory / "show.js"
    script.write_text(SHOWN)
    arguments = (language, f"{server.url}/batch-embed", json.dumps(body))
    return run(deno, "run", script, *arguments)


def run(*command: str | Path) -> str:
    environment = bare_environment() | {"JWT_TOKEN": token(), "DENO_NO_UPDATE_CHECK": "1"}
    ran = subprocess.run([*command], env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("language", ["curl", "python", "typescript"])
def test_a_program_of_the_playground_prints_the_similarities(
    server: Server, deno: Path, tmp_path: Path, language: str
) -> None:
    texts = ['it\'s "quoted" \\ and\nlong', "안녕 🌈 $HOME `ls`", "plain"]
    program = tmp_path / f"program.{language[:2]}"
    program.write_text(of_playground(deno, tmp_path, language, server, {"texts": texts}))
    runner: dict[str, tuple[str | Path, ...]] = {
        "curl": ("bash",),
        "python": (sys.executable,),
        "typescript": (deno, "run", "--allow-net", "--allow-env", "--ext=ts"),
    }
    printed = run(*runner[language], program)
    with server.client() as client:
        cosines = client.post("/similarity", json={"texts": texts}).json()["similarities"]
    if language == "curl":
        vectors = np.array(json.loads(printed)["embeddings"], np.float32)
        found = vectors @ vectors.T
    else:
        found = np.array(re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", printed), float).reshape(3, 3)
    np.testing.assert_allclose(found, cosines, atol=1e-5)
