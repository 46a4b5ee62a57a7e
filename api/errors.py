"""Typed exceptions -> HTTP. The only place in the project with status numbers for errors."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import errors as base
from auth import errors as auth
from batches import errors as batches
from embedder import errors as embedder
from gate import errors as gate
from quota import errors as quota


class RequestError(Exception):
    """A request whose body the route does not accept."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class MalformedBodyError(RequestError):
    """The body is not JSON."""

    reason = "malformed_json"


class MalformedFormError(RequestError):
    """The body is not a form with one file."""

    reason = "malformed_form"


class InvalidBodyError(RequestError):
    """The body is JSON, but a field is missing, unknown or out of range."""

    reason = "invalid_request"


class NoSuchModelError(RequestError):
    """A `model` that is not served here; `served` are the names of the model that is."""

    reason = "model_not_found"

    def __init__(self, model: str, served: Iterable[str]) -> None:
        super().__init__(
            f"The model {model[:64]!r} is not served here. Use {', '.join(served)}; "
            "MODEL_ALIASES of the service gives it more names.",
            param="model",
        )


class FingerprintError(Exception):
    """If-Fingerprint names another vector space than the one that is served."""

    reason = "fingerprint_mismatch"

    def __init__(self, wanted: str, served: str) -> None:
        super().__init__(
            f"If-Fingerprint is {wanted!r} and the vector space here is {served!r}: vectors of the "
            "two do not mix. Embed the index again, or serve the model that it was made with."
        )


class ClientGoneError(Exception):
    """The client left before its answer was ready."""

    reason = "client_gone"


class AnswerUnreadError(Exception):
    """The client did not read its answer, and the connection was aborted."""

    reason = "answer_unread"


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """How one type of exception is answered; `type` is OpenAI's term where there is one."""

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
    "An unexpected error of the service. Try once more; if it fails again, send this answer's "
    "X-Request-ID to those who run the service: their log has the cause under it."
)
INTERNAL = ErrorSpec(500, DOWN, "An unexpected error of the service; quote the X-Request-ID")

ERRORS: dict[type[Exception], ErrorSpec] = {
    MalformedBodyError: ErrorSpec(400, INVALID, "The body is not JSON"),
    MalformedFormError: ErrorSpec(400, INVALID, "The body is not a form with one file"),
    batches.FileInUseError: ErrorSpec(400, INVALID, "A batch reads the file"),
    batches.BatchFinishedError: ErrorSpec(400, INVALID, "The batch has ended"),
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
    batches.BatchesOffError: ErrorSpec(404, INVALID, "Batches are off"),
    batches.NoSuchFileError: ErrorSpec(404, INVALID, "No such file of the caller"),
    batches.NoSuchBatchError: ErrorSpec(404, INVALID, "No such batch of the caller"),
    gate.MethodNotAllowed: ErrorSpec(405, INVALID, "The path takes another method"),
    gate.BodyTimeout: ErrorSpec(408, INVALID, "The request did not arrive in time"),
    FingerprintError: ErrorSpec(409, INVALID, "The vector space is not that of If-Fingerprint"),
    gate.BodyTooLarge: ErrorSpec(413, INVALID, "The body is larger than MAX_BODY_BYTES"),
    gate.UrlTooLong: ErrorSpec(414, INVALID, "The URL is too long"),
    batches.FileTooLargeError: ErrorSpec(413, INVALID, "The file is larger than BATCH_FILE_BYTES"),
    batches.UserStorageFullError: ErrorSpec(413, INVALID, "The user's files take too much"),
    embedder.TooManyTokensError: ErrorSpec(
        413, INVALID, "More tokens than one user may have waiting"
    ),
    gate.UnsupportedMediaType: ErrorSpec(415, INVALID, "The body is not application/json"),
    embedder.TextError: ErrorSpec(422, INVALID, "A text that is not valid Unicode"),
    embedder.TextTooLongError: ErrorSpec(422, INVALID, "A text over the limit that may not be cut"),
    embedder.OffsetsError: ErrorSpec(422, INVALID, "A text that is too long for offsets"),
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
    batches.TooManyBatchesError: ErrorSpec(429, LIMITED, "Too many batches are not finished"),
    gate.HeadersTooLarge: ErrorSpec(431, INVALID, "The headers are too large"),
    embedder.EmbeddingFailedError: ErrorSpec(500, DOWN, "The model failed on a text"),
    base.Overloaded: ErrorSpec(503, DOWN, "Too much work is waiting; wait Retry-After seconds"),
    auth.KeysUnavailable: ErrorSpec(503, DOWN, "The keys to check tokens with cannot be fetched"),
    quota.QuotaUnavailable: ErrorSpec(503, DOWN, "The quota store does not answer"),
    embedder.QueueFullError: ErrorSpec(
        503, DOWN, "Too much work is waiting; wait Retry-After seconds"
    ),
    embedder.ModelLoadingError: ErrorSpec(503, DOWN, "The model is loading"),
    embedder.EngineError: ErrorSpec(503, DOWN, "The engine does not answer"),
    batches.StorageFullError: ErrorSpec(503, DOWN, "There is no space for files"),
    batches.StoreClosedError: ErrorSpec(503, DOWN, "Batches are being opened"),
    ClientGoneError: ErrorSpec(499, INVALID, "The client disconnected before the answer"),
    AnswerUnreadError: ErrorSpec(499, INVALID, "The client does not read its answer"),
}


def spec_of(error: Exception) -> ErrorSpec:
    """The entry of the most specific class of `error`; INTERNAL if there is none."""
    return next((ERRORS[cls] for cls in type(error).__mro__ if cls in ERRORS), INTERNAL)


def reason_of(error: Exception) -> str:
    """A code from a bounded set, for metrics, logs and answers."""
    if spec_of(error) is INTERNAL:  # other libraries' errors may have any `reason`
        return "internal_error"
    return str(getattr(error, "reason", "internal_error"))


def fault_reasons() -> set[str]:
    """The codes of the service's own failures, 500 and 503."""
    return {
        "internal_error",
        "stopping",
        *_reasons(
            cls for cls, spec in ERRORS.items() if spec.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        ),
    }


def refusal_reasons() -> set[str]:
    """The codes of the gate's refusals; types with several codes list those that alerts use."""
    several = {"quota_requests", "quota_tokens", "stopping"}
    several |= {"api_key", "role", "anonymous_user", "users_not_served"}
    return several | _reasons(cls for cls in ERRORS if issubclass(cls, base.GateError))


def _reasons(classes: Iterable[type[Any]]) -> set[str]:
    """The codes that these classes and their subclasses define."""
    with_subclasses = {found for cls in classes for found in (cls, *cls.__subclasses__())}
    return {cls.reason for cls in with_subclasses if "reason" in vars(cls)}


@dataclass(frozen=True, slots=True)
class ErrorContent:
    """What an error answer says, in whatever form."""

    status: int
    type: str
    code: str
    message: str
    param: str | None


def content_of(error: Exception) -> ErrorContent:
    """What the answer to a request says that ended in `error`; no text of an unexpected one."""
    spec = spec_of(error)
    message = str(error) if spec is not INTERNAL else _INTERNAL
    param = getattr(error, "param", None)
    return ErrorContent(spec.status, spec.type, reason_of(error), message, param)


def headers_of(error: Exception) -> dict[str, str]:
    """The headers of that answer: when to try again, how to sign in, which methods there are."""
    headers = {}
    if (retry_after := getattr(error, "retry_after", None)) is not None:
        headers["Retry-After"] = str(retry_after)
    if spec_of(error).status == HTTPStatus.UNAUTHORIZED:  # RFC 6750, section 3
        challenge = (
            ""
            if isinstance(error, auth.TokenMissing)
            else f', error="invalid_token", error_description="{reason_of(error)}"'
        )
        headers["WWW-Authenticate"] = f'Bearer realm="embedding-api"{challenge}'
    if isinstance(error, gate.MethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(error.allowed))
    return headers
