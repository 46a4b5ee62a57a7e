"""What is left of a text that is cut at its start."""

from collections.abc import Callable

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedder.text_end import CHARACTERS, fitting_end
from tests.embedder.conftest import LoadModel

PROMPT = "task: search result | query: "
PIECES = [
    "word ",
    "한",
    "안녕하세요 ",
    "a",
    " ",
    "\u0301",
    "🏳️\u200d🌈",
    "\x01",
    "é",
    "\n",
    "x" * 101,
]
texts = st.lists(
    st.builds(str.__mul__, st.sampled_from(PIECES), st.integers(1, 60))
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    max_size=8,
).map("".join)
Load = Callable[[str], tokenizers.Tokenizer]


@pytest.fixture
def load(starter: LoadModel, gemma: LoadModel) -> Load:
    models = {"starter": starter, "gemma": gemma}
    return lambda family: models[family]("fp32").tokenizer._tokenizer


def end_of(tokenizer: tokenizers.Tokenizer, prompt: str, text: str, wanted: int) -> str:
    *steps, end = fitting_end(tokenizer, prompt, text, wanted)
    assert set(steps) <= {None}
    assert end is not None
    assert end.n_tokens == min(count(tokenizer, prompt + end.text), wanted)
    return end.text


def count(tokenizer: tokenizers.Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("family", ["starter", "gemma"])
@pytest.mark.parametrize("prompt", ["", PROMPT])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=texts, wanted=st.integers(16, 200))
def test_the_rest_is_an_end_that_fits(
    family: str, prompt: str, text: str, wanted: int, load: Load
) -> None:
    tokenizer = load(family)
    end = end_of(tokenizer, prompt, text, wanted)
    assert text.endswith(end)
    assert count(tokenizer, prompt + end) <= max(wanted, count(tokenizer, prompt))
    if count(tokenizer, prompt + text) <= wanted and len(text) <= CHARACTERS * wanted:
        assert end == text


@pytest.mark.parametrize("family", ["starter", "gemma"])
def test_no_more_is_cut_than_is_over_the_limit(family: str, load: Load) -> None:
    tokenizer = load(family)
    text = " ".join(f"word{number}" for number in range(3_000))
    end = end_of(tokenizer, PROMPT, text, 200)
    assert end.endswith("word2999")
    assert 190 <= count(tokenizer, PROMPT + end) <= 200


def test_a_text_that_makes_no_tokens_costs_little(load: Load) -> None:
    assert len(end_of(load("starter"), "", "\x01" * 1_000_000, 100)) == CHARACTERS * 100


def test_a_prompt_that_is_too_long_leaves_little_of_the_text(load: Load) -> None:
    assert len(end_of(load("starter"), "a " * 50, "b " * 50, 20)) < 100
