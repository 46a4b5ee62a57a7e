"""The graph as exported against the graph as ONNX Runtime computes it best."""

import copy
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from sentence_transformers import SentenceTransformer

import embedder.prepare.export as exporting
from benchmarks.random_embeddinggemma import TINY
from embedder.onnx_engine import session_options
from embedder.packing import layout
from embedder.postprocess import Vectors
from embedder.prepare.export import export, packed_module
from embedder.prepare.fuse import TURNS, fuse

WINDOW = TINY.sliding_window // 2 + 1


@pytest.fixture(scope="module")
def exported(gemma_original: SentenceTransformer, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """The tiny EmbeddingGemma's graph, not yet fused."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own deprecations
        patch.setattr(exporting, "fuse", lambda _: None)
        export(packed_module(gemma_original, "tiny", TINY.max_tokens), path, "tiny")
    return onnx.load(str(path))


@pytest.fixture(scope="module")
def fused(exported: onnx.ModelProto) -> onnx.ModelProto:
    graph = copy.deepcopy(exported)
    fuse(graph)
    return graph


def run(model: onnx.ModelProto, lengths: list[int]) -> Vectors:
    session = ort.InferenceSession(model.SerializeToString(), session_options(2), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(sum(lengths))
    inputs = layout([random.integers(4, 1000, length) for length in lengths], window=WINDOW).inputs()
    vectors: Vectors = session.run(None, {node.name: inputs[node.name] for node in session.get_inputs()})[0]
    return vectors


# A turn is 512 tokens of three heads: none of a second one, its first token, whole ones, and several texts.
@pytest.mark.parametrize("lengths", [[1], [511], [512], [513], [1024], [600, 400, 3], [16] * 20])
def test_fused_nodes_compute_the_same(exported: onnx.ModelProto, fused: onnx.ModelProto, lengths: list[int]) -> None:
    np.testing.assert_allclose(run(fused, lengths), run(exported, lengths), atol=1e-6)


def test_the_last_turn_takes_what_is_left_of_a_longer_text(
    exported: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedder.prepare.fuse.TURN_ROWS", 96)
    graph = copy.deepcopy(exported)
    fuse(graph)
    lengths = [TURNS * 32 + 50]
    np.testing.assert_allclose(run(graph, lengths), run(exported, lengths), atol=1e-6)


def test_each_residual_sum_is_made_by_the_norm_that_reads_it(exported: onnx.ModelProto, fused: onnx.ModelProto) -> None:
    before, after = (Counter(node.op_type for node in model.graph.node) for model in (exported, fused))
    sums = after["SkipSimplifiedLayerNormalization"]
    assert sums == 2 * TINY.layers  # after attention and after the MLP; the last one's norm is the model's own
    assert before["RMSNormalization"] - after["RMSNormalization"] == sums


def test_full_attention_alone_takes_turns(exported: onnx.ModelProto, fused: onnx.ModelProto) -> None:
    before, after = (Counter(node.op_type for node in model.graph.node) for model in (exported, fused))
    full = TINY.layers // 6
    assert after["Softmax"] - before["Softmax"] == full * (TURNS - 1)


def test_a_bias_is_not_taken_for_a_residual(tmp_path: Path) -> None:
    """SkipSimplifiedLayerNormalization adds what has the same shape alone."""
    helper = onnx.helper
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "bias"], ["sum"]),
            helper.make_node("RMSNormalization", ["sum", "weight"], ["y"], epsilon=1e-6, axis=-1),
        ],
        "biased",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["tokens", 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["tokens", 8])],
        [onnx.numpy_helper.from_array(np.ones(8, np.float32), name) for name in ("bias", "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    fuse(model)
    assert [node.op_type for node in model.graph.node] == ["Add", "RMSNormalization"]
