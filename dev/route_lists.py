"""Lists of the service's routes in documents, proxies and alert rules; `make docs` writes them.

A route is a method of the service. This module reads its path, whether it needs a token, and the
first line of its docstring.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from api.application import SCHEMA_PATH
from api.bento import EmbeddingService
from api.dialects import cohere, native, ollama, tei
from api.dialects.dialect import ErrorForm
from api.error_forms import error_form
from api.routes import Audience, marked_pages, summary_of
from service import EmbeddingAPI

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
_SCHEMA_SUMMARY = "Routes and fields, for BentoML's client"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Paths that one method answers."""

    verb: str
    paths: tuple[str, ...]
    protected: bool
    audience: Audience
    summary: str
    of_batches: bool = False


def endpoints() -> list[Endpoint]:
    """Every route: those that embed, then the pages of users, the probes, and what is internal."""
    service = cast(EmbeddingService, EmbeddingAPI)
    found = [
        Endpoint("POST", (api.route,), True, "public", summary_of(api.doc))
        for api in service.apis.values()
    ]
    pages: dict[str, Endpoint] = {}
    for page in marked_pages(service.inner):
        before = pages[page.method].paths if page.method in pages else ()
        paths = (*before, page.path)
        pages[page.method] = Endpoint(
            page.verb, paths, page.protected, page.audience, page.summary, of_batches=page.charged
        )
    schema = Endpoint("GET", (SCHEMA_PATH,), False, "public", _SCHEMA_SUMMARY)
    return sorted([*found, *pages.values(), schema], key=_place)


def _place(endpoint: Endpoint) -> tuple[bool, bool, int, int, str]:
    """Where an endpoint stands in a list."""
    audience = ("public", "probe", "internal").index(endpoint.audience)
    path = endpoint.paths[0]
    return endpoint.verb != "POST", not endpoint.protected, audience, len(path), path


def route_table() -> str:
    """A Markdown table of the service's own routes and OpenAI's, without those of batches."""
    return _table(native.ERROR_FORM)


def batch_route_table() -> str:
    """A Markdown table of the routes of files and batches."""
    return _table(native.ERROR_FORM, of_batches=True)


def client_route_table() -> str:
    """A Markdown table of the routes of other APIs."""
    return _table(cohere.ERROR_FORM, ollama.ERROR_FORM, tei.ERROR_FORM)


def _table(*dialects: ErrorForm, of_batches: bool = False) -> str:
    lines = ["| Route | Token | What it does |", "| --- | --- | --- |"]
    shown = [endpoint for endpoint in endpoints() if endpoint.of_batches == of_batches]
    for dialect in dialects:
        for endpoint in shown:
            paths = [path for path in endpoint.paths if error_form(path) is dialect]
            lines += [_row(endpoint, paths)] if paths else []
    return "\n".join([*lines, ""])


def _row(endpoint: Endpoint, paths: Sequence[str]) -> str:
    first, *rest = (path for path in paths if not _is_below(path, endpoint.paths))
    route = "".join([f"`{endpoint.verb} {first}`", *(f", `{path}`" for path in rest)])
    return f"| {route} | {'yes' if endpoint.protected else ''} | {endpoint.summary} |"


def served_paths(*audiences: Audience) -> list[str]:
    """The paths of these audiences, and `PATH/*` for names and files below a path."""
    found = [endpoint for endpoint in endpoints() if endpoint.audience in audiences]
    patterns = (_pattern(path, end.paths) for end in found for path in end.paths)
    return list(dict.fromkeys(patterns))


def _pattern(path: str, paths: Iterable[str]) -> str:
    if "{" in path:
        return f"{path.partition('{')[0]}*"
    return f"{path.rpartition('/')[0]}/*" if _is_below(path, paths) else path


def _is_below(path: str, paths: Iterable[str]) -> bool:
    """Whether a path is a file, or a name, below another one."""
    return path.rpartition("/")[0] in paths


def with_caddy_paths(caddyfile: str) -> str:
    """The Caddyfile with the paths that it lets through."""
    probes = " ".join(served_paths("probe"))
    served = " ".join(served_paths("public"))
    caddyfile = re.sub(r"(?m)^(\t@probes path) .*$", rf"\1 {probes}", caddyfile)
    return re.sub(r"(?m)^(\t@served path) .*$", rf"\1 {served}", caddyfile)


def with_nginx_paths(configuration: str) -> str:
    """nginx's configuration with the paths that it lets through."""
    lines = [f"        {_nginx_key(path):17} 1;\n" for path in served_paths("public", "probe")]
    pattern = r"(map \$uri \$served \{\n).*?(    \})"
    return re.sub(
        pattern, lambda found: found[1] + "".join(lines) + found[2], configuration, flags=re.DOTALL
    )


def _nginx_key(path: str) -> str:
    return f"~^{path.removesuffix('*')}" if path.endswith("*") else path


def with_alert_routes(rules: str) -> str:
    """Alert rules with the routes that users call for vectors."""
    calls = (end for end in endpoints() if end.verb == "POST" and not end.of_batches)
    called = "|".join(path for end in calls for path in end.paths)
    return re.sub(r'route=~"[^"]*"', f'route=~"{called}"', rules)


def with_batch_routes(document: str) -> str:
    """The document about batches with the table of their routes."""
    return re.sub(r"(?m)^\| Route \|(.*\n)(\|.*\n)*", batch_route_table(), document)


GENERATED: Mapping[Path, Callable[[str], str]] = {
    ROOT / "docs" / "batches.md": with_batch_routes,
    DEPLOY / "caddy" / "Caddyfile": with_caddy_paths,
    DEPLOY / "nginx" / "nginx.conf": with_nginx_paths,
    DEPLOY / "prometheus" / "rules" / "embedding-api.yml": with_alert_routes,
}
