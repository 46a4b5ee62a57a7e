"""A text as the model reads it."""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

TokenIds: TypeAlias = NDArray[np.integer[Any]]  # (n_tokens,), special tokens included


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """One text as the model reads it: in one window, or in several whose vectors are averaged.

    Attributes:
        ids: (n_ids,), special tokens included; of several windows one after the other.
        n_tokens: tokens before truncation, special tokens included; a lower bound where prompt and
            text are longer than WINDOW characters and truncated.
        blank: whether the text has no visible character.
        window: ids of each window but the last; 0 for a text in one window.
        repeated: ids that every window has: of the prompt, and special ones.
        unrepeated: ids of a long prompt that follow in the first windows, and in no other.
        offsets: as `embedder/offsets.py` describes them; None where nobody asked.
    """

    ids: TokenIds
    n_tokens: int
    blank: bool
    window: int = 0
    repeated: int = 0
    unrepeated: int = 0
    offsets: NDArray[np.int32] | None = None

    @property
    def truncated(self) -> bool:
        """Whether the text was cut at the limit."""
        return len(self.ids) < self.n_tokens

    @property
    def n_bytes(self) -> int:
        """Memory of ids and offsets."""
        return self.ids.nbytes + (0 if self.offsets is None else self.offsets.nbytes)

    @property
    def lengths(self) -> list[int]:
        """Ids of each window."""
        if not self.window:
            return [len(self.ids)]
        return [min(self.window, len(self.ids) - start) for start in self._starts()]

    @property
    def windows(self) -> list[TokenIds]:
        """The ids of each window."""
        if not self.window:
            return [self.ids]
        return [self.ids[start : start + self.window] for start in self._starts()]

    @property
    def n_windows(self) -> int:
        """How many windows the text is read in."""
        return len(self._starts()) if self.window else 1

    @property
    def weights(self) -> list[int]:
        """Tokens of the text in each window, without those of the prompt and special ones.

        Windows may be full of a long prompt. If the text has no token at all, the first one counts.
        """
        ends = list(accumulate(length - self.repeated for length in self.lengths))
        before = [max(end - self.unrepeated, 0) for end in [0, *ends]]
        found = [end - begin for begin, end in pairwise(before)]
        return found if any(found) else [1] + [0] * (len(found) - 1)

    def _starts(self) -> range:
        return range(0, len(self.ids), self.window)
