"""Errors as answers, in the form that clients of their path read."""

import orjson
from starlette.responses import Response

from api.dialects import cohere, native, ollama, tei
from api.dialects.dialect import ErrorForm
from api.errors import content_of, headers_of

_BY_PATH = (cohere.ERROR_FORM, ollama.ERROR_FORM, tei.ERROR_FORM)


def error_form(path: str) -> ErrorForm:
    """The form of the errors at a path; also where no route is."""
    below = f"{path}/"
    return next((form for form in _BY_PATH if below.startswith(form.paths)), native.ERROR_FORM)


def error_response(error: Exception, *, path: str) -> Response:
    """The answer to a request for `path` that ended in `error`."""
    content = content_of(error)
    body = error_form(path).body(content)
    return Response(orjson.dumps(body), content.status, headers_of(error), "application/json")
