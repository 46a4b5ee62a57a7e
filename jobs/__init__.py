"""Whole corpora to vectors: the engine of `embedder/` over files, part by part."""

import importlib.util
import sys
from typing import NoReturn


def not_installed(name: str | None) -> NoReturn:
    """End with what to do about a package that is needed here and not there."""
    sys.exit(f"embedding-api: {name} is not installed: pip install -r requirements/bulk.txt")


for _name in ("pyarrow", "tqdm"):  # ray and psycopg are asked for where they are used
    if importlib.util.find_spec(_name) is None:
        not_installed(_name)
