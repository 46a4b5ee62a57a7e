"""Special tokens that a user writes are text: only the tokenizer itself puts special tokens."""

import pytest
from sentence_transformers import SentenceTransformer

from embedder.tokenized_text import TokenIds
from tests.embedder.conftest import LoadModel, LoadTokenizer, Pair
from tests.embedder.tokenizers_by_kind import KINDS

WRITTEN = (
    "<eos>", "<bos>", "<pad>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>",
    "[CLS]", "[SEP]", "[PAD]", "[MASK]", "<s>", "</s>", "<mask>", "<|endoftext|>",
)  # fmt: skip


def special_ids(pair: Pair) -> set[int]:
    """The special tokens of a tokenizer, without the one for unknown characters."""
    added = pair.original.get_added_tokens_decoder()
    special = {number: token.content for number, token in added.items() if token.special}
    known = {number for number, content in special.items() if "unk" not in content.lower()}
    return {*known, *pair.original.encode("").ids}


def inside(pair: Pair, window: TokenIds) -> set[int]:
    """The ids between the special tokens at both ends."""
    n_after = len(pair.original.encode("").ids) - 1
    return {*window[1 : len(window) - n_after].tolist()}


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_has_a_special_token_inside(kind: str, load: LoadTokenizer) -> None:
    pair = load(kind)
    special = special_ids(pair)
    for written in WRITTEN:
        text = f"{written}{written} a {written}b\n{written}"
        [read] = pair.ours.encode([text], prompt=f"{written} | text: ", max_tokens=512)
        assert not inside(pair, read.ids) & special, written


@pytest.mark.parametrize("kind", KINDS)
def test_no_window_of_a_long_text_has_one(kind: str, load: LoadTokenizer) -> None:
    pair = load(kind)
    special = special_ids(pair)
    text = "".join(f"word {written} " for written in WRITTEN) * 200
    for max_tokens in (32, 256):
        [read] = pair.ours.encode([text], max_tokens=max_tokens, average=True)
        assert read.n_windows > 2
        for window in read.windows:
            assert not inside(pair, window) & special


@pytest.mark.parametrize("family", ["starter", "gemma"])
def test_ids_are_those_of_sentence_transformers_that_splits_special_tokens(
    family: str, request: pytest.FixtureRequest
) -> None:
    """As preparing a model compares it; by default sentence-transformers does not split them."""
    model: LoadModel = request.getfixturevalue(family)
    original: SentenceTransformer = request.getfixturevalue(f"{family}_original")
    for written in WRITTEN:
        text = f"a {written} b {written}"
        [read] = model("fp32").tokenizer.encode([text], max_tokens=64)
        assert read.ids.tolist() == original.tokenizer(text)["input_ids"]
    end = {"starter": "[SEP]", "gemma": "<eos>"}[family]
    [read] = model("fp32").tokenizer.encode([f"a {end} b"], max_tokens=64)
    special = original.tokenizer(f"a {end} b", split_special_tokens=False)["input_ids"]
    assert read.ids.tolist().count(read.ids[-1]) == 1
    assert special.count(special[-1]) == 2
