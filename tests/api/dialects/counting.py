"""A service for dialects: texts have one token per word, and vectors are known beforehand."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.types import Scope

from api.dialects.cohere import CohereRoutes
from api.dialects.dialect import EmbeddedTexts
from api.dialects.native import NativeRoutes
from api.dialects.ollama import OllamaRoutes
from api.dialects.openai import OpenAIRoutes
from api.dialects.tei import TeiRoutes
from api.model_info import ModelInfo
from api.options import TaskOptions, VectorOptions
from embedder.overflow import Overflow
from embedder.postprocess import encoded
from embedder.tokenized_text import TokenizedText
from tests.api.asgi import Client

MAX_TOKENS = 3
MODEL_INFO = ModelInfo(
    models={"owner/model": None, "model-query": "query"},
    tasks=("query", "search_query"),
    main_tasks=("query",),
    titles=True,
    blank="",
    dimensions=(4, 2),
    max_tokens=MAX_TOKENS,
    max_texts=100,
    architecture="bert",
    quantization="int8",
    n_bytes=1_000,
    created=1_700_000_000,
    fingerprint="abc",
)


class CountingService(NativeRoutes, OpenAIRoutes, CohereRoutes, OllamaRoutes, TeiRoutes):
    """Remembers the tasks and options that were asked for."""

    def __init__(self, **changes: Any) -> None:
        self.model_info = replace(MODEL_INFO, **changes)
        self.tasks: list[str | None] = []
        self.read_as: list[TaskOptions] = []
        self.checked: list[str] = []

    async def embed_texts(
        self, request: VectorOptions, field: str, scope: Scope, *, task: str | None = None
    ) -> EmbeddedTexts:
        texts = await self.read(request, field, scope, task=task)
        vectors = await self.vectors(texts, scope, dimensions=request.dimensions)
        encoding = partial(encoded, vectors)
        return EmbeddedTexts(encoding(request.encoding_format), texts, self.about(texts), encoding)

    def require_space(self, texts: Sequence[str], scope: Scope, *, overflow: Overflow) -> None:
        self.checked += texts

    async def read(
        self, request: TaskOptions, field: str, scope: Scope, *, task: str | None = None
    ) -> list[TokenizedText]:
        self.tasks.append(task)
        self.read_as.append(request)
        value = getattr(request, field)
        texts = [value] if isinstance(value, str) else value or []
        lengths = [len(text.split()) for text in texts]
        return [
            TokenizedText(np.arange(min(length, MAX_TOKENS)), n_tokens=length, blank=length == 0)
            for length in lengths
        ]

    async def vectors(
        self, texts: Sequence[TokenizedText], scope: Scope, *, dimensions: int | None
    ) -> NDArray[np.float32]:
        return np.eye(len(texts), dimensions or 4, dtype=np.float32)

    def about(self, texts: Sequence[TokenizedText], *, cached_tokens: int = 0) -> dict[str, Any]:
        n_tokens = sum(len(text.ids) for text in texts)
        usage = {"total_tokens": n_tokens, "cached_tokens": cached_tokens}
        return {"model": "owner/model", "usage": usage}


def scope() -> Scope:
    """Of a request of a user."""
    return Client().scope
