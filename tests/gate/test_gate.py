"""The gate as an ASGI application: one test a rule, and one for their order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auth import errors
from auth.errors import TokenExpired, TokenForbidden, TokenInvalid, TokenMissing, TokenTooLarge
from auth.principal import Principal
from auth.tokens import MAX_TOKEN_BYTES
from errors import GateError, Overloaded
from gate.errors import (
    BadHeader,
    BodyTimeout,
    BodyTooLarge,
    HeadersTooLarge,
    MethodNotAllowed,
    PathNotFound,
    TooManyConcurrent,
    TooManyFailures,
    UnsupportedMediaType,
)
from gate.failures import LOOKS
from gate.gate import Gate
from lab.signing import ISSUER, NOW, SESSION, USER, sign_hs256
from quota.errors import QuotaExceeded
from quota.memory import MemoryQuota
from quota.receipt import Limits
from tests.gate.asgi import House, Request, get, post

OTHER_USER = "11111111-2222-4333-8444-555555555555"
LENGTH = (b"content-length", b"17")


@pytest.fixture
def house() -> House:
    return House()


async def refusal_of(gate: Gate, request: Request) -> GateError:
    """The refusal, once it is sure that nobody read the body or did any work."""
    with pytest.raises(GateError) as refusal:
        await request.through(gate)
    assert request.reads == 0
    assert request.sent == []
    return refusal.value


@contextlib.asynccontextmanager
async def calls_held(house: House, gate: Gate, *tokens: str) -> AsyncIterator[None]:
    """One call in flight for each token, from an address of their own."""
    house.app.answers.clear()
    before = len(house.app.calls)
    async with asyncio.TaskGroup() as calls:
        for token in tokens:
            calls.create_task(post(token, peer=("192.0.2.99", 1)).through(gate))
        async with asyncio.timeout(5):
            while len(house.app.calls) < before + len(tokens):
                await asyncio.sleep(0)
        yield
        house.app.answers.set()


# --- order ------------------------------------------------------------------------------------------


async def test_checks_come_in_order_and_only_the_last_reads_the_body(house: House) -> None:
    """A request that is wrong in every way is put right one way at a time."""
    house.quota = MemoryQuota(Limits(1, 60.0, None), clock=house.clock)
    gate = house.gate(
        max_in_flight=1, max_concurrent_per_user=1, failed_auth_per_minute=2, max_body_bytes=1000
    )
    token, others = house.project.hs256(), [house.project.user_token() for _ in range(2)]
    for _ in range(2 * LOOKS):
        await refusal_of(gate, post("wrong"))
    house.ready = False
    path, method = "/nowhere", "DELETE"
    lines = {
        b"authorization": [b"Bearer wrong", b"Bearer wrong"],
        b"transfer-encoding": [b"chunked"],
        b"content-type": [b"text/plain"],
        b"content-length": [b"1001"],
        b"x-padding": [b"x" * 20_000],
    }

    async def refusal() -> type[GateError]:
        headers = [(name, value) for name, values in lines.items() for value in values]
        return type(await refusal_of(gate, Request(path, method, headers)))

    assert await refusal() is PathNotFound
    path = "/embed"
    assert await refusal() is MethodNotAllowed
    method = "POST"
    assert await refusal() is BadHeader
    lines[b"authorization"].pop()
    assert await refusal() is BadHeader
    lines[b"transfer-encoding"].pop()
    assert await refusal() is UnsupportedMediaType
    lines[b"content-type"] = [b"application/json"]
    assert await refusal() is BodyTooLarge
    lines[b"content-length"] = [b"17"]
    assert await refusal() is HeadersTooLarge
    lines[b"x-padding"].pop()
    assert await refusal() is Overloaded
    house.ready = True
    assert await refusal() is TooManyFailures
    house.clock.now += 60
    assert await refusal() is TokenInvalid
    lines[b"authorization"] = [b"Bearer " + token.encode()]
    async with calls_held(house, gate, *others):
        assert await refusal() is Overloaded
    async with calls_held(house, gate, token):
        assert await refusal() is TooManyConcurrent
    assert await refusal() is QuotaExceeded
    house.clock.now += 60
    request = post(token)
    request.chunks = [b"x" * 1001]
    with pytest.raises(BodyTooLarge):
        await request.through(gate)
    assert request.reads == 1
    house.clock.now += 60
    assert (await post(token).through(gate)).status == 200


# --- paths and methods ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/embed/",
        "//embed",
        "/EMBED",
        "/embed\x00",
        "/embed/../usage",
        "/embed;x",
        "/metrics",
        "*",
    ],
)
async def test_only_exact_paths_are_answered(house: House, path: str) -> None:
    refusal = await refusal_of(house.gate(), post(house.project.hs256(), path=path))
    assert isinstance(refusal, PathNotFound)
    assert path not in str(refusal) or not path.strip("/*")


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "post", "X" * 1000]
)
async def test_other_methods_are_refused_with_those_allowed(house: House, method: str) -> None:
    refusal = await refusal_of(house.gate(), get("/embed", method=method))
    assert isinstance(refusal, MethodNotAllowed)
    assert refusal.allowed == ("POST",)


async def test_open_path_needs_no_token(house: House) -> None:
    assert (await get("/health").through(house.gate(max_in_flight=0))).status == 200
    assert house.app.calls == [("/health", None, b"")]


async def test_open_path_is_answered_while_the_service_starts(house: House) -> None:
    house.ready = False
    assert (await get("/health").through(house.gate())).status == 200
    refusal = await refusal_of(house.gate(), post(house.project.hs256()))
    assert isinstance(refusal, Overloaded)


async def test_head_comes_with_get(house: House) -> None:
    assert (await get("/health", method="HEAD").through(house.gate())).status == 200


async def test_websocket_is_closed(house: House) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    await house.gate()({"type": "websocket", "path": "/embed", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert house.app.calls == []


async def test_lifespan_passes_through(house: House) -> None:
    async def nothing(*_: Any) -> Any:
        raise AssertionError("the application was told to do nothing")

    await house.gate()({"type": "lifespan"}, nothing, nothing)
    assert house.app.calls == [("lifespan", None, b"")]


# --- headers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([(b"authorization", b"Bearer x")], "two_authorizations"),
        ([(b"transfer-encoding", b"chunked")], "two_body_lengths"),
        ([(b"content-length", b"17")], "bad_content_length"),
        ([(b"content-type", b"application/json")], "two_content_types"),
        ([(b"origin", b"a"), (b"origin", b"b")], "two_origins"),
    ],
)
async def test_headers_that_contradict_each_other_are_refused(
    house: House, lines: list[tuple[bytes, bytes]], reason: str
) -> None:
    refusal = await refusal_of(house.gate(), post(house.project.hs256(), *lines))
    assert isinstance(refusal, BadHeader)
    assert refusal.reason == reason


@pytest.mark.parametrize(
    "length", [b"-1", b"+17", b"1_7", b"17, 17", b"0x11", b"", "١٧".encode(), b"9" * 30]
)
async def test_content_length_must_be_a_number(house: House, length: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    assert isinstance(await refusal_of(house.gate(), Request(headers=headers)), BadHeader)


@pytest.mark.parametrize(
    "media_type",
    [
        b"",
        b"text/plain",
        b"application/json;charset=latin-1",
        b"application/json;charset=utf-8;charset=utf-16",
        b"application/jsonp",
        b"multipart/form-data",
        b"*/*",
    ],
)
async def test_body_must_be_json(house: House, media_type: bytes) -> None:
    request = Request(headers=[(b"content-type", media_type), LENGTH])
    assert isinstance(await refusal_of(house.gate(), request), UnsupportedMediaType)


@pytest.mark.parametrize(
    "media_type",
    [
        b"application/json",
        b"Application/JSON; Charset=UTF-8",
        b'application/json;charset="utf-8"',
        b"application/json; charset=utf8",
        b"application/json;",
        b"application/json; charset=utf-8;",
        b"application/json; version=1; charset = UTF8",
    ],
)
async def test_json_may_say_that_it_is_utf_8(house: House, media_type: bytes) -> None:
    token = house.project.hs256().encode()
    headers = [(b"content-type", media_type), LENGTH, (b"authorization", b"Bearer " + token)]
    assert (await Request(headers=headers).through(house.gate())).status == 200


async def test_compressed_body_is_refused(house: House) -> None:
    request = post(house.project.hs256(), (b"content-encoding", b"gzip"))
    assert isinstance(await refusal_of(house.gate(), request), UnsupportedMediaType)


async def test_announced_body_over_the_limit_is_refused_unread(house: House) -> None:
    refusal = await refusal_of(house.gate(max_body_bytes=16), post(house.project.hs256()))
    assert isinstance(refusal, BodyTooLarge)
    assert refusal.limit == 16


async def test_headers_over_16_kib_are_refused(house: House) -> None:
    many = [(b"x-%d" % n, b"v" * 50) for n in range(400)]
    for lines in ([(b"x", b"v" * 16_384)], many):
        assert isinstance(
            await refusal_of(house.gate(), post(house.project.hs256(), *lines)), HeadersTooLarge
        )


async def test_body_where_none_is_taken_is_refused(house: House) -> None:
    for line in (LENGTH, (b"transfer-encoding", b"chunked")):
        assert isinstance(await refusal_of(house.gate(), get("/health", line)), BadHeader)
    assert (await get("/health", (b"content-length", b"0")).through(house.gate())).status == 200


# --- tokens -----------------------------------------------------------------------------------------


async def test_user_goes_through_with_the_body(house: House) -> None:
    await post(house.project.hs256()).through(house.gate())
    principal = Principal(user_id=USER, session_id=SESSION, is_anonymous=False)
    assert house.app.calls == [("/embed", principal, b'{"text": "hello"}')]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer   ",
        b"Basic dTpw",
        b"Token x",
        b"bearerx y",
        b"\xff",
    ],
)
async def test_missing_token_is_missing(house: House, authorization: bytes | None) -> None:
    lines = [] if authorization is None else [(b"authorization", authorization)]
    assert isinstance(await refusal_of(house.gate(), post(None, *lines)), TokenMissing)


@pytest.mark.parametrize("scheme", [b"bearer", b"BEARER"])
async def test_scheme_is_read_in_any_case(house: House, scheme: bytes) -> None:
    line = (b"authorization", scheme + b"  " + house.project.hs256().encode() + b" ")
    assert (await post(None, line).through(house.gate())).status == 200


async def test_refusals_of_tokens_are_told_apart(house: House) -> None:
    gate = house.gate()
    cases = {
        "x.y.z": TokenInvalid,
        "é": TokenInvalid,
        house.project.hs256(exp=NOW - 1): TokenExpired,
        house.project.hs256(role="anon"): TokenForbidden,
    }
    for token, expected in cases.items():
        assert type(await refusal_of(gate, post(token))) is expected


# --- failed tokens of one address ---------------------------------------------------------------------


async def test_address_with_too_many_failures_has_to_wait(house: House) -> None:
    gate = house.gate(failed_auth_per_minute=3)
    for token in ("wrong", None, house.project.hs256(role="anon")):
        assert not isinstance(await refusal_of(gate, post(token)), TooManyFailures)
    house.clock.now += 20
    refusal = await refusal_of(gate, post("wrong"))
    assert isinstance(refusal, TooManyFailures)
    assert refusal.retry_after == 40
    house.clock.now += 40
    assert isinstance(await refusal_of(gate, post("wrong")), TokenInvalid)


async def test_other_addresses_do_not_suffer(house: House) -> None:
    gate = house.gate(failed_auth_per_minute=1)
    for _ in range(LOOKS):
        await refusal_of(gate, post("wrong"))
    assert isinstance(await refusal_of(gate, post(house.project.hs256())), TooManyFailures)
    assert (await post(house.project.hs256(), peer=("192.0.2.8", 1)).through(gate)).status == 200


async def test_users_are_served_through_a_flood_from_their_own_address(house: House) -> None:
    """Two bad tokens a second, and as many calls of a user who is known and of new ones."""
    gate, known = house.gate(), house.project.hs256(exp=NOW + 3600)
    for second in range(94):
        for _ in range(2):
            await refusal_of(gate, post("wrong"))
        token = known if second % 2 else house.project.user_token()
        for _ in range(2):
            assert (await post(token).through(gate)).status == 200
        house.clock.now += 1


async def test_a_new_user_is_served_where_nobody_was_yet_beside_two_bad_tokens_a_second(
    house: House,
) -> None:
    gate = house.gate()
    for _ in range(600):
        await refusal_of(gate, post(house.project.hs256("x" * 32)))
        house.clock.now += 0.5
    assert (await post(house.project.hs256()).through(gate)).status == 200


async def test_a_flood_where_no_user_is_stays_unverified(house: House) -> None:
    gate = house.gate(failed_auth_per_minute=3)
    reasons = [
        (await refusal_of(gate, post(house.project.hs256("x" * 32)))).reason for _ in range(100)
    ]
    assert reasons == ["token_invalid"] * 3 + ["too_many_failures"] * 97
    refusal = await refusal_of(gate, post(house.project.hs256()))
    assert isinstance(refusal, TooManyFailures)
    assert refusal.retry_after == 60


async def test_a_subscriber_with_a_whole_ipv6_prefix_has_one_budget(house: House) -> None:
    gate = house.gate(failed_auth_per_minute=4)
    for n in range(4):
        refusal = await refusal_of(gate, post("wrong", peer=(f"2001:db8:0:7::{n:x}", 1)))
        assert isinstance(refusal, TokenInvalid)
    next_address = await refusal_of(gate, post("wrong", peer=("2001:db8:0:7:ffff::1", 1)))
    assert isinstance(next_address, TooManyFailures)
    next_subscriber = await refusal_of(gate, post("wrong", peer=("2001:db8:0:8::1", 1)))
    assert isinstance(next_subscriber, TokenInvalid)


async def test_expired_tokens_count_against_nobody(house: House) -> None:
    gate = house.gate(failed_auth_per_minute=1)
    for _ in range(5):
        assert isinstance(
            await refusal_of(gate, post(house.project.hs256(exp=NOW - 1))), TokenExpired
        )


async def test_a_token_that_is_too_large_counts_against_nobody(house: House) -> None:
    gate = house.gate(failed_auth_per_minute=1)
    for _ in range(5):
        refusal = await refusal_of(
            gate, post(house.project.hs256(app_metadata="x" * MAX_TOKEN_BYTES))
        )
        assert isinstance(refusal, TokenTooLarge)


async def test_only_a_trusted_proxy_may_name_the_caller(house: House) -> None:
    gate = house.gate(failed_auth_per_minute=1, trusted_proxies="10.0.0.1")
    forged = (b"x-forwarded-for", b"203.0.113.5")
    await refusal_of(gate, post("wrong", forged))
    assert isinstance(
        await refusal_of(gate, post("wrong", (b"x-forwarded-for", b"203.0.113.6"))), TooManyFailures
    )
    proxy = ("10.0.0.1", 1)
    await refusal_of(gate, post("wrong", forged, peer=proxy))
    assert isinstance(await refusal_of(gate, post("wrong", forged, peer=proxy)), TooManyFailures)
    other = post("wrong", (b"x-forwarded-for", b"203.0.113.6"), peer=proxy)
    assert isinstance(await refusal_of(gate, other), TokenInvalid)


async def test_connection_without_an_address_has_a_budget_too(house: House) -> None:
    gate = house.gate(failed_auth_per_minute=1)
    await refusal_of(gate, post("wrong", peer=None))
    assert isinstance(await refusal_of(gate, post("wrong", peer=None)), TooManyFailures)


# --- concurrency --------------------------------------------------------------------------------------


async def test_calls_in_flight_are_bounded_and_freed(house: House) -> None:
    """Each user with a single one, so up to twice the limit."""
    gate = house.gate(max_in_flight=3)
    async with calls_held(house, gate, *[house.project.user_token() for _ in range(6)]):
        refusal = await refusal_of(gate, post(house.project.user_token()))
        assert isinstance(refusal, Overloaded)
        assert refusal.retry_after >= 1
        assert (await asyncio.wait_for(get_health(house, gate), 1)).status == 200
    assert (await post(house.project.user_token()).through(gate)).status == 200


async def get_health(house: House, gate: Gate) -> Request:
    house.app.answers.set()
    return await get("/health").through(gate)


async def test_calls_of_one_user_are_bounded_and_freed(house: House) -> None:
    gate, token = house.gate(max_concurrent_per_user=2), house.project.hs256()
    async with calls_held(house, gate, token, token):
        same_user_other_session = house.project.hs256(
            session_id="11111111-1111-4111-8111-111111111111"
        )
        assert isinstance(await refusal_of(gate, post(same_user_other_session)), TooManyConcurrent)
        house.app.answers.set()
        assert (await post(house.project.hs256(sub=OTHER_USER)).through(gate)).status == 200
    assert (await post(token).through(gate)).status == 200


async def test_failing_calls_give_their_place_back(house: House) -> None:
    gate = house.gate(max_in_flight=1, max_concurrent_per_user=1, body_timeout=0.02)
    token = house.project.hs256()
    for request in (
        post("wrong"),
        post(token, leaves=True),
        post(token, pause=0.05),
        post(token, path="/nowhere"),
    ):
        with pytest.raises(GateError):
            await request.through(gate)
    task = asyncio.create_task(post(token, pause=9).through(house.gate(max_in_flight=1)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await post(token).through(gate)).status == 200


# --- bodies -------------------------------------------------------------------------------------------


async def test_body_in_pieces_arrives_whole(house: House) -> None:
    request = post(house.project.hs256())
    request.headers[1] = (b"transfer-encoding", b"chunked")
    request.chunks = [b'{"te', b'xt": ', b"", b'"hello"}']
    await request.through(house.gate())
    assert house.app.calls[0][2] == b'{"text": "hello"}'


async def test_endless_body_is_cut_at_the_limit(house: House) -> None:
    request = post(house.project.hs256())
    request.headers[1] = (b"transfer-encoding", b"chunked")
    request.chunks = [b"x" * 1000] * 200_000
    with pytest.raises(BodyTooLarge):
        await request.through(house.gate(max_body_bytes=10_000))
    assert request.reads == 11
    assert house.app.calls == []


async def test_slow_body_is_given_up_on_as_a_whole(house: House) -> None:
    request = post(house.project.hs256(), pause=0.03)
    request.chunks = [b"x"] * 100
    with pytest.raises(BodyTimeout):
        await request.through(house.gate(body_timeout=0.1))
    assert request.reads <= 5
    assert house.app.calls == []


async def test_caller_who_leaves_in_mid_body_causes_no_work(house: House) -> None:
    with pytest.raises(BodyTimeout) as refusal:
        await post(house.project.hs256(), leaves=True).through(house.gate())
    assert refusal.value.reason == "client_left"
    assert house.app.calls == []


# --- CORS ---------------------------------------------------------------------------------------------

PAGE = b"https://app.example.com"
PREFLIGHT = (
    (b"origin", PAGE),
    (b"access-control-request-method", b"POST"),
    (b"access-control-request-headers", b"authorization,content-type"),
)


async def test_preflight_is_answered_without_a_token(house: House) -> None:
    gate = house.gate(cors_allow_origins=["https://app.example.com"])
    request = await get("/embed", *PREFLIGHT, method="OPTIONS").through(gate)
    assert request.status == 204
    assert request.header(b"access-control-allow-origin") == PAGE
    assert request.header(b"access-control-allow-methods") == b"POST"
    assert request.header(b"access-control-allow-headers") == b"authorization,content-type"
    assert request.header(b"access-control-allow-credentials") is None
    assert house.app.calls == []


async def test_preflight_of_an_unknown_path_is_not_found(house: House) -> None:
    gate = house.gate(cors_allow_origins=["*"])
    refusal = await refusal_of(gate, get("/nowhere", *PREFLIGHT, method="OPTIONS"))
    assert isinstance(refusal, PathNotFound)


async def test_options_says_which_methods_there_are(house: House) -> None:
    request = await get("/health", method="OPTIONS").through(house.gate())
    assert (request.status, request.header(b"allow")) == (204, b"GET, HEAD, OPTIONS")


async def test_refusals_carry_cors_headers(house: House) -> None:
    gate = house.gate(cors_allow_origins=["https://app.example.com"])
    for request in (post(None), post("wrong"), post("wrong", path="/nowhere"), get("/embed")):
        request.headers.append((b"origin", PAGE))
        await refusal_of(gate, request)
        assert request.header(b"access-control-allow-origin") == PAGE
        assert request.header(b"vary") == b"Origin"
        assert b"retry-after" in (request.header(b"access-control-expose-headers") or b"")


# --- every other request ------------------------------------------------------------------------------

header_names = st.sampled_from(
    [
        b"authorization",
        b"content-type",
        b"content-length",
        b"transfer-encoding",
        b"origin",
        b"x-forwarded-for",
        b"x",
    ]
)
header_values = st.binary(max_size=40) | st.sampled_from(
    [
        b"application/json",
        b"17",
        b"chunked",
        b"Bearer a.b.c",
        b"Bearer " + sign_hs256({"iss": ISSUER}).encode(),
        PAGE,
    ]
)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=st.lists(st.tuples(header_names, header_values), max_size=6),
    method=st.sampled_from(["POST", "GET", "OPTIONS", "HEAD", "PUT"]) | st.text(max_size=5),
    path=st.sampled_from(["/embed", "/usage", "/health"]) | st.text(max_size=9),
    peer=st.none()
    | st.tuples(
        st.sampled_from(["127.0.0.1", "::1", "fe80::1%eth0", "/run/socket", ""]), st.just(1)
    ),
)
def test_no_request_breaks_the_gate_and_no_unsigned_one_passes(
    lines: list[tuple[bytes, bytes]], method: str, path: str, peer: tuple[str, int] | None
) -> None:
    house = House()
    gate = house.gate(cors_allow_origins=["https://app.example.com"])
    request = Request(path=path, method=method, headers=lines, peer=peer)
    with contextlib.suppress(GateError):
        asyncio.run(request.through(gate))
    assert {call[0] for call in house.app.calls} <= {"/health"}


def test_reasons_are_a_fixed_set_of_short_words() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, GateError)
    ]
    assert len({kind.reason for kind in kinds}) >= len(kinds) - 3
    assert all(kind.reason.isidentifier() and len(kind.reason) < 30 for kind in kinds)
