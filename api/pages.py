"""The documentation pages: Swagger UI and ReDoc from files on this server."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from api.fixed import Fixed

_TITLE = "embedding-api"
# Both bundles style themselves inline and draw data: images; ReDoc searches in a blob: worker.
_CSP = (
    "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; worker-src blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="/docs/favicon.png">{head}</head>
<body style="margin:0"><div id="docs"></div>{scripts}</body>
</html>
"""
_SCRIPTS = {
    "/docs/swagger.js": 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#docs", '
    "deepLinking: true, persistAuthorization: false, validatorUrl: null});",
    "/docs/redoc.js": 'Redoc.init("/openapi.json", '
    "{hideDownloadButton: false, disableSearch: false}, "
    'document.getElementById("docs"));',
}
_FILES = {
    "/docs/favicon.png": "favicon.png",
    "/docs/swagger-ui.css": "swagger-ui.css",
    "/docs/swagger-ui-bundle.js": "swagger-ui-bundle.js",
    "/docs/redoc.standalone.js": "redoc.standalone.js",
}


def _script_tags(*paths: str) -> str:
    return "".join(f'<script src="{path}"></script>' for path in paths)


_PAGES = {
    "/docs": _PAGE.format(
        title=_TITLE,
        head='<link rel="stylesheet" href="/docs/swagger-ui.css">',
        scripts=_script_tags("/docs/swagger-ui-bundle.js", "/docs/swagger.js"),
    ),
    "/redoc": _PAGE.format(
        title=_TITLE,
        head="",
        scripts=_script_tags("/docs/redoc.standalone.js", "/docs/redoc.js"),
    ),
}
# ReDoc fetches one file from another server: the logo beside its name.
_REDOC = "/docs/redoc.standalone.js"
_FOREIGN_LOGO, _OWN_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"/docs/favicon.png"
_MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
}
DOCS_PATHS = (*_PAGES, *_SCRIPTS, *_FILES)


def _static_directory() -> Path:
    """The directory of the bundles, found without importing their package."""
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("fastapi-offline is not installed; run `make install`")
    return Path(spec.origin).with_name("static")


@cache
def docs_page(path: str) -> Fixed:
    """The page, script or file at one of `DOCS_PATHS`, read once; 2.7 MB in total."""
    if path in _PAGES:
        return Fixed(_PAGES[path].encode(), "text/html; charset=utf-8", headers=_HEADERS)
    if path in _SCRIPTS:
        return Fixed(_SCRIPTS[path].encode(), _MEDIA_TYPES[".js"], headers=_HEADERS)
    file = _static_directory() / _FILES[path]
    content = file.read_bytes()
    if path == _REDOC:
        content = content.replace(_FOREIGN_LOGO, _OWN_LOGO)
    headers = {**_HEADERS, "cache-control": "max-age=86400"}
    return Fixed(content, _MEDIA_TYPES[file.suffix], headers=headers)
