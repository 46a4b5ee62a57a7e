"""A served model that computes no text twice."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from cache.cache import Cache
from embedder.errors import EmbeddingFailedError
from embedder.overflow import average
from embedder.postprocess import Vectors
from embedder.serving import ServedModel
from embedder.tokenized_text import TokenIds, TokenizedText

PER_TURN = 512  # windows that are looked up in one turn of the event loop: 1 to 2 ms
AVERAGED_AT_ONCE = 32  # windows that are averaged in one turn of the event loop: 1 to 2 ms


@dataclass(slots=True)
class Origins:
    """Texts of one request, or their windows, by where the vectors come from."""

    memory: int = 0
    redis: int = 0
    repeated: int = 0  # the same text, earlier in the request
    in_flight: int = 0  # another request, which had it computed meanwhile
    computed: int = 0


@dataclass(slots=True)
class Lookup:
    """What is known of a request's texts before its tokens are charged.

    Attributes:
        texts: of the request.
        windows: token ids of all windows of the texts; a text in several is kept in as many.
        user: who sent them.
        keys: one per window; empty if every window is to be computed.
        found: vectors by key.
        missing: indices of the windows to compute, each key once.
        origins: counts of the windows that need not be computed.
    """

    texts: Sequence[TokenizedText]
    windows: Sequence[TokenIds]
    user: str
    keys: list[bytes] = field(default_factory=list)
    found: dict[bytes, bytes] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)
    origins: Origins = field(default_factory=Origins)

    @property
    def missing_tokens(self) -> int:
        """Tokens of the windows to compute."""
        return self.tokens_of(self.missing)

    def tokens_of(self, indices: Sequence[int]) -> int:
        """Tokens of some of the windows."""
        return sum(len(self.windows[index]) for index in indices)

    def text_of(self, index: int) -> int:
        """Index of the text that a window belongs to."""
        ends = accumulate(text.n_windows for text in self.texts)
        return sum(1 for end in ends if end <= index)

    def add(self, found: dict[bytes, bytes]) -> int:
        """Add vectors of missing windows. Returns how many."""
        self.found |= found
        self.missing = [index for index in self.missing if self.keys[index] not in found]
        return len(found)


class CachedModel:
    """Looks texts up, and has the missing ones computed.

    Args:
        embedder: computes, and gives `cache` what it computed.
        cache: keeps vectors.
        enabled: False: every text is computed, also if it repeats in a request.
        report: is called with the origins of every request's vectors, if they were looked up.
    """

    def __init__(
        self,
        embedder: ServedModel,
        cache: Cache,
        *,
        enabled: bool = True,
        report: Callable[[Origins], None] = lambda _: None,
    ) -> None:
        self._embedder = embedder
        self._cache = cache
        self._enabled = enabled
        self._report = report

    @property
    def used_bytes(self) -> int:
        """What the vectors in memory take."""
        return self._cache.memory.used_bytes

    async def aclose(self) -> None:
        """Disconnect from Redis."""
        await self._cache.aclose()

    async def look_up(
        self, texts: Sequence[TokenizedText], *, user: str, store: bool = True
    ) -> Lookup:
        """Find the texts that were embedded before.

        Args:
            texts: of one request.
            user: who sent them.
            store: False: neither look for the texts nor keep them.

        Raises:
            ModelLoadingError: the model is not loaded yet.
            TooManyTokensError: the request is larger than the user's limit.
        """
        self._embedder.require_size(texts)
        windows = [window for text in texts for window in text.windows]
        lookup = Lookup(texts, windows, user, missing=list(range(len(windows))))
        if not self._enabled or not store:
            return lookup
        for start in range(0, len(windows), PER_TURN):
            lookup.keys += self._cache.keys.of(windows[start : start + PER_TURN], user=user)
            if start + PER_TURN < len(windows):
                await asyncio.sleep(0)
        first = {key: index for index, key in reversed(list(enumerate(lookup.keys)))}
        lookup.missing = sorted(first.values())
        lookup.origins.repeated = len(lookup.keys) - len(first)
        lookup.origins.memory = self._recall(lookup)
        keys = [lookup.keys[index] for index in lookup.missing]
        lookup.origins.redis = lookup.add(await self._cache.find_shared(keys, user=user))
        return lookup

    async def complete(self, lookup: Lookup, *, bulk: bool = False) -> tuple[Vectors, int]:
        """Compute what is missing. Call once.

        Args:
            lookup: of the request.
            bulk: whether all other work has priority.

        Returns:
            (n_texts, dimensions) float32, L2-normalised, in the order of the texts; and the number
            of `missing_tokens` that were not computed, because another request came first.

        Raises:
            EmbedderError: as `Batcher.answer`.
        """
        charged = lookup.missing_tokens
        lookup.origins.in_flight = self._recall(lookup)  # embedded while tokens were charged
        computed, shared = await self._compute(lookup, bulk=bulk)
        lookup.origins.in_flight += len(shared)
        lookup.origins.computed = len(lookup.missing) - len(shared)
        if lookup.keys:
            self._report(lookup.origins)
        own = lookup.missing_tokens - lookup.tokens_of(shared)
        vectors = await _averaged(self._in_order(lookup, computed), lookup.texts)
        return vectors, charged - own

    def _recall(self, lookup: Lookup) -> int:
        """Find missing windows in memory. Returns how many."""
        if not lookup.keys:
            return 0
        keys = [lookup.keys[index] for index in lookup.missing]
        values = ((key, self._cache.memory.get(key)) for key in keys)
        return lookup.add({key: value for key, value in values if value is not None})

    async def _compute(self, lookup: Lookup, *, bulk: bool) -> tuple[Vectors, list[int]]:
        """Vectors of the missing windows; and which of these were computed for other requests."""
        missing = lookup.missing
        if not missing:
            return np.empty((0, self._cache.values.dimensions), np.float32), []
        try:
            answer = await self._embedder.answer(
                [lookup.windows[index] for index in missing],
                [lookup.keys[index] if lookup.keys else None for index in missing],
                user=lookup.user,
                bulk=bulk,
                known=len(lookup.found),
            )
        except EmbeddingFailedError as error:
            error.index = lookup.text_of(missing[error.index])
            raise
        return answer.vectors, [missing[index] for index in answer.shared]

    def _in_order(self, lookup: Lookup, computed: Vectors) -> Vectors:
        """Vectors of all windows."""
        if len(computed) == len(lookup.windows):
            return computed
        values = self._cache.values
        rows = dict(zip((lookup.keys[index] for index in lookup.missing), computed, strict=True))
        vectors = np.empty((len(lookup.keys), values.dimensions), np.float32)
        for index, key in enumerate(lookup.keys):
            vectors[index] = rows[key] if key in rows else values.unpack(lookup.found[key])
        return vectors


async def _averaged(vectors: Vectors, texts: Sequence[TokenizedText]) -> Vectors:
    """The vectors of texts; of many windows in a thread: 450 texts in two windows take 45 ms."""
    if len(vectors) == len(texts):
        return vectors
    weights = [text.weights for text in texts]
    if len(vectors) <= AVERAGED_AT_ONCE:
        return average(vectors, weights)
    return await asyncio.to_thread(average, vectors, weights)
