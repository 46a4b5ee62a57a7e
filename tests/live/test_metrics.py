"""What the dashboard is drawn from: every metric is there, tells the truth and stays small."""

import random
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from lab.key_server import KeyServer
from lab.redis_server import RedisServer
from lab.server import Server, serve, token

on_source = pytest.mark.parametrize("server", ["source"], indirect=True)
FP32 = {"MODEL_QUANTIZATION": "fp32"}


def metrics(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every series and its value."""
    families = parse(httpx.get(f"{server.url}/metrics").text)
    return {
        (s.name, frozenset(s.labels.items())): s.value
        for family in families
        for s in family.samples
    }


def value(server: Server, name: str, **labels: str) -> float:
    return metrics(server).get((name, frozenset(labels.items())), 0)


@pytest.fixture
def project() -> Iterator[KeyServer]:
    keys = KeyServer()
    keys.start("first")
    yield keys
    keys.stop()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Not started yet."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def test_what_the_service_lacks_is_seen(
    tmp_path: Path, model_store: Path, project: KeyServer, redis: RedisServer
) -> None:
    environment = FP32 | {"REDIS_URL": redis.url, "SUPABASE_URL": project.url}
    with serve(tmp_path / "log", environment, ready=False) as running:
        ready: list[float] = []
        deadline = time.monotonic() + 60
        while 1 not in ready and time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                ready.append(value(running, "embed_ready"))
        assert (ready[0], ready[-1]) == (0, 1)
        assert value(running, "embed_quota_degraded") == 1
        redis.start()
        while (
            httpx.get(f"{running.url}/health").json()["redis"] != "ok"
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        assert value(running, "embed_quota_degraded") == 0
        before = value(running, "embed_jwks_age_seconds")
        time.sleep(0.5)
        assert 0 < before < value(running, "embed_jwks_age_seconds") < 60


def test_our_own_faults_begin_at_zero_so_that_the_first_one_shows(
    tmp_path: Path, model_store: Path
) -> None:
    with serve(tmp_path / "log", FP32) as fresh:
        found = {(name, *sorted(labels)): count for (name, labels), count in metrics(fresh).items()}
    for reason in (
        "internal_error",
        "queue_full",
        "engine_stalled",
        "keys_unavailable",
        "quota_unavailable",
    ):
        assert found[("embed_errors_total", ("reason", reason), ("route", "/embed"))] == 0
    for decision in ("admitted", "overloaded", "quota_requests", "token_expired"):
        assert found[("embed_gate_decisions_total", ("decision", decision))] == 0
    assert found[("embed_requests_total", ("route", "/embed"), ("status", "500"))] == 0


@on_source
def test_the_gate_counts_whom_it_admits_and_why_it_refuses(server: Server) -> None:
    def decisions() -> dict[str, float]:
        names = ("admitted", "token_missing", "path_not_found", "body_too_large")
        return {name: value(server, "embed_gate_decisions_total", decision=name) for name in names}

    before = decisions()
    with server.client() as client:
        for _ in range(3):
            client.post("/embed", json={"text": "a"})
        client.post(
            "/embed", content=b"{", headers={"Content-Type": "application/json"}
        )  # admitted, then malformed
        client.post(
            "/embed", content=b"x" * 9_000_000, headers={"Content-Type": "application/json"}
        )
    httpx.post(f"{server.url}/embed", json={"text": "a"})
    httpx.get(f"{server.url}/no-such-path")
    httpx.get(f"{server.url}/livez")
    assert [
        now - then for now, then in zip(decisions().values(), before.values(), strict=True)
    ] == [4, 1, 1, 1]


@on_source
def test_a_server_at_rest_says_so(server: Server) -> None:
    found = metrics(server)
    assert found[("embed_ready", frozenset())] == 1
    resting = (
        "in_flight_requests",
        "queue_tokens",
        "forward_pass_running_seconds",
        "quota_degraded",
    )
    assert [found[(f"embed_{name}", frozenset())] for name in resting] == [0] * 4
    assert not [
        name for name, _ in found if name == "embed_jwks_age_seconds"
    ]  # there is no key server


@on_source
def test_a_refusal_does_not_count_as_a_quick_answer(server: Server) -> None:
    before = value(server, "embed_request_duration_seconds_count", route="/embed")
    assert httpx.post(f"{server.url}/embed", json={"text": "a"}).status_code == 401
    assert value(server, "embed_request_duration_seconds_count", route="/embed") == before


@on_source
def test_work_that_waits_is_seen(server: Server) -> None:
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        texts = [f"{number} {'word ' * 200}" for number in range(100)]
        call = pool.submit(client.post, "/batch-embed", json={"texts": texts})
        seen: dict[str, float] = dict.fromkeys(
            (
                "embed_queue_tokens",
                "embed_in_flight_requests",
                "embed_forward_pass_running_seconds",
            ),
            0,
        )
        while not call.done():
            found = metrics(server)
            seen = {name: max(most, found[(name, frozenset())]) for name, most in seen.items()}
        assert call.result().status_code == 200
    assert all(most > 0 for most in seen.values()), seen
    assert value(server, "embed_queue_wait_seconds_sum") > 0


@on_source
def test_a_pack_is_counted_in_tokens_and_in_its_share_of_the_budget(server: Server) -> None:
    names = (
        "embed_tokens_total",
        "embed_batch_tokens_sum",
        "embed_batch_fill_ratio_sum",
        "embed_texts_total",
    )
    before = metrics(server)
    with server.client() as client:
        text = f"{uuid.uuid4()} {'word ' * 40}"
        tokens = client.post("/embed", json={"text": text}).json()["usage"]["total_tokens"]
    after = metrics(server)
    grown = [after[(name, frozenset())] - before[(name, frozenset())] for name in names]
    assert grown == pytest.approx([tokens, tokens, tokens / 256, 1])


@on_source
def test_the_model_and_the_process_are_described(server: Server) -> None:
    found = metrics(server)
    [labels] = [dict(labels) for name, labels in found if name == "embed_model_info"]
    health = httpx.get(f"{server.url}/health").json()
    assert all(
        labels[name] == health[name] for name in ("model", "quantization", "fingerprint", "version")
    )
    assert (labels["architecture"], labels["backend"]) == ("bert", "native")
    assert found[("process_resident_memory_bytes", frozenset())] > 50e6
    assert 1e6 < found[("embed_supervisor_resident_memory_bytes", frozenset())] < 20e6
    assert found[("process_cpu_seconds_total", frozenset())] > 0
    assert found[("process_open_fds", frozenset())] > 5
    assert time.time() - found[("process_start_time_seconds", frozenset())] < 3600


@on_source
def test_neither_users_nor_paths_become_series_and_a_page_stays_quick(server: Server) -> None:
    def flood(count: int) -> None:
        with httpx.Client(base_url=server.url) as client:
            for _ in range(count):
                client.get(f"/{random.getrandbits(64):x}")
                user = {"Authorization": f"Bearer {token(str(uuid.uuid4()))}"}
                assert client.post("/embed", json={"text": "a"}, headers=user).status_code == 200

    flood(5)
    series = metrics(server).keys()
    flood(300)
    assert metrics(server).keys() == series
    with httpx.Client(base_url=server.url) as client:
        took = sorted(client.get("/metrics").elapsed.total_seconds() for _ in range(20))
    assert took[10] < 0.05
