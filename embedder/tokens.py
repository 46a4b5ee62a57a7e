"""Text to token ids: with its prompt, and truncated to what the model reads."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tokenizers
from numpy.typing import NDArray

from embedder.blank import is_blank
from embedder.errors import ModelNotFoundError, TextError, TextTooLongError
from embedder.long_text import WINDOW, reader_for
from embedder.text_end import fitting_end

TokenIds: TypeAlias = NDArray[np.integer[Any]]  # (n_tokens,), special tokens included

TEXT_COST = 20  # characters that take as long to tokenise as an empty text, about 13 us


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """One text as the model reads it.

    Attributes:
        ids: (n_ids,), truncated to the limit, special tokens included.
        n_tokens: tokens before truncation, special tokens included; a lower bound where prompt and
            text are longer than WINDOW characters.
        blank: whether the text has no visible character.
    """

    ids: TokenIds
    n_tokens: int
    blank: bool

    @property
    def truncated(self) -> bool:
        """Whether the text was cut at the limit."""
        return len(self.ids) < self.n_tokens


class Tokenizer:
    """A `tokenizer.json`, without the padding and truncation that it defines."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        _bound_cache(tokenizer)
        self._tokenizer = tokenizer
        self._read = reader_for(tokenizer)
        self._before, self._after = _special_tokens(tokenizer)

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """Raises ModelNotFoundError."""
        if not path.is_file():
            raise ModelNotFoundError(path)
        return cls(tokenizers.Tokenizer.from_file(str(path)))

    def encode(
        self, texts: Sequence[str], *, prompt: str | Sequence[str] = "", max_tokens: int
    ) -> list[TokenizedText]:
        """Token ids of `prompt + text`, the same as those of sentence-transformers.

        Args:
            texts: what to tokenise.
            prompt: one for all, or one per text.
            max_tokens: longer texts are truncated at their end; special tokens are kept.

        Raises:
            TextError: a text is not valid Unicode.
        """
        prompts = [prompt] * len(texts) if isinstance(prompt, str) else prompt
        return list(chain.from_iterable(self.slices(texts, prompts, max_tokens=max_tokens)))

    def slices(
        self, texts: Sequence[str], prompts: Sequence[str], *, max_tokens: int
    ) -> Iterator[list[TokenizedText]]:
        """The result of `encode` in steps of bounded time. A step may return no text.

        A step tokenises about WINDOW characters. It takes up to twice as many as needed if a
        tokenizer other than BERT's makes few tokens from many characters.
        """
        wanted = max(max_tokens - len(self._before) - len(self._after), 0)
        group: list[tuple[str, str]] = []
        space = WINDOW
        for index, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            _check_unicode(index, text)
            cost = characters_of(prompt, text)
            if group and cost > space:
                yield self._together(group, wanted)
                group, space = [], WINDOW
            if cost > WINDOW:
                yield from self._alone(prompt, text, wanted)
            else:
                group.append((prompt, text))
                space -= cost
        if group:
            yield self._together(group, wanted)

    def ends(
        self, texts: Sequence[str], prompts: Sequence[str], *, max_tokens: int
    ) -> Iterator[list[str]]:
        """Each text without as much of its start as is over the limit, in steps of bounded time.

        A step may return no text. Of a text of more than CHARACTERS of `embedder/text_end.py` per
        token of the limit, the start is cut too.

        Raises:
            TextError: a text is not valid Unicode.
        """
        wanted = max(max_tokens - len(self._before) - len(self._after), 0)
        for index, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            _check_unicode(index, text)
            for end in fitting_end(self._tokenizer, prompt, text, wanted):
                yield [] if end is None else [end]

    def _together(self, group: Sequence[tuple[str, str]], wanted: int) -> list[TokenizedText]:
        prompted = [prompt + text for prompt, text in group]
        encodings = self._tokenizer.encode_batch_fast(prompted, add_special_tokens=False)
        return [
            self._finish(encoding.ids, wanted, blank=is_blank(text))
            for encoding, (_, text) in zip(encodings, group, strict=True)
        ]

    def _alone(self, prompt: str, text: str, wanted: int) -> Iterator[list[TokenizedText]]:
        pieces = (text[start : start + WINDOW] for start in range(0, len(text), WINDOW))
        blank = all(map(is_blank, pieces))  # in pieces, so that other threads can run
        for ids in self._read(self._tokenizer, prompt + text, wanted):
            yield [] if ids is None else [self._finish(ids, wanted, blank=blank)]

    def _finish(self, ids: list[int], wanted: int, *, blank: bool) -> TokenizedText:
        complete = [*self._before, *ids[:wanted], *self._after]
        n_tokens = len(self._before) + len(ids) + len(self._after)
        return TokenizedText(np.array(complete, np.int32), n_tokens, blank)


def characters_of(prompt: str, text: str) -> int:
    """The cost of tokenising a text, in characters."""
    return len(prompt) + len(text) + TEXT_COST


def refuse_truncated(slices: Iterable[list[TokenizedText]]) -> Iterator[list[TokenizedText]]:
    """The same slices.

    Raises:
        TextTooLongError: in place of the slice with a truncated text.
    """
    index = 0
    for texts in slices:
        for text in texts:
            if text.truncated:
                raise TextTooLongError(index, text.n_tokens, len(text.ids))
            index += 1
        yield texts


def _check_unicode(index: int, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TextError(index, f"character {error.start} is a lone surrogate, not text") from None


def _special_tokens(tokenizer: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """The ids before and after every text."""
    encoding = tokenizer.encode("a", add_special_tokens=True)
    special = encoding.special_tokens_mask
    start = special.index(0)
    end = len(special) - special[::-1].index(0)
    return encoding.ids[:start], encoding.ids[end:]


def _bound_cache(tokenizer: tokenizers.Tokenizer) -> None:
    """Bound the cache of a BPE model, which keeps 10,000 words of up to 256 bytes.

    To Gemma's tokenizer a text is one word, so the cache would hold 78 MB of old queries and never
    help. For other tokenizers 1,000 words take 8 MB.
    """
    if isinstance(tokenizer.model, tokenizers.models.BPE):
        words = tokenizer.encode("one two three", add_special_tokens=False).word_ids
        tokenizer.model._resize_cache(0 if len(set(words)) == 1 else 1_000)
