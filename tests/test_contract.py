"""Names that people know from elsewhere are where docs/contract.md says."""

import os
import re
from pathlib import Path

import pytest

from lab.server import ROOT

PAGE = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
FILES = (
    "docker-compose.yml",
    "Dockerfile",
    ".dockerignore",
    "requirements.txt",
    "deploy/prometheus/prometheus.yml",
    "embedding-api-tests/get_token.sh",
    "embedding-api-tests/test_api.sh",
    "embedding-api-tests/test_with_token.py",
)


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_there_and_scripts_can_be_run(name: str) -> None:
    path = ROOT / name
    assert path.is_file()
    assert path.suffix != ".sh" or os.access(path, os.X_OK)


def test_the_page_names_no_file_that_is_missing() -> None:
    ours = [row.split(" | ")[1] for row in PAGE.splitlines() if row.startswith("| `")]
    named = re.findall(r"`([\w./-]+\.(?:py|md|yml))`", " ".join(ours))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def pins(path: Path) -> dict[str, str]:
    """Version by package."""
    return dict(re.findall(r"(?m)^([a-z0-9._-]+)==([^\s;\\]+)", path.read_text()))


def test_pip_installs_what_make_installs() -> None:
    locked = pins(ROOT / "requirements" / "prepare.txt")
    [torch] = re.findall(r"(?m)^TORCH := torch==(\S+)$", (ROOT / "Makefile").read_text())
    assert pins(ROOT / "requirements.txt") == locked | {"torch": torch}
    assert f"ARG TORCH={torch}\n" in (ROOT / "Dockerfile").read_text()


def test_what_docker_copies_is_what_a_bento_is_made_of() -> None:
    """A folder that .dockerignore leaves out would be missing in an image."""
    included = re.findall(r'(?m)^  - "/(\w+)/', (ROOT / "bentofile.yaml").read_text())
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert {"api", "container"} <= {*included}
    assert [folder for folder in included if f"!{folder}" not in allowed] == ["requirements"]
