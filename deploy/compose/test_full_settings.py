"""The compose file with the settings of a project: limits, networks, and what the runbook says.

make test-compose
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from deploy.compose.stack import SERVICES, URL, Stack, eventually, is_ready
from lab.server import ROOT, SECRET, assert_nothing_leaked, token
from tests.printed import blocks, printed_commands

BLOCKED = "6f1c1c86-6d3c-4c8a-9d0b-2c8f6d1a0009"
HF_TOKEN = "hf_token-for-preparing-the-model"
SETTINGS = f"""
MODEL_NAME=all-MiniLM-L6-v2
MODEL_QUANTIZATION=int8
MAX_BATCH_SIZE=8
MAX_SEQ_LENGTH=2048
HF_TOKEN={HF_TOKEN}
SUPABASE_JWT_SECRET={SECRET}
REDIS_URL=redis://redis:6379
RATE_LIMIT_PER_MIN=10
DEBUG=true
"""


@pytest.fixture(scope="module", autouse=True)
def served(stack: Stack) -> Iterator[None]:
    stack.up(SETTINGS)
    assert eventually(is_ready, 600), stack.log("model") + stack.log("embedding-api")
    yield
    assert_nothing_leaked(stack.log("embedding-api"))


def test_each_container_is_well(stack: Stack, service: str) -> None:
    assert stack.about(service)["State"]["Running"]


def test_no_call_is_printed_and_the_secret_for_development_is_not_taken(stack: Stack) -> None:
    assert "curl" not in stack.log("embedding-api")
    said = stack.inside("embedding-api", "python", "-m", "container.development")
    assert said.returncode == 1
    assert "sign in to Supabase" in said.stderr


def call(url: str, **options: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token()}"}
    return httpx.post(
        f"{url}/embed", json={"text": "still here"}, headers=headers, timeout=30, **options
    )


def test_a_call_is_served_and_counted_in_redis(stack: Stack) -> None:
    answer = call(URL)
    assert answer.status_code == 200, answer.text
    assert httpx.get(f"{URL}/health", timeout=10).json()["redis"] == "ok"
    assert stack.inside("redis", "redis-cli", "dbsize").stdout.strip() != "0"


def test_prometheus_reads_the_service_and_knows_the_rules() -> None:
    def up() -> bool:
        targets = httpx.get("http://127.0.0.1:9090/api/v1/targets", timeout=10).json()["data"][
            "activeTargets"
        ]
        return [target["health"] for target in targets] == ["up"]

    assert eventually(up)
    groups = httpx.get("http://127.0.0.1:9090/api/v1/rules", timeout=10).json()["data"]["groups"]
    assert any(rule["name"] == "EmbeddingDown" for group in groups for rule in group["rules"])


def test_caddy_lets_calls_through_and_no_metrics() -> None:
    for path, status in (("/readyz", 200), ("/metrics", 404)):
        assert (
            httpx.get(f"https://localhost{path}", verify=False, timeout=30).status_code == status
        )  # its own CA
    assert call("https://localhost", verify=False).status_code == 200


def test_caddy_and_prometheus_read_a_changed_configuration_again(stack: Stack) -> None:
    """As an update changes them: no container is made again."""
    caddyfile = stack.folder / "deploy" / "caddy" / "Caddyfile"
    rules = stack.folder / "deploy" / "prometheus" / "rules" / "embedding-api.yml"
    for path, old, new in (
        (caddyfile, "path_not_found", "changed_code"),
        (rules, "EmbeddingDown", "EmbeddingChanged"),
    ):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def code() -> object:
        answer = httpx.get("https://localhost/metrics", verify=False, timeout=30)
        return answer.json()["error"]["code"]

    stack.shell(printed_commands(ROOT / "docs" / "deploy.md", "docker compose exec -T caddy"))
    assert eventually(lambda: code() == "changed_code", 30), stack.log("caddy")
    stack.compose("restart", "prometheus")  # after a signal Docker would not start it at boot
    assert eventually(lambda: "EmbeddingChanged" in listed_rules(), 60)


def listed_rules() -> str:
    try:
        return httpx.get("http://127.0.0.1:9090/api/v1/rules", timeout=10).text
    except httpx.TransportError:
        return ""


def test_limits_are_in_force(stack: Stack, service: str) -> None:
    config = stack.about(service)["HostConfig"]
    limits = SERVICES[service]
    size, unit = re.search(r"(\d+)([MG])\b", limits["mem_limit"]).groups()  # type: ignore[union-attr]
    assert config["Memory"] == int(size) << {"M": 20, "G": 30}[unit]
    [cpus] = re.findall(r"\d\.\d", str(limits["cpus"]))
    assert config["NanoCpus"] == float(cpus) * 1e9
    assert config["PidsLimit"] == limits["pids_limit"]


def test_nothing_is_written_but_where_it_may_be(stack: Stack, service: str) -> None:
    write = (
        ("python", "-c", "open('{}/x', 'w').close()")
        if service == "embedding-api"
        else ("touch", "{}/x")
    )
    for directory, allowed in (("/", False), ("/usr", False), ("/tmp", True)):
        done = stack.inside(service, *(word.format(directory) for word in write))
        assert (done.returncode == 0) is allowed, (directory, done.stderr)


def test_the_service_does_not_have_the_token_that_models_are_fetched_with(stack: Stack) -> None:
    environment = stack.inside(
        "embedding-api", "python", "-c", "print(open('/proc/1/environ').read())"
    ).stdout
    assert SECRET in environment
    assert HF_TOKEN not in environment


def test_redis_is_reached_by_the_service_alone(stack: Stack) -> None:
    with pytest.raises(httpx.ConnectError):
        httpx.get("http://127.0.0.1:6379")
    assert (
        stack.inside("prometheus", "nc", "-z", "-w", "3", "embedding-api", "8000").returncode == 0
    )
    assert stack.inside("prometheus", "nc", "-z", "-w", "3", "redis", "6379").returncode != 0
    [address] = (
        network["IPAddress"]
        for network in stack.about("redis")["NetworkSettings"]["Networks"].values()
    )
    assert stack.inside("prometheus", "nc", "-z", "-w", "3", address, "6379").returncode != 0


def test_the_service_goes_on_without_redis_and_counts_there_again(
    stack: Stack,
) -> None:
    def redis_is(state: str) -> Callable[[], bool]:
        return lambda: httpx.get(f"{URL}/health", timeout=10).json()["redis"] == state

    stack.compose("stop", "redis")
    assert call(URL).status_code == 200
    assert eventually(redis_is("degraded"))
    stack.compose("start", "redis")
    assert eventually(redis_is("ok"))


def test_a_restored_backup_of_redis_has_its_blocked_users(stack: Stack) -> None:
    back_up, restore = (block.text for block in blocks(ROOT / "docs" / "oracle.md")[-2:])
    stack.inside("redis", "redis-cli", "sadd", "blocked_users", BLOCKED)
    stack.shell(back_up)
    stack.inside("redis", "redis-cli", "flushall")
    stack.shell(restore)

    def members() -> str:
        return stack.inside("redis", "redis-cli", "smembers", "blocked_users").stdout.strip()

    assert eventually(lambda: members() == BLOCKED), stack.log("redis")


def test_it_stops_within_its_grace_having_said_good_bye(stack: Stack) -> None:
    stack.compose("stop", "embedding-api")
    assert stack.about("embedding-api")["State"]["ExitCode"] == 0
