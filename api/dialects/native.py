"""The routes of our own wire format: their bodies, their answers, and how one becomes the other."""

from typing import Annotated, Any

import bentoml
from pydantic import ConfigDict, Field, WithJsonSchema
from starlette.types import Scope
from typing_extensions import override

from api.dialects.dialect import (
    Dialect,
    ErrorForm,
    reading_of,
    reading_of_all,
)
from api.errors import ErrorContent
from api.options import (
    Dimensions,
    DocumentOptions,
    ListWithinLimits,
    Switch,
    Task,
    TaskOptions,
    Text,
    Texts,
    VectorOptions,
)
from request_state import state_of

_MAX_COMPARED = 256  # texts with one another: 65,536 numbers are 0.7 MB of JSON

_WINDOWS = "Windows that each text was read in; 1, unless `overflow` is `average`"
_CUT = "Indices of the texts that were cut at the model's limit"
_EMPTY = "Indices of the texts that are nothing but white space and invisible characters"
_NUMBERS = {"type": "array", "items": {"type": "number"}}
Vector = Annotated[
    Any,
    WithJsonSchema({"anyOf": [_NUMBERS, {"type": "string"}]}),
    Field(description="float32, L2-normalised, unless `encoding_format` asks for something else"),
]


Span = Annotated[list[int], Field(min_length=2, max_length=2)]


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class EmbedRequest(VectorOptions):
    """One text."""

    model_config = _examples({"text": "안녕하세요, 반갑습니다!"})

    text: Text = Field(description="The text to embed")


class BatchEmbedRequest(VectorOptions):
    """Several texts."""

    model_config = _examples({"texts": ["첫 번째", "두 번째", "세 번째"]})

    texts: Texts = Field(description="The texts to embed")


class TokenizeRequest(DocumentOptions):
    """Texts to count."""

    model_config = _examples({"texts": ["A man is playing a guitar", "안녕하세요"]})

    texts: Texts = Field(description="The texts to tokenise")
    offsets: Switch = Field(False, description="Say where each token lies in its text")

    @property
    @override
    def located(self) -> bool:
        return self.offsets


class SimilarityRequest(TaskOptions):
    """One text against many, or many against one another."""

    model_config = _examples(
        {
            "text": "A man is playing a guitar",
            "texts": ["Someone plays an instrument", "The stock market fell today"],
        },
        {"texts": ["A man is playing a guitar", "Someone plays an instrument"]},
    )

    text: Text | None = Field(
        None, description="The text to compare with the others; without: all with all"
    )
    texts: Annotated[list[Text], ListWithinLimits] = Field(
        min_length=1,
        max_length=_MAX_COMPARED,
        fail_fast=True,
        description="The texts to compare",
    )
    text_task: Task = Field(
        None, description="What `text` is for where it differs from `task`: query and document"
    )
    dimensions: Dimensions = Field(
        None, description="Compare vectors cut to this size (Matryoshka)"
    )


class Usage(bentoml.IODescriptor):
    """Tokens the model read, prompts and special tokens included."""

    prompt_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)
    cached_tokens: int = Field(
        ge=0, description="Those of texts that were embedded before; they are not charged"
    )


class Answer(bentoml.IODescriptor):
    """What every answer about texts says."""

    model: str = Field(description="The model that read the texts")
    fingerprint: str = Field(
        description="Names the vector space: vectors of two fingerprints do not mix"
    )
    usage: Usage


class EmbedResponse(Answer):
    """One vector."""

    embedding: Vector
    dimensions: int = Field(ge=1, description="Dimensions of the vector")
    windows: int = Field(ge=1, description="Windows that the text was read in")
    truncated: bool = Field(description="Whether the text was cut at the model's limit")
    empty: bool = Field(
        description="Whether the text is nothing but white space and invisible characters"
    )


class BatchEmbedResponse(Answer):
    """One vector per text, in the order of the texts."""

    embeddings: list[Vector]
    dimensions: int = Field(ge=1, description="Dimensions of each vector")
    tokens: list[int] = Field(description="Tokens the model read of each text")
    windows: list[int] = Field(description=_WINDOWS)
    truncated: list[int] = Field(description=_CUT)
    empty: list[int] = Field(description=_EMPTY)


class TokenizedText(bentoml.IODescriptor):
    """One text as the model reads it."""

    ids: list[int] = Field(
        description="Token ids, prompt and special tokens included, cut at the limit; of several "
        "windows one after the other"
    )
    n_tokens: int = Field(
        ge=0, description="Tokens before the cut; at least, of a text that was not read to its end"
    )
    windows: int = Field(ge=1, description="Windows that the text is read in")
    truncated: bool
    empty: bool = Field(
        description="Whether the text is nothing but white space and invisible characters"
    )
    offsets: list[Span | None] | None = Field(
        None,
        description="Start and end of each token in the text, in code points; null of special "
        "tokens and of the prompt. With `offsets` alone",
    )


class TokenizeResponse(Answer):
    """Token ids, in the order of the texts."""

    texts: list[TokenizedText]
    max_tokens: int = Field(ge=1, description="Tokens at which texts are cut")


class SimilarityResponse(Answer):
    """Cosine similarities."""

    similarities: list[float] | list[list[float]] = Field(
        description="Of `text` with each of the texts; without `text` a matrix, one row per text"
    )
    windows: list[int] = Field(description=_WINDOWS)
    truncated: list[int] = Field(description=_CUT)
    text_windows: int = Field(ge=0, description="Windows that `text` was read in; 0 without it")
    text_truncated: bool = Field(description="Whether `text` was cut at the model's limit")
    empty: list[int] = Field(description=_EMPTY)
    text_empty: bool = Field(
        description="Whether `text` is nothing but white space and invisible characters"
    )


class ErrorDetail(bentoml.IODescriptor):
    """What went wrong and what to do."""

    message: str
    type: str
    code: str
    param: str | None = Field(description="The field at fault, if one is")


class ErrorResponse(bentoml.IODescriptor):
    """The body of every error answer of our own routes and OpenAI's."""

    error: ErrorDetail


def _error(content: ErrorContent) -> dict[str, Any]:
    detail = {"message": content.message, "type": content.type, "code": content.code}
    return {"error": detail | {"param": content.param}}


ERROR_FORM = ErrorForm(("/",), ErrorResponse, _error)


class NativeRoutes(Dialect):
    """`/embed`, `/batch-embed`, `/similarity` and `/tokenize`."""

    @bentoml.api(route="/embed", input_spec=EmbedRequest, output_spec=EmbedResponse)
    async def embed(self, request: EmbedRequest, scope: Scope) -> dict[str, Any]:
        """Embed one text."""
        done = await self.embed_texts(request, "text", scope)
        [embedding] = done.embeddings
        [text] = done.texts
        return {"embedding": embedding, **reading_of(text), **done.about}

    @bentoml.api(route="/batch-embed", input_spec=BatchEmbedRequest, output_spec=BatchEmbedResponse)
    async def batch_embed(self, request: BatchEmbedRequest, scope: Scope) -> dict[str, Any]:
        """Embed several texts."""
        done = await self.embed_texts(request, "texts", scope)
        answer = {
            "embeddings": done.embeddings,
            "tokens": [len(text.ids) for text in done.texts],
            **reading_of_all(done.texts),
        }
        return answer | done.about

    @bentoml.api(route="/similarity", input_spec=SimilarityRequest, output_spec=SimilarityResponse)
    async def similarity(self, request: SimilarityRequest, scope: Scope) -> dict[str, Any]:
        """Cosine similarities of one text with several, or of several with one another."""
        self.require_space([request.text or "", *request.texts], scope, overflow=request.long_texts)
        first = await self.read(request, "text", scope, task=request.text_task)
        rest = await self.read(request, "texts", scope)
        texts = [*first, *rest]
        vectors = await self.vectors(texts, scope, dimensions=request.dimensions)
        cosines = vectors[1:] @ vectors[0] if first else vectors @ vectors.T
        answer = {
            "similarities": iter(cosines.clip(-1, 1)),
            **reading_of_all(rest),
            "text_windows": sum(text.n_windows for text in first),
            "text_truncated": any(text.truncated for text in first),
            "text_empty": any(text.blank for text in first),
        }
        about = self.about(texts, cached_tokens=state_of(scope).cached_tokens)
        return answer | about | {"dimensions": vectors.shape[1]}

    @bentoml.api(route="/tokenize", input_spec=TokenizeRequest, output_spec=TokenizeResponse)
    async def tokenize(self, request: TokenizeRequest, scope: Scope) -> dict[str, Any]:
        """Token ids and counts; costs one request and no tokens."""
        texts = await self.read(request, "texts", scope)
        state_of(scope).release_body()
        state_of(scope).answer_bytes = sum(text.n_bytes for text in texts)
        described = (
            {"ids": text.ids, "n_tokens": text.n_tokens, **reading_of(text)} for text in texts
        )
        limit = self.model_info.max_tokens
        return {"texts": described, "max_tokens": limit, **self.about(texts)}
