"""The documentation pages: Swagger UI and ReDoc from files on this server."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from starlette.responses import FileResponse, Response

_TITLE = "embedding-api"
# Both bundles style themselves inline and draw data: images; ReDoc searches in a blob: worker.
_CSP = (
    "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
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
    "/docs/swagger.js": 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#docs", deepLinking: true, '
    "persistAuthorization: false, validatorUrl: null});",
    "/docs/redoc.js": 'Redoc.init("/openapi.json", {hideDownloadButton: false, disableSearch: false}, '
    'document.getElementById("docs"));',
}
_FILES = {
    "/docs/favicon.png": "favicon.png",
    "/docs/swagger-ui.css": "swagger-ui.css",
    "/docs/swagger-ui-bundle.js": "swagger-ui-bundle.js",
    "/docs/redoc.standalone.js": "redoc.standalone.js",
}
_PAGES = {
    "/docs": _PAGE.format(
        title=_TITLE,
        head='<link rel="stylesheet" href="/docs/swagger-ui.css">',
        scripts='<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/swagger.js"></script>',
    ),
    "/redoc": _PAGE.format(
        title=_TITLE,
        head="",
        scripts='<script src="/docs/redoc.standalone.js"></script><script src="/docs/redoc.js"></script>',
    ),
}
# The one thing that ReDoc fetches from elsewhere: the logo beside its name.
_REDOC = "/docs/redoc.standalone.js"
_FOREIGN_LOGO, _OWN_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"/docs/favicon.png"
DOCS_PATHS = (*_PAGES, *_SCRIPTS, *_FILES)


def _static_directory() -> Path:
    """Where the bundles lie; the package that carries them is found, not imported."""
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("fastapi-offline is not installed; run `make install`")
    return Path(spec.origin).with_name("static")


@cache
def _redoc() -> bytes:
    """ReDoc's bundle, which then asks nobody but this server."""
    return (_static_directory() / _FILES[_REDOC]).read_bytes().replace(_FOREIGN_LOGO, _OWN_LOGO)


def docs_page(path: str) -> Response:
    """The page, script or file at one of `DOCS_PATHS`."""
    if path in _PAGES:
        return Response(_PAGES[path], headers=_HEADERS, media_type="text/html")
    if path in _SCRIPTS:
        return Response(_SCRIPTS[path], headers=_HEADERS, media_type="text/javascript")
    headers = {**_HEADERS, "Cache-Control": "max-age=86400"}
    if path == _REDOC:
        return Response(_redoc(), headers=headers, media_type="text/javascript")
    return FileResponse(_static_directory() / _FILES[path], headers=headers)
