"""Which path a caller meant who asked for one that is not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

MAX_PATH = 256  # characters that are looked at; what is longer was not mistyped
#: Where base URLs end, and clients begin again.
PREFIXES = frozenset({"", "v1", "api", "openai"})


def near_paths(paths: Iterable[str]) -> Mapping[str, str]:
    """The paths there are, by what their misspellings have in common. Of two the shorter counts."""
    return {_core(path): path for path in sorted(paths, key=len, reverse=True)}


def meant_path(path: str, near: Mapping[str, str]) -> str | None:
    """The path that ``path`` differs from in slashes, case, prefixes or repetitions alone."""
    return near.get(core) if len(path) <= MAX_PATH and (core := _core(path)) else None


def _core(path: str) -> str:
    return "/".join(segment for segment, _ in groupby(_segments(path)))


def _segments(path: str) -> Iterator[str]:
    return (segment for segment in path.lower().split("/") if segment not in PREFIXES)
