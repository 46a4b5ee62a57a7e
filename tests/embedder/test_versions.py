"""Which version of a prepared model is served."""

import json
import os
from pathlib import Path

import pytest

from embedder.profile import PROFILE_FILE, checksum
from embedder.versions import version_to_serve


@pytest.fixture
def versions(model_store: Path, tmp_path: Path) -> Path:
    """The directory of a model with the version `first`, which is the latest."""
    original = model_store / "models" / "all-minilm-l6-v2-fp32"
    add(tmp_path, "first", original / (original / "latest").read_text().strip(), age=30)
    return tmp_path


def add(versions: Path, name: str, original: Path, *, age: float, layout: int = 0) -> Path:
    """Add a version, with another layout if that is not 0, and make it the latest."""
    version = versions / name
    version.mkdir()
    for path in original.iterdir():
        if path.name != PROFILE_FILE:
            (version / path.name).symlink_to(path.resolve())
    fields = json.loads((original / PROFILE_FILE).read_text())
    del fields["sha256"]
    fields["layout"] = layout or fields["layout"]
    text = json.dumps(fields | {"sha256": checksum(fields)})
    (version / PROFILE_FILE).write_text(text)
    os.utime(version / PROFILE_FILE, (1e9 - age, 1e9 - age))
    (versions / "latest").write_text(name)
    return version


def test_the_latest_is_served(versions: Path) -> None:
    second = add(versions, "second", versions / "first", age=40)
    assert version_to_serve(versions) == second


def test_a_latest_of_another_layout_leaves_the_one_before(versions: Path) -> None:
    second = add(versions, "second", versions / "first", age=20)
    add(versions, "third", second, age=10, layout=99)
    assert version_to_serve(versions) == second


def test_an_incomplete_version_is_not_served(versions: Path) -> None:
    second = add(versions, "second", versions / "first", age=20)
    (second / "tokenizer.json").unlink()
    (versions / "third").mkdir()
    assert version_to_serve(versions) == versions / "first"


def test_there_may_be_none(versions: Path, tmp_path: Path) -> None:
    (versions / "first" / "tokenizer.json").unlink()
    assert version_to_serve(versions) is None
    assert version_to_serve(tmp_path / "no-model") is None
