"""What tests of tokens share."""

from collections.abc import AsyncIterator

import pytest

from auth.keys import InlineKeys, KeySet, parse_jwks
from auth.tokens import TokenVerifier
from lab.signing import ISSUER, SECRET, Clock
from tests.auth.key_server import KeyServer
from tests.auth.project import KEY_SET


@pytest.fixture
async def key_server() -> AsyncIterator[KeyServer]:
    """A key server whose answers a test decides."""
    async with KeyServer().running() as server:
        yield server


@pytest.fixture
def verifier(clock: Clock) -> TokenVerifier:
    """Accepts the secret and the key set, as in the middle of a key migration."""
    keys = KeySet(secret=SECRET, public=InlineKeys(parse_jwks(KEY_SET)))
    return TokenVerifier(keys=keys, issuer=ISSUER, allow_anonymous=False, clock=clock)
