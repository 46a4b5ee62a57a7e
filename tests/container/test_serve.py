"""The service's program: it waits for a model, says so, and then serves; live."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from container.status import write_status
from lab.server import SECRET, SOURCE, Server, bare_environment, free_port

NAME = "all-minilm-l6-v2-fp32"


@contextmanager
def started(
    directory: Path, *options: str, folder: Path = SOURCE, **settings: str
) -> Iterator[Server]:
    """`python -m container.serve` in a folder, with the model store and a log in a directory."""
    port = free_port()
    environment = {
        **bare_environment(),
        "BENTOML_HOME": str(directory),
        "PYTHONPATH": str(SOURCE),
        "MODEL_NAME": "all-MiniLM-L6-v2",
        "MODEL_QUANTIZATION": "fp32",
        **settings,
    }
    command = [sys.executable, "-m", "container.serve", *options, ".", "--port", str(port)]
    log_file = directory / "log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield Server(f"http://127.0.0.1:{port}", process, log_file)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A BENTOML_HOME without a model."""
    (tmp_path / "models").mkdir()
    return tmp_path


def logged(server: Server, message: str, *, seconds: float = 60) -> dict[str, str]:
    """The first line of the log with that message."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for line in server.log().splitlines():
            if f'"{message}"' in line:
                return dict(json.loads(line))
        assert server.process.poll() is None, server.log()
        time.sleep(0.1)
    raise AssertionError(server.log())


def test_it_waits_says_so_and_serves_once_the_model_is_there(model_store: Path, home: Path) -> None:
    with started(home, "--wait-for-model") as server:
        assert logged(server, "waiting_for_model")["detail"] == "it has not begun"
        answer = httpx.get(f"{server.url}/readyz")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "10"
        assert answer.json()["error"]["code"] == "starting"
        assert "is being prepared" in answer.json()["error"]["message"]
        assert httpx.get(f"{server.url}/livez").status_code == 200
        call = httpx.post(f"{server.url}/embed", json={"text": "x" * 1_000_000})
        assert call.status_code == 503
        assert httpx.get(f"{server.url}/metrics").status_code == 503
        shutil.copytree(model_store / "models" / NAME, home / "models" / NAME)
        server.wait_until_ready()
        with server.client() as client:
            assert client.post("/embed", json={"text": "a"}).status_code == 200


def test_what_the_preparation_says_is_in_the_log_and_a_failure_in_the_answer(home: Path) -> None:
    store = home / "models"
    write_status(store, NAME, "half of it")
    with started(home, "--wait-for-model") as server:
        assert logged(server, "waiting_for_model")["detail"] == "half of it"
        write_status(store, NAME, "no space left: free some", failed=True)
        line = logged(server, "model_is_not_prepared")
        assert line["level"] == "error"
        assert line["detail"] == "no space left: free some; then run `docker compose up -d`"
        message = httpx.get(f"{server.url}/readyz").json()["error"]["message"]
        assert message.startswith("the model could not be prepared")
        assert "space" not in message  # strangers are told nothing of the machine
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def test_a_preparation_that_was_killed_is_noticed(home: Path) -> None:
    write_status(home / "models", NAME, "half of it")
    [path] = (home / "models").iterdir()
    os.utime(path, (0, 0))
    with started(home, "--wait-for-model") as server:
        detail = logged(server, "model_is_not_prepared")["detail"]
    assert "killed after: half of it; run `docker compose up -d`" in detail


def test_a_wrong_setting_is_told_before_the_wait(home: Path) -> None:
    with started(home, "--wait-for-model", SUPABASE_JWT_SECRET="your_supabase_jwt_secret") as ends:
        assert ends.process.wait(60) == 1
    assert re.fullmatch(r"embedding-api: SUPABASE_JWT_SECRET .*\n", ends.log())


def test_a_start_without_settings_prints_a_call_that_works_and_keeps_its_secret(
    model_store: Path,
) -> None:
    options = ("--wait-for-model", "--secret-in", str(model_store))
    log = model_store / "log"
    log.unlink(missing_ok=True)
    with started(model_store, *options, SUPABASE_JWT_SECRET="") as server:
        server.wait_until_ready()
        deadline = time.monotonic() + 60
        while "Stop: " not in server.log():
            assert time.monotonic() < deadline, server.log()
            time.sleep(0.1)
    [command] = re.findall(r"(?ms)^curl .*?\}'$", server.log())
    secret = (model_store / "jwt-secret").read_text()
    assert secret not in server.log()
    log.unlink()
    with started(model_store, *options, SUPABASE_JWT_SECRET="") as server:
        server.wait_until_ready()
        again = command.replace("http://127.0.0.1:8000", server.url)
        ran = subprocess.run(
            ["bash", "-c", again], capture_output=True, text=True, timeout=60, check=True
        )
    log.unlink()
    assert len(json.loads(ran.stdout)["similarities"]) == 2


def test_a_start_with_a_project_prints_no_call_and_makes_no_secret(
    model_store: Path, tmp_path: Path
) -> None:
    with started(model_store, "--secret-in", str(tmp_path)) as server:
        server.wait_until_ready()
    assert "curl" not in server.log()
    (model_store / "log").unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_project_in_the_file_of_settings_counts_like_one_in_the_environment(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"SUPABASE_JWT_SECRET={SECRET}\n")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    options = ("--wait-for-model", "--secret-in", str(secrets))
    with started(home, *options, folder=tmp_path, SUPABASE_JWT_SECRET="") as server:
        logged(server, "waiting_for_model")
    assert list(secrets.iterdir()) == []
