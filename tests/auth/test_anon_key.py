"""The check of the anon key at start, which finds wrong settings."""

from __future__ import annotations

import pytest

from auth.anon_key import check_anon_key, require_public
from auth.keys import KeySet
from auth.tokens import TokenVerifier
from errors import ConfigurationError
from lab.signing import NOW, SECRET, Project, claims, sign_hs256

URL = "https://abcdefghijklmnopqrst.supabase.co"
OTHER_SECRET = "a secret of another project, 32 bytes"


def anon_key(secret: str = SECRET, **changes: object) -> str:
    content = {
        "iss": "supabase",
        "ref": "abcdefghijklmnopqrst",
        "role": "anon",
        "iat": NOW,
        "exp": NOW + 10**9,
    }
    return sign_hs256({**content, **changes}, secret)


@pytest.fixture
def verifier() -> TokenVerifier:
    return TokenVerifier(keys=KeySet(secret=SECRET), issuer=f"{URL}/auth/v1", allow_anonymous=False)


async def test_anon_key_of_the_project_passes(verifier: TokenVerifier) -> None:
    await check_anon_key(anon_key(), verifier=verifier, supabase_url=URL)


async def test_expired_anon_key_passes_it_opens_nothing(verifier: TokenVerifier) -> None:
    await check_anon_key(anon_key(exp=1), verifier=verifier, supabase_url=URL)


async def test_publishable_key_passes(verifier: TokenVerifier) -> None:
    await check_anon_key(
        "sb_publishable_ACJWlzQHlZjBrEguHvfOxg", verifier=verifier, supabase_url=URL
    )


async def test_without_the_secret_nothing_can_be_said() -> None:
    verifier = TokenVerifier(keys=KeySet(), issuer=None, allow_anonymous=False)
    await check_anon_key(anon_key(OTHER_SECRET), verifier=verifier, supabase_url=URL)


async def test_wrong_secret_is_named_when_the_key_belongs_to_the_url(
    verifier: TokenVerifier,
) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_JWT_SECRET is wrong"):
        await check_anon_key(anon_key(OTHER_SECRET), verifier=verifier, supabase_url=URL)


async def test_wrong_anon_key_is_named_when_it_belongs_to_another_project(
    verifier: TokenVerifier,
) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_ANON_KEY is wrong"):
        await check_anon_key(anon_key(OTHER_SECRET, ref="zzz"), verifier=verifier, supabase_url=URL)


@pytest.mark.parametrize("url", [None, "http://localhost:54321"])
async def test_both_are_named_when_nothing_tells_which(
    verifier: TokenVerifier, url: str | None
) -> None:
    key = sign_hs256({"iss": "supabase-demo", "role": "anon", "exp": NOW}, OTHER_SECRET)
    with pytest.raises(
        ConfigurationError, match="SUPABASE_ANON_KEY is not signed with SUPABASE_JWT_SECRET"
    ):
        await check_anon_key(key, verifier=verifier, supabase_url=url)


@pytest.mark.parametrize(
    "key", ["", "your_supabase_anon_key", "a.b.c", "eyJhbGciOiJIUzI1NiJ9.bm8.bm8"]
)
async def test_what_is_no_key_stops_the_start(verifier: TokenVerifier, key: str) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_ANON_KEY is not a key"):
        await check_anon_key(key, verifier=verifier, supabase_url=URL)


@pytest.mark.parametrize("secret", [SECRET, None])
@pytest.mark.parametrize(
    "key", [anon_key(role="service_role"), anon_key(role=None), sign_hs256(claims())]
)
async def test_another_kind_of_key_stops_the_start(key: str, secret: str | None) -> None:
    """Also where there is no secret to check its signature with: browsers get this key."""
    verifier = TokenVerifier(keys=KeySet(secret=secret), issuer=None, allow_anonymous=False)
    with pytest.raises(ConfigurationError, match="another role than anon"):
        await check_anon_key(key, verifier=verifier, supabase_url=URL)


async def test_secret_key_in_its_place_stops_the_start(verifier: TokenVerifier) -> None:
    with pytest.raises(ConfigurationError, match="replace both"):
        await check_anon_key("sb_secret_N7UND0UgjKTVK", verifier=verifier, supabase_url=URL)


@pytest.mark.parametrize("key", [anon_key(), "sb_publishable_ACJWlzQHlZjBrEguHvfOxg"])
def test_a_public_key_may_be_given_to_browsers(key: str) -> None:
    require_public(key)


@pytest.mark.parametrize("key", ["sb_secret_N7UND0UgjKTVK", anon_key(role="service_role"), "a.b.c"])
def test_no_other_key_may_be_given_to_browsers(key: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        require_public(key)
    assert key not in str(refusal.value)


async def test_no_message_repeats_the_key(verifier: TokenVerifier, project: Project) -> None:
    for key in (
        anon_key(OTHER_SECRET),
        anon_key(role="service_role"),
        project.hs256(),
        "nonsense-of-a-key",
    ):
        with pytest.raises(ConfigurationError) as error:
            await check_anon_key(key, verifier=verifier, supabase_url=URL)
        assert key not in str(error.value)
