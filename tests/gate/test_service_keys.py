"""Service keys at the gate: where they are accepted, where not, and their limits."""

from __future__ import annotations

import hashlib

import pytest

from auth.errors import (
    ServiceKeyInBrowser,
    ServiceKeyInUrl,
    ServiceKeyMistyped,
    ServiceKeyUnknown,
    TokenForbidden,
    TokenInvalid,
    TokenMissing,
)
from auth.service_keys import ServiceKeys
from errors import GateError
from gate.errors import BadHeader, TooManyFailures, UserBlocked
from gate.failures import LOOKS
from gate.gate import Gate
from lab.service_keys import KEY
from lab.service_keys import OTHER_KEY as OTHER
from lab.signing import USER
from quota.errors import QuotaExceeded
from quota.memory import MemoryQuota
from quota.receipt import Limits
from tests.gate.asgi import GateSetup, Request, get, post

ORIGIN = (b"origin", b"https://app.example.com")
PUBLISHABLE = "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"


def entry(name: str, key: str, options: str = "") -> str:
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}{options}"


@pytest.fixture
def setup() -> GateSetup:
    return GateSetup(service_keys=ServiceKeys(entry("indexer", KEY)))


def by_apikey(key: str, *more: tuple[bytes, bytes], token: str | None = None) -> Request:
    return post(token, (b"apikey", key.encode()), *more)


async def caller(gate: Gate, setup: GateSetup, request: Request) -> str:
    """Who was let in."""
    assert (await request.through(gate)).status == 200
    principal = setup.app.calls[-1][1]
    assert principal is not None
    return principal.user_id


async def refusal(gate: Gate, request: Request) -> GateError:
    with pytest.raises(GateError) as refused:
        await request.through(gate)
    assert request.reads == 0
    return refused.value


# --- in which header ------------------------------------------------------------------------------


async def test_a_key_counts_in_either_header_and_in_both(setup: GateSetup) -> None:
    gate = setup.gate()
    for request in (post(KEY), by_apikey(KEY), by_apikey(KEY, token=KEY)):
        assert await caller(gate, setup, request) == "service:indexer"


async def test_a_key_counts_beside_the_projects_public_key(setup: GateSetup) -> None:
    request = by_apikey(KEY, token=PUBLISHABLE)
    assert await caller(setup.gate(), setup, request) == "service:indexer"


@pytest.mark.parametrize("apikey", [PUBLISHABLE, KEY, "eyJhbGciOiJIUzI1NiJ9.e30.anon"])
async def test_a_users_token_counts_whatever_key_comes_with_it(
    setup: GateSetup, apikey: str
) -> None:
    """supabase-js sends both: the project's key, and the token of the signed-in user."""
    request = by_apikey(apikey, token=setup.project.hs256())
    assert await caller(setup.gate(), setup, request) == USER


async def test_a_wrong_token_is_refused_although_a_good_key_comes_with_it(setup: GateSetup) -> None:
    refused = await refusal(setup.gate(), by_apikey(KEY, token="wrong"))
    assert isinstance(refused, TokenInvalid)


async def test_a_users_token_does_not_count_as_a_key(setup: GateSetup) -> None:
    refused = await refusal(setup.gate(), by_apikey(setup.project.hs256()))
    assert isinstance(refused, TokenMissing)


async def test_two_key_headers_are_refused(setup: GateSetup) -> None:
    refused = await refusal(setup.gate(), by_apikey(KEY, (b"apikey", OTHER.encode())))
    assert isinstance(refused, BadHeader)
    assert refused.reason == "two_apikeys"


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (OTHER, ServiceKeyUnknown),
        (KEY[:-4], ServiceKeyMistyped),
        (KEY.swapcase(), TokenInvalid),
        (KEY[:9] + chr(ord(KEY[9]) ^ 1) + KEY[10:], ServiceKeyMistyped),
        ("sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz", TokenForbidden),
    ],
)
async def test_a_key_that_is_not_listed_is_refused_in_either_header(
    setup: GateSetup, key: str, error: type[GateError]
) -> None:
    refused = await refusal(setup.gate(), post(key))
    assert isinstance(refused, error)
    assert key not in str(refused)
    if key.startswith(("embk_", "sb_secret_")):
        assert isinstance(await refusal(setup.gate(), by_apikey(key)), error)


@pytest.mark.parametrize("key", [KEY, OTHER, KEY[:-4]])
async def test_a_key_from_a_browser_is_refused_whether_it_is_good_or_not(
    setup: GateSetup, key: str
) -> None:
    gate = setup.gate(cors_allow_origins=["*"])
    for request in (post(key, ORIGIN), by_apikey(key, ORIGIN)):
        refused = await refusal(gate, request)
        assert isinstance(refused, ServiceKeyInBrowser)
        assert "Origin" in str(refused)


@pytest.mark.parametrize("key", [KEY, "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"])
async def test_a_key_from_a_browser_is_refused_beside_a_users_token_too(
    setup: GateSetup, key: str
) -> None:
    """A page that sends both has made the key public, no matter who is signed in."""
    request = by_apikey(key, ORIGIN, token=setup.project.hs256())
    assert isinstance(await refusal(setup.gate(), request), ServiceKeyInBrowser)


@pytest.mark.parametrize("header", [ORIGIN, (b"origin", b"null"), (b"sec-fetch-site", b"none")])
async def test_a_key_is_refused_with_whatever_only_browsers_send(
    setup: GateSetup, header: tuple[bytes, bytes]
) -> None:
    """A page's GET to its own server has no Origin."""
    request = get("/usage", (b"apikey", KEY.encode()), header)
    assert isinstance(await refusal(setup.gate(), request), ServiceKeyInBrowser)


async def test_a_user_in_a_browser_is_served(setup: GateSetup) -> None:
    gate = setup.gate(cors_allow_origins=["*"])
    fetch = (b"sec-fetch-site", b"cross-site")
    request = by_apikey(PUBLISHABLE, ORIGIN, fetch, token=setup.project.hs256())
    assert await caller(gate, setup, request) == USER


@pytest.mark.parametrize("token", [None, KEY])
async def test_a_key_in_the_query_is_refused_and_not_repeated(
    setup: GateSetup, token: str | None
) -> None:
    request = post(token, query=f"apikey={KEY}".encode())
    refused = await refusal(setup.gate(), request)
    assert isinstance(refused, ServiceKeyInUrl)
    assert KEY not in str(refused)


async def test_wrong_keys_count_against_their_address_and_good_ones_are_served(
    setup: GateSetup,
) -> None:
    gate = setup.gate(failed_auth_per_minute=2)
    wrong = [post(OTHER), post(KEY, ORIGIN), *(post(OTHER) for _ in range(2 * LOOKS))]
    last = [await refusal(gate, request) for request in wrong][-1]
    assert isinstance(last, TooManyFailures)
    assert await caller(gate, setup, post(KEY)) == "service:indexer"


async def test_a_service_can_be_blocked_like_a_user(setup: GateSetup) -> None:
    gate = setup.gate(blocked={"service:indexer"})
    assert isinstance(await refusal(gate, post(KEY)), UserBlocked)


# --- limits ---------------------------------------------------------------------------------------


def limited(setup: GateSetup, options: str) -> Gate:
    """A gate with one key; users have one request per minute and 100 tokens per day."""
    users = Limits(1, 60.0, 100)
    setup.service_keys = keys = ServiceKeys(entry("indexer", KEY, options))

    def own_limits(user_id: str) -> Limits | None:
        own = keys.limits_of(user_id)
        return None if own is None else Limits(own.requests, 60.0, own.tokens)

    setup.quota = MemoryQuota(users, own_limits=own_limits, clock=setup.clock)
    return setup.gate()


async def test_a_key_has_its_own_limits(setup: GateSetup) -> None:
    gate = limited(setup, ":requests=2:tokens=none")
    answers = [await post(KEY).through(gate) for _ in range(2)]
    assert answers[-1].header(b"ratelimit-policy") == b'"requests";q=2;w=60'
    assert answers[-1].header(b"x-ratelimit-remaining") == b"0"
    assert isinstance(await refusal(gate, post(KEY)), QuotaExceeded)
    users = await post(setup.project.hs256()).through(gate)
    assert users.header(b"ratelimit-policy") == b'"requests";q=1;w=60, "tokens";q=100;w=86400'


async def test_a_key_without_limits_has_no_headers_of_them(setup: GateSetup) -> None:
    gate = limited(setup, ":requests=none:tokens=none")
    answers = [await post(KEY).through(gate) for _ in range(20)]
    answers.append(await get("/usage", (b"apikey", KEY.encode())).through(gate))
    for answer in answers:
        assert answer.status == 200
        assert not [name for name, _ in answer.answer_headers if b"ratelimit" in name]


async def test_a_key_without_a_limit_of_requests_may_have_one_of_tokens(setup: GateSetup) -> None:
    gate = limited(setup, ":requests=none:tokens=50")
    receipt = await setup.quota.charge("service:indexer")
    await setup.quota.spend(receipt, tokens=50)
    assert isinstance(await refusal(gate, post(KEY)), QuotaExceeded)
