"""Text to token ids: with its prompt, and truncated to what the model reads or in windows of it."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers

from embedder.blank import is_blank
from embedder.errors import ModelNotFoundError, TextError, TextTooLongError
from embedder.long_text import WINDOW, Read, reader_for, reader_of_all
from embedder.text_end import TextEnd, common_start, read_end
from embedder.tokenized_text import TokenizedText

TEXT_COST = 20  # characters that take as long to tokenise as an empty text, about 13 us


@dataclass(frozen=True, slots=True)
class _Extent:
    """How many ids of prompt and text are `kept` in one window, and `wanted` in all."""

    kept: int
    wanted: int
    read: Read

    @property
    def in_windows(self) -> bool:
        return self.wanted > self.kept


class Tokenizer:
    """A `tokenizer.json`, without the padding and truncation that it defines.

    A special token that is written in a text or a prompt is text: "<eos>" has the ids of its
    characters. `inner` is the tokenizer itself.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        _bound_cache(tokenizer)
        self.inner = tokenizer
        self._read, self._read_all = reader_for(tokenizer), reader_of_all(tokenizer)
        self._before, self._after = _special_tokens(tokenizer)

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """Raises ModelNotFoundError."""
        if not path.is_file():
            raise ModelNotFoundError(path)
        return cls(tokenizers.Tokenizer.from_file(str(path)))

    @property
    def n_special(self) -> tuple[int, int]:
        """How many special tokens are before and after each text."""
        return len(self._before), len(self._after)

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str | Sequence[str] = "",
        max_tokens: int,
        average: bool = False,
    ) -> list[TokenizedText]:
        """Token ids of `prompt + text`.

        They are those of sentence-transformers whose tokenizer has `split_special_tokens`.

        Args:
            texts: what to tokenise.
            prompt: one for all, or one per text.
            max_tokens: longer texts are truncated at their end; special tokens are kept.
            average: read longer texts in windows of `max_tokens` instead, see `slices`.

        Raises:
            TextError: a text is not valid Unicode.
        """
        prompts = [prompt] * len(texts) if isinstance(prompt, str) else prompt
        slices = self.slices(texts, prompts, max_tokens=max_tokens, average=average)
        return list(chain.from_iterable(slices))

    def slices(
        self,
        texts: Sequence[str],
        prompts: Sequence[str],
        *,
        max_tokens: int,
        average: bool = False,
        most_tokens: int = sys.maxsize,
    ) -> Iterator[list[TokenizedText]]:
        """The result of `encode` in steps of bounded time. A step may return no text.

        A step tokenises about WINDOW characters. It takes up to twice as many as needed if a
        tokenizer other than BERT's and Gemma's makes few tokens from many characters.

        A text in windows begins as if it were truncated. Each further window has the special
        tokens, the tokens of the prompt (of a long one as many as fill half of a window) and the
        next tokens of the text, so that each token of the text is in one window.

        Args:
            texts: what to tokenise.
            prompts: one per text.
            max_tokens: of a window, special tokens included.
            average: read texts of more tokens in several windows, instead of truncating them.
            most_tokens: a text in windows is read until it has more.
        """
        kept = max(max_tokens - len(self._before) - len(self._after), 0)
        extent = (
            _Extent(kept, max(most_tokens, kept + 1), self._read_all)
            if average
            else _Extent(kept, kept, self._read)
        )
        group: list[tuple[str, str]] = []
        space = WINDOW
        for index, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            _check_unicode(index, text)
            cost = characters_of(prompt, text)
            if group and cost > space:
                yield self._together(group, extent)
                group, space = [], WINDOW
            if cost > WINDOW:
                yield from self._alone(prompt, text, extent)
            else:
                group.append((prompt, text))
                space -= cost
        if group:
            yield self._together(group, extent)

    def ends(
        self, texts: Sequence[str], prompts: Sequence[str], *, max_tokens: int
    ) -> Iterator[list[TokenizedText]]:
        """Texts that are cut at their start, see `read_end`, in steps of bounded time.

        A step may return no text.

        Raises:
            TextError: a text is not valid Unicode.
        """
        kept = max(max_tokens - len(self._before) - len(self._after), 0)
        for index, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            _check_unicode(index, text)
            for end in read_end(self.inner, prompt, text, kept):
                yield [] if end is None else [self._between(end)]

    def _between(self, end: TextEnd) -> TokenizedText:
        """With special tokens on both sides."""
        ids = np.array([*self._before, *end.ids, *self._after], np.int32)
        return TokenizedText(ids, len(ids) - len(end.ids) + end.n_tokens, end.blank)

    def _together(self, group: Sequence[tuple[str, str]], extent: _Extent) -> list[TokenizedText]:
        prompted = [prompt + text for prompt, text in group]
        encodings = self.inner.encode_batch_fast(prompted, add_special_tokens=False)
        return [
            self._finish(encoding.ids, prompt, extent, blank=is_blank(text))
            for encoding, (prompt, text) in zip(encodings, group, strict=True)
        ]

    def _alone(self, prompt: str, text: str, extent: _Extent) -> Iterator[list[TokenizedText]]:
        pieces = (text[start : start + WINDOW] for start in range(0, len(text), WINDOW))
        blank = all(map(is_blank, pieces))  # in pieces, so that other threads can run
        for ids in extent.read(self.inner, prompt + text, extent.wanted):
            yield [] if ids is None else [self._finish(ids, prompt, extent, blank=blank)]

    def _finish(
        self, ids: Sequence[int], prompt: str, extent: _Extent, *, blank: bool
    ) -> TokenizedText:
        n_tokens = len(self._before) + len(ids) + len(self._after)
        if extent.in_windows and len(ids) > extent.kept:
            return self._windowed(ids, prompt, extent.kept, blank=blank)
        complete = [*self._before, *ids[: extent.kept], *self._after]
        return TokenizedText(np.array(complete, np.int32), n_tokens, blank)

    def _windowed(
        self, ids: Sequence[int], prompt: str, kept: int, *, blank: bool
    ) -> TokenizedText:
        """More ids than `kept`, in windows with so many of prompt and text."""
        of_prompt = self.inner.encode(prompt, add_special_tokens=False).ids
        prompted = common_start(of_prompt, ids)
        again = prompted[: kept // 2]
        room = kept - len(again)
        text, start = np.array(ids, np.int32), np.array([*self._before, *again], np.int32)
        before, after = np.array(self._before, np.int32), np.array(self._after, np.int32)
        parts = [before, text[:kept], after]
        for begin in range(kept, len(text), room):
            parts += [start, text[begin : begin + room], after]
        n_special = len(before) + len(after)
        return TokenizedText(
            np.concatenate(parts),
            n_special + len(text),
            blank,
            window=n_special + kept,
            repeated=n_special + len(again),
            unrepeated=len(prompted) - len(again),
        )


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
