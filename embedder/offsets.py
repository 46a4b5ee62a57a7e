"""Where each token lies in its text: what callers mark, count and cut texts by."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedder.errors import OffsetsError
from embedder.long_text import MARGIN, WINDOW
from embedder.tokenized_text import TokenizedText
from embedder.tokens import Tokenizer

# (n_ids, 2): start and end of each token, in characters (code points) of the text without its
# prompt. NOWHERE for tokens that lie outside of it: special ones, and those of the prompt.
Offsets: TypeAlias = NDArray[np.int32]
NOWHERE = -1
_Slices: TypeAlias = Iterator[list[TokenizedText]]


def with_offsets(
    slices: _Slices, tokenizer: Tokenizer, texts: Sequence[str], prompts: Sequence[str]
) -> _Slices:
    """The same slices with offsets, each after a step of its own of as bounded a time.

    Args:
        slices: what `tokenizer` makes of all `texts` and their `prompts`.
        tokenizer: reads each text again, up to WINDOW characters of prompt and text.
        texts: those of the slices, in their order.
        prompts: one per text.

    Raises:
        OffsetsError: the tokens of a text reach further than that.
    """
    index = 0
    for found in slices:
        yield []
        located = []
        for text in found:
            places = _places(tokenizer, prompts[index], texts[index], text)
            if places is None:
                raise OffsetsError(index, WINDOW - MARGIN)
            located.append(replace(text, offsets=places))
            index += 1
        yield located


def _places(tokenizer: Tokenizer, prompt: str, text: str, read: TokenizedText) -> Offsets | None:
    """The offsets of all ids of a text; None if they cannot be found in its first window."""
    prompted = prompt + text
    n_before, n_after = tokenizer.n_special
    own = _read_once(read, n_before, n_after)
    ids = read.ids[own]
    [encoding] = tokenizer.inner.encode_batch([prompted[:WINDOW]], add_special_tokens=False)
    ends = np.array(encoding.offsets, np.int32).reshape(-1, 2)[: len(ids)]
    if not np.array_equal(encoding.ids[: len(ids)], ids):
        return None
    if len(prompted) > WINDOW and len(ids) and ends[-1, 1] > WINDOW - MARGIN:
        return None  # what follows the window could change the last tokens
    places = np.full((len(read.ids), 2), NOWHERE, np.int32)
    inside = ends[:, 1] > len(prompt) if prompt else np.ones(len(ids), bool)
    places[own] = np.where(inside[:, None], (ends - len(prompt)).clip(0), NOWHERE)
    return places


def _read_once(read: TokenizedText, n_before: int, n_after: int) -> NDArray[np.bool_]:
    """(n_ids,): which ids are those of prompt and text, each in the first of its windows alone."""
    own = np.ones(len(read.ids), bool)
    start = 0
    for length in read.lengths:
        own[start : start + (read.repeated - n_after if start else n_before)] = False
        own[start + length - n_after : start + length] = False
        start += length
    return own
