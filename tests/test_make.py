"""What `make` says where it cannot go on: one line with what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dev.audit import NOT_CHECKED, tells_of_some
from dev.python_version import complaint
from lab.server import ROOT, SOURCE

# This Python with the version of another: no machine has all of them.
OLD_PYTHON = f"""#!/bin/sh
exec {sys.executable} -c '
import sys
sys.version_info = (3, 9, 18)
script, *sys.argv = sys.argv[1:], *sys.argv[1:]
exec(open(sys.argv[0]).read())' "$@"
"""

# `make test` tells its children that they are inner makes.
WITHOUT_MAKE = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_supported_pythons_are_taken(version: tuple[int, int]) -> None:
    assert complaint(version, "python3", in_venv=False) is None


@pytest.mark.parametrize("version", [(2, 7), (3, 9), (3, 10), (3, 14)])
def test_other_pythons_are_told_which_are(version: tuple[int, int]) -> None:
    said = complaint(version, "python3", in_venv=False)
    assert said is not None
    assert said.startswith("embedding-api: Python 3.11 or later (up to 3.13) is needed")
    assert f"python3 is {version[0]}.{version[1]}" in said
    assert "make clean" in str(complaint(version, "python3", in_venv=True))


def test_an_old_python_is_told_before_anything_is_installed(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text(OLD_PYTHON)
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "install", f"PYTHON={old}", f"VENV={tmp_path}/venv"],
        cwd=SOURCE, env=WITHOUT_MAKE, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    [line, of_make] = done.stderr.splitlines()
    assert line.startswith("embedding-api: Python 3.11 or later")
    assert of_make.startswith("make: ***")
    assert done.stdout == ""
    assert not (tmp_path / "venv").exists()


def test_an_audit_without_data_says_that_nothing_was_checked() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dev.audit"],
        cwd=ROOT,
        env=os.environ | {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == NOT_CHECKED
    assert done.stderr.startswith("not checked: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("report", "has_data"),
    [
        ('{"dependencies": [{"name": "jinja2", "vulns": [{"id": "CVE-2019-10906"}]}]}', True),
        ('{"dependencies": [{"name": "jinja2", "version": "2.10", "vulns": []}]}', False),
        ('{"dependencies": [{"name": "jinja2", "skip_reason": "not found on PyPI"}]}', False),
        ("", False),
    ],
)
def test_an_index_that_knows_nothing_is_told_from_one_that_has_found_nothing(
    report: str, has_data: bool
) -> None:
    assert tells_of_some(report) is has_data


def test_packages_of_the_javascript_example_are_no_change_of_the_project() -> None:
    """`npm ci` puts them there."""
    command = ["git", "check-ignore", "--no-index", "--quiet", "examples/javascript/node_modules/"]
    assert subprocess.run(command, cwd=ROOT, timeout=30, check=False).returncode == 0
