"""Long texts are tokenised in windows, with the ids of the whole text."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedder import long_text
from embedder.long_text import (
    WINDOW,
    first_window,
    read_from_the_start,
    read_tokens,
    read_words,
    reader_for,
    reader_of_all,
)
from tests.embedder.conftest import LoadTokenizer, Pair
from tests.embedder.tokenizers_by_kind import KINDS

BERT = ("wordpiece", "cased")
GEMMA = ("gemma3", "small-gemma")
# Pieces that make few tokens of many characters, or many of one; some reorder, join or drop them.
PIECES = (
    ".", " ", "a", "\u0301", "한", "\u1112\u1161\u11ab", "🏳️\u200d🌈", "\x01", "中", "\u3000",
    "a\x01", "word ", "\U0001d160", "\ufdfa", "İ", "\n", "\u302f\u200d\u0323", "[SEP]", "[SE",
    "<bos>", "<h1>", "supercalifragilistic", "안녕하세요 ", "▁", "\u200b", "é",
)  # fmt: skip
repeated = st.builds(str.__mul__, st.sampled_from(PIECES), st.integers(1, 300))
varied = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)
passage = st.lists(repeated | varied, max_size=20).map("".join)


@st.composite
def long_texts(draw: st.DrawFn) -> str:
    """A special piece at the end of one of the first windows, followed by more windows."""
    filler, tail = draw(st.sampled_from(PIECES)), draw(st.sampled_from(PIECES))
    end = draw(st.sampled_from([first_window(1), first_window(254), WINDOW]))
    start = max(0, end - draw(st.integers(0, 4_000)))
    first = (filler * start)[:start] + draw(passage)
    return first + tail * draw(st.integers(0, 30_000 // len(tail))) + draw(passage)


def check(pair: Pair, text: str, max_tokens: int) -> None:
    original = pair.original
    n_tokens = len(original.encode(text).ids)
    original.enable_truncation(max_tokens)
    expected = original.encode(text).ids
    original.no_truncation()
    [tokens] = pair.ours.encode([text], max_tokens=max_tokens)
    assert tokens.ids.tolist() == expected
    assert tokens.truncated == (n_tokens > max_tokens)
    assert max_tokens < tokens.n_tokens <= n_tokens if tokens.truncated else True
    assert tokens.truncated or tokens.n_tokens == n_tokens


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=long_texts(), max_tokens=st.sampled_from([3, 256, 2048, 20_000, 100_000]))
def test_ids_are_those_of_the_whole_text(
    kind: str, text: str, max_tokens: int, load: LoadTokenizer
) -> None:
    check(load(kind), text, max_tokens)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", PIECES)
def test_ids_of_one_repeated_piece_are_those_of_the_whole_text(
    kind: str, piece: str, load: LoadTokenizer
) -> None:
    text = piece * (20_000 // len(piece))  # more than a window
    for max_tokens in (128, 2048):
        check(load(kind), text, max_tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_only_bert_and_gemma_continue_where_a_window_ends(kind: str, load: LoadTokenizer) -> None:
    reader = reader_for(load(kind).original)
    assert reader is (
        read_words if kind in BERT else read_tokens if kind in GEMMA else read_from_the_start
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_window_of_a_whole_text_grows_with_it(kind: str, load: LoadTokenizer) -> None:
    assert reader_of_all(load(kind).original) is (read_words if kind in BERT else read_tokens)


@pytest.mark.parametrize("piece", PIECES)
def test_no_step_reads_much_more_than_a_window(piece: str, load: LoadTokenizer) -> None:
    original = load("wordpiece").original
    read: list[int] = []

    class Recording:
        model, normalizer = original.model, original.normalizer

        def encode_batch(
            self, texts: list[str], *, add_special_tokens: bool
        ) -> list[tokenizers.Encoding]:
            read.extend(map(len, texts))
            return original.encode_batch(texts, add_special_tokens=add_special_tokens)

    text = (piece * 100_000)[:100_000]
    for _ in read_words(Recording(), text, 100_000):  # type: ignore[arg-type]
        pass
    assert max(read) < 1.2 * WINDOW
    assert sum(read) < 1.3 * len(text)


MEMORY = """
import re, sys
from pathlib import Path
from embedder.tokens import Tokenizer

def resident(name):
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\\s+(\\d+)", status)[1]) / 1024

tokenizer = Tokenizer.from_file(Path(sys.argv[1]))
tokenizer.encode(["warm-up"], max_tokens=256)
average = sys.argv[2] == "average"
for piece in sys.argv[3:]:
    text = piece * (1_000_000 // len(piece))
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    for _ in tokenizer.slices(
        [text], [""], max_tokens=2048, average=average, most_tokens=524_288
    ):
        pass
    print(piece.encode(), round(resident("VmHWM") - before, 1))
    assert resident("VmHWM") - before < 40, piece.encode()
"""


@pytest.mark.parametrize("kind", ["wordpiece", "gemma3"])
@pytest.mark.parametrize(
    ("overflow", "pieces"),
    [
        ("truncate", (".", " ", "\u0301", "한", "\u3000", "\U0001d160")),
        ("average", (".", "한")),
    ],
)
def test_a_megabyte_of_the_worst_text_takes_a_few_megabytes(
    kind: str, overflow: str, pieces: tuple[str, ...], load: LoadTokenizer
) -> None:
    command = [sys.executable, "-c", MEMORY, str(load(kind).file), overflow, *pieces]
    subprocess.run(command, check=True)


def longest_wait(work: Callable[[], object]) -> float:
    """Longest wait of this thread for the GIL while another works, as a share of the time."""
    begin = threading.Event()

    def run() -> None:
        begin.wait()
        work()

    working = threading.Thread(target=run)
    working.start()
    longest = 0.0
    began = last = time.perf_counter()
    begin.set()
    while working.is_alive():
        time.sleep(0)
        now = time.perf_counter()
        longest = max(longest, now - last)
        last = now
    return longest / (last - began)


@pytest.mark.parametrize("kind", BERT)
def test_other_threads_run_while_a_window_is_tokenised(kind: str, load: LoadTokenizer) -> None:
    original = load(kind).original
    window = "한글" * (WINDOW // 2)
    waits = [longest_wait(lambda: long_text._encoded(original, window)) for _ in range(5)]
    assert min(waits) < 0.5
