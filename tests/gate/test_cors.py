"""Which pages may call, and the headers of their answers."""

from __future__ import annotations

import pytest

from errors import ConfigurationError
from gate.cors import Cors

PAGE = b"https://app.example.com"


def test_without_origins_no_answer_mentions_cors() -> None:
    assert Cors.of([]).headers(PAGE) == []
    assert Cors.of([]).preflight(PAGE, methods=["POST"], asked=b"authorization") == []


def test_listed_page_is_named_and_no_other() -> None:
    cors = Cors.of(["https://app.example.com/", "http://localhost:3000"])
    assert dict(cors.headers(PAGE))[b"access-control-allow-origin"] == PAGE
    for origin in (
        None,
        b"",
        b"null",
        b"https://evil.example",
        PAGE + b".evil.example",
        PAGE + b":8443",
        PAGE.upper(),
    ):
        assert cors.headers(origin) == [(b"vary", b"Origin")]
        assert cors.preflight(origin, methods=["POST"], asked=b"") == []


def test_star_allows_every_page_without_naming_it() -> None:
    assert dict(Cors.of(["*"]).headers(PAGE))[b"access-control-allow-origin"] == b"*"


def test_cookies_are_never_allowed() -> None:
    for cors in (Cors.of(["*"]), Cors.of(["https://app.example.com"])):
        names = (
            dict(cors.headers(PAGE)).keys()
            | dict(cors.preflight(PAGE, methods=["POST"], asked=b"")).keys()
        )
        assert b"access-control-allow-credentials" not in names


def test_headers_are_granted_as_asked() -> None:
    asked = b"authorization, content-type, x-client-info, apikey, x-stainless-os"
    granted = dict(Cors.of(["*"]).preflight(PAGE, methods=["POST"], asked=asked))
    assert granted[b"access-control-allow-headers"] == asked


@pytest.mark.parametrize("asked", [b"", b"x\r\nset-cookie: a=b", b"a" * 1025, b"\xff", b"a:b"])
def test_odd_wishes_get_the_plain_list(asked: bytes) -> None:
    granted = dict(Cors.of(["*"]).preflight(PAGE, methods=["POST"], asked=asked))
    assert granted[b"access-control-allow-headers"] == b"authorization, content-type"


@pytest.mark.parametrize(
    "origin",
    ["app.example.com", "https://app.example.com/path", "null", "https://*.example.com", ""],
)
def test_what_no_browser_sends_stops_the_start(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="CORS_ALLOW_ORIGINS"):
        Cors.of([origin])
