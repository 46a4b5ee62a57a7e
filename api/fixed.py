"""Content that does not change while the process runs: rendered once, with an ETag."""

import re
from collections.abc import Mapping
from hashlib import sha256

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Receive, Scope, Send

PIECE = 65_536  # bytes that one slow reader holds at most, besides the server's buffer
_OPAQUE_TAG = re.compile(r'"[^"]*"')


class Fixed:
    """An ASGI application that answers the same bytes each time, or 304 to a client that has them.

    Args:
        content: the body of the answer.
        media_type: its Content-Type.
        headers: other headers of the answer. By default caches ask each time (RFC 9111 §5.2.2.4).
    """

    def __init__(
        self, content: bytes, media_type: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        self._content = content
        self._tag = f'"{sha256(content).hexdigest()[:32]}"'
        self._headers = MutableHeaders({"cache-control": "no-cache", **(headers or {})})
        self._headers["etag"] = self._tag
        self._described = MutableHeaders(raw=[*self._headers.raw])
        self._described["content-type"] = media_type
        self._described["content-length"] = str(len(content))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the content, or 304."""
        if self._is_known(Headers(scope=scope)):
            headers = self._headers.raw
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        headers = self._described.raw
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(self._content), PIECE):
            piece = self._content[start : start + PIECE]
            more = start + PIECE < len(self._content)
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    def _is_known(self, headers: Headers) -> bool:
        """RFC 9110 §13.1.2: `*` or a list of tags; weak ones (of compressing proxies) count."""
        known = ",".join(headers.getlist("if-none-match"))
        return known.strip() == "*" or self._tag in _OPAQUE_TAG.findall(known)
