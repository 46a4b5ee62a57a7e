"""Offsets say where each token lies in its text."""

from itertools import pairwise
from unicodedata import category

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedder.errors import OffsetsError
from embedder.long_text import MARGIN, WINDOW
from embedder.offsets import NOWHERE, with_offsets
from embedder.prepare.sentences import SENTENCES
from embedder.tokenized_text import TokenizedText
from tests.embedder.conftest import LoadTokenizer, Pair
from tests.embedder.tokenizers_by_kind import KINDS

PROMPTS = ("", "query: ", "title: none | text: ")
# Control characters and lone accents are left out: some tokenizers drop them.
visible = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=60)
words = st.lists(st.sampled_from(["word", " ", "안녕", "🏳️‍🌈", "é", "[SEP]", "\n", "<eos>"]))
texts = visible | st.sampled_from(SENTENCES) | words.map("".join)


def located(
    pair: Pair, text: str, prompt: str = "", *, max_tokens: int = 512, average: bool = False
) -> TokenizedText:
    slices = pair.ours.slices([text], [prompt], max_tokens=max_tokens, average=average)
    found = [one for step in with_offsets(slices, pair.ours, [text], [prompt]) for one in step]
    assert len(found) == 1
    return found[0]


def spans(tokens: TokenizedText) -> list[tuple[int, int]]:
    assert tokens.offsets is not None
    assert tokens.offsets.shape == (len(tokens.ids), 2)
    return [(start, end) for start, end in tokens.offsets.tolist() if start != NOWHERE]


def uncovered(text: str, found: list[tuple[int, int]]) -> set[str]:
    """The visible characters of a text that no token lies on."""
    covered = {index for start, end in found for index in range(start, end)}
    return {
        character
        for index, character in enumerate(text)
        if index not in covered and category(character)[0] in "LNPS"
    }


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=texts, prompt=st.sampled_from(PROMPTS), max_tokens=st.integers(3, 300))
def test_offsets_are_in_order_and_cover_what_is_read_of_a_text(
    kind: str, text: str, prompt: str, max_tokens: int, load: LoadTokenizer
) -> None:
    pair = load(kind)
    tokens = located(pair, text, prompt, max_tokens=max_tokens)
    [plain] = pair.ours.encode([text], prompt=prompt, max_tokens=max_tokens)
    assert tokens.ids.tolist() == plain.ids.tolist()
    found = spans(tokens)
    assert all(0 <= start <= end <= len(text) for start, end in found)
    assert all(a <= c and b <= d for (a, b), (c, d) in pairwise(found))
    read = text[: found[-1][1]] if found and tokens.truncated else text
    if found or not tokens.truncated:
        assert not uncovered(read, found)


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=texts, prompt=st.sampled_from(PROMPTS), max_tokens=st.integers(8, 40))
def test_windows_have_each_place_once_and_no_place_of_the_prompt(
    kind: str, text: str, prompt: str, max_tokens: int, load: LoadTokenizer
) -> None:
    pair = load(kind)
    in_windows = located(pair, text, prompt, max_tokens=max_tokens, average=True)
    assert spans(in_windows) == spans(located(pair, text, prompt, max_tokens=100_000))


def test_the_slices_are_what_the_tokens_say(load: LoadTokenizer) -> None:
    pair = load("wordpiece")
    text = "안녕 Naïve tokenisers, 42 🌈!"
    tokens = located(pair, text, "query: ")
    assert tokens.offsets is not None
    read = [text[start:end] if start >= 0 else None for start, end in tokens.offsets.tolist()]
    assert read[0] is read[-1] is None
    assert read[1:3] == [None, None]  # query and its colon
    assert [part for part in read if part and part.isascii()] == [
        "token", "iser", "s", ",", "42", "!"
    ]  # fmt: skip
    assert "Naïve" in read


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_that_is_cut_early_has_offsets(kind: str, load: LoadTokenizer) -> None:
    text = "one more word " * 4_000
    tokens = located(load(kind), text, max_tokens=128)
    assert tokens.truncated
    found = spans(tokens)
    assert len(found) >= 126
    assert not uncovered(text[: found[-1][1]], found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text",
    ["one more word " * 4_000, "a" * (WINDOW + 1), "word" + " " * 20_000 + "word"],
    ids=["words", "one-word", "space"],
)
def test_tokens_that_reach_too_far_are_refused_with_the_number_of_the_text(
    kind: str, text: str, load: LoadTokenizer
) -> None:
    ours, given = load(kind).ours, ["short", text]
    slices = ours.slices(given, ["", ""], max_tokens=100_000)
    with pytest.raises(OffsetsError) as refusal:
        list(with_offsets(slices, ours, given, ["", ""]))
    assert (refusal.value.index, refusal.value.limit) == (1, WINDOW - MARGIN)
