"""Errors of preparing a model. Each message is one line that says what to do."""

from embedder.errors import EmbedderError


class ModelPrepareError(EmbedderError):
    """A model could not be fetched, quantised, verified or saved."""


class ModelSourceError(ModelPrepareError):
    """The model's files are not available."""


class TokenRequiredError(ModelSourceError):
    """The model is gated, and there is no HF_TOKEN."""

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"{model_id} needs a Hugging Face token: accept its licence at "
            f"https://huggingface.co/{model_id}, create a read token at "
            "https://huggingface.co/settings/tokens and set HF_TOKEN"
        )


class LicenceNotAcceptedError(ModelSourceError):
    """The account of HF_TOKEN has not accepted the model's licence."""

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"the account of HF_TOKEN may not read {model_id}: open "
            f"https://huggingface.co/{model_id} with that account, accept the licence, and check "
            "that the token has read access to gated repositories"
        )


class TokenRefusedError(ModelSourceError):
    """The hub does not know HF_TOKEN."""

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"huggingface.co does not know HF_TOKEN, which {model_id} needs: create a read token "
            "at https://huggingface.co/settings/tokens and set HF_TOKEN to it"
        )


class ModelUnknownError(ModelSourceError):
    """There is no model of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no model {name!r}: set MODEL_NAME to organisation/name as on "
            "huggingface.co, or to a directory that starts with / or ./ (unset it for the starter "
            "model)"
        )


class NetworkError(ModelSourceError):
    """The hub cannot be reached."""

    def __init__(self, model_id: str, reason: str) -> None:
        super().__init__(
            f"huggingface.co could not be reached for {model_id} ({reason}): check the network or "
            "HTTPS_PROXY, unset HF_HUB_OFFLINE, or download the model elsewhere and set MODEL_NAME "
            "to its directory"
        )


class DiskFullError(ModelPrepareError):
    """The disk is full."""

    def __init__(self, path: str, needed: int | None = None) -> None:
        self.path, self.needed = path, needed
        amount = f"about {needed / 1e9:.1f} GB are needed" if needed else "the disk is full"
        super().__init__(
            f"no space left in {path}: {amount}; free some, or set BENTOML_HOME, HF_HOME and "
            "TMPDIR to directories elsewhere"
        )


class DownloadDamagedError(ModelSourceError):
    """A file differs from what the hub announced; it was removed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was damaged on its way and is removed: fetch it again")


class DownloadRunningError(ModelSourceError):
    """Another process fetches the same files."""

    def __init__(self, model_id: str) -> None:
        super().__init__(f"another process is fetching {model_id}: start again when it is done")


class MemoryTooSmallError(ModelPrepareError):
    """There is too little memory. `needed` and `limit` are in bytes."""

    def __init__(self, needed: int, limit: int) -> None:
        self.needed, self.limit = needed, limit
        super().__init__(
            f"about {needed / 1e9:.1f} GB of memory are needed and {limit / 1e9:.1f} GB are "
            "allowed here: add swap, raise the limit (PREPARE_MEMORY of docker-compose.yml), or "
            "prepare the model on another machine"
        )


class UnsupportedModelError(ModelPrepareError):
    """The native engine has no forward pass for a model."""

    def __init__(self, model_id: str, reason: str) -> None:
        super().__init__(
            f"the native engine cannot run {model_id}: {reason}. Set MODEL_BACKEND=torch to run it "
            "unchanged, without Docker"
        )


class ModelConfigError(ModelPrepareError):
    """A model directory contradicts itself."""


class VerificationError(ModelPrepareError):
    """The vectors of a prepared model are too far from the original's; nothing was saved."""
