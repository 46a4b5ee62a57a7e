"""The process above the worker, run as it is in service, over workers of a line of shell."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from api import supervisor

ROOT = Path(__file__).resolve().parent.parent.parent
SLEEP = ["/bin/sh", "-c", "exec sleep 60"]
FAIL = ["/bin/sh", "-c", "exit 70"]
BECOME = """
import os, sys
from api.supervisor import supervise
respawn, first, *command = sys.argv[1:]
supervise(lambda: os.execv("/bin/sh", ["sh", "-c", first]), command, respawn=respawn == "True")
"""
Process = subprocess.Popen[str]


@contextmanager
def supervised(first: str, command: list[str], *, respawn: bool = True) -> Iterator[Process]:
    """A supervisor over a worker that runs `first`, and over others that run `command`."""
    program = [sys.executable, "-c", BECOME, str(respawn), first, *command]
    process = subprocess.Popen(program, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children():
                child.kill()
            process.kill()
        process.communicate(timeout=10)


def worker_of(process: Process, *, other_than: int = 0, seconds: float = 10) -> psutil.Process:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children():
            if child.pid != other_than and child.status() != psutil.STATUS_ZOMBIE:
                return child
        time.sleep(0.01)
    raise AssertionError("no worker")


def test_a_worker_that_is_killed_is_replaced_at_once() -> None:
    with supervised("exec sleep 60", SLEEP) as process:
        killed = worker_of(process)
        time.sleep(0.3)  # until the supervisor runs
        killed.kill()
        began = time.monotonic()
        worker_of(process, other_than=killed.pid)
        assert time.monotonic() - began < 0.5


def test_workers_that_fail_one_after_another_are_started_at_growing_intervals() -> None:
    with supervised("exit 70", FAIL) as process:
        assert process.stderr is not None
        ends = [json.loads(process.stderr.readline()) for _ in range(4)]
    assert [end["pause"] for end in ends] == [0.0, 0.5, 1.0, 2.0]
    assert {end["status"] for end in ends} == {supervisor.UNFIT}


def test_a_pause_is_never_longer_than_its_limit() -> None:
    own = supervisor.Supervisor(0, FAIL, respawn=True)
    assert [own._pause() for _ in range(50)][-1] == supervisor.LONGEST_PAUSE


def test_a_first_worker_that_ends_with_an_error_of_its_own_ends_the_whole() -> None:
    with supervised("exit 3", SLEEP) as process:
        assert process.wait(10) == 3


@pytest.mark.parametrize(
    ("first", "status"),
    [("exit 70", 70), ("kill -9 $$", 137), ("exit 0", supervisor.UNFIT)],
)
def test_in_a_container_the_whole_ends_with_the_workers_status(first: str, status: int) -> None:
    with supervised(first, SLEEP, respawn=False) as process:
        assert process.wait(10) == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_order_to_stop_reaches_the_worker_as_sigterm(number: signal.Signals) -> None:
    with supervised("trap 'exit 5' TERM; while :; do sleep 0.1; done", SLEEP) as process:
        worker_of(process)
        time.sleep(0.3)  # until the trap is set
        process.send_signal(number)
        assert process.wait(10) == 0


def test_a_second_order_is_passed_on_as_it_is(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    script = (
        f"trap 'echo term >> {heard}' TERM; trap 'echo int >> {heard}; exit' INT; "
        "while :; do sleep 0.1; done"
    )
    with supervised(script, SLEEP) as process:
        worker_of(process)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        while not heard.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert heard.read_text().split() == ["term", "int"]


def test_an_order_that_comes_while_no_worker_runs_ends_the_pause() -> None:
    with supervised("exit 70", FAIL) as process:
        assert process.stderr is not None
        while json.loads(process.stderr.readline())["pause"] < 2:
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(1) == 0


def test_it_is_small() -> None:
    with supervised("exec sleep 60", SLEEP) as process:
        time.sleep(0.5)
        assert psutil.Process(process.pid).memory_full_info().uss < 8_000_000
