"""Deno, which is one of the npm packages of the examples in JavaScript."""

import shutil
import subprocess
from pathlib import Path

from lab.server import ROOT

INSTALL = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")


def install_examples(directory: Path) -> Path:
    """Copy the examples in JavaScript into `directory`, with the packages of their lock."""
    unwanted = shutil.ignore_patterns("node_modules")
    examples = ROOT / "examples" / "javascript"
    shutil.copytree(examples, directory, ignore=unwanted, dirs_exist_ok=True)
    subprocess.run(INSTALL, cwd=directory, check=True)
    return directory


def program(examples: Path) -> Path:
    """Deno, in a directory that `install_examples` has filled.

    The package's own script would look for it each time; there is one package per platform.
    """
    [found] = (examples / "node_modules" / "@deno").glob("*/deno")
    return found
