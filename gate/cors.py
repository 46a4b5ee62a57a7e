"""Which web pages may call: the CORS protocol of the Fetch standard, without credentials.

Pages send tokens in a header that they set themselves, so no answer allows cookies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from errors import ConfigurationError

Headers = list[tuple[bytes, bytes]]

MAX_AGE = b"7200"  # seconds; browsers keep a preflight no longer
MAX_ASKED = 1024  # bytes of Access-Control-Request-Headers that are granted
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
    """`origins`: exact origins (scheme://host[:port]), or `*` for every page; none by default."""

    origins: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, origins: Iterable[str]) -> Cors:
        """Raises ConfigurationError for a value that no browser sends as an origin."""
        names = frozenset(origin.rstrip("/").encode() for origin in origins)
        for name in names - {b"*"}:
            if not ORIGIN.fullmatch(name):
                raise ConfigurationError(
                    "CORS_ALLOW_ORIGINS takes origins like https://app.example.com (no path), "
                    "separated by commas, or * for every page."
                )
        return cls(names)

    def headers(self, origin: bytes | None) -> Headers:
        """Headers of every answer, errors included: a page must be able to read why it failed."""
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
        """More headers of an answer to OPTIONS.

        Args:
            origin: of the page.
            methods: of the path.
            asked: Access-Control-Request-Headers, which are granted as they are.
        """
        if b"*" not in self.origins and origin not in self.origins:
            return []
        granted = asked if len(asked) <= MAX_ASKED and HEADER_NAMES.fullmatch(asked) else b""
        return [
            (b"access-control-allow-methods", ", ".join(sorted(methods)).encode()),
            (b"access-control-allow-headers", granted or b"authorization, content-type"),
            (b"access-control-max-age", MAX_AGE),
        ]
