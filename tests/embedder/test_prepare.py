"""download_model.py as its users run it, each test with a model store of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel, MPNetConfig, MPNetModel, PreTrainedModel

from embedder.errors import UnsupportedModelError, VerificationError
from embedder.prepare.parts import read_parts
from embedder.prepare.quantise import int8
from embedder.prepare.source import Source, locate
from tests.embedder.conftest import LoadModel, prepare

ROOT = Path(__file__).parents[2]


def start(store: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "download_model.py", *options],
        cwd=ROOT, env=os.environ | {"BENTOML_HOME": str(store)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(store: Path, *options: str) -> tuple[int, str, str]:
    with start(store, *options) as process:
        out, err = process.communicate()
        return process.returncode, out, err


def versions(store: Path) -> set[str]:
    return {path.parent.name for path in (store / "models").glob("*/*/profile.json")}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, gemma_source: Source) -> Path:
    """With the tiny EmbeddingGemma in int8, prepared once."""
    directory = tmp_path_factory.mktemp("store")
    code, out, err = run(directory, "--model", str(gemma_source.directory))
    assert code == 0, err
    assert "is ready (peak memory" in out
    assert "prepare: 100%" in err
    return directory


def test_a_second_run_does_nothing_and_force_does_it_again(store: Path, gemma_source: Source) -> None:
    before = versions(store)
    started = time.monotonic()
    assert run(store, "--model", str(gemma_source.directory))[0] == 0
    assert versions(store) == before
    assert time.monotonic() - started < 15
    assert run(store, "--model", str(gemma_source.directory), "--force")[0] == 0
    assert len(versions(store)) == len(before) + 1


def test_info_shows_the_profile_and_how_it_was_verified(store: Path, gemma_source: Source) -> None:
    code, out, _ = run(store, "--model", str(gemma_source.directory), "--info")
    info = json.loads(out)
    assert code == 0
    assert info["verification"]["fp32_to_original"]["min_cosine"] >= 0.9999
    assert info["verification"]["int8_to_fp32"]["finite"]
    assert info["matryoshka"] == [48]
    assert info["window"] == 9


def test_killed_half_way_it_leaves_the_store_as_it_was(store: Path, gemma_source: Source) -> None:
    before = versions(store)
    with start(store, "--model", str(gemma_source.directory), "--force") as process:
        assert process.stderr is not None
        while "40%" not in process.stderr.readline(400):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert versions(store) == before
    assert run(store, "--model", str(gemma_source.directory), "--info")[0] == 0


def test_a_damaged_model_is_prepared_again(store: Path, gemma_source: Source) -> None:
    for weights in (store / "models").glob("*/*/model.onnx.data"):
        weights.write_bytes(weights.read_bytes()[:-1])
    assert run(store, "--model", str(gemma_source.directory), "--info")[0] == 1
    assert run(store, "--model", str(gemma_source.directory))[0] == 0
    assert run(store, "--model", str(gemma_source.directory), "--info")[0] == 0


def test_an_error_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, "--model", "google/embeddinggemma-300m")
    assert (code, out) == (1, "")
    assert err.startswith("error: google/embeddinggemma-300m needs a Hugging Face token")
    assert len(err.splitlines()) == 1


def test_vectors_below_the_floor_are_not_saved(gemma_original: SentenceTransformer, tmp_path: Path) -> None:
    """Large random steps on a small residual: a model so chaotic that int8 cannot follow it."""
    model = gemma_original
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        for name, parameter in model.named_parameters():
            if ".post_" in name:
                parameter.normal_(std=0.5)
            elif "embed_tokens" in name:
                parameter.mul_(0.01)
    model.save_pretrained(str(tmp_path / "chaotic"), create_model_card=False)
    model.load_state_dict(kept)
    with pytest.raises(VerificationError, match=r"nothing was saved; try MODEL_QUANTIZATION=fp16"):
        prepare(locate(str(tmp_path / "chaotic")), tmp_path / "prepared", "int8")
    assert not (tmp_path / "prepared" / "profile.json").exists()


def sentence_transformer(directory: Path, model: PreTrainedModel, tokenizer: Path) -> Source:
    """A random model of another architecture, with the starter model's tokenizer."""
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(str(directory / "transformer"))
    AutoTokenizer.from_pretrained(str(tokenizer)).save_pretrained(str(directory / "transformer"))
    modules = [Transformer(str(directory / "transformer"), max_seq_length=128), Pooling(48, pooling_mode="cls")]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(directory / "st"), create_model_card=False)
    return locate(str(directory / "st"))


def test_another_architecture_goes_through_its_own_forward_pass(starter_source: Source, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=30_522, dim=48, n_layers=2, n_heads=4, hidden_dim=64)
    source = sentence_transformer(tmp_path, DistilBertModel(config), starter_source.directory)
    model = prepare(source, tmp_path / "prepared", "int8")
    assert model.profile.architecture == "distilbert"
    assert model.profile.verification["fp32_to_original"]["min_cosine"] >= 0.9999


def test_a_model_the_graph_gets_wrong_is_refused_in_favour_of_torch(starter_source: Source, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=30_522, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    source = sentence_transformer(tmp_path, MPNetModel(config), starter_source.directory)
    with pytest.raises((VerificationError, UnsupportedModelError), match="MODEL_BACKEND=torch"):
        prepare(source, tmp_path / "prepared", "int8")


@pytest.mark.parametrize(
    ("pooling", "prompts", "reason"),
    [
        (Pooling(48, pooling_mode="max"), {}, "pooling 'max'"),
        (Pooling(48, pooling_mode="mean", include_prompt=False), {"query": "q: "}, "prompts"),
        (Pooling(48, pooling_mode=("mean", "cls")), {}, "pooling"),
    ],
)
def test_pooling_that_the_graph_does_not_have_is_refused(
    pooling: Pooling, prompts: dict[str, str], reason: str, gemma_original: SentenceTransformer
) -> None:
    model = SentenceTransformer(modules=[gemma_original[0], pooling], prompts=prompts, device="cpu")
    with pytest.raises(UnsupportedModelError, match=rf"{reason}.*MODEL_BACKEND=torch"):
        read_parts(model, "model")


def test_a_dense_layer_with_a_residual_is_refused(gemma_original: SentenceTransformer) -> None:
    modules = [gemma_original[0], Pooling(48), Dense(48, 48, use_residual=True)]
    with pytest.raises(UnsupportedModelError, match="residual"):
        read_parts(SentenceTransformer(modules=modules, device="cpu"), "model")


@pytest.mark.parametrize("axis", [0, 1])
def test_int8_is_within_half_a_step_of_every_weight(axis: int) -> None:
    matrix = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    values, scale = int8(matrix, axis)
    assert values.dtype == np.int8
    assert (np.abs(values * scale - matrix) <= scale * 0.501).all()


def test_int8_stores_each_large_matrix_in_one_byte_a_weight(gemma: LoadModel, store: Path) -> None:
    path = max((store / "models").glob("*/*/model.onnx"))
    graph = onnx.load(str(path)).graph
    large = [numpy_helper.to_array(tensor) for tensor in graph.initializer if np.prod(tensor.dims) > 2000]
    tables = [tensor for tensor in large if tensor.dtype != np.int8]
    assert sum(tensor.nbytes for tensor in tables) < sum(tensor.nbytes for tensor in large)
    assert not [n for n in graph.node if n.op_type == "MatMul" and n.input[1] in {t.name for t in graph.initializer}]
