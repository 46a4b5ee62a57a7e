"""Answers the requests of batches as `/v1/embeddings` answers them, to the same bytes."""

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.types import Scope

from api.answer import json_pieces
from api.dialects.openai import EmbeddingsRequest, OpenAIRoutes, embeddings_answer
from api.error_forms import error_form
from api.errors import INTERNAL, RequestError, content_of, spec_of
from api.json_values import SLICE, TooManyValuesError, count_values, may_have_more
from api.options import Limits
from api.turns import next_turn
from api.wire import decoded, validated
from auth.principal import Principal
from batches.answering import SUCCESS, Answered, LineTokens
from batches.errors import LineFault, NotNow
from quota.errors import QuotaExceeded
from request_state import state_of

LOG = logging.getLogger("embedding_api")
ENDPOINT = "/v1/embeddings"
_ENVELOPE = 128  # JSON values of a line around the body
_ANSWER = 1_024  # bytes of an answer without its vectors, or of an error
_EMBEDDING = 160  # bytes of one embedding without its vector
#: Bytes of one value of a vector in JSON, at most.
_VALUE = {"float": 16.0, "base64": 5.5, "int8": 5.0, "binary": 0.75}


class EmbeddingsAnswerer:
    """The `Answerer` of `batches/answering.py`.

    Args:
        routes: of the service that embeds.
        limits: what one body may hold.
    """

    def __init__(self, routes: OpenAIRoutes, limits: Limits) -> None:
        self._routes = routes
        self._limits = limits

    async def decode(self, content: bytes) -> Any:
        """A line as JSON; other requests get their turn while the values of a long one are counted.

        Raises:
            LineFault: it is not JSON, or has more values than any request needs.
        """
        most = self._limits.max_values + _ENVELOPE
        try:
            if may_have_more(content, limit=most):
                for _ in count_values(content, limit=most):
                    await next_turn()
            elif len(content) > SLICE:
                await next_turn()
            return decoded(content)
        except TooManyValuesError:
            message = f"This line has more than {most} JSON values, which no request needs."
        except RequestError as error:
            message = str(error).replace("The body", "This line")
        raise LineFault("invalid_json_line", message)

    def n_texts(self, body: Mapping[str, Any]) -> int:
        """Texts in a body, each of which takes memory until the answer is written."""
        texts = body.get("input")
        return min(len(texts), self._limits.max_texts) if isinstance(texts, list) else 1

    def most_bytes(self, body: Mapping[str, Any]) -> int:
        """Bytes that the answer to a body may take, at most, in the output file."""
        sizes = self._routes.model_info.dimensions
        size = body.get("dimensions")
        n_values = size if isinstance(size, int) and size in sizes else sizes[0]
        encoding = body.get("encoding_format")
        per_value = _VALUE.get(encoding, 16.0) if isinstance(encoding, str) else 16.0
        return _ANSWER + self.n_texts(body) * (_EMBEDDING + int(n_values * per_value))

    async def answer(
        self, body: Mapping[str, Any], *, user_id: str, caller: str, tokens: LineTokens
    ) -> Answered:
        """The answer to a body, errors included; what was charged for an error is given back.

        Raises:
            NotNow: it has to wait; nothing is charged.
        """
        scope: Scope = {"type": "http", "path": ENDPOINT, "headers": []}
        state = state_of(scope)
        state.request_id = uuid.uuid4().hex
        state.principal = Principal(user_id=user_id, caller=caller, bulk=True)
        state.tokens, state.receipt = tokens, tokens.receipt
        try:
            answer = await self._embed(body, scope)
        except Exception as error:
            await tokens.refund_all()
            return _failed(error, request_id=state.request_id, never_fits=tokens.never_fits)
        return Answered(SUCCESS, state.request_id, answer, state.n_tokens, state.cached_tokens)

    async def _embed(self, body: Mapping[str, Any], scope: Scope) -> Callable[[], Iterator[bytes]]:
        request = validated(EmbeddingsRequest, body, limits=self._limits)
        encoding = request.encoding_format
        done = await self._routes.embedded(request, scope)

        def pieces() -> Iterator[bytes]:
            again = replace(done, embeddings=done.encoded(encoding))
            return json_pieces(embeddings_answer(again))

        return pieces


def _failed(error: Exception, *, request_id: str, never_fits: bool) -> Answered:
    """The answer of an error. Raises NotNow for one that passes by itself."""
    seconds = getattr(error, "retry_after", None)
    spent = isinstance(error, QuotaExceeded)
    if seconds is not None and not (spent and never_fits):
        raise NotNow(float(seconds), spent=spent) from error
    if spec_of(error) is INTERNAL:
        fields = {"request_id": request_id, "error": type(error).__name__}
        LOG.error("batch_request_failed", extra={"fields": fields})
    content = content_of(error)
    body = error_form(ENDPOINT).body(content)
    return Answered(content.status, request_id, partial(json_pieces, body))
