"""A service with service keys and no project: machines are served, and users are not."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from auth.service_key_format import new_key
from lab.server import Server, serve, token
from lab.service_keys import KEY

ADDED = new_key()


@dataclass(frozen=True)
class Running:
    server: Server
    file: Path

    def call(self, credential: str | None) -> httpx.Response:
        headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
        return httpx.post(
            f"{self.server.url}/embed", json={"text": "a"}, headers=headers, timeout=60
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("machines-alone")
    file = directory / "keys"
    file.write_text("# none yet\n")
    environment = {
        "MODEL_QUANTIZATION": "fp32",
        "SUPABASE_JWT_SECRET": "",
        "SERVICE_KEYS_FILE": str(file),
    }
    with serve(directory / "log", environment) as server:
        yield Running(server, file)


def entry(name: str, key: str) -> str:
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}\n"


def test_nobody_is_served_until_the_first_key_is_listed(running: Running) -> None:
    assert "nobody_is_served" in running.server.log()
    assert running.call(KEY).json()["error"]["code"] == "service_key_unknown"
    running.file.write_text(entry("indexer", KEY))
    deadline = time.monotonic() + 30
    while running.call(KEY).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_users_token_is_refused_with_what_to_send_instead(running: Running) -> None:
    answer = running.call(token())
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "users_not_served"
    assert "Send a service key" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "credential", [None, "nonsense", ADDED], ids=["none", "no key", "not listed"]
)
def test_what_is_no_listed_key_is_401(running: Running, credential: str | None) -> None:
    assert running.call(credential).status_code == 401
