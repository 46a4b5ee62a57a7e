"""Long texts in windows: which tokens each has, and the vector that their vectors make."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedder.long_text import WINDOW
from embedder.model import EmbeddingModel
from embedder.native_engine import kernels
from embedder.overflow import average
from embedder.text_end import common_start
from embedder.tokenized_text import TokenizedText
from tests.embedder.conftest import LoadModel, LoadTokenizer, Pair
from tests.embedder.test_long_text import BERT, GEMMA, PIECES, long_texts, passage
from tests.embedder.tokenizers_by_kind import KINDS

PROMPT = "task: search result | query: "
LIMITS = (8, 32, 256)
properties = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
prompts = st.sampled_from(["", PROMPT, "title: " + "무제 " * 300 + "| text: "])


def windows_of(pair: Pair, text: str, *, prompt: str = "", max_tokens: int) -> TokenizedText:
    [found] = pair.ours.encode([text], prompt=prompt, max_tokens=max_tokens, average=True)
    return found


def bare(pair: Pair, text: TokenizedText) -> list[list[int]]:
    """The windows without the special tokens around each: one before, and the others after."""
    first, *last = pair.original.encode("").ids
    end = len(last)
    for window in text.windows:
        assert [window[0], *window[len(window) - end :]] == [first, *last]
    return [window[1 : len(window) - end].tolist() for window in text.windows]


def body(pair: Pair, text: TokenizedText) -> list[int]:
    """The tokens of all windows, with what is repeated only once."""
    first, *others = bare(pair, text)
    n_special = len(text.windows[0]) - len(first)
    again = first[: text.repeated - n_special] if others else []
    for window in others:
        assert window[: len(again)] == again
    return [*first, *(token for window in others for token in window[len(again) :])]


def check(pair: Pair, text: str, prompt: str, max_tokens: int) -> None:
    found = windows_of(pair, text, prompt=prompt, max_tokens=max_tokens)
    assert body(pair, found) == pair.original.encode(prompt + text, add_special_tokens=False).ids
    assert not found.truncated
    assert found.lengths == [len(window) for window in found.windows]
    assert all(length == max_tokens for length in found.lengths[:-1])
    assert found.n_windows == len(found.windows)
    [cut] = pair.ours.encode([text], prompt=prompt, max_tokens=max_tokens)
    np.testing.assert_array_equal(found.windows[0], cut.ids)
    if found.n_windows > 1:
        of_prompt = pair.original.encode(prompt, add_special_tokens=False).ids
        whole = pair.original.encode(prompt + text, add_special_tokens=False).ids
        of_text = len(whole) - len(common_start(of_prompt, whole))
        assert min(found.weights) >= 0
        assert sum(found.weights) == max(of_text, 1)
        assert found.repeated < max_tokens / 2 + 2  # special tokens, and half a window of prompt


@pytest.mark.parametrize("kind", KINDS)
@properties
@given(text=passage, prompt=prompts, max_tokens=st.sampled_from(LIMITS))
def test_every_token_is_in_one_window_and_the_prompt_in_each(
    kind: str, text: str, prompt: str, max_tokens: int, load: LoadTokenizer
) -> None:
    check(load(kind), text[: WINDOW // 2], prompt, max_tokens)


@pytest.mark.parametrize("kind", [*BERT, *GEMMA])
@properties
@given(text=long_texts(), prompt=prompts, max_tokens=st.sampled_from(LIMITS))
def test_a_long_text_has_the_tokens_of_the_whole_text(
    kind: str, text: str, prompt: str, max_tokens: int, load: LoadTokenizer
) -> None:
    check(load(kind), text, prompt, max_tokens)


@pytest.mark.parametrize("kind", [*BERT, *GEMMA])
@pytest.mark.parametrize("piece", PIECES)
def test_so_has_one_of_repeated_pieces(kind: str, piece: str, load: LoadTokenizer) -> None:
    check(load(kind), piece * (40_000 // len(piece)), "", 256)


@pytest.mark.parametrize("kind", ["unigram", "byte-level"])
def test_so_has_a_long_text_with_white_space_for_a_tokenizer_that_marks_the_start(
    kind: str, load: LoadTokenizer
) -> None:
    check(load(kind), "The ferry cannot cross; 봄이 되면 강물이 불어나. " * 1_000, PROMPT, 256)


@pytest.mark.parametrize("kind", ["unigram", "byte-level"])
def test_without_white_space_such_a_tokenizer_adds_few_tokens(
    kind: str, load: LoadTokenizer
) -> None:
    pair, text = load(kind), "".join(chr(0xAC00 + n * 37 % 11_000) for n in range(100_000))
    found = body(pair, windows_of(pair, text, max_tokens=256))
    whole = pair.original.encode(text, add_special_tokens=False).ids
    assert abs(len(found) - len(whole)) <= 2 * (len(text) // (WINDOW // 2))


@pytest.mark.parametrize(
    ("n_title", "n_text", "weights"),
    [
        (10, 60, [20, 20, 20]),  # in windows of 30, the prompt again in each
        (20, 40, [10, 15, 15]),  # half of a window again
        (30, 40, [0, 15, 15, 10]),  # the first window is full of the prompt
        (40, 40, [0, 5, 15, 15, 5]),  # the second begins with more of it
        (60, 1, [0, 0, 0, 1]),
        (40, 0, [1, 0]),  # the text has no token
    ],
)
def test_a_window_weighs_what_it_has_of_the_text(
    n_title: int, n_text: int, weights: list[int], load: LoadTokenizer
) -> None:
    pair = load("wordpiece")
    prompt, text = "title " * n_title, "word " * n_text or "\x01"
    found = windows_of(pair, text, prompt=prompt, max_tokens=32)
    assert found.weights == weights


@pytest.mark.parametrize("kind", ["wordpiece", "gemma3"])
def test_windows_of_joined_texts_are_those_of_both(kind: str, load: LoadTokenizer) -> None:
    """Where the first text fills its windows."""
    pair = load(kind)
    first, second = " word" * 90, " other" * 45
    joined, one, two = (
        windows_of(pair, text, max_tokens=32).windows for text in (first + second, first, second)
    )
    assert len(one[-1]) == 32
    assert [window.tolist() for window in joined] == [window.tolist() for window in [*one, *two]]


weights = st.lists(st.lists(st.integers(1, 2_000), min_size=1, max_size=6), min_size=1, max_size=6)


def random_vectors(count: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 24)).astype(np.float32)
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


@given(weights=weights, seed=st.integers(0, 1_000))
def test_the_mean_is_weighted_has_length_one_and_does_not_depend_on_other_texts(
    weights: list[list[int]], seed: int
) -> None:
    vectors = random_vectors(sum(map(len, weights)), seed)
    means = average(vectors, weights)
    assert means.shape == (len(weights), 24)
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 1, atol=1e-6)
    start = 0
    for mean, text in zip(means, weights, strict=True):
        own = vectors[start : start + len(text)]
        start += len(text)
        np.testing.assert_array_equal(average(own, [text])[0], mean)
        exact = np.average(own.astype(np.float64), axis=0, weights=text)
        np.testing.assert_allclose(mean, exact / np.linalg.norm(exact), atol=1e-6)
        if len(text) == 1:
            np.testing.assert_array_equal(mean, own[0])


def embed(model: EmbeddingModel, texts: Sequence[str]) -> np.ndarray:
    found = model.tokenizer.encode(texts, max_tokens=64, average=True)
    windows = [window for text in found for window in text.windows]
    return average(model.engine.forward(windows), [text.weights for text in found])


def test_the_vector_of_a_repeated_window_is_that_of_the_window(starter: LoadModel) -> None:
    model = starter("fp32")
    once, often = embed(model, [" word" * 62, " word" * 62 * 5])
    np.testing.assert_allclose(often, once, atol=1e-6)


def test_the_vector_has_the_same_bits_on_every_kernel_and_beside_other_texts(
    starter: LoadModel, starter_directory: Path
) -> None:
    starter("fp32")
    texts = [" ".join(f"{n} {piece}" for n in range(40)) for piece in ("river", "강물", "short")]
    models = [
        EmbeddingModel.load(starter_directory, num_threads=2, kernel=kernel) for kernel in kernels()
    ]
    expected = embed(models[0], texts)
    for model in models:
        np.testing.assert_array_equal(embed(model, texts[1:][::-1])[::-1], expected[1:])
