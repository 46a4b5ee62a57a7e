"""The last tokens of a text that is cut at its start."""

from collections.abc import Sequence

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedder.long_text import MARGIN, WINDOW
from embedder.text_end import CHARACTERS, TextEnd, common_start, read_end
from tests.embedder.conftest import LoadTokenizer, Pair
from tests.embedder.test_long_text import PIECES
from tests.embedder.tokenizers_by_kind import KINDS

PROMPT = "task: search result | query: "
TITLE = "title: " + "무제 " * 40 + "| text: "
properties = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Words of any kind, with white space after MARGIN characters at most.
words = st.one_of(
    st.builds(
        lambda piece, count: (piece * count)[: MARGIN - 1],
        st.sampled_from(PIECES),
        st.integers(1, 300),
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
)
passages = st.lists(words, max_size=12).map(" ".join)
prompts = st.sampled_from(["", PROMPT, TITLE])


def end_of(pair: Pair, prompt: str, text: str, kept: int) -> TextEnd:
    *steps, end = read_end(pair.original, prompt, text, kept)
    assert set(steps) <= {None}
    assert end is not None
    return end


def encoded(pair: Pair, text: str) -> tokenizers.Encoding:
    return pair.original.encode(text, add_special_tokens=False)


def cut(pair: Pair, prompt: str, text: str, kept: int) -> Sequence[int]:
    """What is kept, from the tokens of the whole text."""
    whole = encoded(pair, prompt + text)
    least = max(len(text) - CHARACTERS * kept, 0)
    if not least and len(whole) <= kept:
        return list(whole.ids)
    again = common_start(encoded(pair, prompt).ids, whole.ids)[: kept // 2]
    last = [
        token
        for token, (begin, _) in zip(whole.ids, whole.offsets, strict=True)
        if not least or begin >= least + len(prompt)
    ]
    return [*again, *last[max(len(last) - kept + len(again), 0) :]]


def check(pair: Pair, prompt: str, text: str, kept: int) -> None:
    end = end_of(pair, prompt, text, kept)
    assert list(end.ids) == cut(pair, prompt, text, kept)
    assert len(end.ids) <= min(end.n_tokens, kept)


@pytest.mark.parametrize("kind", KINDS)
@properties
@given(text=passages, prompt=prompts, kept=st.sampled_from([0, 1, 16, 200, 1_000, 20_000]))
def test_ids_are_the_last_ones_of_the_whole_text(
    kind: str, text: str, prompt: str, kept: int, load: LoadTokenizer
) -> None:
    check(load(kind), prompt, text, kept)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("space", [" ", "\u3000", "\t", "\n"])
@pytest.mark.parametrize("count", [95, 96, 97, 140])
def test_a_run_of_white_space_across_windows_is_read_once(
    kind: str, space: str, count: int, load: LoadTokenizer
) -> None:
    """XLM-R's tokenizer makes one token of it, at its last character."""
    for text in (space * count, "word" + space * count, space * count + "word"):
        check(load(kind), PROMPT, text, 16)


@pytest.mark.parametrize("kind", ["wordpiece", "gemma3"])
@pytest.mark.parametrize("piece", PIECES)
def test_so_are_nearly_all_of_one_repeated_piece_in_several_windows(
    kind: str, piece: str, load: LoadTokenizer
) -> None:
    """Gemma has tokens of up to 31 dots. Where such a run is split depends on its start."""
    pair, text = load(kind), piece * (50_000 // len(piece))
    found, expected = end_of(pair, PROMPT, text, 5_000).ids, cut(pair, PROMPT, text, 5_000)
    windows = 1 + CHARACTERS * 5_000 // WINDOW
    assert abs(len(found) - len(expected)) <= windows
    differing = sum(one != other for one, other in zip(found, expected, strict=False))
    assert differing <= windows


def test_the_prompt_stays_in_front_of_the_last_words(load: LoadTokenizer) -> None:
    pair = load("wordpiece")
    text = " ".join(f"word {number}" for number in range(3_000))
    end = end_of(pair, PROMPT, text, 200)
    read = pair.original.decode(list(end.ids))
    assert read.startswith("task : search result | query :")
    assert read.endswith("word 2998 word 2999")
    assert len(end.ids) == 200 < end.n_tokens


@pytest.mark.parametrize(("text", "blank"), [("word " * 100 + " " * 9_000, True), (" word", False)])
def test_it_is_blank_if_what_is_left_is(text: str, blank: bool, load: LoadTokenizer) -> None:
    assert end_of(load("wordpiece"), PROMPT, text, 100).blank is blank


class Recording:
    """A tokenizer that notes the length of each text that it reads."""

    def __init__(self, original: tokenizers.Tokenizer) -> None:
        self._original = original
        self.steps: list[int] = []

    def encode_batch(
        self, texts: list[str], *, add_special_tokens: bool
    ) -> list[tokenizers.Encoding]:
        self.steps.append(sum(map(len, texts)))
        return self._original.encode_batch(texts, add_special_tokens=add_special_tokens)

    encode_batch_fast = encode_batch


@pytest.mark.parametrize("kind", ["wordpiece", "gemma3"])
@pytest.mark.parametrize("kept", [254, 2_046, 8_190])
@pytest.mark.parametrize("piece", PIECES)
def test_what_is_read_depends_on_the_limit_and_not_on_the_text(
    kind: str, piece: str, kept: int, load: LoadTokenizer
) -> None:
    recording = Recording(load(kind).original)
    text = piece * (1_000_000 // len(piece))
    ends = read_end(recording, "", text, kept)  # type: ignore[arg-type]
    assert [*ends][-1] is not None
    assert sum(recording.steps) <= 2 * CHARACTERS * kept + 4 * MARGIN
    assert max(recording.steps) <= max(WINDOW + 2 * MARGIN, CHARACTERS * kept + 2 * MARGIN)
