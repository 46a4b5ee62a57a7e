"""Which web pages may call: the CORS protocol of the Fetch standard, without credentials.

Tokens travel in a header that a page sets itself, so no answer allows cookies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from errors import ConfigurationError

Headers = list[tuple[bytes, bytes]]

MAX_AGE = b"7200"  # seconds; no browser keeps a preflight longer
MAX_ASKED = 1024  # bytes of Access-Control-Request-Headers that are answered
HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]*")
ORIGIN = re.compile(
    rb"[a-z][a-z0-9+.-]*://[^/\s,*]+"
)  # RFC 6454 §6.2, in the lower case browsers send
EXPOSED = (
    b"x-request-id, x-embedding-fingerprint, retry-after, ratelimit, ratelimit-policy, "
    b"x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset"
)


@dataclass(frozen=True, slots=True)
class Cors:
    """``origins``: exact origins (scheme://host[:port]), or ``*`` for every page. None by default."""

    origins: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, origins: Iterable[str]) -> Cors:
        """Raises ConfigurationError for what no browser sends as an origin."""
        names = frozenset(origin.rstrip("/").encode() for origin in origins)
        for name in names - {b"*"}:
            if not ORIGIN.fullmatch(name):
                raise ConfigurationError(
                    "CORS_ALLOW_ORIGINS takes origins like https://app.example.com (no path) with commas "
                    "between, or * for every page."
                )
        return cls(names)

    def headers(self, origin: bytes | None) -> Headers:
        """For every answer, errors too: without them a page cannot read why it was refused."""
        if not self.origins:
            return []
        if b"*" in self.origins:
            return [
                (b"access-control-allow-origin", b"*"),
                (b"access-control-expose-headers", EXPOSED),
            ]
        vary = (b"vary", b"Origin")
        if origin is None or origin not in self.origins:
            return [vary]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
            vary,
        ]

    def preflight(self, origin: bytes | None, *, methods: Iterable[str], asked: bytes) -> Headers:
        """What an OPTIONS answer adds. ``asked``: Access-Control-Request-Headers, granted as asked."""
        if b"*" not in self.origins and origin not in self.origins:
            return []
        granted = asked if len(asked) <= MAX_ASKED and HEADER_NAMES.fullmatch(asked) else b""
        return [
            (b"access-control-allow-methods", ", ".join(sorted(methods)).encode()),
            (b"access-control-allow-headers", granted or b"authorization, content-type"),
            (b"access-control-max-age", MAX_AGE),
        ]
