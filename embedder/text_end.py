"""The last tokens of a text: for callers who want long texts to be cut at their start.

A text is read from its end, in windows that each end where the tokens of the window behind begin.
The text before a window can change the window's first tokens: a word continues, or a merge includes
the character before. These tokens are left to the window before, so the ids are those of the whole
text; with one exception: a run of more than MARGIN equal characters, such as dots, may be split
into tokens elsewhere.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import tokenizers

from embedder.blank import is_blank
from embedder.long_text import MARGIN, WINDOW

# Of a text with more characters per token that fits, only the last ones are read: it may be a
# megabyte that makes no tokens, and tokens are what is charged.
CHARACTERS = 8
USUAL = 6  # characters per token in the first window; English has about 4.5


class TextEnd(NamedTuple):
    """What is kept of prompt and text.

    Attributes:
        ids: without special tokens.
        n_tokens: that were read; more than `ids` if the text was cut.
        blank: whether the text, or its end that was read, has no visible character.
    """

    ids: Sequence[int]
    n_tokens: int
    blank: bool


def read_end(
    tokenizer: tokenizers.Tokenizer, prompt: str, text: str, kept: int
) -> Iterator[TextEnd | None]:
    """None after each step of bounded time; then what is kept of a prompt and a text.

    That is everything if it fits. Otherwise it is the prompt, or as much of it as fills half of the
    space, and the last tokens; but no token that begins before the last CHARACTERS * kept
    characters of the text.

    Args:
        tokenizer: of the model.
        prompt: in front of the text.
        text: of any length.
        kept: tokens that fit.
    """
    whole = prompt + text
    least = max(len(text) - CHARACTERS * kept, 0)
    if least:
        least += len(prompt)
    ids: Sequence[int] = ()
    begin = least
    for found in _last_tokens(tokenizer, whole, least, kept):
        if found is None:
            yield None
        else:
            ids, begin = found
    blank = is_blank(whole[max(least, len(prompt)) :])
    if not begin and len(ids) <= kept:
        yield TextEnd(ids, len(ids), blank)
        return
    again = start_of_prompt(tokenizer, prompt, whole)[: kept // 2]
    last = ids[max(len(ids) - kept + len(again), 0) :]
    yield TextEnd([*again, *last], len(again) + len(ids), blank)


def start_of_prompt(tokenizer: tokenizers.Tokenizer, prompt: str, whole: str) -> Sequence[int]:
    """The tokens that a prompt has both alone and at the start of `whole`."""
    if not prompt:
        return ()
    alone, before = tokenizer.encode_batch(
        [prompt, whole[: len(prompt) + MARGIN]], add_special_tokens=False
    )
    return common_start(alone.ids, before.ids)


def common_start(a: Sequence[int], b: Sequence[int]) -> Sequence[int]:
    """The ids that both begin with."""
    differing = (index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return a[: next(differing, min(len(a), len(b)))]


def _last_tokens(
    tokenizer: tokenizers.Tokenizer, text: str, least: int, wanted: int
) -> Iterator[tuple[list[int], int] | None]:
    """None after each window but the last; then ids, and the character where reading ended.

    There are `wanted` ids or more, or those of all tokens that begin at character `least` or later.
    """
    size = min(USUAL * wanted, WINDOW)
    ids: list[int] = []
    begin = end = len(text)
    while begin > least and len(ids) < wanted:
        if begin < len(text):
            yield None
        begin = max(end - size, least)
        start = _start(text, begin)
        # The positions of tokens take a third of the time, and are not needed at the start.
        encode = tokenizer.encode_batch if begin else tokenizer.encode_batch_fast
        [encoding] = encode([text[start:end]], add_special_tokens=False)
        first = _first_from(encoding, begin - start) if begin else 0
        before = start + _characters(encoding, first - 1)[1] if first else start
        if first < len(encoding):
            end = _end_of_word(text, before, start + _characters(encoding, first)[0])
        elif before <= begin:
            end = _end_of_word(text, before, begin)
        else:
            size *= 2  # one token has all characters of the window
        ids[:0] = encoding.ids[first:]
    yield ids, begin


def _start(text: str, begin: int) -> int:
    """Where to begin to read, so that the tokens from `begin` on are those of the whole text.

    MARGIN characters before, and before white space if there is some: words begin there.
    """
    latest = begin - MARGIN
    if latest <= 0:
        return 0
    for start in range(latest, max(latest - MARGIN, 0), -1):
        if text[start].isspace() and not text[start - 1].isspace():
            return start
    return latest


def _end_of_word(text: str, begin: int, end: int) -> int:
    """The first white space from `begin` on, or `end`: what is left for the window before.

    A run of white space may become one token at its last character, and is read with that token. A
    combining mark belongs to the token before it.
    """
    return next((index for index in range(begin, end) if text[index].isspace()), end)


def _first_from(encoding: tokenizers.Encoding, begin: int) -> int:
    """The first token that begins at a character or later; the number of tokens if none does."""
    return bisect_left(range(len(encoding)), begin, key=lambda i: _characters(encoding, i)[0])


def _characters(encoding: tokenizers.Encoding, token: int) -> tuple[int, int]:
    """Start and end of a token in the text."""
    return cast("tuple[int, int]", encoding.token_to_chars(token))
