"""The files of the playground, with the policy that binds it to this server and one project."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.types import ASGIApp

from api.answer import JSON, json_bytes
from api.fixed import Fixed
from api.model_info import ModelInfo
from api.routes import page

_SITE = Path(__file__).with_name("site")
_INDEX = "index.html"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
PATH = "/playground"
_FILES = {
    f"{PATH}/{file.name}": file for file in sorted(_SITE.iterdir()) if file.name != _INDEX
} | {PATH: _SITE / _INDEX}
_SETTINGS = f"{PATH}/settings.json"
PATHS = (PATH, _SETTINGS, *(path for path in _FILES if path != PATH))
# An origin that can stand in a policy, and that a browser can call: with no name and password.
_ORIGIN = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Project:
    """Where users sign in: the URL of a Supabase project, and its public key."""

    url: str
    key: str


def is_playground(path: str) -> bool:
    """Whether a path is the page, or one of its files."""
    return path in PATHS


class PlaygroundFiles:
    """What is served at each of PATHS.

    Args:
        model_info: what the page offers to choose from.
        english_only: whether texts in other languages say nothing to the model.
        project: signs users in; None if they can only paste a token.
    """

    def __init__(
        self, model_info: ModelInfo, *, english_only: bool = False, project: Project | None = None
    ) -> None:
        reached = project if project and _ORIGIN.fullmatch(project.url) else None
        headers = _headers(reached)
        known = {
            "model": model_info.name,
            "tasks": model_info.main_tasks,
            "dimensions": model_info.dimensions,
            "maxTokens": model_info.max_tokens,
            "maxTexts": model_info.max_texts,
            "englishOnly": english_only,
            "project": {"url": reached.url, "key": reached.key} if reached else None,
        }
        self._served = {
            path: Fixed(file.read_bytes(), _MEDIA_TYPES[file.suffix], headers=headers)
            for path, file in _FILES.items()
        }
        self._served[_SETTINGS] = Fixed(json_bytes(known), JSON, headers=headers)

    def at(self, path: str) -> Fixed:
        """The page, file or settings at one of PATHS."""
        return self._served[path]


def _headers(project: Project | None) -> Mapping[str, str]:
    """Scripts and styles come from files here, and calls go here and to the project alone."""
    called = f"'self' {project.url}" if project else "'self'"
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"connect-src {called}; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }


class Playground:
    """The routes of the playground. The service derives from this."""

    playground: PlaygroundFiles

    @page(*PATHS)
    async def playground_page(self, request: Request) -> ASGIApp:
        """Try it in a browser: similarities, a map of the texts, tokens, limits."""
        return self.playground.at(request.url.path)
