"""The preparing container's program: what it shows, and what it leaves for the service."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from container import prepare
from container.prepare import Preparation
from container.status import read_status
from lab.server import ROOT, SOURCE, bare_environment

NAME = "all-minilm-l6-v2-int8"
FP32 = "all-minilm-l6-v2-fp32"


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


def run(store: Path, tmp_path: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **bare_environment(),
        "BENTOML_HOME": str(store.parent),
        "TMPDIR": str(tmp_path / "scratch"),
        "HF_HOME": str(tmp_path / "huggingface"),
        "MODEL_QUANTIZATION": "fp32",
        **settings,
    }
    return subprocess.run(
        [sys.executable, "-m", "container.prepare"], cwd=SOURCE, env=environment,
        capture_output=True, text=True, timeout=300, check=False,
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


def test_the_image_runs_the_program() -> None:
    assert 'ENTRYPOINT ["python", "-m", "container.prepare"]' in (ROOT / "Dockerfile").read_text()
