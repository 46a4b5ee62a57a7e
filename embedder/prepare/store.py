"""The BentoML model store: finds a prepared model, and adds one atomically."""

import shutil
from collections.abc import Callable
from pathlib import Path

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer

from embedder.errors import ModelLoadError, ModelOutdatedError
from embedder.prepare.errors import DiskFullError
from embedder.profile import Profile


def find(name: str) -> tuple[str, Profile] | None:
    """Tag and profile of the newest complete model of that name, or None."""
    try:
        model = bentoml.models.get(name)
        profile = Profile.load(Path(model.path))
        profile.check_files(Path(model.path))
    except (bentoml.exceptions.NotFound, ModelLoadError):
        return None
    return str(model.tag), profile


def path_of(tag: str) -> Path:
    """The directory of a model in the store."""
    return Path(bentoml.models.get(tag).path)


def add(name: str, build: Callable[[Path], Profile]) -> str:
    """Let `build` fill a directory outside the store, then copy it into the store.

    The store's `latest` is written last. If the process is killed before, the store still finds the
    model that it found before.

    Returns:
        The tag of the new model.
    """
    sweep(name)
    with bentoml.models.create(name) as model:
        profile = build(Path(model.path))
        profile.save(Path(model.path))
        model.info.metadata.update(model_id=profile.model_id, fingerprint=profile.fingerprint)
    _make_readable(Path(bentoml.models.get(model.tag).path))
    return str(model.tag)


def _make_readable(directory: Path) -> None:
    """Let other users read a model: BentoML keeps 0700, and a container runs as another user."""
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def directory() -> Path:
    """The directory of the store, which is created if it is missing."""
    path = Path(BentoMLContainer.model_store_dir.get())
    path.mkdir(parents=True, exist_ok=True)
    return path


def require_space(place: Path, needed: int) -> None:
    """Check the free space of the file system of `place`.

    Raises:
        DiskFullError: fewer than `needed` bytes are free.
    """
    if shutil.disk_usage(place).free < needed:
        raise DiskFullError(str(place), needed)


def sweep(name: str) -> None:
    """Remove versions that a killed process has copied only in part."""
    for version in (directory() / name).glob("*/"):
        try:
            Profile.load(version).check_files(version)
            complete = (version / "model.yaml").is_file()
        except ModelOutdatedError:
            complete = True  # an older Bento may still run it
        except ModelLoadError:
            complete = False
        if not complete:
            shutil.rmtree(version)
