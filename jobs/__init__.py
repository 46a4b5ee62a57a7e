"""Bulk jobs: embed whole files with the engine of `embedder/`, part by part."""

import importlib.util
import sys
from typing import NoReturn


def not_installed(name: str | None) -> NoReturn:
    """Exit with the command that installs a missing package."""
    sys.exit(f"embedding-api: {name} is not installed: pip install -r requirements/bulk.txt")


for _name in ("pyarrow", "tqdm"):  # ray and psycopg are checked where they are imported
    if importlib.util.find_spec(_name) is None:
        not_installed(_name)
