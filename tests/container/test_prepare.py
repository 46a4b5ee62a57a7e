"""The preparing container's program: what it shows, and what it leaves for the service."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from container import prepare
from container.prepare import Preparation
from container.status import read_status
from lab.server import ROOT, SOURCE, bare_environment

NAME = "all-minilm-l6-v2-int8"
FP32 = "all-minilm-l6-v2-fp32"
PROGRAM = [sys.executable, "-m", "container.prepare"]


def outcome(
    code: str, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str | None]:
    """Exit status, output, and the reason that the service reads, of a preparation by `code`."""
    monkeypatch.setattr(prepare, "COMMAND", (sys.executable, "-c", f"import os, sys\n{code}"))
    before = signal.getsignal(signal.SIGTERM)
    try:
        status = Preparation(store, NAME).run()
    finally:
        signal.signal(signal.SIGTERM, before)
    left = read_status(store, NAME)
    assert left is None or left.failed
    return status, capsys.readouterr().out, left.detail if left else None


def test_lines_are_shown_and_the_error_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = r"print('1 of 4\r2 of 4\r\n\x1b[A\nerror: no space left: free some'); sys.exit(1)"
    status, shown, reason = outcome(code, tmp_path, monkeypatch, capsys)
    assert status == 1
    assert shown.splitlines() == ["1 of 4", "2 of 4", "error: no space left: free some"]
    assert reason == "no space left: free some"


def test_a_killed_preparation_tells_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, shown, reason = outcome("os.kill(os.getpid(), 9)", tmp_path, monkeypatch, capsys)
    assert status == 1
    assert shown.splitlines()[-1].startswith("error: the preparation was killed")
    assert "PREPARE_MEMORY" in str(reason)


def test_a_success_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, shown, reason = outcome("print('ready')", tmp_path, monkeypatch, capsys)
    assert (status, shown, reason) == (0, "ready\n", None)
    assert list(tmp_path.iterdir()) == []


def environment_of(store: Path, tmp_path: Path, **settings: str) -> dict[str, str]:
    return {
        **bare_environment(),
        "BENTOML_HOME": str(store.parent),
        "TMPDIR": str(tmp_path / "scratch"),
        "HF_HOME": str(tmp_path / "huggingface"),
        "MODEL_QUANTIZATION": "fp32",
        **settings,
    }


def run(store: Path, tmp_path: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        PROGRAM, cwd=SOURCE, env=environment_of(store, tmp_path, **settings),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def start(store: Path, tmp_path: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        PROGRAM, cwd=SOURCE, env=environment_of(store, tmp_path),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_prepared_model_is_left_alone(model_store: Path, tmp_path: Path) -> None:
    ran = run(model_store / "models", tmp_path)
    assert (ran.returncode, ran.stdout) == (0, f"{FP32} is prepared already\n"), ran.stderr
    assert not (tmp_path / "scratch").exists()


def test_a_gated_model_without_a_token_ends_with_one_line(tmp_path: Path) -> None:
    store = tmp_path / "models"
    store.mkdir()
    ran = run(store, tmp_path, MODEL_NAME="google/embeddinggemma-300m")
    assert ran.returncode == 1
    [*_, line] = ran.stdout.splitlines()
    assert line.startswith("error: google/embeddinggemma-300m needs a Hugging Face token")
    assert "Traceback" not in ran.stdout + ran.stderr
    status = read_status(store, "google--embeddinggemma-300m-fp32")
    assert status is not None
    assert f"error: {status.detail}" == line


def test_a_store_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    store = tmp_path / "models"
    store.write_text("not a directory: root may write anywhere")
    ran = run(store, tmp_path)
    assert ran.returncode == 1
    [line] = ran.stdout.splitlines()
    assert line.startswith("error: ")
    assert f"chown -R {os.getuid()}" in line


def test_a_full_disk_is_told_of_and_not_taken_for_a_wrong_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "models"
    full.mkdir()
    monkeypatch.setattr(prepare, "wanted_model", lambda _: (full, NAME))
    (full / f".{NAME}.unfinished").symlink_to("/dev/full")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert prepare.main() == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    [line] = capsys.readouterr().out.splitlines()
    assert "no space left" in line
    assert "chown" not in line


def test_a_disk_that_is_full_for_a_moment_does_not_end_the_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "BEAT", 0.05)
    once = Preparation(tmp_path, NAME)
    beat = threading.Thread(target=once._beat, daemon=True)
    unfinished = tmp_path / f".{NAME}.unfinished"
    unfinished.symlink_to("/dev/full")
    beat.start()
    time.sleep(0.3)
    unfinished.unlink(missing_ok=True)
    deadline = time.monotonic() + 10
    while read_status(tmp_path, NAME) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert read_status(tmp_path, NAME) is not None
    once._ended.set()
    beat.join(10)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", FileLock, Path]]:
    """A run that waits for another, what it waits for, and its store."""
    store = tmp_path / "home" / "models"
    store.mkdir(parents=True)
    with FileLock(tmp_path / "preparing.lock") as other:
        run = start(store, tmp_path)
        assert run.stdout is not None
        assert run.stdout.readline() == f"{prepare.WAITS}\n"
        yield run, other, store


def test_a_second_run_waits_for_the_first_and_finds_the_model(
    model_store: Path, waiting: tuple["subprocess.Popen[str]", FileLock, Path]
) -> None:
    """As `docker compose run model` beside `docker compose up`: they share their scratch files."""
    second, first, store = waiting
    while (status := read_status(store, FP32)) is None:
        assert second.poll() is None
    assert (status.detail, status.failed) == (prepare.WAITS, False)  # as the service shows it
    shutil.copytree(model_store / "models" / FP32, store / FP32)
    first.release()
    output, errors = second.communicate(timeout=60)
    assert (second.returncode, output) == (0, f"{FP32} is prepared already\n"), errors
    assert read_status(store, FP32) is None


def test_a_run_that_waits_can_be_stopped(
    waiting: tuple["subprocess.Popen[str]", FileLock, Path],
) -> None:
    second, _, _ = waiting
    second.terminate()
    second.communicate(timeout=30)
    assert second.returncode == 1


def test_a_backend_that_the_service_does_not_have_is_refused_before_the_download(
    tmp_path: Path,
) -> None:
    store = tmp_path / "models"
    store.mkdir()
    ran = run(store, tmp_path, MODEL_BACKEND="torch", MODEL_NAME="organisation/model")
    [line] = ran.stdout.splitlines()
    assert ran.returncode == 1
    assert "without Docker" in line
    [status] = store.glob(".*.status")
    assert "without Docker" in status.read_text()


def test_the_image_runs_the_program() -> None:
    assert 'ENTRYPOINT ["python", "-m", "container.prepare"]' in (ROOT / "Dockerfile").read_text()
