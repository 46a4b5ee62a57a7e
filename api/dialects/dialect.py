"""What every dialect is made with: its routes call this, and the service implements it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.types import Scope

from api.errors import ErrorContent, NoSuchModelError
from api.model_info import ModelInfo
from api.options import TaskOptions, Texts, VectorOptions
from embedder.overflow import Overflow
from embedder.tokenized_text import TokenizedText


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """The form of the errors of one dialect.

    Attributes:
        paths: where it is used: each ends in a slash, and stands for the path without it too.
        model: the schema of the body.
        body: makes it.
    """

    paths: tuple[str, ...]
    model: type[BaseModel]
    body: Callable[[ErrorContent], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class EmbeddedTexts:
    """The vectors of one request.

    `embeddings` has one item per text, in the encoding that was asked for; each is made when it is
    taken. `about` is what every answer about texts says. `encoded` gives the same vectors in
    another of the encodings of `embedder/postprocess.py`.
    """

    embeddings: Iterator[Any]
    texts: Sequence[TokenizedText]
    about: dict[str, Any]
    encoded: Callable[[str], Iterator[Any]]


class AskedTexts(VectorOptions):
    """The texts of a request of another API, as `embed_texts` takes them."""

    texts: Texts
    cut_start: bool = False  # whether a long text is cut at its start, not at its end


class Dialect(ABC):
    """Routes of one wire format. The service derives from each dialect."""

    model_info: ModelInfo

    @abstractmethod
    async def embed_texts(
        self, request: VectorOptions, field: str, scope: Scope, *, task: str | None = None
    ) -> EmbeddedTexts:
        """Embed the text, or the list of texts, that a field of the request holds.

        Args:
            request: left without its texts, which may be megabytes.
            field: name of the field.
            scope: of the request.
            task: instead of the request's own.

        Raises:
            EmbedderError: the texts or options do not fit the model, or the engine fails.
            QuotaExceeded: the user has no tokens left.
        """

    @abstractmethod
    def require_space(self, texts: Sequence[str], scope: Scope, *, overflow: Overflow) -> None:
        """Raise a QueueFullError early, before texts are tokenised that could not be queued."""

    @abstractmethod
    async def read(
        self, request: TaskOptions, field: str, scope: Scope, *, task: str | None = None
    ) -> Sequence[TokenizedText]:
        """Tokenise the text, or the list of texts, that a field of the request holds.

        The arguments and errors are those of `embed_texts`.
        """

    @abstractmethod
    async def vectors(
        self, texts: Sequence[TokenizedText], scope: Scope, *, dimensions: int | None
    ) -> NDArray[np.float32]:
        """Charge tokens and embed them: (n_texts, dimensions), L2-normalised, in order.

        Texts that were embedded before cost no tokens.
        """

    @abstractmethod
    def about(self, texts: Sequence[TokenizedText], *, cached_tokens: int = 0) -> dict[str, Any]:
        """What every answer about texts says: model, fingerprint and usage."""

    def task_of(self, model: str) -> str | None:
        """The task that a name of the served model stands for.

        Raises:
            NoSuchModelError: it is no name of the model.
        """
        names = self.model_info.models
        if model not in names:
            raise NoSuchModelError(model, names)
        return names[model]


def reading_of(text: TokenizedText) -> dict[str, Any]:
    """What an answer says of how a text was read; with its offsets, if they were asked for."""
    found = {"windows": text.n_windows, "truncated": text.truncated, "empty": text.blank}
    if text.offsets is None:
        return found
    spans: list[list[int]] = text.offsets.tolist()
    return found | {"offsets": [None if start < 0 else [start, end] for start, end in spans]}


def reading_of_all(texts: Sequence[TokenizedText]) -> dict[str, list[int]]:
    """The same of several texts: `truncated` and `empty` are indices."""
    return {
        "windows": [text.n_windows for text in texts],
        "truncated": [index for index, text in enumerate(texts) if text.truncated],
        "empty": [index for index, text in enumerate(texts) if text.blank],
    }
