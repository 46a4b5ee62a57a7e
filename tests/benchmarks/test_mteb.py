"""Scores of MTEB: the prompts of its tasks, what counts as too low, and a run of the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.mteb import REFERENCE, prompt_of, table, too_low
from benchmarks.mteb_tasks import ANSWERS, PAIRS
from embedder.prepare.families.gemma3 import PROMPTS
from embedder.tasks import prompts_by_task
from lab.server import ROOT

TASKS = prompts_by_task(PROMPTS)


@pytest.mark.parametrize(
    ("kind", "side", "task"),
    [
        ("STS", None, "similarity"),
        ("PairClassification", None, "similarity"),
        ("Classification", None, "classification"),
        ("Clustering", None, "clustering"),
        ("Retrieval", "query", "query"),
        ("Retrieval", "document", "document"),
    ],
)
def test_texts_of_a_task_have_the_prompt_of_ours(kind: str, side: str | None, task: str) -> None:
    assert prompt_of(TASKS, kind, side) == PROMPTS[task]
    assert prompt_of({}, kind, side) == ""


def test_a_score_below_the_reference_is_told() -> None:
    scores = {
        REFERENCE: {"a": 80.0, "b": 50.0},
        "fp32": {"a": 79.95, "b": 49.0},
        "int8": {"a": 79.5, "b": float("nan")},
    }
    assert [line.partition(":")[0] for line in too_low(scores)] == ["b in fp32", "b in int8"]
    assert table(scores).splitlines()[2] == "| a | 80.00 | 79.95 | 79.50 |"


def test_the_command_scores_every_side_without_a_network(model_store: Path, tmp_path: Path) -> None:
    file = tmp_path / "mteb.json"
    command = [sys.executable, "-m", "benchmarks.mteb"]
    options = ["--tasks", "written", "--precisions", "fp32", "--json", str(file)]
    environment = os.environ | {"MTEB_CACHE": str(tmp_path), "HF_HOME": str(tmp_path)}
    ran = subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    scores = json.loads(file.read_text())["scores"]
    assert scores.keys() == {REFERENCE, "fp32"}
    for task in ("WrittenPairs", "WrittenAnswers"):
        assert 60 < scores[REFERENCE][task] < 100  # real weights, of an English model
        assert scores["fp32"][task] == pytest.approx(scores[REFERENCE][task], abs=0.1)
        assert f"| {task} |" in ran.stdout


def test_written_tasks_are_large_enough_to_tell_models_apart() -> None:
    assert len({first for first, *_ in PAIRS}) >= 10
    assert len({passage for _, passage in ANSWERS}) == len(ANSWERS) >= 16
