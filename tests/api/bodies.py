"""The least body of each route that takes texts, and how one is read or refused."""

import json
from typing import Any

import pytest

from api.dialects.cohere import CohereEmbedRequest
from api.dialects.native import BatchEmbedRequest, EmbedRequest, SimilarityRequest, TokenizeRequest
from api.dialects.ollama import (
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaShowRequest,
)
from api.dialects.openai import EmbeddingsRequest
from api.dialects.tei import TeiEmbedRequest
from api.errors import InvalidBodyError
from api.options import Body, Limits
from api.wire import parse_body
from lab.worst_bodies import TEXTS

LIMITS = Limits(max_texts=TEXTS)
BODIES: dict[type[Body], dict[str, Any]] = {
    EmbedRequest: {"text": "a"},
    BatchEmbedRequest: {"texts": ["a"]},
    TokenizeRequest: {"texts": ["a"]},
    SimilarityRequest: {"texts": ["a"]},
    EmbeddingsRequest: {"input": "a", "model": "m"},
    CohereEmbedRequest: {"model": "m", "texts": ["a"]},
    OllamaEmbedRequest: {"input": "a", "model": "m"},
    OllamaEmbeddingsRequest: {"prompt": "a", "model": "m"},
    OllamaShowRequest: {"model": "m"},
    TeiEmbedRequest: {"inputs": "a"},
}


def read(model: type[Body], /, **fields: Any) -> Body:
    return parse_body(model, json.dumps(BODIES[model] | fields).encode(), limits=LIMITS)


def refusal(model: type[Body], /, **fields: Any) -> InvalidBodyError:
    with pytest.raises(InvalidBodyError) as refused:
        read(model, **fields)
    return refused.value
