"""Request bodies: bytes of JSON in UTF-8 -> a validated pydantic model."""

from codecs import BOM_UTF8
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.types import Receive

from api.errors import ClientGoneError, InvalidBodyError, MalformedBodyError
from api.json_values import SLICE, TooManyValuesError, count_values, may_have_more
from api.options import ASK_FOR_TEXTS, MAX_FIELDS, Limits
from api.turns import Turn, next_turn

# Our words for what pydantic says in words that a caller would not understand.
_EXPECTED = {
    "extra_forbidden": "this route has no such field. Leave it out; /docs lists those there are",
    "missing": "this field is required",
    "model_type": "send one JSON object, {...}",
}
_TOO_MANY_FIELDS = f"body: more than {MAX_FIELDS} fields. Send those that /docs lists"
Model = TypeVar("Model", bound=BaseModel)


async def read_json(
    model: type[Model], receive: Receive, *, limits: Limits, turn: Turn = next_turn
) -> Model:
    """The body of a request as `model`; the bytes are dropped.

    Other requests get their turn while the values of a large body are counted. What follows takes
    up to 20 ms for 8 MiB, whatever they hold.

    Args:
        model: what the body has to be.
        receive: of the request, whose body the gate has read already.
        limits: what the body may hold.
        turn: waited for before each slice of a large body, and before it is parsed.

    Raises:
        MalformedBodyError: as `parse_body`.
        InvalidBodyError: as `parse_body`, and for more values than `limits.max_values`.
        ClientGoneError: the client left first.
    """
    body = await _whole(receive)
    try:
        if len(body) > SLICE:
            await turn()
        if may_have_more(body, limit=limits.max_values):
            for _ in count_values(body, limit=limits.max_values):
                if len(body) > SLICE:
                    await turn()
    except TooManyValuesError:
        raise InvalidBodyError(
            f"body: more than {limits.max_values} JSON values, which no request needs. Send at "
            f"most {limits.max_texts} texts per request; {ASK_FOR_TEXTS}"
        ) from None
    return parse_body(model, body, limits=limits)


async def _whole(receive: Receive) -> bytes:
    """The whole body, of one message or several; the gate has read it already."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def parse_body(model: type[Model], body: bytes, *, limits: Limits) -> Model:
    """The bytes of a body as `model`.

    Raises:
        MalformedBodyError: not JSON, not in UTF-8, or JSON with half of a surrogate pair (RFC 8259,
            section 8.2).
        InvalidBodyError: JSON that does not fit; names the first field that is wrong.
    """
    return validated(model, decoded(body), limits=limits)


def validated(model: type[Model], fields: Any, *, limits: Limits) -> Model:
    """The JSON of a body as `model`. Raises InvalidBodyError as `parse_body`."""
    if isinstance(fields, dict) and len(fields) > MAX_FIELDS:
        raise InvalidBodyError(_TOO_MANY_FIELDS)
    try:
        return model.model_validate(fields, context=limits)
    except ValidationError as error:
        # Without its context: that holds this frame, a reference cycle with the body in it.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    raise _refusal(first)


def decoded(body: bytes) -> Any:
    """The bytes of a body as JSON. Raises MalformedBodyError as `parse_body`."""
    try:
        return orjson.loads(body.removeprefix(BOM_UTF8))  # RFC 8259, section 8.1
    except orjson.JSONDecodeError as error:
        found, at = error.msg, f"line {error.lineno} column {error.colno}"
    # Outside the handler: the error holds the whole text.
    try:
        body.decode()
    except UnicodeDecodeError as error:
        where = f"byte {error.start}"
    else:
        raise MalformedBodyError(
            f"The body is not JSON: {found} at {at}. Send an object as /docs shows it."
        )
    raise MalformedBodyError(
        f"The body is not in UTF-8 ({where}). Send JSON in UTF-8, not Latin-1 or UTF-16."
    )


def _refusal(error: ErrorDetails) -> InvalidBodyError:
    param = ".".join(str(part)[:64] for part in error["loc"]) or None
    expected = _EXPECTED.get(error["type"], error["msg"].removeprefix("Value error, "))
    return InvalidBodyError(f"{param or 'body'}: {expected}", param=param)
