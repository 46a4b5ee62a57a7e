"""Refuses headers that are ambiguous, too large or announce a body that is not taken."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gate.errors import BadHeader, BodyTooLarge, HeadersTooLarge, UnsupportedMediaType

Takes = Literal["nothing", "json", "form"]  # what body a method of a path has
MAX_HEADER_BYTES = 16_384
UTF_8 = (b"utf-8", b"utf8")
SINGLE = {
    b"apikey": ("apikey", "two_apikeys"),
    b"authorization": ("Authorization", "two_authorizations"),
    b"content-length": ("Content-Length", "bad_content_length"),
    b"content-type": ("Content-Type", "two_content_types"),
    b"origin": ("Origin", "two_origins"),
}
DIGITS = re.compile(rb"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """The header lines of one request (ASGI: names in lower case)."""

    lines: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def of(cls, lines: Iterable[Iterable[bytes]]) -> RequestHeaders:
        """The headers of an ASGI scope."""
        return cls(tuple((name, value) for name, value in lines))

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header."""
        return [value for key, value in self.lines if key == name]

    def get(self, name: bytes) -> bytes | None:
        """The first value of a header, if there is one."""
        return next((value for key, value in self.lines if key == name), None)

    @property
    def has_body(self) -> bool:
        """Whether a body follows: either header announces one (RFC 9112 §6.3)."""
        return self.get(b"transfer-encoding") is not None or self.get(b"content-length") not in (
            None,
            b"0",
        )

    @property
    def body_bytes(self) -> int | None:
        """As announced; None for a chunked body."""
        length = self.get(b"content-length")
        return None if length is None else int(length)


def check_headers(headers: RequestHeaders, *, max_body_bytes: int, takes: Takes) -> None:
    """Raises BadHeader, UnsupportedMediaType, BodyTooLarge, HeadersTooLarge."""
    check_unambiguous(headers)
    if headers.has_body:
        check_body(headers, max_body_bytes=max_body_bytes, takes=takes)
    if sum(len(name) + len(value) for name, value in headers.lines) > MAX_HEADER_BYTES:
        raise HeadersTooLarge(limit=MAX_HEADER_BYTES)


def check_unambiguous(headers: RequestHeaders) -> None:
    """Refuse what two proxies could read in two ways (RFC 9112 §11.2). Raises BadHeader."""
    for name, (shown, reason) in SINGLE.items():
        if len(headers.all(name)) > 1:
            raise BadHeader(f"Send one {shown} header.", reason=reason)
    lengths = headers.all(b"content-length")
    if lengths and headers.get(b"transfer-encoding") is not None:
        raise BadHeader(
            "Send Content-Length or Transfer-Encoding, not both.", reason="two_body_lengths"
        )
    if not all(DIGITS.fullmatch(length) for length in lengths):
        message = "Content-Length is not one number. Send the body's length in bytes."
        raise BadHeader(message, reason="bad_content_length")


def is_json(content_type: bytes) -> bool:
    """Whether a type is JSON in UTF-8. Of the parameters only charset is read."""
    media_type, *parameters = (part.strip().lower() for part in content_type.split(b";"))
    named = (parameter.partition(b"=") for parameter in parameters)
    charsets = [value.strip(b' "') for name, _, value in named if name.strip() == b"charset"]
    return media_type == b"application/json" and all(charset in UTF_8 for charset in charsets)


def is_form(content_type: bytes) -> bool:
    """Whether a type is that of a form with files."""
    return content_type.split(b";")[0].strip().lower() == b"multipart/form-data"


def check_body(headers: RequestHeaders, *, max_body_bytes: int, takes: Takes) -> None:
    """Raise for a body of another type than the path takes, or too large, or not expected."""
    if takes == "nothing":
        raise BadHeader(
            "This path takes no body. Send the request without one.", reason="unexpected_body"
        )
    content_type = headers.get(b"content-type") or b""
    if takes == "form" and not is_form(content_type):
        raise UnsupportedMediaType("Send a form, with Content-Type: multipart/form-data.")
    if takes == "json" and not is_json(content_type):
        raise UnsupportedMediaType("Send JSON in UTF-8, with Content-Type: application/json.")
    if (headers.get(b"content-encoding") or b"identity").lower() != b"identity":
        raise UnsupportedMediaType("Send the body without Content-Encoding.")
    if int(headers.get(b"content-length") or b"0") > max_body_bytes:
        raise BodyTooLarge(limit=max_body_bytes)
