"""Everything that can go wrong between a text and its vector. Each message says what to do next."""

from collections.abc import Sequence
from pathlib import Path


class EmbedderError(Exception):
    """Base of every error the embedder raises on purpose."""


class TextFault(EmbedderError):
    """Something is wrong with the text at `index`; `param` is its field, where that is known."""

    param: str | None = None

    def __init__(self, index: int, message: str) -> None:
        self.index = index
        super().__init__(message)


class TextError(TextFault):
    """A text no tokenizer can read, such as one with a lone surrogate."""

    reason = "invalid_text"

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(
            index, f"text {index} cannot be tokenised: {reason}; mend it, and send it again"
        )


class OptionError(EmbedderError):
    """An option of a request that the model does not have. `param` is its name."""

    reason = "unsupported_option"
    param: str


class TaskUnknownError(OptionError):
    """A task that the model has no prompt for; `known` are those it has."""

    reason = "task_unknown"
    param = "task"

    def __init__(self, task: str, known: Sequence[str]) -> None:
        self.task, self.known = task, known
        those = f"use {', '.join(known)}" if known else "it has none at all, leave the task out"
        super().__init__(f"this model has no prompt for the task {task!r}; {those}")


class TitleError(OptionError):
    """A title where there is no place for one."""

    reason = "title_not_taken"
    param = "title"


class DimensionsError(OptionError):
    """A size that the model's vectors cannot be cut to; `sizes` are those they can."""

    reason = "dimensions_not_allowed"
    param = "dimensions"

    def __init__(self, dimensions: int, sizes: Sequence[int]) -> None:
        self.dimensions, self.sizes = dimensions, sizes
        super().__init__(
            f"dimensions of this model are {', '.join(map(str, sizes))}, not {dimensions}: "
            "ask for one of those, or for none"
        )


class TextTooLongError(TextFault):
    """A text of at least `n_tokens` tokens, more than `max_tokens`, whose caller does not want it cut."""

    reason = "text_too_long"

    def __init__(self, index: int, n_tokens: int, max_tokens: int) -> None:
        self.n_tokens, self.max_tokens = n_tokens, max_tokens
        super().__init__(
            index,
            f"text {index} has at least {n_tokens} tokens and the limit is {max_tokens}: shorten it, or let it be cut "
            'with "truncate": true',
        )


class NoRoomError(EmbedderError):
    """The queue does not take a request; nothing of it was embedded."""


class TooManyTokensError(NoRoomError):
    """A request of more tokens than one user may have in the queue; its first `fit` texts have no more.

    `cost` are those of the texts that were read.
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
            f"this request counts at least {cost} tokens in the queue and the limit is {limit}: {advice}"
        )


class FullError(NoRoomError):
    """Of what is in the queue already. `retry_after` is in whole seconds."""

    full: str

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"{self.full}; try again in {retry_after} s")


class UserQueueFullError(FullError):
    """The user has too much in the queue."""

    reason = "user_queue_full"
    full = "your earlier requests fill your share of the queue"


class QueueFullError(FullError):
    """All users together have too much in the queue."""

    reason = "queue_full"
    full = "too much work is waiting"


class EmbeddingFailedError(EmbedderError):
    """The engine failed on one text, the one at `index` of its request."""

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


class EngineError(EmbedderError):
    """An engine that will not answer any more: the process has to be restarted."""

    retry_after = 5


class EngineStalledError(EngineError):
    """A forward pass that does not end."""

    reason = "engine_stalled"

    def __init__(self, deadline: float) -> None:
        super().__init__(
            f"a forward pass has taken more than {deadline:g} s; the process is restarted: "
            "try again in a few seconds"
        )


class EngineEndedError(EngineError):
    """The loop that feeds the engine has ended in `error`."""

    reason = "engine_ended"

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            f"the engine has ended with {type(error).__name__}; the process is restarted: "
            "try again in a few seconds"
        )


class ModelLoadError(EmbedderError):
    """A prepared model that cannot be loaded."""


class ModelNotFoundError(ModelLoadError):
    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"no prepared model in {path}: run `make model`")


class ModelCorruptError(ModelLoadError):
    """A file of a prepared model that is not as it was written; `reason` says what is wrong."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} is damaged ({reason}): run `make model`")


class ModelOutdatedError(ModelLoadError):
    """Prepared by another version of this project, for another engine or layout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} was written by another version of this project: run `make model`")


class BackendError(ModelLoadError):
    """A backend that is not installed, or that does not run here."""


class LibraryError(BackendError):
    """The native engine's library is not there, or cannot be loaded."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"the native engine {path} {reason}: run `make native`")


class KernelError(BackendError):
    """A kernel that this build or this CPU does not have; `kernels` are those they have."""

    def __init__(self, kernel: str, kernels: Sequence[str]) -> None:
        self.kernel, self.kernels = kernel, tuple(kernels)
        super().__init__(
            f"NATIVE_KERNEL={kernel} does not run here: unset it, or choose one of {', '.join(kernels)}"
        )


class ForwardPassError(EmbedderError):
    """The native engine refused the texts, or failed on them."""
