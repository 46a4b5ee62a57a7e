"""Which path a caller meant by one that does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

MAX_PATH = 256  # characters; a longer path is not a typing mistake
#: Segments that clients put in front of a path, because their base URL ends with one.
PREFIXES = frozenset({"", "v1", "api", "openai"})


def near_paths(paths: Iterable[str]) -> Mapping[str, str]:
    """The paths by what their misspellings have in common. Of two the shorter is kept."""
    return {_core(path): path for path in sorted(paths, key=len, reverse=True)}


def meant_path(path: str, near: Mapping[str, str]) -> str | None:
    """The path that differs from `path` only in slashes, case, prefixes or repeated segments."""
    return near.get(core) if len(path) <= MAX_PATH and (core := _core(path)) else None


def _core(path: str) -> str:
    return "/".join(segment for segment, _ in groupby(_segments(path)))


def _segments(path: str) -> Iterator[str]:
    return (segment for segment in path.lower().split("/") if segment not in PREFIXES)
