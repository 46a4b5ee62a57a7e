"""From one version to the next whose models have another layout.

make test-compose
"""

import subprocess

import httpx
import pytest

from deploy.compose.stack import (
    NEXT,
    PREPARED,
    STARTED,
    URL,
    Stack,
    eventually,
    is_ready,
    repeated,
    run,
)
from lab.server import ROOT, SECRET, token
from tests.printed import printed_commands

SETTINGS = f"SUPABASE_JWT_SECRET={SECRET}\nRATE_LIMIT_PER_MIN=100000\nTOKENS_PER_DAY=100000\n"
HEADERS = {"Authorization": f"Bearer {token()}"}


@pytest.fixture(scope="module", autouse=True)
def served(stack: Stack) -> None:
    """The old version, to which one call was made."""
    stack.up(SETTINGS)
    assert eventually(is_ready, 600), stack.log("model") + stack.log("embedding-api")
    assert call() == 200


def call() -> int:
    try:
        body = {"text": "still here"}
        return httpx.post(f"{URL}/embed", json=body, headers=HEADERS, timeout=60).status_code
    except httpx.TransportError:
        return 0


def spent() -> int:
    """Tokens that Redis has counted for the user today."""
    tokens = httpx.get(f"{URL}/usage", headers=HEADERS, timeout=60).json()["tokens"]
    return int(tokens["limit"] - tokens["remaining"])


def test_a_preparation_that_fails_leaves_the_old_version_serving(stack: Stack) -> None:
    """The commands as printed, and pasted into a shell that goes on after an error."""
    update = printed_commands(ROOT / "docs" / "deploy.md", "docker compose build &&")
    before = stack.about("embedding-api")["Id"]
    unknown = SETTINGS + NEXT + "MODEL_NAME=organisation/model\n"
    stack.folder.joinpath(".env").write_text(unknown)
    done = subprocess.run(
        ["bash", "-c", update.replace("docker compose build", "true")],
        cwd=stack.folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "error: huggingface.co could not be reached" in done.stdout + done.stderr
    assert stack.about("embedding-api")["Id"] == before
    assert call() == 200


def test_the_old_version_serves_while_the_new_one_is_prepared(stack: Stack) -> None:
    old = httpx.get(f"{URL}/health", timeout=10).json()["fingerprint"]
    counted = spent()
    assert counted > 0
    stack.folder.joinpath(".env").write_text(SETTINGS + NEXT)
    with repeated(call, pause=0.2) as answers:
        said = stack.compose("run", "--rm", "model", timeout=1200)
    assert "is ready" in said, said
    assert len(answers) > 3
    assert set(answers) == {200}
    assert httpx.get(f"{URL}/health", timeout=10).json()["fingerprint"] == old
    stack.up(SETTINGS + NEXT)
    assert eventually(is_ready), stack.log("embedding-api")
    assert "waiting_for_model" not in stack.log("embedding-api")
    assert httpx.get(f"{URL}/health", timeout=10).json()["fingerprint"] != old
    assert spent() >= counted


def test_going_back_needs_no_preparation(stack: Stack) -> None:
    stack.up(SETTINGS)
    assert eventually(is_ready), stack.log("embedding-api")
    assert stack.log("model").strip() == PREPARED
    assert call() == 200


def test_what_only_building_and_preparing_needed_can_be_removed(stack: Stack) -> None:
    stack.shell(printed_commands(ROOT / "docs" / "oracle.md", "docker compose rm"))
    images = run("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    assert "embedding-api-prepare:latest" not in images
    stack.compose("up", "-d", "--no-build", *STARTED)
    assert eventually(is_ready), stack.log("embedding-api")
    assert call() == 200
