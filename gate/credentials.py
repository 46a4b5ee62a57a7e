"""What a caller presents, and where: a token or a service key, in one of two headers."""

from __future__ import annotations

from auth.authenticator import Credential
from auth.errors import ServiceKeyInBrowser, ServiceKeyInUrl
from auth.service_key_format import PREFIX, SUPABASE_PREFIX, is_service_key
from auth.tokens import PUBLISHABLE_PREFIX
from gate.request_headers import RequestHeaders

_IN_URL = (PREFIX.encode(), SUPABASE_PREFIX.encode())


def credential_of(headers: RequestHeaders) -> Credential:
    """The token or key of `Authorization: Bearer`, or the service key of `apikey`.

    Supabase's clients send both headers. With a signed-in user, Authorization has the user's token,
    which counts, and apikey a key of the project. Without one, both have the key.
    """
    token = bearer_token(headers)
    key = (headers.get(b"apikey") or b"").strip(b" ").decode("latin-1")
    nobody = not token or token.startswith(PUBLISHABLE_PREFIX)
    return Credential.of(key if nobody and is_service_key(key) else token)


def bearer_token(headers: RequestHeaders) -> str:
    """The token of `Authorization: Bearer ...` (RFC 6750 §2.1), or nothing."""
    scheme, _, token = (headers.get(b"authorization") or b"").partition(b" ")
    return token.strip(b" ").decode("latin-1") if scheme.lower() == b"bearer" else ""


def misuse_of_service_key(
    credential: Credential, headers: RequestHeaders, *, query: bytes
) -> ServiceKeyInBrowser | ServiceKeyInUrl | None:
    """Why a service key does not count, whosever it is: it came from where others can read it."""
    if any(prefix in query for prefix in _IN_URL):
        return ServiceKeyInUrl()
    if credential.is_service_key and headers.get(b"origin") is not None:
        return ServiceKeyInBrowser()
    return None
