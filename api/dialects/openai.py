"""OpenAI's embeddings and models routes, as its clients send and read them."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import bentoml
from pydantic import Field
from starlette.requests import Request
from starlette.types import Scope

from api.dialects.dialect import Dialect, EmbeddedTexts, reading_of
from api.dialects.foreign_fields import ForeignBody, foreign
from api.dialects.native import Answer, Vector
from api.model_info import ModelInfo
from api.options import ModelName, TextOrTexts, VectorOptions
from api.routes import page


class EmbeddingsRequest(ForeignBody, VectorOptions):
    """What OpenAI's clients send, and the options of our own routes.

    Other fields are ignored, unless they would change a vector.
    """

    model_config = foreign({"input": ["The quick brown fox", "안녕하세요"]})

    input: TextOrTexts = Field(
        description="One text or several. Token ids are refused: vocabularies differ"
    )
    model: ModelName = Field(
        description="A model of `/v1/models`; `NAME-query` and `NAME-document` set the task"
    )
    user: Annotated[str, Field(max_length=1000)] | None = Field(
        None, description="Taken for compatibility and not used: the token says who calls"
    )


class Embedding(bentoml.IODescriptor):
    """One vector."""

    object: Literal["embedding"]
    index: int = Field(ge=0, description="Place of the text in `input`")
    embedding: Vector
    tokens: int = Field(ge=0, description="Tokens the model read of the text")
    windows: int = Field(ge=1, description="Windows that the text was read in")
    truncated: bool = Field(description="Whether the text was cut at the model's limit")
    empty: bool = Field(
        description="Whether the text is nothing but white space and invisible characters"
    )


class EmbeddingsResponse(Answer):
    """One vector per text, in the order of `input`."""

    object: Literal["list"]
    data: list[Embedding]
    dimensions: int = Field(ge=1, description="Dimensions of each vector")


class ModelCard(bentoml.IODescriptor):
    """One name of the model that serves here."""

    id: str
    object: Literal["model"]
    created: int = Field(description="When the model was prepared, Unix time")
    owned_by: str
    task: str | None = Field(description="The task that this name stands for")
    tasks: list[str] = Field(description="Tasks that the model has a prompt for")
    dimensions: list[int] = Field(
        description="Sizes that its vectors can be cut to, the first is the whole"
    )
    max_tokens: int = Field(ge=1, description="Tokens at which texts are cut")
    fingerprint: str


class ModelsResponse(bentoml.IODescriptor):
    """Every name of the model that serves here."""

    object: Literal["list"]
    data: list[ModelCard]


def embeddings(done: EmbeddedTexts) -> Iterator[dict[str, Any]]:
    """`data` of an EmbeddingsResponse, one Embedding per text."""
    for index, (embedding, text) in enumerate(zip(done.embeddings, done.texts, strict=True)):
        yield {
            "object": "embedding",
            "index": index,
            "embedding": embedding,
            "tokens": len(text.ids),
            **reading_of(text),
        }


def embeddings_answer(done: EmbeddedTexts) -> dict[str, Any]:
    """An EmbeddingsResponse."""
    return {"object": "list", "data": embeddings(done), **done.about}


def model_list(model_info: ModelInfo) -> dict[str, Any]:
    """A ModelsResponse of all names of the model."""
    return {"object": "list", "data": [model_card(name, model_info) for name in model_info.models]}


def model_card(name: str, model_info: ModelInfo) -> dict[str, Any]:
    """A ModelCard of one of the names of the model."""
    owner = model_info.name.rpartition("/")[0]
    return {
        "id": name,
        "object": "model",
        "created": model_info.created,
        "owned_by": owner or "local",
        "task": model_info.models[name],
        "tasks": model_info.main_tasks,
        "dimensions": model_info.dimensions,
        "max_tokens": model_info.max_tokens,
        "fingerprint": model_info.fingerprint,
    }


class OpenAIRoutes(Dialect):
    """`/v1/embeddings` and `/v1/models`."""

    @bentoml.api(
        route="/v1/embeddings", input_spec=EmbeddingsRequest, output_spec=EmbeddingsResponse
    )
    async def embeddings(self, request: EmbeddingsRequest, scope: Scope) -> dict[str, Any]:
        """Embed one text or several, for OpenAI's clients."""
        return embeddings_answer(await self.embedded(request, scope))

    async def embedded(self, request: EmbeddingsRequest, scope: Scope) -> EmbeddedTexts:
        """The vectors of a request; raises as `embed_texts`, and NoSuchModelError."""
        named = self.task_of(request.model)
        return await self.embed_texts(request, "input", scope, task=request.task or named)

    @page("/v1/models", protected=True, fixed=True)
    async def models(self, _: Request) -> dict[str, Any]:
        """The served model by all its names: tasks, sizes, limit."""
        return model_list(self.model_info)

    @page("/v1/models/{model}", protected=True, fixed=True)
    async def model(self, request: Request) -> dict[str, Any]:
        """The served model by one of its names."""
        name = request.scope["path"].removeprefix("/v1/models/")
        return model_card(name, self.model_info)
