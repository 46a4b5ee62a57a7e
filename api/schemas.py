"""What the routes take and give: the wire format, and the source of the OpenAPI document."""

from typing import Annotated

import bentoml
from pydantic import ConfigDict, Field

from settings import load_settings

_MAX_TEXTS = load_settings().max_texts_per_request

Text = Annotated[str, Field(min_length=1)]
Vector = Annotated[list[float], Field(description="float32, L2-normalised")]


class Body(bentoml.IODescriptor):
    """A request body: JSON types as they are, no field but those named."""

    model_config = ConfigDict(extra="forbid", strict=True)


class EmbedRequest(Body):
    """One text."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "안녕하세요, 반갑습니다!"}]})

    text: Text = Field(description="The text to embed")


class BatchEmbedRequest(Body):
    """Several texts."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": ["첫 번째", "두 번째", "세 번째"]}]})

    texts: list[Text] = Field(min_length=1, max_length=_MAX_TEXTS, description="The texts to embed")


class Usage(bentoml.IODescriptor):
    """Tokens the model read, its special tokens included."""

    prompt_tokens: int = Field(ge=1)
    total_tokens: int = Field(ge=1)


class Answer(bentoml.IODescriptor):
    """What every answer with vectors says."""

    model: str = Field(description="The model that made the vectors")
    dimensions: int = Field(ge=1, description="Numbers in a vector")
    usage: Usage


class EmbedResponse(Answer):
    """One vector."""

    embedding: Vector
    truncated: bool = Field(description="Whether the text was cut at the model's limit")


class BatchEmbedResponse(Answer):
    """One vector a text, in the order of the texts."""

    embeddings: list[Vector]
    truncated: list[int] = Field(description="Indices of the texts that were cut at the model's limit")


class Allowance(bentoml.IODescriptor):
    """One limit and what is left of it."""

    limit: int
    remaining: int
    reset_after: int = Field(description="Seconds until something of it is given back, 0 when nothing is used")


class UsageResponse(bentoml.IODescriptor):
    """The caller's limits."""

    requests: Allowance = Field(description="Requests in any 60 seconds")
    tokens: Allowance | None = Field(description="Tokens in a UTC day; null when there is no limit")


class HealthResponse(bentoml.IODescriptor):
    """What serves here."""

    status: str = Field(description="`ok`")
    model: str
    quantization: str
    fingerprint: str = Field(description="Names the vector space: vectors of two fingerprints do not mix")
    redis: str = Field(description="`ok`, `degraded` (counting in memory meanwhile) or `disabled`")
    version: str


class ErrorDetail(bentoml.IODescriptor):
    """What went wrong and what to do."""

    message: str
    type: str
    code: str
    param: str | None = Field(description="The field at fault, if one is")


class ErrorResponse(bentoml.IODescriptor):
    """The body of every error."""

    error: ErrorDetail
