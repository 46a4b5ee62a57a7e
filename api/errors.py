"""Typed exceptions -> HTTP. The only place in the project with status numbers for errors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

import errors as base
from auth import errors as auth
from embedder import errors as embedder
from gate import errors as gate
from quota import errors as quota


class RequestError(Exception):
    """A request whose body is not what the route takes."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class MalformedBodyError(RequestError):
    """The body is not JSON."""

    reason = "malformed_json"


class InvalidBodyError(RequestError):
    """The body is JSON, but a field is missing, unknown or out of range."""

    reason = "invalid_request"


class NoSuchModelError(RequestError):
    """A `model` that is not served here; `served` are the names of the one that is."""

    reason = "model_not_found"

    def __init__(self, model: str, served: Iterable[str]) -> None:
        super().__init__(
            f"The model {model[:64]!r} is not served here. Use {', '.join(served)}; "
            "MODEL_ALIASES of the service gives it more names.",
            param="model",
        )


class FingerprintError(Exception):
    """A request that wants vectors of another vector space than the one that serves here."""

    reason = "fingerprint_mismatch"

    def __init__(self, wanted: str, served: str) -> None:
        super().__init__(
            f"If-Fingerprint is {wanted!r} and the vector space here is {served!r}: vectors of the two do not mix. "
            "Embed the index again, or serve the model that it was made with."
        )


class ClientGoneError(Exception):
    """The client left before its answer was ready."""

    reason = "client_gone"


class AnswerUnreadError(Exception):
    """The client does not read its answer, and its connection was aborted."""

    reason = "answer_unread"


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """How one type of exception is told to a client; `type` is OpenAI's vocabulary where it has one."""

    status: int
    type: str
    description: str


INVALID, DENIED, LIMITED, DOWN = (
    "invalid_request_error",
    "authentication_error",
    "rate_limit_error",
    "server_error",
)
_INTERNAL = (
    "Something went wrong here. Try once more; if it stays, give this answer's X-Request-ID "
    "to those who run the service: it finds the fault in their log."
)
INTERNAL = ErrorSpec(500, DOWN, "A fault of this server; quote the X-Request-ID")

ERRORS: dict[type[Exception], ErrorSpec] = {
    MalformedBodyError: ErrorSpec(400, INVALID, "The body is not JSON"),
    gate.BadHeader: ErrorSpec(400, INVALID, "The headers contradict themselves"),
    auth.TokenMissing: ErrorSpec(401, DENIED, "No token"),
    auth.TokenInvalid: ErrorSpec(401, DENIED, "The token is not valid"),
    auth.TokenTooLarge: ErrorSpec(431, INVALID, "The token is too large"),
    auth.TokenExpired: ErrorSpec(401, DENIED, "The token has expired"),
    auth.TokenForbidden: ErrorSpec(
        403, "permission_error", "A valid token that may not use this API"
    ),
    gate.UserBlocked: ErrorSpec(403, "permission_error", "The user is blocked here"),
    gate.PathNotFound: ErrorSpec(404, INVALID, "No such path"),
    NoSuchModelError: ErrorSpec(404, INVALID, "No such model"),
    gate.MethodNotAllowed: ErrorSpec(405, INVALID, "The path takes another method"),
    gate.BodyTimeout: ErrorSpec(408, INVALID, "The request did not arrive in time"),
    FingerprintError: ErrorSpec(409, INVALID, "The vector space is not that of If-Fingerprint"),
    gate.BodyTooLarge: ErrorSpec(413, INVALID, "The body is larger than MAX_BODY_BYTES"),
    gate.UrlTooLong: ErrorSpec(414, INVALID, "The URL is too long"),
    embedder.TooManyTokensError: ErrorSpec(
        413, INVALID, "More tokens than one user may have waiting"
    ),
    gate.UnsupportedMediaType: ErrorSpec(415, INVALID, "The body is not application/json"),
    embedder.TextError: ErrorSpec(422, INVALID, "A text that is not valid Unicode"),
    embedder.TextTooLongError: ErrorSpec(422, INVALID, "A text over the limit that may not be cut"),
    embedder.OptionError: ErrorSpec(
        422, INVALID, "A task, title or size that the model does not have"
    ),
    InvalidBodyError: ErrorSpec(422, INVALID, "A field is missing, unknown or out of range"),
    gate.TooManyFailures: ErrorSpec(429, LIMITED, "Too many refused tokens from this address"),
    gate.TooManyConcurrent: ErrorSpec(429, LIMITED, "Too many requests of this user at once"),
    quota.QuotaExceeded: ErrorSpec(
        429, LIMITED, "The user's limit is reached; wait Retry-After seconds"
    ),
    embedder.UserQueueFullError: ErrorSpec(
        429, LIMITED, "The user's earlier requests are waiting; wait Retry-After seconds"
    ),
    gate.HeadersTooLarge: ErrorSpec(431, INVALID, "The headers are too large"),
    embedder.EmbeddingFailedError: ErrorSpec(500, DOWN, "The model failed on a text"),
    base.Overloaded: ErrorSpec(503, DOWN, "Too much work is waiting; wait Retry-After seconds"),
    auth.KeysUnavailable: ErrorSpec(503, DOWN, "The keys to check tokens with cannot be had"),
    quota.QuotaUnavailable: ErrorSpec(503, DOWN, "The quota store does not answer"),
    embedder.QueueFullError: ErrorSpec(
        503, DOWN, "Too much work is waiting; wait Retry-After seconds"
    ),
    embedder.ModelLoadingError: ErrorSpec(503, DOWN, "The model is loading"),
    embedder.EngineError: ErrorSpec(503, DOWN, "The engine does not answer"),
    ClientGoneError: ErrorSpec(499, INVALID, "The client left; nobody reads this"),
    AnswerUnreadError: ErrorSpec(499, INVALID, "The client reads nothing, so nobody reads this"),
}


def spec_of(error: Exception) -> ErrorSpec:
    """The row of the nearest class of `error`; anything unforeseen is a 500."""
    return next((ERRORS[cls] for cls in type(error).__mro__ if cls in ERRORS), INTERNAL)


def reason_of(error: Exception) -> str:
    """A short, bounded code for metrics, logs and the envelope; other libraries' `reason` may be anything."""
    return (
        "internal_error"
        if spec_of(error) is INTERNAL
        else str(getattr(error, "reason", "internal_error"))
    )


def fault_reasons() -> set[str]:
    """The codes of what is our fault, 500 and 503."""
    return {
        "internal_error",
        "stopping",
        *_reasons(cls for cls, spec in ERRORS.items() if spec.status >= 500),
    }


def refusal_reasons() -> set[str]:
    """The codes of the gate; of those that one type has several of, the ones that somebody watches."""
    several = {"quota_requests", "quota_tokens", "api_key", "role", "anonymous_user", "stopping"}
    return several | _reasons(cls for cls in ERRORS if issubclass(cls, base.GateError))


def _reasons(classes: Iterable[type[Any]]) -> set[str]:
    """Those that the classes, and what derives from them, name themselves."""
    known = {heir for cls in classes for heir in (cls, *cls.__subclasses__())}
    return {cls.reason for cls in known if "reason" in vars(cls)}


def envelope(message: str, *, type: str, code: str, param: str | None = None) -> dict[str, Any]:
    """The body of every error."""
    return {"error": {"message": message, "type": type, "code": code, "param": param}}


def error_response(error: Exception) -> Response:
    """The answer to a request that ended in `error`. What is not foreseen is told without its text."""
    spec = spec_of(error)
    message = str(error) if spec is not INTERNAL else _INTERNAL
    body = envelope(
        message, type=spec.type, code=reason_of(error), param=getattr(error, "param", None)
    )
    return Response(orjson.dumps(body), spec.status, _headers(error, spec), "application/json")


def _headers(error: Exception, spec: ErrorSpec) -> dict[str, str]:
    headers = {}
    if (retry_after := getattr(error, "retry_after", None)) is not None:
        headers["Retry-After"] = str(retry_after)
    if spec.status == 401:  # RFC 6750, section 3
        challenge = (
            ""
            if isinstance(error, auth.TokenMissing)
            else f', error="invalid_token", error_description="{reason_of(error)}"'
        )
        headers["WWW-Authenticate"] = f'Bearer realm="embedding-api"{challenge}'
    if isinstance(error, gate.MethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(error.allowed))
    return headers
