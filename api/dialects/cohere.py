"""Cohere's embed routes, as its clients send and read them."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import bentoml
from pydantic import BeforeValidator, Field, model_validator
from starlette.types import Scope
from typing_extensions import TypeAliasType

from api.dialects.dialect import AskedTexts, Dialect, EmbeddedTexts, ErrorForm
from api.dialects.foreign_fields import ForeignBody, foreign
from api.dialects.native import Vector
from api.errors import ErrorContent
from api.options import (
    Body,
    Dimensions,
    ListWithinLimits,
    LongTextOptions,
    ModelName,
    Text,
    Texts,
    sized,
)
from embedder.overflow import ERROR, TRUNCATE, Overflow
from request_state import state_of

# 96 is Cohere's own limit. A body cannot have many more: an input has five JSON values.
_SOME = Field(min_length=1, max_length=96, fail_fast=True)
_NO_IMAGES = "this model reads texts alone. Send no images"
# Ours by Cohere's name, where the two differ.
_ENCODINGS = {"binary": "signed_binary", "ubinary": "binary"}
_ONE_OF = [
    {"required": [one], "properties": {one: {"type": "array"}, other: {"type": "null"}}}
    for one, other in (("texts", "inputs"), ("inputs", "texts"))
]

EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
InputType = Literal["search_document", "search_query", "classification", "clustering"]


def _no_image(value: Any) -> Any:
    """Raises ValueError for what stands for an image."""
    if value in ("image", "image_url"):
        raise ValueError(_NO_IMAGES)
    return value


class InputPart(Body):
    """A part of an input. Images are refused."""

    type: Annotated[Literal["text"], BeforeValidator(_no_image)]
    text: Text


class EmbedInput(Body):
    """A text in parts, which are joined by line breaks."""

    content: Annotated[list[InputPart], _SOME]

    @property
    def text(self) -> str:
        """The whole text."""
        return "\n".join(part.text for part in self.content)

    @model_validator(mode="after")
    def _sized(self) -> Self:
        sized(self.text)
        return self


# With names of their own, since BentoML would put types of its own between a list and its bounds.
CohereTexts = TypeAliasType("CohereTexts", Texts | None)
CohereInputs = TypeAliasType(
    "CohereInputs", Annotated[list[EmbedInput], _SOME, ListWithinLimits] | None
)
EmbeddingTypes = TypeAliasType("EmbeddingTypes", Annotated[list[EmbeddingType], _SOME] | None)


class CohereEmbedRequest(ForeignBody, LongTextOptions):
    """What Cohere's clients send: `texts` or `inputs`."""

    model_config = foreign(
        {"texts": ["The quick brown fox", "안녕하세요"], "embedding_types": ["float", "int8"]},
        {"inputs": [{"content": [{"type": "text", "text": "The quick brown fox"}]}]},
        oneOf=_ONE_OF,
    )

    meanings: ClassVar[Mapping[Any, Overflow]] = {
        "END": TRUNCATE,
        "START": TRUNCATE,
        "NONE": ERROR,
    }
    refused: ClassVar[Mapping[str, str]] = {
        "images": _NO_IMAGES,
        "max_tokens": "the limit is that of the service. Leave it out, or send shorter texts",
    }

    model: ModelName = Field(description="A model of `/v1/models`, or an alias of the service")
    texts: CohereTexts = Field(None, description="The texts to embed")
    inputs: CohereInputs = Field(
        None, description="The same as texts in parts: one vector per input"
    )
    input_type: Annotated[InputType, BeforeValidator(_no_image)] | None = Field(
        None,
        description="What the texts are for; picks the model's prompt. Ignored by models that have "
        "no prompts",
    )
    embedding_types: EmbeddingTypes = Field(
        None, description="Encodings of the vectors, one or several; without: float"
    )
    output_dimension: Dimensions = Field(
        None, description="Cut vectors to this size (Matryoshka) and normalise them again"
    )
    truncate: Literal["END", "NONE", "START"] | None = Field(  # type: ignore[assignment]
        None,
        description="Which end of a text over the model's limit is cut: `END` by default; `NONE` "
        "answers 422 instead",
    )

    @model_validator(mode="after")
    def _texts_or_inputs(self) -> Self:
        if (self.texts is None) == (self.inputs is None):
            raise ValueError("send texts or inputs, one of the two")
        return self

    def take_texts(self) -> list[str]:
        """The texts, of which this body keeps none: they may be megabytes."""
        texts, inputs = self.texts, self.inputs
        self.texts = self.inputs = None
        return texts or [one.text for one in inputs or ()]


class ByType(bentoml.IODescriptor):
    """One vector per text in each encoding that was asked for."""

    float_: list[list[float]] | None = Field(None, alias="float")
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = Field(None, description="One bit per dimension, less 128")
    ubinary: list[list[int]] | None = Field(None, description="One bit per dimension")
    base64: list[str] | None = None


class CohereMeta(bentoml.IODescriptor):
    """What a request cost."""

    api_version: dict[str, str]
    billed_units: dict[str, int] = Field(
        description="`input_tokens`: tokens that were charged, prompts and special tokens included"
    )


class CohereResponse(bentoml.IODescriptor):
    """One vector per text, in the order of the texts."""

    response_type: Literal["embeddings_by_type"]
    id: str = Field(description="The same as X-Request-ID")
    embeddings: ByType
    meta: CohereMeta


class CohereV1Response(bentoml.IODescriptor):
    """The same as of `/v2/embed`; without `embedding_types` a bare list of vectors."""

    response_type: Literal["embeddings_by_type", "embeddings_floats"]
    id: str = Field(description="The same as X-Request-ID")
    embeddings: ByType | list[Vector]
    meta: CohereMeta


class CohereErrorResponse(bentoml.IODescriptor):
    """The body of every error answer of Cohere's routes."""

    message: str


def _error(content: ErrorContent) -> dict[str, Any]:
    return {"message": content.message}


ERROR_FORM = ErrorForm(("/v2/", "/v1/embed/"), CohereErrorResponse, _error)


class CohereRoutes(Dialect):
    """`/v2/embed`, and `/v1/embed` for clients of its first version."""

    @bentoml.api(route="/v2/embed", input_spec=CohereEmbedRequest, output_spec=CohereResponse)
    async def cohere_embed(self, request: CohereEmbedRequest, scope: Scope) -> dict[str, Any]:
        """Embed several texts, for Cohere's clients."""
        types = request.embedding_types or ["float"]
        done = await _embed(self, request, scope)
        return _answer("2", "embeddings_by_type", _by_type(done, types), done, scope)

    @bentoml.api(route="/v1/embed", input_spec=CohereEmbedRequest, output_spec=CohereV1Response)
    async def cohere_embed_v1(self, request: CohereEmbedRequest, scope: Scope) -> dict[str, Any]:
        """Embed several texts, for clients of Cohere's first version."""
        types = request.embedding_types
        done = await _embed(self, request, scope)
        if types is None:
            return _answer("1", "embeddings_floats", done.embeddings, done, scope)
        return _answer("1", "embeddings_by_type", _by_type(done, types), done, scope)


async def _embed(dialect: Dialect, request: CohereEmbedRequest, scope: Scope) -> EmbeddedTexts:
    named = dialect.task_of(request.model)
    asked = AskedTexts.model_construct(
        texts=request.take_texts(),
        overflow=request.long_texts,
        cut_start=request.truncate == "START",
        dimensions=request.output_dimension,
    )
    # Cohere's clients always send an input type.
    task = request.input_type if dialect.model_info.tasks else None
    return await dialect.embed_texts(asked, "texts", scope, task=task or named)


def _by_type(done: EmbeddedTexts, types: list[EmbeddingType]) -> dict[str, Any]:
    return {name: done.encoded(_ENCODINGS.get(name, name)) for name in types}


def _answer(
    version: str, response_type: str, embeddings: Any, done: EmbeddedTexts, scope: Scope
) -> dict[str, Any]:
    usage = done.about["usage"]
    return {
        "response_type": response_type,
        "id": state_of(scope).request_id,
        "embeddings": embeddings,
        "meta": {
            "api_version": {"version": version},
            "billed_units": {"input_tokens": usage["total_tokens"] - usage["cached_tokens"]},
        },
    }
