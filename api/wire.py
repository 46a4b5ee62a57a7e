"""JSON on the wire: bodies in through pydantic, answers out through orjson."""

from codecs import BOM_UTF8
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from api.errors import InvalidBodyError, MalformedBodyError

# What pydantic says in other words than a caller would understand.
_EXPECTED = {
    "extra_forbidden": "this route has no such field. Leave it out; /docs lists those there are",
    "missing": "this field is required",
    "model_type": "send one JSON object, {...}",
}
Model = TypeVar("Model", bound=BaseModel)


def parse_body(model: type[Model], body: bytes) -> Model:
    """The body of a request as `model`.

    Raises:
        MalformedBodyError: not JSON, not in UTF-8, or JSON with half of a surrogate pair (RFC 8259,
            section 8.2).
        InvalidBodyError: JSON that does not fit; names the first field that is wrong.
    """
    try:
        return model.model_validate_json(body.removeprefix(BOM_UTF8))  # RFC 8259, section 8.1
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        raise MalformedBodyError(_what_is_wrong(body, first["msg"]))
    param = ".".join(map(str, first["loc"])) or None
    expected = _EXPECTED.get(first["type"], first["msg"].removeprefix("Value error, "))
    raise InvalidBodyError(f"{param or 'body'}: {expected}", param=param)


def _what_is_wrong(body: bytes, found: str) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        at = error.start
        return f"The body is not in UTF-8 (byte {at}). Send JSON in UTF-8, not Latin-1 or UTF-16."
    found = found.removeprefix("Invalid JSON: ")
    return f"The body is not JSON: {found}. Send an object as /docs shows it."


def json_response(
    body: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """`body` as JSON. NumPy float32 arrays are written with the shortest digits that read back the same."""
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status_code=status, headers=headers, media_type="application/json")
