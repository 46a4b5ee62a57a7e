"""Versions of one prepared model, side by side in the model store: which of them to serve."""

import contextlib
from pathlib import Path

from embedder.errors import ModelLoadError
from embedder.profile import PROFILE_FILE, Profile

LATEST = "latest"  # the file that names the newest; the store writes it when a version is complete


def version_to_serve(versions: Path) -> Path | None:
    """The newest complete version that has the layout of this version of the project.

    While a new version of the project prepares its own, the old one can still start.

    Args:
        versions: the directory of the model in the store.
    """
    with contextlib.suppress(OSError):
        latest = versions / (versions / LATEST).read_text().strip()
        others = sorted((path for path in versions.iterdir() if path != latest), key=_age)
        return next((path for path in (latest, *others) if _can_be_served(path)), None)
    return None


def _age(version: Path) -> float:
    """Sorts the newest first, and what is no model last."""
    with contextlib.suppress(OSError):
        return -(version / PROFILE_FILE).stat().st_mtime
    return 0.0


def _can_be_served(version: Path) -> bool:
    with contextlib.suppress(ModelLoadError):
        Profile.load(version).check_files(version)
        return True
    return False
