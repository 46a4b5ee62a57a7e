"""download_model.py as users run it."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

import download_model
from embedder.errors import EmbedderError
from embedder.prepare.errors import VerificationError
from embedder.prepare.source import Source, locate
from embedder.profile import BACKENDS, PROFILE_FILE, WEIGHTS_FILE, Profile, model_tag
from embedder.weights import Weights
from lab.random_embeddinggemma import TINY
from tests.embedder.conftest import LoadModel, fewer_check_texts, prepare
from tests.embedder.json_changes import JSON, places, replaced
from tests.embedder.prepare.test_text_only import naming_a_processor

ROOT = Path(__file__).parents[3]
STORE = Path(os.environ["BENTOML_HOME"])  # of the whole test session


def start(source: Source, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "download_model.py", "--model", str(source.directory), *options],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a run of download_model.py returned and printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls main(), which costs a second and not the ten in which a process imports torch."""

    def call(*options: str) -> Outcome:
        capsys.readouterr()
        code = download_model.main(list(options))
        return Outcome(code, *capsys.readouterr())

    return call


def versions(source: Source) -> set[Path]:
    """The versions of a model in the store."""
    name = model_tag(str(source.directory), "int8", "native")
    return {path.parent for path in (STORE / "models" / name).glob("*/profile.json")}


@pytest.fixture(scope="module")
def first_run(gemma_source: Source) -> Outcome:
    """Prepares the tiny EmbeddingGemma in int8, as a user does."""
    with start(gemma_source) as process:
        out, err = process.communicate()
        return Outcome(process.returncode, out, err)


@pytest.fixture
def model(first_run: Outcome, gemma_source: Source) -> tuple[str, str]:
    """Options for a model that the store has."""
    assert first_run.code == 0, first_run.err
    return "--model", str(gemma_source.directory)


def test_what_preparation_needs_is_announced_and_not_exceeded(first_run: Outcome) -> None:
    said = re.search(
        r"takes about (\d+) minutes?, ([\d.]+) GB of memory and [\d.]+ GB of free", first_run.err
    )
    used = re.search(r"is ready \(peak memory ([\d.]+) GB", first_run.out)
    assert said, first_run.err
    assert used
    assert first_run.err.index(said[0]) < first_run.err.index("prepare: 100%")
    assert float(used[1]) <= float(said[2])
    progress = re.compile(r"\s*(prepare|original vectors|write int8): .*")
    lines = [line for line in re.split(r"[\r\n]|\x1b\[A", first_run.err) if line.strip()]
    assert [line for line in lines if not progress.fullmatch(line)] == [lines[0]]


def test_a_second_run_does_nothing_and_force_prepares_again(
    model: tuple[str, str], gemma_source: Source, run: Run
) -> None:
    before = versions(gemma_source)
    assert run(*model).code == 0
    assert versions(gemma_source) == before
    assert run(*model, "--force").code == 0
    assert len(versions(gemma_source)) == len(before) + 1


def test_info_is_a_report_of_how_close_the_model_is_to_its_original(
    model: tuple[str, str], run: Run
) -> None:
    shown = run(*model, "--info")
    assert shown.code == 0
    figures = re.search(r"^ +48 float +([\d.]+) +([\d.]+) +([\d.]+) ", shown.out, re.MULTILINE)
    assert figures, shown.out
    mean, p1, least = map(float, figures.groups())
    assert 0.997 <= least <= p1 <= mean <= 1
    for part in ("48 binary", "at least", "query, document", "korean", "512 tokens", "prompt STS"):
        assert part in shown.out


def test_info_of_a_model_without_a_report_says_how_to_get_one(
    model: tuple[str, str], gemma_source: Source, run: Run
) -> None:
    newest = max(versions(gemma_source), key=lambda path: path.stat().st_mtime)
    profile = Profile.load(newest)
    dataclasses.replace(profile, verification={"texts": 57}).save(newest)
    assert "make model FORCE=1" in run(*model, "--info").out
    profile.save(newest)


def test_a_killed_run_leaves_the_store_unchanged(
    model: tuple[str, str], gemma_source: Source, run: Run
) -> None:
    before = versions(gemma_source)
    with start(gemma_source, "--force") as process:
        assert process.stderr is not None
        while "50%" not in process.stderr.readline(400):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert versions(gemma_source) == before
    assert run(*model, "--info").code == 0


def test_a_damaged_model_is_prepared_again(
    model: tuple[str, str], gemma_source: Source, run: Run
) -> None:
    for version in versions(gemma_source):
        weights = version / WEIGHTS_FILE
        weights.write_bytes(weights.read_bytes()[:-1])
    assert run(*model, "--info").code == 1
    assert run(*model).code == 0
    assert run(*model, "--info").code == 0


def test_a_model_prepared_by_an_earlier_version_is_prepared_again(
    model: tuple[str, str], gemma_source: Source, run: Run
) -> None:
    for version in versions(gemma_source):
        path = version / PROFILE_FILE
        profile = json.loads(path.read_text())
        profile["graph_layout"] = profile.pop("layout") - 1
        path.write_text(json.dumps(profile | {"backend": "onnx"}))
    assert run(*model, "--info").code == 1
    assert run(*model).code == 0
    assert run(*model, "--info").code == 0


def test_an_error_is_one_line_that_says_what_to_do(run: Run) -> None:
    failed = run("--model", "google/embeddinggemma-300m")
    assert (failed.code, failed.out) == (1, "")
    told, error = failed.err.splitlines()
    assert told.startswith("Fetching google/embeddinggemma-300m from huggingface.co")
    assert error.startswith("error: google/embeddinggemma-300m needs a Hugging Face token")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tokenizer_that_names_an_image_processor_is_loaded_without_it(
    gemma_source: Source, gemma: LoadModel, tmp_path: Path, backend: str
) -> None:
    source = naming_a_processor(gemma_source, tmp_path)
    model = prepare(source, tmp_path / "prepared", "fp32", backend)
    texts = ["a text", "another one"]
    np.testing.assert_allclose(model.embed(texts), gemma("fp32").embed(texts), atol=2e-6)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_fault_in_a_models_files_is_one_line(
    gemma_source: Source, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("changed")
    copy = Path(shutil.copytree(gemma_source.directory, directory / "model"))
    path = data.draw(st.sampled_from(sorted(copy.rglob("*.json"))))
    original = json.loads(path.read_text())
    way = data.draw(st.sampled_from(list(places(original))[:200]))
    changed = replaced(original, way, data.draw(st.just(...) | st.just({}) | JSON))
    path.write_text(json.dumps(changed))
    try:
        with fewer_check_texts():
            prepare(locate(str(copy)), directory / "prepared", "int8")
    except EmbedderError as error:
        said = str(error)
    else:
        said = ""
    assert len(said.splitlines()) <= 1
    assert "run `make model`" not in said


def test_a_traceback_is_shown_only_on_request(
    gemma_source: Source, tmp_path: Path, run: Run
) -> None:
    copy = Path(shutil.copytree(gemma_source.directory, tmp_path / "model"))
    (copy / "config.json").write_text("{")
    failed = run("--model", str(copy))
    assert failed.code == 1
    assert "Traceback" not in failed.err
    assert failed.err.splitlines()[-1].startswith(
        "error: model cannot be prepared (JSONDecodeError: "
    )
    assert "Traceback" in run("--model", str(copy), "--traceback").err


def test_vectors_below_the_floor_are_not_saved(
    gemma_original: SentenceTransformer, tmp_path: Path
) -> None:
    """Steps that are large against the residual make a model that int8 cannot represent."""
    model = gemma_original
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    with torch.inference_mode():
        for name, parameter in model.named_parameters():
            if ".post_" in name:
                parameter.normal_(std=0.5, generator=generator)
            elif "embed_tokens" in name:
                parameter.mul_(0.01)
    model.save_pretrained(str(tmp_path / "chaotic"), create_model_card=False)
    model.load_state_dict(kept)
    with pytest.raises(VerificationError, match=r"nothing was saved; try MODEL_QUANTIZATION=fp16"):
        prepare(locate(str(tmp_path / "chaotic")), tmp_path / "prepared", "int8")
    assert not (tmp_path / "prepared" / "profile.json").exists()


def test_int8_stores_each_weight_in_one_byte(gemma: LoadModel, gemma_directory: Path) -> None:
    gemma("int8")
    weights = Weights(gemma_directory.parent / "int8" / WEIGHTS_FILE)
    matrices = [tensor for tensor in weights.tensors if tensor.name.endswith(".weight")]
    assert {tensor.dtype for tensor in matrices} == {"I8"}
    assert len(matrices) == 1 + 4 * TINY.layers + 2
