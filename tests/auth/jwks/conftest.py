"""Keys from a server, and a verifier that uses them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from auth.jwks import RemoteKeys
from auth.keys import KeySet
from auth.tokens import TokenVerifier
from lab.signing import ISSUER, Clock, jwks
from tests.auth.jwks.remote import FIRST
from tests.auth.key_server import KeyServer


@pytest.fixture
async def keys(key_server: KeyServer, clock: Clock) -> AsyncIterator[RemoteKeys]:
    key_server.publish(jwks(FIRST))
    remote = RemoteKeys(key_server.url, clock=clock)
    yield remote
    await remote.aclose()


@pytest.fixture
def verifier(keys: RemoteKeys, clock: Clock) -> TokenVerifier:
    return TokenVerifier(
        keys=KeySet(public=keys), issuer=ISSUER, allow_anonymous=False, clock=lambda: clock.now
    )
