"""Errors of the embedder. Each message says what to do next."""

from collections.abc import Sequence
from pathlib import Path


class EmbedderError(Exception):
    """Base of every error the embedder raises on purpose."""


class TextFault(EmbedderError):
    """An error of the text at `index`. `param` is its field, where that is known."""

    param: str | None = None

    def __init__(self, index: int, message: str) -> None:
        self.index = index
        super().__init__(message)


class TextError(TextFault):
    """A text that cannot be tokenised, such as one with a lone surrogate."""

    reason = "invalid_text"

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(
            index, f"text {index} cannot be tokenised: {reason}; correct it, and send it again"
        )


class OptionError(EmbedderError):
    """An option of a request that the model does not have. `param` is its name."""

    reason = "unsupported_option"
    param: str


class TaskUnknownError(OptionError):
    """A task that the model has no prompt for. `known` are the tasks that it has."""

    reason = "task_unknown"
    param = "task"

    def __init__(self, task: str, known: Sequence[str]) -> None:
        self.task, self.known = task, known
        advice = f"use {', '.join(known)}" if known else "it has none at all, leave the task out"
        super().__init__(f"this model has no prompt for the task {task!r}; {advice}")


class TitleError(OptionError):
    """A title for a prompt that has no place for one."""

    reason = "title_not_taken"
    param = "title"


class DimensionsError(OptionError):
    """A size that the model does not offer. `sizes` are those that it offers."""

    reason = "dimensions_not_allowed"
    param = "dimensions"

    def __init__(self, dimensions: int, sizes: Sequence[int]) -> None:
        self.dimensions, self.sizes = dimensions, sizes
        super().__init__(
            f"dimensions of this model are {', '.join(map(str, sizes))}, not {dimensions}: "
            "ask for one of those, or for none"
        )


class TextTooLongError(TextFault):
    """A text of more than `max_tokens` tokens, whose caller does not want it truncated.

    It has at least `n_tokens`.
    """

    reason = "text_too_long"

    def __init__(self, index: int, n_tokens: int, max_tokens: int) -> None:
        self.n_tokens, self.max_tokens = n_tokens, max_tokens
        super().__init__(
            index,
            f"text {index} has at least {n_tokens} tokens and the limit is {max_tokens}: shorten "
            'it, let it be cut with "overflow": "truncate", or read in windows with '
            '"overflow": "average"',
        )


class OffsetsError(TextFault):
    """A text whose tokens reach further than the `limit` characters in which they are located."""

    reason = "offsets_too_far"

    def __init__(self, index: int, limit: int) -> None:
        self.limit = limit
        super().__init__(
            index,
            f"text {index} is too long for offsets, which are found in its first {limit} "
            "characters, prompt included: send it in pieces, or without offsets",
        )


class NotAdmittedError(EmbedderError):
    """The queue did not accept a request. None of its texts was embedded."""


class TooManyTokensError(NotAdmittedError):
    """A request of more tokens than one user may have in the queue.

    Attributes:
        cost: tokens that the texts which were read count.
        limit: tokens that one user may have.
        fit: how many of the first texts fit.
    """

    reason = "too_many_tokens"

    def __init__(self, cost: int, limit: int, *, fit: int) -> None:
        self.cost, self.limit, self.fit = cost, limit, fit
        advice = (
            f"its first {fit} texts fit, send the others in further requests"
            if fit
            else "shorten its first text, which alone is too much"
        )
        super().__init__(
            f"this request counts at least {cost} tokens in the queue and the limit is {limit}: "
            f"{advice}"
        )


class FullError(NotAdmittedError):
    """The queue is full. `retry_after` is in whole seconds."""

    full: str

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"{self.full}; try again in {retry_after} s")


class UserQueueFullError(FullError):
    """The user has too many tokens in the queue."""

    reason = "user_queue_full"
    full = "your earlier requests fill your share of the queue"


class QueueFullError(FullError):
    """All users together have too many tokens in the queue."""

    reason = "queue_full"
    full = "too much work is waiting"


class EmbeddingFailedError(EmbedderError):
    """The engine failed on the text at `index` of its request."""

    reason = "embedding_failed"

    def __init__(self, message: str, *, index: int = 0) -> None:
        self.index = index
        super().__init__(message)


class ModelLoadingError(EmbedderError):
    """The model is not loaded yet."""

    reason = "starting"
    retry_after = 2

    def __init__(self) -> None:
        super().__init__("the model is loading; try again in a moment")


class ModelPreparingError(ModelLoadingError):
    """The model is not prepared yet, or could not be."""

    retry_after = 10

    def __init__(self, *, failed: bool) -> None:
        EmbedderError.__init__(
            self,
            "the model could not be prepared: the log of the service says why and what to do"
            if failed
            else "the model is being prepared: try again in a minute",
        )


class EngineError(EmbedderError):
    """The engine does not work any more: the process has to be restarted."""

    retry_after = 5


class EngineStalledError(EngineError):
    """A forward pass has exceeded its deadline."""

    reason = "engine_stalled"

    def __init__(self, deadline: float) -> None:
        super().__init__(
            f"a forward pass has taken more than {deadline:g} s; the process is restarted: "
            "try again in a few seconds"
        )


class EngineEndedError(EngineError):
    """The thread that runs the engine has ended with `error`."""

    reason = "engine_ended"

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            f"the engine has ended with {type(error).__name__}; the process is restarted: "
            "try again in a few seconds"
        )


class ModelLoadError(EmbedderError):
    """A prepared model that cannot be loaded."""


class ModelNotFoundError(ModelLoadError):
    """There is no prepared model at a path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"no prepared model in {path}: run `make model`")


class ModelCorruptError(ModelLoadError):
    """A file of a prepared model has changed, or is malformed. `reason` says how."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} is damaged ({reason}): run `make model`")


class ModelOutdatedError(ModelLoadError):
    """A model that another version of this project prepared."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} was written by another version of this project: run `make model`")


class BackendError(ModelLoadError):
    """A backend that is not installed, or does not run on this machine."""


class NoTorchError(BackendError):
    """The backend `torch` without torch."""

    def __init__(self) -> None:
        super().__init__(
            "MODEL_BACKEND=torch needs torch and sentence-transformers, which are not installed; "
            "the image does not have them: run without Docker (make serve), or unset it"
        )


class LibraryError(BackendError):
    """The native engine's library is missing, or cannot be loaded."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"the native engine {path} {reason}: run `make native`")


class KernelError(BackendError):
    """A kernel that this build or this CPU does not have. `kernels` are those available."""

    def __init__(self, kernel: str, kernels: Sequence[str]) -> None:
        self.kernel, self.kernels = kernel, tuple(kernels)
        super().__init__(
            f"NATIVE_KERNEL={kernel} does not run here: unset it, or choose one of "
            f"{', '.join(kernels)}"
        )


class ForwardPassError(EmbedderError):
    """The native engine refused the texts, or failed on them."""
