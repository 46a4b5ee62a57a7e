"""Which route a path belongs to, and which one a caller meant by a path that does not exist."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

MAX_PATH = 256  # characters; a longer path is not a typing mistake
#: Segments that clients put in front of a path, because their base URL ends with one.
PREFIXES = frozenset({"", "v1", "api", "openai"})
_NAME = "[A-Za-z0-9_-]{1,64}"  # what stands for {id} in the path of a route


class RoutePaths:
    """The paths of routes; `{...}` in one stands for a name.

    Args:
        paths: of the routes.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        known = list(paths)
        self._exact = frozenset(path for path in known if "{" not in path)
        self._patterns = [
            (path, path.partition("{")[0], re.compile(re.sub(r"\{\w+\}", _NAME, path), re.ASCII))
            for path in known
            if "{" in path
        ]

    def find(self, path: str) -> str | None:
        """The path of the route that `path` belongs to."""
        if path in self._exact:
            return path
        for route, start, pattern in self._patterns:
            if path.startswith(start) and pattern.fullmatch(path):
                return route
        return None


def near_paths(paths: Iterable[str]) -> Mapping[str, list[str]]:
    """The paths by what their misspellings have in common, the longest first."""
    near: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(paths, key=len, reverse=True):
        near[_core(path)].append(path)
    return dict(near)


def meant_path(path: str, near: Mapping[str, list[str]]) -> str | None:
    """The path that differs from `path` only in slashes, case, prefixes or repeated segments.

    Of several the longest that `path` ends with, or else the shortest.
    """
    core = _core(path) if len(path) <= MAX_PATH else ""
    found = near.get(core)
    if not core or not found:
        return None
    end = "/".join(["", *filter(None, path.lower().split("/"))])
    return next((one for one in found if end.endswith(one.lower())), found[-1])


def _core(path: str) -> str:
    return "/".join(segment for segment, _ in groupby(_segments(path)))


def _segments(path: str) -> Iterator[str]:
    return (segment for segment in path.lower().split("/") if segment not in PREFIXES)
