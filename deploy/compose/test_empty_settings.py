"""The first start, with an empty `.env`: what it prepares, says and prints.

make test-compose
"""

import json
import re
import subprocess

import httpx
import pytest

from deploy.compose.stack import PREPARED, URL, Stack, eventually, is_ready


@pytest.fixture(scope="module", autouse=True)
def killed(stack: Stack) -> None:
    """The first preparation is killed in the middle, while the service waits for it."""
    stack.up("")
    assert eventually(lambda: "Preparing" in stack.log("model")), stack.log("model")
    assert eventually(lambda: '"detail":"Preparing' in stack.log("embedding-api"))
    answer = httpx.get(f"{URL}/readyz", timeout=10)
    assert answer.status_code == 503
    assert "is being prepared" in answer.json()["error"]["message"]
    subprocess.run(["docker", "kill", stack.name_of("model")], check=True, timeout=60)
    assert stack.about("embedding-api")["State"]["Running"]
    assert not is_ready()


def test_the_next_start_prepares_the_model_and_the_waiting_service_serves_it(stack: Stack) -> None:
    before = stack.about("embedding-api")["Id"]
    stack.up("")
    assert eventually(is_ready, 600), stack.log("model") + stack.log("embedding-api")
    assert stack.about("embedding-api")["Id"] == before
    assert stack.about("embedding-api")["RestartCount"] == 0
    assert "model_loaded_successfully" in stack.log("embedding-api")
    assert stack.about("model")["State"]["ExitCode"] == 0


def test_the_printed_call_works(stack: Stack) -> None:
    [command] = re.findall(r"(?ms)^curl .*?\}'$", stack.log("embedding-api"))
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60
    )
    assert len(json.loads(done.stdout)["similarities"]) == 2
    health = httpx.get(f"{URL}/health", timeout=10).json()
    assert (health["model"], health["redis"]) == ("sentence-transformers/all-MiniLM-L6-v2", "ok")


def test_another_token_is_printed_on_demand(stack: Stack) -> None:
    token = stack.inside("embedding-api", "python", "-m", "container.development").stdout.strip()
    answer = httpx.post(
        f"{URL}/embed",
        json={"text": "still here"},
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    assert answer.status_code == 200


def test_nothing_but_the_model_is_left_in_the_volumes(stack: Stack) -> None:
    models = stack.inside("embedding-api", "ls", "-A", "/bentoml/models").stdout.split()
    assert models == ["all-minilm-l6-v2-int8"]
    versions = stack.inside("embedding-api", "ls", f"/bentoml/models/{models[0]}").stdout.split()
    assert len(versions) == 2  # one, and the file `latest`


def test_a_second_start_prepares_nothing_and_keeps_the_secret(stack: Stack) -> None:
    old = stack.inside("embedding-api", "python", "-m", "container.development").stdout.strip()
    stack.compose("down")
    stack.up("")
    assert eventually(is_ready), stack.log("embedding-api")
    assert stack.log("model").strip() == PREPARED
    answer = httpx.get(f"{URL}/usage", headers={"Authorization": f"Bearer {old}"}, timeout=30)
    assert answer.status_code == 200


def test_each_container_is_well_after_a_restart(stack: Stack, service: str) -> None:
    stack.compose("restart", service)
    assert eventually(lambda: stack.is_healthy(service)), stack.log(service)
    assert eventually(is_ready), stack.log("embedding-api")
