"""What ends the preparation of a model. Each message is one line that says what to do."""

from embedder.errors import EmbedderError


class ModelPrepareError(EmbedderError):
    """A model that could not be fetched, quantised, verified or saved."""


class ModelSourceError(ModelPrepareError):
    """The model's files cannot be had."""


class TokenRequiredError(ModelSourceError):
    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"{model_id} needs a Hugging Face token: accept its licence at https://huggingface.co/{model_id}, "
            "create a read token at https://huggingface.co/settings/tokens and set HF_TOKEN"
        )


class LicenceNotAcceptedError(ModelSourceError):
    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"the account behind HF_TOKEN may not read {model_id}: open https://huggingface.co/{model_id} with that "
            "account, accept the licence, and check that the token has read access to gated repositories"
        )


class ModelUnknownError(ModelSourceError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no model {name!r}: give MODEL_NAME as organisation/name as on huggingface.co, "
            "or a directory starting with / or ./ (unset it for the starter model)"
        )


class NetworkError(ModelSourceError):
    def __init__(self, model_id: str, reason: str) -> None:
        super().__init__(
            f"huggingface.co could not be reached for {model_id} ({reason}): check the network or HTTPS_PROXY, "
            "unset HF_HUB_OFFLINE, or download the model elsewhere and set MODEL_NAME to its directory"
        )


class DiskFullError(ModelPrepareError):
    def __init__(self, path: str, needed: int | None = None) -> None:
        self.path, self.needed = path, needed
        amount = f"about {needed / 1e9:.1f} GB are needed" if needed else "the disk is full"
        super().__init__(
            f"no room left in {path}: {amount}; free space or point BENTOML_HOME, HF_HOME and TMPDIR elsewhere"
        )


class UnsupportedModelError(ModelPrepareError):
    """A model that the native engine has no forward pass for."""

    def __init__(self, model_id: str, reason: str) -> None:
        super().__init__(
            f"the native engine cannot run {model_id}: {reason}. Set MODEL_BACKEND=torch to run it as it is"
        )


class ModelConfigError(ModelPrepareError):
    """A model directory that contradicts itself."""


class VerificationError(ModelPrepareError):
    """A prepared model whose vectors are too far from the original's; nothing was saved."""
