"""Text to token ids: prompt applied, length known, cut to what the model reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import tokenizers
from numpy.typing import NDArray

from embedder.errors import ModelNotFoundError, TextError, TextTooLongError

TokenIds: TypeAlias = NDArray[np.int64]  # (n_tokens,), special tokens included


@dataclass(frozen=True, slots=True)
class Tokens:
    """One tokenised text. `n_tokens` is its length before truncation, special tokens included."""

    ids: TokenIds
    n_tokens: int

    @property
    def truncated(self) -> bool:
        return len(self.ids) < self.n_tokens


class Tokenizer:
    """A `tokenizer.json` with neither padding nor truncation of its own."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._n_special = tokenizer.num_special_tokens_to_add(is_pair=False)

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        if not path.is_file():
            raise ModelNotFoundError(path)
        return cls(tokenizers.Tokenizer.from_file(str(path)))

    def encode(
        self, texts: Sequence[str], *, prompt: str | Sequence[str] = "", max_tokens: int
    ) -> list[Tokens]:
        """Token ids of `prompt + text`, the end of the text cut beyond `max_tokens`, special tokens kept.

        `prompt` is one for all, or one a text. The same ids as sentence-transformers' tokenisation.
        Raises TextError for a text that is not valid Unicode.
        """
        _check_unicode(texts)
        prompts = [prompt] * len(texts) if isinstance(prompt, str) else prompt
        prompted = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
        encodings = self._tokenizer.encode_batch(prompted, add_special_tokens=False)
        return [self._finish(encoding, max_tokens) for encoding in encodings]

    def _finish(self, encoding: tokenizers.Encoding, max_tokens: int) -> Tokens:
        n_tokens = len(encoding.ids) + self._n_special
        if n_tokens > max_tokens:
            encoding.truncate(max(max_tokens - self._n_special, 0))
        complete = self._tokenizer.post_process(encoding, add_special_tokens=True)
        return Tokens(np.asarray(complete.ids, np.int64), n_tokens)


def check_uncut(tokens: Sequence[Tokens]) -> None:
    """Raises TextTooLongError for the first text that was cut."""
    for index, text in enumerate(tokens):
        if text.truncated:
            raise TextTooLongError(index, text.n_tokens, len(text.ids))


def _check_unicode(texts: Sequence[str]) -> None:
    for index, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TextError(
                index, f"character {error.start} is a lone surrogate, not text"
            ) from None
