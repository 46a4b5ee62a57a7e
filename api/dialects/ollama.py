"""Ollama's routes for embedding, as its clients send and read them."""

from datetime import UTC, datetime
from typing import Any, Literal

import bentoml
from pydantic import AliasChoices, Field
from starlette.requests import Request
from starlette.types import Scope

from api.dialects.dialect import AskedTexts, Dialect, ErrorForm
from api.dialects.foreign_fields import ForeignBody, foreign
from api.errors import ErrorContent
from api.model_info import ModelInfo
from api.options import Dimensions, LongTextOptions, ModelName, Text, TextOrTexts
from api.routes import page
from settings import VERSION

_TAG = ":latest"  # which Ollama and its clients add to a name without a tag
_MODEL = "A model of `/api/tags`"


class OllamaEmbedRequest(ForeignBody, LongTextOptions):
    """One text or several. `options` and `keep_alive` are ignored, as are other fields."""

    model_config = foreign({"input": ["The quick brown fox", "안녕하세요"]})

    model: ModelName = Field(description=_MODEL)
    input: TextOrTexts = Field(description="One text or several")
    dimensions: Dimensions = Field(
        None, description="Cut vectors to this size (Matryoshka) and normalise them again"
    )


class OllamaEmbeddingsRequest(ForeignBody, LongTextOptions):
    """One text, of clients of the earlier route."""

    model_config = foreign({"prompt": "The quick brown fox"})

    model: ModelName = Field(description=_MODEL)
    prompt: Text = Field(description="The text to embed")


class OllamaShowRequest(ForeignBody):
    """A name of the model."""

    model_config = foreign({})

    model: ModelName = Field(validation_alias=AliasChoices("model", "name"), description=_MODEL)


class OllamaEmbedResponse(bentoml.IODescriptor):
    """One vector per text, in the order of `input`."""

    model: str
    embeddings: list[list[float]]
    prompt_eval_count: int = Field(
        ge=0, description="Tokens the model read, prompts and special tokens included"
    )


class OllamaEmbeddingsResponse(bentoml.IODescriptor):
    """One vector."""

    embedding: list[float]


class OllamaDetails(bentoml.IODescriptor):
    """What a model is."""

    format: str
    family: str
    quantization_level: str


class OllamaShowResponse(bentoml.IODescriptor):
    """What a model can do."""

    capabilities: list[Literal["embedding"]]
    details: OllamaDetails
    model_info: dict[str, Any]
    modified_at: str


class OllamaErrorResponse(bentoml.IODescriptor):
    """The body of every error answer of Ollama's routes."""

    error: str


def _error(content: ErrorContent) -> dict[str, Any]:
    return {"error": content.message}


ERROR_FORM = ErrorForm(("/api/",), OllamaErrorResponse, _error)


def model_list(info: ModelInfo) -> dict[str, Any]:
    """All names of the model, each with a tag."""
    return {"models": [_listed(f"{name}{_TAG}", info) for name in info.models]}


def _listed(name: str, info: ModelInfo) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "modified_at": _modified_at(info),
        "size": info.n_bytes,
        "digest": info.fingerprint,
        "details": _details(info),
    }


def _details(info: ModelInfo) -> dict[str, str]:
    return {
        "format": "embedding-api",
        "family": info.architecture,
        "quantization_level": info.quantization,
    }


def _modified_at(info: ModelInfo) -> str:
    return datetime.fromtimestamp(info.created, UTC).isoformat()


def _untagged(name: str) -> str:
    return name.removesuffix(_TAG)


class OllamaRoutes(Dialect):
    """`/api/embed`, `/api/embeddings` and what clients ask of a model."""

    @bentoml.api(route="/api/embed", input_spec=OllamaEmbedRequest, output_spec=OllamaEmbedResponse)
    async def ollama_embed(self, request: OllamaEmbedRequest, scope: Scope) -> dict[str, Any]:
        """Embed one text or several, for Ollama's clients."""
        task = self.task_of(_untagged(request.model))
        asked = AskedTexts.model_construct(
            texts=request.input, overflow=request.long_texts, dimensions=request.dimensions
        )
        del request.input  # it may be megabytes
        done = await self.embed_texts(asked, "texts", scope, task=task)
        return {
            "model": request.model,
            "embeddings": done.embeddings,
            "prompt_eval_count": done.about["usage"]["total_tokens"],
        }

    @bentoml.api(
        route="/api/embeddings",
        input_spec=OllamaEmbeddingsRequest,
        output_spec=OllamaEmbeddingsResponse,
    )
    async def ollama_embeddings(
        self, request: OllamaEmbeddingsRequest, scope: Scope
    ) -> dict[str, Any]:
        """Embed one text, for earlier clients of Ollama."""
        task = self.task_of(_untagged(request.model))
        asked = AskedTexts.model_construct(texts=[request.prompt], overflow=request.long_texts)
        del request.prompt
        done = await self.embed_texts(asked, "texts", scope, task=task)
        [embedding] = done.embeddings
        return {"embedding": embedding}

    @bentoml.api(route="/api/show", input_spec=OllamaShowRequest, output_spec=OllamaShowResponse)
    async def ollama_show(self, request: OllamaShowRequest, scope: Scope) -> dict[str, Any]:
        """What the served model can do, for Ollama's clients; costs one request and no tokens."""
        self.task_of(_untagged(request.model))
        info = self.model_info
        about = {
            "general.architecture": info.architecture,
            f"{info.architecture}.context_length": info.max_tokens,
            f"{info.architecture}.embedding_length": info.dimensions[0],
        }
        return {
            "capabilities": ["embedding"],
            "details": _details(info),
            "model_info": about,
            "modified_at": _modified_at(info),
        }

    @page("/api/tags", protected=True, fixed=True)
    async def ollama_tags(self, _: Request) -> dict[str, Any]:
        """The served model by all its names, for Ollama's clients."""
        return model_list(self.model_info)

    @page("/api/version", protected=True, fixed=True)
    async def ollama_version(self, _: Request) -> dict[str, Any]:
        """The version of this service, for Ollama's clients."""
        return {"version": VERSION}
