"""How far the preparation of a model is: a file in the model store, for the service that waits."""

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from embedder.profile import model_tag
from embedder.versions import version_to_serve
from settings import Settings

BEAT = 10.0  # seconds between writes while a preparation runs
SILENCE = 6 * BEAT  # seconds without a write after which it must have been killed


@dataclass(frozen=True)
class Status:
    """`detail` is the last line of the preparation; `age` in seconds."""

    failed: bool
    detail: str
    age: float

    @property
    def ended(self) -> bool:
        """Whether the preparation was killed before it could say so."""
        return not self.failed and self.age > SILENCE


def wanted_model(settings: Settings) -> tuple[Path, str]:
    """The model store, and the name that the model of the settings has there."""
    name = model_tag(settings.model_name, settings.model_quantization, settings.model_backend)
    return Path(os.environ["BENTOML_HOME"]) / "models", name


def is_prepared(store: Path, name: str) -> bool:
    """Whether the store has a complete model of that name for this version of the project."""
    return version_to_serve(store / name) is not None


def read_status(store: Path, name: str) -> Status | None:
    """What the preparation of `name` last wrote; None if it has not begun, or is done."""
    path = _path(store, name)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        fields = json.loads(path.read_text())
        age = time.time() - path.stat().st_mtime
        return Status(bool(fields["failed"]), str(fields["detail"]), age)
    return None


def write_status(store: Path, name: str, detail: str, *, failed: bool = False) -> None:
    """Replace the file at once, so that no reader sees half of it."""
    path = _path(store, name)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"failed": failed, "detail": detail}))
    unfinished.chmod(0o644)
    os.replace(unfinished, path)


def clear_status(store: Path, name: str) -> None:
    """Remove the file."""
    _path(store, name).unlink(missing_ok=True)


def _path(store: Path, name: str) -> Path:
    return store / f".{name}.status"
