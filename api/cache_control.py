"""Cache-Control of a request (RFC 9111, section 5.2.1)."""

from starlette.types import Scope


def asks_no_store(scope: Scope) -> bool:
    """Whether nothing of the request may be kept. Other directives are ignored."""
    directives = (
        directive.strip().lower()
        for name, value in scope["headers"]
        if name == b"cache-control"
        for directive in value.split(b",")
    )
    return b"no-store" in directives
