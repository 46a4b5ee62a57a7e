"""What a request costs: charged before its body is read, refunded if the service failed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from errors import GateError, Overloaded
from gate.bodies import Receive
from gate.errors import BodyTimeout, BodyTooLarge
from gate.gate import Scope, Send
from lab.signing import USER
from quota.errors import QuotaExceeded
from quota.memory import MemoryQuota
from quota.receipt import Limits
from request_state import state_of
from tests.gate.asgi import GateSetup, Request, get, post

REQUESTS, TOKENS = 10, 1000


class FaultError(Exception):
    """A fault with a reason, as the service raises them."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Service:
    """A service behind the gate that spends tokens, then answers."""

    setup: GateSetup
    tokens: int = 0
    status: int = 200
    error: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, state = self.status, state_of(scope)
        if self.error:
            state.error = self.error
        try:
            if self.tokens:
                state.receipt = await self.setup.quota.spend(state.charged, tokens=self.tokens)
        except QuotaExceeded as error:
            state.error, status = error, 429
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture
def setup() -> GateSetup:
    setup = GateSetup()
    setup.quota = MemoryQuota(Limits(REQUESTS, 60.0, TOKENS), clock=setup.clock)
    setup.service = Service(setup)
    return setup


@pytest.fixture
def service(setup: GateSetup) -> Service:
    assert isinstance(setup.service, Service)
    return setup.service


async def cost(setup: GateSetup) -> tuple[int, int]:
    """Requests and tokens that the user has paid."""
    usage = await setup.quota.usage(USER)
    assert usage.remaining is not None
    assert usage.tokens_remaining is not None
    return REQUESTS - usage.remaining, TOKENS - usage.tokens_remaining


def told(request: Request) -> tuple[int, int]:
    """Requests and tokens that the answer's headers say are left."""
    state = (request.header(b"ratelimit") or b"").decode()
    requests, tokens = (part.split(";r=")[1].split(";")[0] for part in state.split(","))
    return int(requests), int(tokens)


async def ask(setup: GateSetup, **fields: object) -> Request:
    request = post(setup.project.hs256())
    return await replace(request, **fields).through(setup.gate())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "reason", "charged"),
    [
        (200, None, (1, 30)),
        (499, "client_gone", (1, 30)),
        (400, "malformed_json", (1, 0)),
        (413, "too_many_tokens", (1, 0)),
        (422, "invalid_request", (1, 0)),
        (429, "user_queue_full", (1, 0)),
        (503, "queue_full", (1, 0)),
        (500, "embedding_failed", (0, 0)),
        (503, "engine_stalled", (0, 0)),
    ],
)
async def test_an_answer_costs_what_its_status_says(
    setup: GateSetup, service: Service, status: int, reason: str | None, charged: tuple[int, int]
) -> None:
    service.tokens, service.status = 30, status
    service.error = FaultError(reason) if reason else None
    request = await ask(setup)
    assert await cost(setup) == charged
    assert told(request) == (REQUESTS - charged[0], TOKENS - charged[1])


async def test_a_queue_found_full_before_any_work_costs_nothing(
    setup: GateSetup, service: Service
) -> None:
    service.status, service.error = 503, FaultError("queue_full")
    await ask(setup)
    assert await cost(setup) == (0, 0)


async def test_tokens_beyond_the_day_leave_the_request_charged(
    setup: GateSetup, service: Service
) -> None:
    service.tokens = TOKENS + 1
    request = await ask(setup)
    assert request.status == 429
    assert await cost(setup) == (1, 0)
    assert told(request) == (REQUESTS - 1, TOKENS)


async def test_a_request_is_charged_before_its_body_is_read(setup: GateSetup) -> None:
    request = post(setup.project.hs256(), pause=9)
    call = asyncio.create_task(request.through(setup.gate()))
    while not request.reads:
        await asyncio.sleep(0)
    assert await cost(setup) == (1, 0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert await cost(setup) == (1, 0)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"leaves": True}, BodyTimeout),
        ({"pause": 9.0}, BodyTimeout),
        ({"chunks": [b"x" * 101]}, BodyTooLarge),
    ],
    ids=["leaves", "slow", "large"],
)
async def test_a_body_that_never_arrives_costs_the_request(
    setup: GateSetup, fields: dict[str, object], refusal: type[GateError]
) -> None:
    gate = setup.gate(body_timeout=0.05, max_body_bytes=100)
    request = replace(post(setup.project.hs256()), **fields)  # type: ignore[arg-type]
    with pytest.raises(refusal):
        await request.through(gate)
    assert await cost(setup) == (1, 0)
    assert told(request) == (REQUESTS - 1, TOKENS)


async def test_a_fault_without_an_answer_costs_nothing(setup: GateSetup) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    setup.service = broken
    request = post(setup.project.hs256())
    with pytest.raises(ZeroDivisionError):
        await request.through(setup.gate())
    assert await cost(setup) == (0, 0)
    assert told(request) == (REQUESTS, TOKENS)


async def test_a_fault_in_the_middle_of_an_answer_gives_nothing_back(setup: GateSetup) -> None:
    """It may be the client's connection that broke."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise OSError

    setup.service = broken
    with pytest.raises(OSError):
        await ask(setup)
    assert await cost(setup) == (1, 0)


async def test_what_takes_no_body_costs_nothing(setup: GateSetup) -> None:
    bearer = (b"authorization", f"Bearer {setup.project.hs256()}".encode())
    await get("/usage", bearer).through(setup.gate())
    assert await cost(setup) == (0, 0)


async def test_user_over_the_limit_is_refused_before_the_body_is_read(setup: GateSetup) -> None:
    setup.quota = MemoryQuota(Limits(1, 60.0, None), clock=setup.clock)
    gate, token = setup.gate(), setup.project.hs256()
    await setup.quota.charge(USER)
    setup.clock.now += 0.5
    request = post(token)
    with pytest.raises(QuotaExceeded) as refusal:
        await request.through(gate)
    assert request.reads == 0
    assert request.header(b"x-ratelimit-remaining") == b"0"
    assert request.header(b"x-ratelimit-reset") == b"60"
    setup.clock.now += refusal.value.retry_after
    assert (await post(token).through(gate)).status == 200


async def test_user_whose_day_is_spent_is_refused_and_not_charged(setup: GateSetup) -> None:
    await setup.quota.spend(await setup.quota.charge(USER), tokens=TOKENS)
    with pytest.raises(QuotaExceeded) as refusal:
        await ask(setup)
    assert refusal.value.which == "tokens"
    assert await cost(setup) == (1, TOKENS)


async def test_answer_to_a_user_carries_the_limits(setup: GateSetup) -> None:
    setup.quota = MemoryQuota(Limits(100, 60.0, None), clock=setup.clock)
    await setup.quota.charge(USER)
    request = await ask(setup)
    assert request.header(b"x-ratelimit-limit") == b"100"
    assert request.header(b"x-ratelimit-remaining") == b"98"
    assert request.header(b"ratelimit-policy") == b'"requests";q=100;w=60'


async def test_answer_to_a_stranger_names_the_limits(setup: GateSetup) -> None:
    request = post("wrong")
    with pytest.raises(GateError):
        await request.through(setup.gate())
    assert request.answer_headers == [
        (b"ratelimit-policy", b'"requests";q=10;w=60, "tokens";q=1000;w=86400')
    ]


async def test_limit_of_the_quota_does_not_close_the_usage_page(setup: GateSetup) -> None:
    setup.quota = MemoryQuota(Limits(1, 60.0, None), clock=setup.clock)
    await setup.quota.charge(USER)
    bearer = (b"authorization", f"Bearer {setup.project.hs256()}".encode())
    assert (await get("/usage", bearer).through(setup.gate())).status == 200


async def test_a_call_that_finds_no_place_is_not_charged(setup: GateSetup) -> None:
    with pytest.raises(Overloaded):
        await post(setup.project.hs256()).through(setup.gate(max_in_flight=0))
    assert await cost(setup) == (0, 0)
