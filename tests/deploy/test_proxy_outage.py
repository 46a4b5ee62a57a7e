"""Callers at real Caddy and real nginx while the service is away or restarts."""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from lab.server import ROOT, free_port, serve
from tests.deploy.promql import DEPLOY
from tests.deploy.proxies import (
    Proxy,
    assert_error,
    caddy,
    nginx,
)


@pytest.mark.parametrize("start", [partial(caddy, patience="1s"), nginx], ids=["caddy", "nginx"])
def test_callers_of_a_service_that_is_down_get_retry_after(
    start: Callable[[Path, int], AbstractContextManager[Proxy]], tmp_path: Path
) -> None:
    with start(tmp_path, free_port()) as proxy, proxy.client() as client:
        answers = [
            client.post("/embed", json={"text": "still here"}),
            client.get("/v1/models"),
            client.get("/readyz"),
        ]
    for answer in answers:
        assert_error(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0


def test_a_probe_does_not_wait_at_caddy(tmp_path: Path) -> None:
    with caddy(tmp_path, free_port()) as proxy, proxy.client() as client:
        assert client.get("/readyz", timeout=10).status_code == 503  # a call waits for 30 s


def test_no_call_is_lost_at_caddy_while_the_service_restarts(
    model_store: Path, tmp_path: Path
) -> None:
    """Every answer is a vector, or a 503 with Retry-After of a service that is stopping."""
    port = free_port()
    over = threading.Event()
    settings = {"MODEL_QUANTIZATION": "fp32", "RATE_LIMIT_PER_MIN": "100000"}

    def call(proxy: Proxy) -> list[tuple[int, str]]:
        answers = []
        with proxy.client() as client:
            while not over.is_set():
                answer = client.post("/embed", json={"text": "still here"})
                answers.append((answer.status_code, answer.headers.get("retry-after", "")))
                time.sleep(0.05)
        return answers

    with caddy(tmp_path, port) as proxy, ThreadPoolExecutor(4) as pool:
        with serve(tmp_path / "before", settings, port=port):
            calls = [pool.submit(call, proxy) for _ in range(4)]
            time.sleep(2)
        with serve(tmp_path / "after", settings, port=port):
            time.sleep(2)
            over.set()
            answers = [answer for one in calls for answer in one.result()]
    assert {status for status, _ in answers} <= {200, 503}
    assert all(wait for status, wait in answers if status == 503)
    assert len([status for status, _ in answers if status == 200]) > 40


def test_proxies_close_idle_connections_before_the_service_does() -> None:
    image = (ROOT / "Dockerfile").read_text()
    [service] = re.findall(r'"--timeout-keep-alive", "(\d+)"', image)
    [at_caddy] = re.findall(r"\bkeepalive (\d+)s", (DEPLOY / "caddy" / "Caddyfile").read_text())
    upstream = re.search(
        r"upstream \w+ \{.*?\}", (DEPLOY / "nginx" / "nginx.conf").read_text(), re.DOTALL
    )
    assert upstream
    [at_nginx] = re.findall(r"keepalive_timeout (\d+)s", upstream[0])
    assert max(int(at_caddy), int(at_nginx)) < int(service)
