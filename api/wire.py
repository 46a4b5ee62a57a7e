"""JSON on the wire: bodies in through pydantic, answers out through orjson."""

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from api.errors import InvalidBodyError, MalformedBodyError

Model = TypeVar("Model", bound=BaseModel)


def parse_body(model: type[Model], body: bytes) -> Model:
    """The body of a request as `model`.

    Raises:
        MalformedBodyError: not JSON, or JSON with half of a surrogate pair (RFC 8259, section 8.2).
        InvalidBodyError: JSON that does not fit; names the first field that is wrong.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        raise MalformedBodyError(first["msg"])
    param = ".".join(map(str, first["loc"])) or None
    expected = first["msg"].removeprefix("Value error, ")
    raise InvalidBodyError(f"{param or 'body'}: {expected}", param=param)


def json_response(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`body` as JSON. NumPy float32 arrays are written with the shortest digits that read back the same."""
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status_code=status, headers=headers, media_type="application/json")
