"""The engine through ctypes: the same bits in every batch, and typed errors."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedder import native_engine
from embedder.errors import ForwardPassError, KernelError, LibraryError
from embedder.native_engine import NativeEngine, kernels
from embedder.prepare.native import NativeModel
from embedder.prepare.original import load_original, max_tokens
from embedder.prepare.source import locate
from embedder.profile import WEIGHTS_FILE
from embedder.tokenized_text import TokenIds
from lab.random_embeddinggemma import Size, build
from tests.embedder.conftest import LoadModel

# EmbeddingGemma's head_dim, whose sums have an order that other sizes do not test.
WIDE_HEAD = Size(
    layers=7, hidden=96, ffn=160, heads=3, head_dim=256, sliding_window=64,
    vocabulary=1024, max_tokens=512, dense=192,
)  # fmt: skip
PRECISIONS = ("int8", "fp16", "fp32")


@pytest.fixture(scope="module")
def wide_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one model file per precision."""
    directory = tmp_path_factory.mktemp("wide-head")
    model = load_original(locate(str(build(directory / "model", WIDE_HEAD))))
    for precision in PRECISIONS:
        written = NativeModel(model, "wide", precision=precision, max_tokens=max_tokens(model))
        written.write(directory / precision)
    return directory


def texts(*lengths: int) -> list[TokenIds]:
    rng = np.random.default_rng(sum(lengths))
    return [rng.integers(4, 1000, length) for length in lengths]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kernel", kernels())
def test_vectors_have_equal_bits_alone_in_a_batch_and_on_any_number_of_threads(
    kernel: str, precision: str, wide_head: Path
) -> None:
    reference = NativeEngine(wide_head / precision, num_threads=1)
    # The portable kernel computes fused multiply-adds in software, 25 times as slow as AVX-512.
    is_best = kernel == kernels()[0]
    batch = texts(1, 3, 16, 17, 5, 64, 129, *((300, 512, 33) if is_best else ()))
    alone = np.concatenate([reference.forward([ids]) for ids in batch])
    for threads in (1, 2, 4) if is_best else (2,):
        engine = NativeEngine(wide_head / precision, num_threads=threads, kernel=kernel)
        assert engine.kernel == kernel
        assert np.array_equal(engine.forward(batch), alone)
        assert np.array_equal(engine.forward(batch[::-1]), alone[::-1])
        assert np.array_equal(np.concatenate([engine.forward([ids]) for ids in batch]), alone)


@pytest.fixture
def engine(gemma: LoadModel, gemma_directory: Path) -> NativeEngine:
    """The tiny EmbeddingGemma in int8."""
    gemma("int8")
    return NativeEngine(gemma_directory.parent / "int8" / WEIGHTS_FILE, num_threads=2)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.lists(st.integers(0, 1023), min_size=1, max_size=40)
        | st.integers(1, 1024).map(lambda length: [7] * length),
        max_size=30,
    )
)
def test_any_ids_of_the_vocabulary_give_unit_vectors(
    engine: NativeEngine, ids: list[list[int]]
) -> None:
    vectors = engine.forward([np.array(one) for one in ids])
    assert vectors.shape == (len(ids), 48)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([-1], "vocabulary"),
        ([1024], "vocabulary"),
        ([2**31], "vocabulary"),
        ([2**32 + 5], "vocabulary"),
        ([-(2**63)], "vocabulary"),
        ([], "tokens"),
        ([5] * 1025, "tokens"),
        ([0.5], "whole numbers"),
        ([[1, 2]], "whole numbers"),
    ],
)
def test_ids_outside_the_vocabulary_are_refused(
    engine: NativeEngine, ids: list[object], reason: str
) -> None:
    dtype = None if ids else np.int64
    with pytest.raises(ForwardPassError, match=reason):
        engine.forward([np.array(ids, dtype)])
    assert np.isfinite(engine.forward(texts(3))).all()


def test_ids_of_any_width_give_the_same_bits(engine: NativeEngine) -> None:
    batch = texts(3, 80, 200)
    expected = engine.forward(batch)
    for dtype in (np.int32, np.uint16):  # the tokenizer's, and one more
        assert np.array_equal(engine.forward([ids.astype(dtype) for ids in batch]), expected)


def test_no_texts_give_no_vectors(engine: NativeEngine) -> None:
    assert engine.forward([]).shape == (0, 48)


def test_calls_from_many_threads_get_their_own_vectors(engine: NativeEngine) -> None:
    batch = texts(3, 80, 200, 7)
    expected = [engine.forward([ids]) for ids in batch]
    wrong: list[int] = []

    def call(index: int) -> None:
        for _ in range(20):
            if not np.array_equal(engine.forward([batch[index]]), expected[index]):
                wrong.append(index)

    callers = [threading.Thread(target=call, args=(index,)) for index in range(len(batch))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_an_unreferenced_engine_ends_its_threads(gemma: LoadModel, gemma_directory: Path) -> None:
    gemma("int8")
    gc.collect()

    def threads() -> set[str]:
        return {task.name for task in Path("/proc/self/task").iterdir()}

    before = threads()
    engine = NativeEngine(gemma_directory.parent / "int8" / WEIGHTS_FILE, num_threads=4)
    engine.forward(texts(200, 200))
    assert len(threads() - before) == 3
    del engine
    gc.collect()
    assert not threads() - before


def test_an_unknown_kernel_is_refused_with_the_known_ones(
    gemma: LoadModel, gemma_directory: Path
) -> None:
    gemma("int8")
    with pytest.raises(KernelError, match=f"NATIVE_KERNEL=sve2 .*{kernels()[0]}"):
        NativeEngine(gemma_directory.parent / "int8" / WEIGHTS_FILE, num_threads=1, kernel="sve2")


@pytest.mark.parametrize(("content", "reason"), [(None, "not built"), (b"x", "cannot be loaded")])
def test_a_missing_library_names_the_make_target_that_builds_it(
    content: bytes | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "libembedder.so"
    if content:
        path.write_bytes(content)
    monkeypatch.setattr(native_engine, "LIBRARY", path)
    native_engine._library.cache_clear()
    with pytest.raises(LibraryError, match=f"{reason}.*make native"):
        kernels()
    native_engine._library.cache_clear()
