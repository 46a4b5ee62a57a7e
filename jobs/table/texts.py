"""Texts of a table's rows through the engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TypeAlias

import numpy as np

from embedder.blank import is_blank
from embedder.errors import OptionError
from embedder.overflow import AVERAGE, ERROR, Overflow, average
from embedder.postprocess import Vectors, truncate_vectors
from embedder.profile import Profile
from embedder.tasks import LONGEST_TITLE, prompts_for
from embedder.tokenized_text import TokenizedText
from jobs.embedding import Engine, Vector, forward, uncut
from jobs.errors import RowError

DOCUMENT = "document"
# Tokens that the engine gets in one call: about 2 s of EmbeddingGemma on two cores. Its vectors are
# written after each call, and a worker that was told to stop ends then.
TOKENS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Text:
    """The text of one row that waits, and the hash of it and its title."""

    id: int  # of the queue's entry
    title: str | None
    text: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Embedded:
    """A text with its vector (dimensions,), with None if it is blank, or with what is wrong."""

    text: Text
    vector: Vector | RowError | None


Prepared: TypeAlias = list[tuple[Text, TokenizedText]]


def task_of(profile: Profile, *, titles: bool) -> str | None:
    """The task of a table's texts: None for a model without tasks.

    Raises:
        OptionError: the texts have titles, and the model has no place for one.
    """
    task = DOCUMENT if DOCUMENT in profile.tasks else None
    prompts_for(profile.tasks, task, titles=["title"] if titles else None, n_texts=1)
    return task


class TextEmbedder:
    """One engine that threads share: while one has it, others read and write.

    Raises the errors of `Engine.load`.
    """

    def __init__(self, engine: Engine, overflow: Overflow) -> None:
        self._model = engine.load()
        self._overflow = overflow
        self._computing = Lock()

    @property
    def profile(self) -> Profile:
        return self._model.profile

    def check(self, dimensions: int, *, titles: bool) -> None:
        """Raises OptionError where the model has no such size, or no place for titles."""
        self.profile.size_of(dimensions)
        task_of(self.profile, titles=titles)

    def embed(self, texts: Sequence[Text], dimensions: int) -> Iterator[list[Embedded]]:
        """Every text once, as many at a time as have TOKENS_AT_ONCE tokens, or one longer text.

        Nothing is yielded as often as the engine begins another call for the same text.
        """
        blank = [text for text in texts if is_blank(text.text)]
        if blank:
            yield [Embedded(text, None) for text in blank]
        prepared, refused = self._tokenised([one for one in texts if not is_blank(one.text)])
        if refused:
            yield refused
        for some in _slices(prepared):
            yield from self._forward(some, dimensions)

    def _tokenised(self, texts: Sequence[Text]) -> tuple[Prepared, list[Embedded]]:
        """Texts with their token ids, and those with a title that no prompt takes."""
        prompts: list[str] = []
        fine: list[Text] = []
        refused: list[Embedded] = []
        for text in texts:
            try:
                prompts.append(self._prompt(text))
                fine.append(text)
            except RowError as error:
                refused.append(Embedded(text, error))
        tokens = self._model.tokenizer.encode(
            [text.text for text in fine],
            prompt=prompts,
            max_tokens=self._model.max_tokens,
            average=self._overflow == AVERAGE,
        )
        prepared: Prepared = []
        for text, read in zip(fine, tokens, strict=True):
            found = uncut(read) if self._overflow == ERROR else read
            if isinstance(found, RowError):
                refused.append(Embedded(text, found))
            else:
                prepared.append((text, found))
        return prepared, refused

    def _prompt(self, text: Text) -> str:
        title = text.title
        if title is not None and len(title) > LONGEST_TITLE:
            raise RowError(
                f"the title has {len(title):,} characters, and a title at most {LONGEST_TITLE:,}"
            )
        try:
            task = task_of(self.profile, titles=title is not None)
            return prompts_for(self.profile.tasks, task, titles=[title], n_texts=1)[0]
        except OptionError as error:
            raise RowError(str(error)) from None

    def _forward(self, some: Prepared, dimensions: int) -> Iterator[list[Embedded]]:
        found: list[Vector | RowError] = []
        for texts in _slices(_in_calls(some)):
            if found:
                yield []
            with self._computing:
                found += forward(self._model.engine, [tokens for _, tokens in texts])
        if len(found) > len(some):
            [(_, tokens)] = some
            found = [_averaged(found, tokens)]
        yield [
            Embedded(text, vector if isinstance(vector, RowError) else _cut(vector, dimensions))
            for (text, _), vector in zip(some, found, strict=True)
        ]


def _in_calls(some: Prepared) -> Prepared:
    """The same texts; the windows of one that is longer than a call, as if they were texts."""
    [text, tokens], *others = some
    if others or len(tokens.ids) <= TOKENS_AT_ONCE:
        return some
    return [(text, TokenizedText(ids, len(ids), tokens.blank)) for ids in tokens.windows]


def _averaged(found: Sequence[Vector | RowError], tokens: TokenizedText) -> Vector | RowError:
    """The vector of one text from those of its windows, or the first error."""
    errors = [vector for vector in found if isinstance(vector, RowError)]
    return errors[0] if errors else average(np.array(found, np.float32), [tokens.weights])[0]


def _cut(vector: Vector, dimensions: int) -> Vector:
    rows: Vectors = vector.reshape(1, -1)
    return np.asarray(truncate_vectors(rows, dimensions)[0], np.float32)


def _slices(prepared: Prepared) -> Iterator[Prepared]:
    some: Prepared = []
    tokens = 0
    for text, ids in prepared:
        if some and tokens + len(ids.ids) > TOKENS_AT_ONCE:
            yield some
            some = []
            tokens = 0
        some.append((text, ids))
        tokens += len(ids.ids)
    if some:
        yield some
