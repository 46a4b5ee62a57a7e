"""The end of a text that fits: for callers who want long texts to be cut at their start."""

from collections.abc import Iterator
from typing import NamedTuple

import tokenizers

# At most so many characters are kept per token that fits. It bounds the time of a step: a text may
# be a megabyte that makes no tokens.
CHARACTERS = 8
ROUNDS = 8  # one or two are enough, unless a text is read in other tokens after each cut


class TextEnd(NamedTuple):
    """What is left of a text, and how many tokens it has together with its prompt."""

    text: str
    n_tokens: int


def fitting_end(
    tokenizer: tokenizers.Tokenizer, prompt: str, text: str, wanted: int
) -> Iterator[TextEnd | None]:
    """None after each step of bounded time; then what is left of `text`.

    Prompt and rest have at most `wanted` tokens together, special tokens not counted. Of a text
    that fits nothing is cut, unless it has more than CHARACTERS per token.
    """
    end = text[max(len(text) - CHARACTERS * wanted, 0) :]
    for _ in range(ROUNDS):
        [encoding] = tokenizer.encode_batch([prompt + end], add_special_tokens=False)
        excess = len(encoding) - wanted
        if excess <= 0:
            yield TextEnd(end, len(encoding))
            return
        yield None
        end = end[_end_of(encoding, excess, len(prompt)) :]
    yield TextEnd(end, wanted)  # it is cut at its end, too


def _end_of(encoding: tokenizers.Encoding, n_tokens: int, prompt: int) -> int:
    """The characters that the first `n_tokens` of the text are made of; at least 1."""
    ends = [end - prompt for _, end in encoding.offsets if end > prompt]
    return max(ends[min(n_tokens, len(ends)) - 1], 1) if ends else 1
