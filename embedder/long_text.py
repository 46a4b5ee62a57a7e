"""Tokenises a long text window by window, until there are more tokens than are kept.

The text after a window can change the window's last tokens: a word continues, or a merge includes
the last character. These tokens stay open and are tokenised again with the text after them, so the
ids are those of the whole text.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias, cast
from unicodedata import combining

import tokenizers
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import BertNormalizer, Replace
from tokenizers.pre_tokenizers import BertPreTokenizer, Split

# Characters tokenised at a time: takes 0.3 ms (control characters) to 35 ms (4-byte characters).
WINDOW = 16_384
# Characters at the end of a window whose tokens stay open. More than the longest added token (31 in
# Gemma 3), and more than the longest chain of Gemma 3's merges through which the end of a text can
# change earlier tokens: 432 (calculated). In 2,300 texts made from such chains it was at most 30.
MARGIN = 1_024

# None after each window but the last; then more than `wanted` ids, or those of the whole text.
Windows: TypeAlias = Iterator[Sequence[int] | None]
Read: TypeAlias = Callable[[tokenizers.Tokenizer, str, int], Windows]


def reader_for(tokenizer: tokenizers.Tokenizer) -> Read:
    """The function that reads the start of a long text: `read(tokenizer, text, wanted)`."""
    if _is_bert(tokenizer):
        return read_words
    return read_tokens if _is_gemma(tokenizer) else read_from_the_start


def reader_of_all(tokenizer: tokenizers.Tokenizer) -> Read:
    """The function that reads a whole long text: one whose windows do not grow with it."""
    return read_words if _is_bert(tokenizer) else read_tokens


def _is_bert(tokenizer: tokenizers.Tokenizer) -> bool:
    return (
        isinstance(tokenizer.model, WordPiece)
        and isinstance(tokenizer.normalizer, BertNormalizer)
        and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
    )


def _is_gemma(tokenizer: tokenizers.Tokenizer) -> bool:
    """Whether it is BPE that inserts nothing before a text."""
    return (
        isinstance(tokenizer.model, BPE)
        and isinstance(tokenizer.normalizer, Replace)
        and isinstance(tokenizer.pre_tokenizer, Split)
    )


def first_window(wanted: int) -> int:
    """Characters that usually have `wanted` tokens, so that few more are read; at most WINDOW."""
    return min(WINDOW, 8 * wanted + 2 * MARGIN)


def _ends(n_characters: int, wanted: int) -> Iterator[int]:
    """The ends of the windows. Each is twice as long as the one before, up to WINDOW."""
    size = end = first_window(wanted)
    yield end
    while end < n_characters:
        size = min(2 * size, WINDOW)
        end += size
        yield end


def read_from_the_start(tokenizer: tokenizers.Tokenizer, text: str, wanted: int) -> Windows:
    """Windows that all start at the start of the text, each twice as long; for any tokenizer.

    A tokenizer may insert something before a text, so a window cannot start in the middle.
    """
    size = first_window(wanted)
    while size < len(text):
        encoding = _encoded(tokenizer, text[:size])
        settled = _tokens_before(encoding, size - MARGIN)
        if settled > wanted:
            yield encoding.ids[:settled]
            return
        yield None
        size *= 2
    yield _encoded(tokenizer, text).ids


def read_tokens(tokenizer: tokenizers.Tokenizer, text: str, wanted: int) -> Windows:
    """Windows that each start where the settled tokens of the one before end.

    The ids are those of the whole text for BPE that inserts nothing before a text: no merge crosses
    the end of a token, so the merges on both sides of it do not depend on each other. Tokenizers
    that mark the start of a text may add such a mark, at most once per window, where a text has
    MARGIN characters without white space.
    """
    ids = array("i")
    begin, size = 0, first_window(wanted)
    while begin + size < len(text):
        window = text[begin : begin + size]
        encoding = _encoded(tokenizer, window)
        settled, end = _settled(encoding, window)
        ids.extend(encoding.ids[:settled])
        if len(ids) > wanted:
            yield ids
            return
        yield None
        begin += end
        size = min(2 * size, WINDOW) if settled else 2 * size  # one token may have any length
    ids.extend(_encoded(tokenizer, text[begin:]).ids)
    yield ids


def read_words(tokenizer: tokenizers.Tokenizer, text: str, wanted: int) -> Windows:
    """Windows that each start after the last whole word; for BERT's tokenizer.

    Its words do not depend on each other, and a megabyte may contain no token at all (white space,
    control characters, accents) or only one (a word of more than 100 characters is [UNK]).
    """
    ids = array("i")
    window, begin = "", 0
    for end in _ends(len(text), wanted):
        window += text[begin:end]
        begin = end
        encoding = _encoded(tokenizer, window)
        if end >= len(text):
            ids.extend(encoding.ids)
            yield ids
            return
        settled = _tokens_of_whole_words(encoding, len(window) - MARGIN)
        ids.extend(encoding.ids[:settled])
        if len(ids) > wanted:
            yield ids
            return
        if settled < len(encoding):
            start = _start_of(tokenizer, _characters(encoding, settled)[0], window)
            window = _shortened(tokenizer, window[start:])
        else:
            window = ""
        yield None


def _encoded(tokenizer: tokenizers.Tokenizer, text: str) -> tokenizers.Encoding:
    """Without holding the GIL, as `encode` does for 22 ms per window of Hangul."""
    [encoding] = tokenizer.encode_batch([text], add_special_tokens=False)
    return encoding


def _tokens_before(encoding: tokenizers.Encoding, end: int) -> int:
    """How many tokens end at character `end` or earlier."""
    return bisect_right(range(len(encoding)), end, key=lambda i: _characters(encoding, i)[1])


def _settled(encoding: tokenizers.Encoding, window: str) -> tuple[int, int]:
    """How many tokens the text after a window cannot change, and where they end.

    They end before white space, if there is any within MARGIN characters.
    """
    most = _tokens_before(encoding, len(window) - MARGIN)
    least = _tokens_before(encoding, len(window) - 2 * MARGIN)
    found: tuple[int, int] | None = None
    for count in range(most, max(least - 1, 0), -1):
        end = _characters(encoding, count - 1)[1]
        if count < len(encoding) and _characters(encoding, count)[0] < end:
            continue  # a character of several tokens
        if window[end].isspace():
            return count, end
        found = found or (count, end)
    return found or (0, 0)


def _tokens_of_whole_words(encoding: tokenizers.Encoding, end: int) -> int:
    """How many tokens belong to words that end before `end`, without the last word."""
    if not len(encoding):
        return 0
    first_open = min(_tokens_before(encoding, end), len(encoding) - 1)
    return bisect_left(
        range(len(encoding)), _word(encoding, first_open), key=partial(_word, encoding)
    )


def _characters(encoding: tokenizers.Encoding, token: int) -> tuple[int, int]:
    """Start and end of a token in the text. Not for special tokens, which have no position."""
    return cast("tuple[int, int]", encoding.token_to_chars(token))


def _word(encoding: tokenizers.Encoding, token: int) -> int:
    return cast("int", encoding.token_to_word(token))


def _start_of(tokenizer: tokenizers.Tokenizer, offset: int, window: str) -> int:
    """The start of the word at `offset`; earlier if normalisation reordered accents there."""
    if not combining(window[offset]):
        return offset
    normalized = tokenizer.normalizer.normalize_str
    while offset and (combining(window[offset - 1]) or not normalized(window[offset - 1])):
        offset -= 1
    return offset


def _shortened(tokenizer: tokenizers.Tokenizer, rest: str) -> str:
    """A shorter text with the same tokens as `rest`, which is one word up to the last MARGIN.

    Otherwise a word without an end would be kept whole, and tokenised again with each window.
    """
    if len(rest) <= 2 * MARGIN:
        return rest
    normalized = (
        tokenizer.normalizer.normalize_str
    )  # holds the GIL, so it gets a little text at a time
    pieces = range(MARGIN, len(rest) - MARGIN, MARGIN)
    middle = "".join(
        normalized(rest[start : min(start + MARGIN, len(rest) - MARGIN)]) for start in pieces
    )
    longest: int = tokenizer.model.max_input_chars_per_word
    return rest[:MARGIN] + middle[:longest] + middle[longest:][-1:] + rest[-MARGIN:]
