"""What a preparation tells the service that waits for it."""

import os
import time
from pathlib import Path

import pytest

from container.status import SILENCE, clear_status, is_prepared, read_status, write_status

NAME = "all-minilm-l6-v2-int8"


def test_the_last_line_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_status(tmp_path, NAME) is None
    write_status(tmp_path, NAME, "half of it")
    status = read_status(tmp_path, NAME)
    assert status is not None
    assert (status.detail, status.failed, status.ended) == ("half of it", False, False)
    write_status(tmp_path, NAME, "no space", failed=True)
    status = read_status(tmp_path, NAME)
    assert status is not None
    assert (status.detail, status.failed) == ("no space", True)
    clear_status(tmp_path, NAME)
    assert read_status(tmp_path, NAME) is None


def test_models_do_not_share_their_status(tmp_path: Path) -> None:
    write_status(tmp_path, NAME, "half of it")
    assert read_status(tmp_path, "another-model-int8") is None


def test_a_preparation_that_is_silent_for_long_has_ended(tmp_path: Path) -> None:
    write_status(tmp_path, NAME, "half of it")
    [path] = tmp_path.iterdir()
    long_ago = time.time() - SILENCE - 1
    os.utime(path, (long_ago, long_ago))
    status = read_status(tmp_path, NAME)
    assert status is not None
    assert status.ended


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "{}", "\udc80"])
def test_a_damaged_file_is_no_status(tmp_path: Path, content: str) -> None:
    write_status(tmp_path, NAME, "half of it")
    [path] = tmp_path.iterdir()
    path.write_text(content, errors="surrogateescape")
    assert read_status(tmp_path, NAME) is None


def test_what_is_in_the_store_is_prepared(model_store: Path) -> None:
    assert is_prepared(model_store / "models", "all-minilm-l6-v2-fp32")
    assert not is_prepared(model_store / "models", NAME)
