"""The real tokenizer of Gemma 3: ids, counts, cuts, prompts and windows in 12 languages.

`gemma3_tokens.json` has the ids of another implementation, in JavaScript, of @lenml/tokenizers.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from embedder.prepare.families.gemma3 import PROMPTS
from embedder.tokens import Tokenizer
from tests.embedder.conftest import LoadTokenizer

GOLDEN: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("gemma3_tokens.json").read_text(encoding="utf-8")
)
BOS, EOS = 2, 1
tasks = pytest.mark.parametrize("task", ["none", "query", "document"])
languages = pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["language"])


@pytest.fixture(scope="module")
def tokenizer(load: LoadTokenizer) -> Tokenizer:
    return load("gemma3").ours


def prompt_of(task: str) -> str:
    return "" if task == "none" else PROMPTS[task]


@languages
@tasks
def test_ids_and_counts_are_those_of_another_implementation(
    tokenizer: Tokenizer, row: dict[str, Any], task: str
) -> None:
    [read] = tokenizer.encode([row["text"]], prompt=prompt_of(task), max_tokens=2048)
    assert read.ids.tolist() == row[task]
    assert (read.n_tokens, read.truncated, read.n_windows) == (len(row[task]), False, 1)


@languages
@tasks
@pytest.mark.parametrize("max_tokens", [3, 10, 14])
def test_a_cut_keeps_the_first_tokens_and_both_ends(
    tokenizer: Tokenizer, row: dict[str, Any], task: str, max_tokens: int
) -> None:
    [read] = tokenizer.encode([row["text"]], prompt=prompt_of(task), max_tokens=max_tokens)
    assert read.ids.tolist() == [*row[task][: max_tokens - 1], EOS]
    assert (read.n_tokens, read.truncated) == (len(row[task]), True)


@languages
@tasks
def test_windows_have_the_prompt_and_the_next_tokens(
    tokenizer: Tokenizer, row: dict[str, Any], task: str
) -> None:
    [read] = tokenizer.encode([row["text"]], prompt=prompt_of(task), max_tokens=20, average=True)
    prompt = row[task][: read.repeated - 1]
    first, *others = [window.tolist() for window in read.windows]
    assert {prompt[0], *(window[0] for window in others)} == {BOS}
    assert all(window[: len(prompt)] == prompt for window in others)
    rest = [token for window in others for token in window[len(prompt) : -1]]
    assert [*first[:-1], *rest, EOS] == row[task]


@tasks
def test_the_prompt_of_a_window_has_the_tokens_that_it_has_before_the_text(
    tokenizer: Tokenizer, task: str
) -> None:
    """Its last space belongs to the word that follows."""
    [read] = tokenizer.encode(["word " * 40], prompt=prompt_of(task), max_tokens=20, average=True)
    n_words = {"none": 18, "query": 11, "document": 12}[task]
    assert read.weights[:2] == [n_words, n_words]
