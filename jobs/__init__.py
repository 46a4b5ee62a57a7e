"""Whole corpora to vectors: the engine of `embedder/` over files, part by part."""

import importlib.util
import sys

_missing = [name for name in ("psycopg", "pyarrow", "ray", "tqdm") if importlib.util.find_spec(name) is None]
if _missing:
    sys.exit(f"embedding-api: {', '.join(_missing)} not installed: pip install -r requirements/bulk.txt")
