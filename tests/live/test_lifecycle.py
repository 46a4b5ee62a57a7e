"""Start and end: nothing accepted is lost, nothing hangs, and a broken worker is restarted."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from lab.server import SOURCE, Server, bare_environment, serve
from tests.live.ptrace import busiest_thread, held

FP32 = {"MODEL_QUANTIZATION": "fp32"}
TEXTS = ["word " * 200] * 100  # about two seconds of work


def worker(server: Server) -> psutil.Process:
    [process] = psutil.Process(server.process.pid).children()
    return process


def wait_for_another_than(gone: psutil.Process, server: Server, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while {child.pid for child in psutil.Process(server.process.pid).children()} <= {gone.pid}:
        assert time.monotonic() < deadline, f"no new worker within {seconds} s"
        time.sleep(0.01)


def wait_for_a_pass(server: Server) -> None:
    before = passes(server)
    while passes(server) == before:
        time.sleep(0.01)


def passes(server: Server) -> float:
    return value(server, "embed_batch_texts_count")


def value(server: Server, series: str) -> float:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{series} "))


def status_of(url: str, seconds: float = 10) -> int:
    return httpx.get(url, timeout=seconds).status_code


def answers_at_all(server: Server) -> bool:
    try:
        return status_of(f"{server.url}/livez", 1) > 0
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def enduring(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[Server]:
    """A server whose worker is made to end."""
    environment = FP32 | {"ENGINE_TIMEOUT": "2", "NUM_THREADS": "1", "RATE_LIMIT_PER_MIN": "100000"}
    with serve(tmp_path_factory.mktemp("enduring") / "log", environment) as running:
        yield running


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_is_replaced_at_once_and_newcomers_are_told_to_wait(
    enduring: Server, number: signal.Signals
) -> None:
    killed = worker(enduring)
    killed.send_signal(number)
    began = (
        time.monotonic()
    )  # not when it is gone: until the supervisor looks, it is there as a zombie
    wait_for_another_than(killed, enduring, seconds=3)  # BentoML's own look comes every 10 s
    answers: list[httpx.Response] = []
    while not answers or answers[-1].status_code != 200:
        with suppress(
            httpx.TransportError
        ):  # imports take a second and a half, and nobody waits for long
            answers.append(httpx.get(f"{enduring.url}/readyz", timeout=3))
        assert time.monotonic() - began < 30
    assert {answer.json()["error"]["code"] for answer in answers[:-1]} <= {"starting"}
    assert {answer.status_code for answer in answers[:-1]} <= {503}


def test_a_worker_whose_forward_pass_hangs_answers_its_callers_and_is_replaced(
    enduring: Server,
) -> None:
    hanging = worker(enduring)
    with enduring.client() as client, ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(client.post, "/batch-embed", json={"texts": TEXTS}) for _ in range(2)]
        wait_for_a_pass(enduring)
        probes: dict[str, set[int]] = {"/readyz": set(), "/livez": set()}
        with held(busiest_thread(hanging.pid), others_run=lambda: answers_at_all(enduring)):
            while not all(503 in seen for seen in probes.values()):
                for path, seen in probes.items():
                    seen.add(status_of(f"{enduring.url}{path}", 5))
            answers = [call.result(30) for call in calls]
            assert [answer.status_code for answer in answers] == [503, 503]
            assert [answer.json()["error"]["code"] for answer in answers] == ["engine_stalled"] * 2
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        psutil.wait_procs([hanging], timeout=30)
        assert enduring.log().count("worker_given_up") == 1
        enduring.wait_until_ready()
        assert client.post("/embed", json={"text": "a"}).status_code == 200
    assert worker(enduring).pid != hanging.pid


def test_a_worker_whose_event_loop_hangs_is_replaced(enduring: Server) -> None:
    hanging = worker(enduring)
    for _ in range(3):  # stopped while it holds the GIL, it would stop the watching thread too
        with held(hanging.pid):  # the main thread, which runs the loop
            gone, _ = psutil.wait_procs([hanging], timeout=20)
        if gone:
            break
    assert gone
    assert "event_loop_stalled" in enduring.log()
    enduring.wait_until_ready()


def test_a_worker_whose_model_does_not_come_is_replaced(tmp_path: Path, model_store: Path) -> None:
    home = Path(shutil.copytree(model_store / "models", tmp_path / "home" / "models")).parent
    environment = FP32 | {"ENGINE_TIMEOUT": "1", "BENTOML_HOME": str(home)}
    with serve(tmp_path / "log", environment) as running:
        [file] = home.glob("models/all-minilm-l6-v2-fp32/*/tokenizer.json")
        kept = file.rename(tmp_path / "tokenizer.json")
        os.mkfifo(file)  # who opens it waits for a writer, as for a network disk that is gone
        loading, log = worker(running), running.log
        loading.kill()
        deadline = time.monotonic() + 30
        while "model_cannot_be_loaded" not in log():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        kept.rename(file)
        running.wait_until_ready()


def test_a_worker_does_not_outlive_its_supervisor(tmp_path: Path, model_store: Path) -> None:
    with (
        serve(tmp_path / "log", FP32) as running,
        running.client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        orphan = worker(running)
        call = pool.submit(client.post, "/batch-embed", json={"texts": TEXTS})
        wait_for_a_pass(running)
        running.process.kill()
        assert len(call.result(60).json()["embeddings"]) == len(TEXTS)
        gone, _ = psutil.wait_procs([orphan], timeout=30)
        assert gone


def test_sigterm_refuses_newcomers_and_answers_those_who_were_here(
    tmp_path: Path, model_store: Path
) -> None:
    with (
        serve(tmp_path / "log", FP32) as running,
        running.client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(client.post, "/batch-embed", json={"texts": TEXTS * 2})
        wait_for_a_pass(running)
        running.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while status_of(f"{running.url}/readyz") == 200:
            assert time.monotonic() < deadline
        assert status_of(f"{running.url}/livez") == 200
        with running.client() as newcomer:
            refused = newcomer.post("/embed", json={"text": "a"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
        assert int(refused.headers["retry-after"]) >= 1
        stopped = value(running, 'embed_gate_decisions_total{decision="stopping"}')
        assert stopped == 1  # the newcomer; the probes were not the gate's to stop
        assert len(call.result(60).json()["embeddings"]) == len(TEXTS * 2)
        assert running.process.wait(30) == 0


def test_who_waits_longer_than_the_shutdown_may_take_is_told_so(
    tmp_path: Path, model_store: Path
) -> None:
    environment = FP32 | {"SHUTDOWN_TIMEOUT": "0.5"}
    with (
        serve(tmp_path / "log", environment) as running,
        running.client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(client.post, "/batch-embed", json={"texts": TEXTS * 10})
        wait_for_a_pass(running)
        running.process.send_signal(signal.SIGTERM)
        answer = call.result(60)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")
        assert running.process.wait(30) == 0
        assert "shutdown_timeout" in running.log()


def test_in_a_container_everything_ends_with_the_worker_so_that_it_is_restarted(
    tmp_path: Path, model_store: Path
) -> None:
    with serve(tmp_path / "log", FP32 | {"BENTOML_CONTAINERIZED": "true"}) as running:
        worker(running).kill()
        assert running.process.wait(10) != 0


def test_nothing_listens_but_the_service(server: Server) -> None:
    """A port that takes orders would give any local user the environment, secrets included."""
    processes = [psutil.Process(server.process.pid)]
    processes += processes[0].children(recursive=True)
    open_ports = {
        connection.laddr
        for process in processes
        for connection in process.net_connections("all")
        if connection.laddr
        and not connection.raddr  # a pair of sockets within a process has neither
    }
    assert open_ports == {("127.0.0.1", httpx.URL(server.url).port)}


def test_the_port_takes_no_orders(server: Server) -> None:
    """What circus answered with its environment."""
    order = b'{"id": "1", "command": "options", "properties": {"name": "service"}}'
    zmq = bytes.fromhex("ff00000000000000017f03004e554c4c") + bytes(48)
    for greeting in (zmq + order, order + b"\r\n\r\n"):
        url = httpx.URL(server.url)
        with socket.create_connection((url.host, url.port), timeout=5) as connection:
            connection.sendall(greeting)
            connection.shutdown(socket.SHUT_WR)
            heard = b"".join(iter(lambda: connection.recv(4096), b""))
        assert b"SUPABASE" not in heard
        assert b"HTTP/1.1 200" not in heard


def test_a_port_that_is_taken_is_said_in_one_line(server: Server) -> None:
    bentoml = str(Path(sys.executable).with_name("bentoml"))
    ended = subprocess.run(
        [bentoml, "serve", "--host", "127.0.0.1", "--port", str(httpx.URL(server.url).port)],
        cwd=SOURCE,
        env=bare_environment() | FP32,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("embedding-api: cannot listen on 127.0.0.1:")
    assert "Traceback" not in ended.stderr
