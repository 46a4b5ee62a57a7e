"""What a caller presents, and where: a token or a service key, in one of two headers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from auth.authenticator import Credential
from auth.errors import ServiceKeyInBrowser, ServiceKeyInUrl
from auth.service_key_format import PREFIX, SUPABASE_PREFIX, is_service_key
from auth.tokens import PUBLISHABLE_PREFIX
from gate.request_headers import RequestHeaders

_IN_URL = re.compile(rf"(?:{PREFIX}|{SUPABASE_PREFIX})[0-9A-Za-z_-]*".encode())
_OF_BROWSERS = (b"origin", b"sec-fetch-site")  # a GET of a page to its own server has no Origin


@dataclass(frozen=True, slots=True)
class Misuse:
    """A service key that came from where others can read it, and why it does not count."""

    error: ServiceKeyInBrowser | ServiceKeyInUrl
    exposed: Credential


def credential_of(headers: RequestHeaders) -> Credential:
    """The token or key of `Authorization: Bearer`, or the service key of `apikey`.

    Supabase's clients send both headers. With a signed-in user, Authorization has the user's token,
    which counts, and apikey a key of the project. Without one, both have the key.
    """
    token = bearer_token(headers)
    key = _apikey(headers)
    nobody = not token or token.startswith(PUBLISHABLE_PREFIX)
    return Credential.of(key if nobody and is_service_key(key) else token)


def bearer_token(headers: RequestHeaders) -> str:
    """The token of `Authorization: Bearer ...` (RFC 6750 §2.1), or nothing."""
    scheme, _, token = (headers.get(b"authorization") or b"").partition(b" ")
    return token.strip(b" ").decode("latin-1") if scheme.lower() == b"bearer" else ""


def _apikey(headers: RequestHeaders) -> str:
    return (headers.get(b"apikey") or b"").strip(b" ").decode("latin-1")


def misuse_of_service_key(headers: RequestHeaders, *, query: bytes) -> Misuse | None:
    """A service key in the query, or in either header of a browser's request.

    A page that sends its key beside the token of a signed-in user shows it to that user.
    """
    if found := _IN_URL.search(query):
        return Misuse(ServiceKeyInUrl(), Credential.of(found[0].decode()))
    if all(headers.get(name) is None for name in _OF_BROWSERS):
        return None
    for text in (bearer_token(headers), _apikey(headers)):
        if is_service_key(text):
            return Misuse(ServiceKeyInBrowser(), Credential.of(text))
    return None
