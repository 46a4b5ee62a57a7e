"""Routes of Text Embeddings Inference (TEI), as its clients send and read them."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any, Literal

import bentoml
from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema
from starlette.requests import Request
from starlette.types import Scope

from api.dialects.dialect import AskedTexts, Dialect, ErrorForm
from api.dialects.foreign_fields import ForeignBody, foreign
from api.errors import ErrorContent
from api.options import Dimensions, LongTextOptions, Task, TextOrTexts
from api.routes import page
from embedder.overflow import TRUNCATE
from settings import VERSION


def _normalised(value: bool) -> bool:
    """Raises ValueError for vectors that are not normalised."""
    if not value:
        raise ValueError("vectors are always normalised here: leave it out, or send true")
    return value


class TeiEmbedRequest(ForeignBody, LongTextOptions):
    """One text or several."""

    model_config = foreign({"inputs": ["The quick brown fox", "안녕하세요"]})

    inputs: TextOrTexts = Field(description="One text or several")
    prompt_name: Task = Field(None, description="The model's prompt to put before the texts")
    truncation_direction: Literal["left", "Left", "right", "Right"] | None = Field(
        "right", description="Which end of a text is cut: left is its start"
    )
    normalize: Annotated[
        bool, AfterValidator(_normalised), WithJsonSchema({"enum": [True, None]})
    ] = Field(True, description="Only true: vectors are always normalised")
    dimensions: Dimensions = Field(
        None, description="Cut vectors to this size (Matryoshka) and normalise them again"
    )


def _as_list(schema: dict[str, Any]) -> None:
    """Turn the schema of an object into that of a list of vectors."""
    vector = {"type": "array", "items": {"type": "number"}}
    schema.pop("properties", None)
    schema |= {"type": "array", "items": vector}


class TeiVectors(bentoml.IODescriptor):
    """One vector per text, in the order of `inputs`."""

    model_config = ConfigDict(json_schema_extra=_as_list)


class TeiErrorResponse(bentoml.IODescriptor):
    """The body of every error answer of TEI's routes."""

    error: str
    error_type: Literal["Backend", "Overloaded", "Validation"]


def _error(content: ErrorContent) -> dict[str, Any]:
    return {"error": content.message, "error_type": _error_type(content.status)}


def _error_type(status: int) -> str:
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return "Overloaded"
    return "Backend" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "Validation"


ERROR_FORM = ErrorForm(("/tei/",), TeiErrorResponse, _error)


class TeiRoutes(Dialect):
    """`/tei/embed` and the description of the model. Health is a page of the service."""

    @bentoml.api(route="/tei/embed", input_spec=TeiEmbedRequest, output_spec=TeiVectors)
    async def tei_embed(self, request: TeiEmbedRequest, scope: Scope) -> Iterator[Any]:
        """Embed one text or several, for clients of Text Embeddings Inference."""
        return await _embed(self, request, scope)

    @bentoml.api(route="/tei", input_spec=TeiEmbedRequest, output_spec=TeiVectors)
    async def tei(self, request: TeiEmbedRequest, scope: Scope) -> Iterator[Any]:
        """The same as `/tei/embed`, for clients that add nothing to their base URL."""
        return await _embed(self, request, scope)

    @page("/tei/info", protected=True, fixed=True)
    async def tei_info(self, _: Request) -> dict[str, Any]:
        """The served model and its limits, for clients of Text Embeddings Inference."""
        info = self.model_info
        return {
            "model_id": info.name,
            "model_sha": info.fingerprint,
            "model_dtype": info.quantization,
            "model_type": {"embedding": {}},
            "max_input_length": info.max_tokens,
            "max_client_batch_size": info.max_texts,
            "auto_truncate": True,
            "version": VERSION,
        }


async def _embed(dialect: Dialect, request: TeiEmbedRequest, scope: Scope) -> Iterator[Any]:
    cut = request.long_texts == TRUNCATE
    asked = AskedTexts.model_construct(
        texts=request.inputs,
        overflow=request.long_texts,
        cut_start=cut and request.truncation_direction in ("left", "Left"),
        dimensions=request.dimensions,
    )
    del request.inputs  # they may be megabytes
    done = await dialect.embed_texts(asked, "texts", scope, task=request.prompt_name)
    return done.embeddings
