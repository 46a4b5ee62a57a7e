"""Measure the CPU time per request of the gate, compared with a bare echo in the same run.

    python -m benchmarks.gate [--json PATH]

Calls the ASGI application in this process, so that the figures have no client and no socket in
them: edge, gate, token, body, and both charges of the quota, in memory and in a real Redis. CPU
seconds are those of this process.
"""

import asyncio
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import jwt
import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.edge import Edge
from auth.authenticator import Authenticator
from auth.keys import KeySet
from auth.service_keys import ServiceKeys
from auth.tokens import TokenVerifier
from benchmarks.report import arguments, save
from gate.gate import Gate, Route
from lab.redis_server import RedisServer
from quota.guarded import make_quota
from quota.quota import Quota
from request_state import state_of

SECRET = "a-secret-of-the-benchmark-with-48-characters-!!!"
BODY = b'{"text": "A man is playing a guitar"}'
ROUNDS, REQUESTS = 15, 1000


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body and sends it back."""
    body = (await receive())["body"]
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": body})


def gated(quota: Quota) -> ASGIApp:
    """The echo behind the edge and the gate, spending tokens of `quota`."""

    async def spending(scope: Scope, receive: Receive, send: Send) -> None:
        state = state_of(scope)
        state.receipt = await quota.spend(state.charged, tokens=8)
        await echo(scope, receive, send)

    verifier = TokenVerifier(keys=KeySet(secret=SECRET), issuer=None, allow_anonymous=False)
    routes = {"/embed": Route(frozenset({"POST"}), protected=True)}
    authenticator = Authenticator(verifier, ServiceKeys())
    gate = Gate(
        spending,
        routes=routes,
        authenticator=authenticator,
        quota=quota,
        max_body_bytes=8_388_608,
        body_timeout=20.0,
        max_in_flight=256,
        max_concurrent_per_user=16,
        failed_auth_per_minute=60,
    )
    return Edge(gate, routes=routes, fingerprint="0" * 12, record=lambda _: None)


def tokens(count: int) -> list[str]:
    """Tokens of `count` users."""
    claims = {"aud": "authenticated", "role": "authenticated", "exp": int(time.time()) + 3600}
    return [
        jwt.encode({**claims, "sub": str(uuid.uuid4())}, SECRET, algorithm="HS256")
        for _ in range(count)
    ]


def scope(token: str) -> Scope:
    headers = [
        (b"host", b"127.0.0.1:8000"),
        (b"user-agent", b"benchmark"),
        (b"authorization", f"Bearer {token}".encode()),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(BODY)).encode()),
    ]
    return {
        "type": "http",
        "method": "POST",
        "path": "/embed",
        "headers": headers,
        "client": ("127.0.0.1", 5000),
    }


async def cpu_per_request(app: ASGIApp, bearers: list[str]) -> float:
    """CPU milliseconds per request, over one request per bearer."""

    async def receive() -> Message:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message

    scopes = [scope(bearer) for bearer in bearers]
    started = time.process_time()
    for one in scopes:
        await app(one, receive, send)
    return (time.process_time() - started) / len(scopes) * 1000


async def measure(redis_url: str) -> dict[str, Any]:
    limits: dict[str, Any] = {"per_minute": 10_000_000, "tokens_per_day": 1_000_000_000}
    apps = {
        "echo": echo,
        "gate in memory": gated(make_quota(redis_url=None, **limits)),
        "gate with Redis": gated(make_quota(redis_url=redis_url, **limits)),
    }
    known = tokens(50) * (REQUESTS // 50)
    costs: dict[str, list[float]] = {
        f"{name}, {kind}": [] for name in apps for kind in ("known tokens", "new tokens")
    }
    for app in apps.values():
        await cpu_per_request(app, known)
    for _ in range(ROUNDS):
        new = tokens(REQUESTS)
        for name, app in apps.items():
            costs[f"{name}, known tokens"].append(await cpu_per_request(app, known))
            costs[f"{name}, new tokens"].append(await cpu_per_request(app, new))
    return {
        name: {"median_ms": statistics.median(values), "min_ms": min(values), "max_ms": max(values)}
        for name, values in costs.items()
    }


def main() -> None:
    path = arguments("gate", __doc__).json
    with tempfile.TemporaryDirectory() as directory:
        redis = RedisServer(Path(directory))
        redis.start()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                figures = runner.run(measure(redis.url))
        finally:
            redis.kill()
    save(path, {"cpu_per_request": figures})


if __name__ == "__main__":
    main()
