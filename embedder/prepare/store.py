"""The BentoML model store: find a prepared model, or add one whole or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer

from embedder.errors import ModelLoadError, ModelOutdatedError
from embedder.prepare.errors import DiskFullError
from embedder.profile import Profile


def find(name: str) -> tuple[str, Profile] | None:
    """Tag and profile of the newest whole model of that name, or None."""
    try:
        model = bentoml.models.get(name)
        profile = Profile.load(Path(model.path))
        profile.check_files(Path(model.path))
    except (bentoml.exceptions.NotFound, ModelLoadError):
        return None
    return str(model.tag), profile


def add(name: str, build: Callable[[Path], Profile]) -> str:
    """Let `build` fill a directory outside the store, then copy it in. Returns the tag.

    The store's `latest` is written last, so a process killed at any moment leaves the model found
    before as the one found after.
    """
    sweep(name)
    with bentoml.models.create(name) as model:
        profile = build(Path(model.path))
        profile.save(Path(model.path))
        model.info.metadata.update(model_id=profile.model_id, fingerprint=profile.fingerprint)
    _let_everybody_read(Path(bentoml.models.get(model.tag).path))
    return str(model.tag)


def _let_everybody_read(directory: Path) -> None:
    """BentoML keeps the 0700 of its temporary directory; a container reads the store as another user."""
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def directory() -> Path:
    """Where models are kept; made when it is not there."""
    path = Path(BentoMLContainer.model_store_dir.get())
    path.mkdir(parents=True, exist_ok=True)
    return path


def check_room(place: Path, needed: int) -> None:
    """Raises DiskFullError when fewer than `needed` bytes are free where `place` lies."""
    if shutil.disk_usage(place).free < needed:
        raise DiskFullError(str(place), needed)


def sweep(name: str) -> None:
    """Remove versions that a killed process left half copied."""
    for version in (directory() / name).glob("*/"):
        try:
            Profile.load(version).check_files(version)
            whole = (version / "model.yaml").is_file()
        except ModelOutdatedError:
            whole = True  # an older Bento may still run it
        except ModelLoadError:
            whole = False
        if not whole:
            shutil.rmtree(version)
