"""Ids of files and batches: 128 random bits, which nobody can guess."""

from __future__ import annotations

import re
import secrets

_FILE = re.compile(r"file-[0-9a-f]{32}", re.ASCII)
_BATCH = re.compile(r"batch_[0-9a-f]{32}", re.ASCII)


def new_file_id() -> str:
    """The id of a new file."""
    return f"file-{secrets.token_hex(16)}"


def new_batch_id() -> str:
    """The id of a new batch."""
    return f"batch_{secrets.token_hex(16)}"


def is_file_id(name: str) -> bool:
    """Whether a name can be that of a file; such a name is safe as a part of a path."""
    return _FILE.fullmatch(name) is not None


def is_batch_id(name: str) -> bool:
    """The same of a batch."""
    return _BATCH.fullmatch(name) is not None
