"""What all processes of a run compile into the same directory."""

from pathlib import Path

import pytest

from embedder.native import build
from lab.once import made_once

LINUX = [name for name in build.TARGETS if name.startswith("linux")]


@pytest.fixture(scope="session")
def linux_objects(shared: Path) -> None:
    """The object files for both machines, compiled once: two at it remove each other's."""
    made_once(shared / "linux-objects", lambda _: [build.build(name) for name in LINUX])
