"""Service keys against the real service, with Redis: what a machine can do, and who it is."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from auth.service_key_format import new_key
from lab.browser import browser
from lab.server import ROOT, Server, serve, token
from lab.service_keys import KEY, OTHER_KEY

SUPABASE_KEY = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"
KEYS = {"indexer": KEY, "limited": new_key(), "revoked": new_key(), "spare": OTHER_KEY}
UNKNOWN = new_key()
LIMIT = 5  # requests of users


def entry(name: str, key: str, options: str = "") -> str:
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}{options}"


LISTED = [
    entry("indexer", KEYS["indexer"], ":requests=none:tokens=none:priority=bulk"),
    entry("limited", KEYS["limited"], ":requests=2:tokens=1000"),
    entry("edge", SUPABASE_KEY, ":requests=600"),
]
REVOCABLE = entry("revoked", KEYS["revoked"], ":requests=600")


@dataclass(frozen=True)
class Running:
    server: Server
    file: Path

    def call(self, path: str = "/embed", **headers: str) -> httpx.Response:
        body = None if path == "/usage" else {"text": "playing a guitar"}
        method = "GET" if body is None else "POST"
        url = self.server.url + path
        return httpx.request(method, url, json=body, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, model_store: Path, redis_url: str
) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("service-keys")
    file = directory / "keys"
    file.write_text(f"# revoked below\n{REVOCABLE}\n")
    environment = {
        "MODEL_QUANTIZATION": "fp32",
        "REDIS_URL": redis_url,
        "RATE_LIMIT_PER_MIN": str(LIMIT),
        "SERVICE_KEYS": ", ".join(LISTED),
        "SERVICE_KEYS_FILE": str(file),
        "CORS_ALLOW_ORIGINS": "*",
    }
    with serve(directory / "log", environment) as server:
        yield Running(server, file)
    log = server.log()
    for key in (*KEYS.values(), UNKNOWN, SUPABASE_KEY):
        assert key not in log
        assert key[10:30] not in log


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def series(server: Server, name: str) -> dict[str, float]:
    """Of a counter: its sum for each caller."""
    sums: dict[str, float] = {}
    for family in parse(httpx.get(f"{server.url}/metrics").text):
        for sample in family.samples:
            if sample.name == name:
                caller = sample.labels["caller"]
                sums[caller] = sums.get(caller, 0) + sample.value
    return sums


def test_a_machine_is_served_beyond_the_limits_of_users(running: Running) -> None:
    answers = [running.call(**bearer(KEYS["indexer"])) for _ in range(2 * LIMIT)]
    answers.append(running.call(apikey=KEYS["indexer"]))
    assert {answer.status_code for answer in answers} == {200}
    assert not [name for name in answers[-1].headers if "ratelimit" in name]


def test_a_projects_own_secret_key_is_served_as_supabases_clients_send_it(running: Running) -> None:
    assert running.call(apikey=SUPABASE_KEY, **bearer(SUPABASE_KEY)).status_code == 200
    assert running.call(apikey=SUPABASE_KEY).status_code == 200


def test_a_users_token_counts_although_a_key_comes_with_it(running: Running) -> None:
    user = "3d0a2c5e-0000-4000-8000-000000000017"
    answer = running.call("/usage", apikey=SUPABASE_KEY, **bearer(token(user)))
    assert answer.json()["caller"] == "user"
    assert answer.json()["requests"]["limit"] == LIMIT


def test_openais_client_takes_the_key_as_its_api_key(running: Running) -> None:
    with openai.OpenAI(
        base_url=f"{running.server.url}/v1", api_key=KEYS["indexer"], max_retries=0
    ) as client:
        model = client.models.list().data[0].id
        answer = client.embeddings.create(model=model, input=["playing a guitar"])
    expected = running.call(**bearer(KEYS["indexer"])).json()["embedding"]
    assert answer.data[0].embedding == pytest.approx(expected, abs=1e-6)


def test_a_key_has_its_own_limits_and_usage_says_whose_they_are(running: Running) -> None:
    key = bearer(KEYS["limited"])
    assert [running.call(**key).status_code for _ in range(2)] == [200, 200]
    assert code(running.call(**key)) == (429, "quota_requests")
    usage = running.call("/usage", **key).json()
    assert usage["caller"] == "service:limited"
    assert usage["requests"]["limit"] == 2
    assert usage["tokens"]["limit"] == 1000
    assert usage["tokens"]["remaining"] < 1000
    free = running.call("/usage", **bearer(KEYS["indexer"])).json()
    nothing = {"requests": None, "tokens": None, "batch_tokens": None}
    assert free == {"caller": "service:indexer", **nothing}


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        (bearer(UNKNOWN), "", (401, "service_key_unknown")),
        ({"apikey": UNKNOWN}, "", (401, "service_key_unknown")),
        (bearer(KEYS["indexer"][:-3]), "", (401, "service_key_mistyped")),
        (bearer(KEYS["indexer"][:-1] + "!"), "", (401, "service_key_mistyped")),
        (bearer(SUPABASE_KEY[:-1]), "", (403, "api_key")),
        (
            bearer(KEYS["indexer"]) | {"Origin": "https://app.example.com"},
            "",
            (403, "service_key_in_browser"),
        ),
        ({}, f"?apikey={KEYS['spare']}", (403, "service_key_in_url")),
        (bearer(KEYS["indexer"]), f"?key={KEYS['spare']}", (403, "service_key_in_url")),
    ],
)
def test_a_key_that_does_not_count_is_told_why(
    running: Running, headers: dict[str, str], query: str, expected: tuple[int, str]
) -> None:
    answer = running.call(f"/embed{query}", **headers)
    assert code(answer) == expected
    assert ("access-control-allow-origin" in answer.headers) or "Origin" not in headers
    if expected[0] == 401:
        assert f'error_description="{expected[1]}"' in answer.headers["www-authenticate"]


def test_a_key_is_revoked_and_replaced_within_seconds(running: Running) -> None:
    assert running.call(**bearer(KEYS["revoked"])).status_code == 200
    running.file.write_text(f"{REVOCABLE}\n{entry('revoked', KEYS['spare'], ':requests=600')}\n")
    _until(lambda: running.call(**bearer(KEYS["spare"])).status_code == 200)
    assert running.call(**bearer(KEYS["revoked"])).status_code == 200
    running.file.write_text("")
    _until(lambda: running.call(**bearer(KEYS["spare"])).status_code == 401)
    assert code(running.call(**bearer(KEYS["revoked"]))) == (401, "service_key_unknown")
    assert running.call(**bearer(KEYS["indexer"])).status_code == 200


def test_work_of_users_goes_before_bulk(running: Running) -> None:
    """As much work, sent later by a user, is done first; in turns it would be done last."""
    body = {
        "texts": [f"text number {number} of many, and some more words" for number in range(2048)]
    }
    url = f"{running.server.url}/batch-embed"

    def embed(key: str) -> float:
        answer = httpx.post(url, json=body, headers=bearer(key), timeout=120)
        assert answer.status_code == 200
        return time.monotonic()

    with ThreadPoolExecutor() as pool:
        bulk = pool.submit(embed, KEYS["indexer"])
        _until(lambda: _queued_tokens(running.server) > 0)
        user = pool.submit(embed, token("3d0a2c5e-0000-4000-8000-000000000018"))
        assert user.result() < bulk.result()


def _queued_tokens(server: Server) -> float:
    page = httpx.get(f"{server.url}/metrics").text
    [line] = [line for line in page.splitlines() if line.startswith("embed_queue_tokens ")]
    return float(line.split()[1])


def test_metrics_and_log_tell_machines_from_users(running: Running) -> None:
    server = running.server
    for headers in (bearer(KEYS["indexer"]), bearer(token()), bearer(UNKNOWN)):
        running.call(**headers)
    requests = series(server, "embed_caller_requests_total")
    assert requests["service:indexer"] >= 1
    assert requests["user"] >= 1
    known = {"user", "service:indexer", "service:limited", "service:edge", "service:revoked"}
    assert requests.keys() <= known
    assert series(server, "embed_caller_tokens_total")["service:indexer"] > 0
    assert '"caller":"service:indexer","user":null' in server.log()
    assert '"caller":"user","user":"' in server.log()


@pytest.mark.parametrize(
    ("headers", "query"),
    [(bearer(KEYS["indexer"]) | {"Origin": "null"}, ""), ({}, f"?key={KEYS['indexer']}&x=1")],
    ids=["browser", "URL"],
)
def test_an_exposed_key_is_named_by_its_caller(
    running: Running, headers: dict[str, str], query: str
) -> None:
    before = forbidden(running.server)
    refused = running.call(f"/embed{query}", **headers)
    assert refused.status_code == 403
    assert forbidden(running.server) == before + 1
    [line] = [
        json.loads(line)
        for line in running.server.log().splitlines()
        if refused.headers["x-request-id"] in line
    ]
    assert line["caller"] == "service:indexer"
    assert line["reason"] == refused.json()["error"]["code"]


def forbidden(server: Server) -> float:
    """Requests of service:indexer that got 403."""
    page = httpx.get(f"{server.url}/metrics").text
    samples = [sample for family in parse(page) for sample in family.samples]
    return sum(
        sample.value
        for sample in samples
        if sample.name == "embed_caller_requests_total"
        and sample.labels == {"caller": "service:indexer", "status": "403"}
    )


def test_a_page_of_the_services_own_origin_cannot_use_a_key(
    running: Running, tmp_path: Path
) -> None:
    """A GET of a page to its own server has no Origin header."""
    with browser(tmp_path) as page:
        page.open(f"{running.server.url}/docs")
        page.wait_for("document.readyState === 'complete'")
        page.evaluate(
            f"fetch('/usage', {{headers: {{apikey: '{KEYS['indexer']}'}}}})"
            ".then((answer) => { window.answered = answer.status; })"
        )
        page.wait_for("window.answered")
        assert page.evaluate("window.answered") == 403


def test_a_key_is_printed_once_with_the_line_that_is_stored(tmp_path: Path) -> None:
    printed = _made("indexer", tmp_path)
    [key] = [line.strip() for line in printed.stdout.splitlines() if line.startswith("  embk_")]
    assert f"\n  {entry('indexer', key, ':requests=600:tokens=none')}\n" in printed.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "In Dexer", "a:b"])
def test_a_name_that_cannot_be_used_is_told(tmp_path: Path, name: str) -> None:
    made = _made(name, tmp_path)
    assert made.returncode == 1
    assert made.stdout == ""
    assert "up to 32 lower case letters" in made.stderr
    assert made.stderr.endswith("For example: indexer\n")
    assert "entry" not in made.stderr
    assert len(made.stderr.splitlines()) == 1


def _made(name: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "auth.new_service_key", name]
    environment: dict[str, Any] = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60
    )


def _until(is_so: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)
