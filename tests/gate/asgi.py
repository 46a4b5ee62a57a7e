"""Drives the gate as a server does: sends one request, and records what happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from auth.authenticator import Authenticator
from auth.keys import KeySet
from auth.principal import Principal
from auth.service_keys import ServiceKeys
from auth.tokens import TokenVerifier
from errors import GateError
from gate.bodies import Receive
from gate.gate import App, Gate, Route, Scope, Send
from lab.signing import ISSUER, Clock, Project
from quota.memory import MemoryQuota
from quota.quota import Quota
from quota.receipt import Limits
from request_state import state_of

Message = MutableMapping[str, Any]
HeaderLines = list[tuple[bytes, bytes]]

ROUTES = {
    "/embed": Route(frozenset({"POST"}), protected=True),
    "/usage": Route(frozenset({"GET"}), protected=True),
    "/health": Route(frozenset({"GET"}), protected=False),
    "/files": Route(frozenset({"GET", "POST"}), protected=True, charged=True, form_bytes=1_000),
    "/files/{file_id}": Route(frozenset({"DELETE"}), protected=True, charged=True),
}
USUAL_BOUNDS: dict[str, Any] = {
    "max_body_bytes": 8_388_608,
    "body_timeout": 20.0,
    "max_in_flight": 256,
    "max_concurrent_per_user": 16,
    "failed_auth_per_minute": 60,
    "trusted_proxies": "127.0.0.1",
}


class RecordingApp:
    """The service behind the gate: records every call, reads its body, answers 200."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Principal | None, bytes]] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            self.calls.append((scope["type"], None, b""))
            return
        message = await receive() if scope["method"] == "POST" else {}
        self.calls.append((scope["path"], state_of(scope).principal, message.get("body", b"")))
        await self.answers.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@dataclass
class Request:
    """One request as a server hands it over. `chunks` is the body as it arrives."""

    path: str = "/embed"
    method: str = "POST"
    headers: HeaderLines = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=lambda: [b'{"text": "hello"}'])
    peer: tuple[str, int] | None = ("192.0.2.7", 40000)
    pause: float = 0.0  # seconds before each chunk
    leaves: bool = False  # hangs up in place of the last chunk
    query: bytes = b""
    reads: int = 0
    sent: list[Message] = field(default_factory=list)
    answer_headers: HeaderLines = field(default_factory=list)

    @property
    def status(self) -> int | None:
        return next((message["status"] for message in self.sent if "status" in message), None)

    def header(self, name: bytes) -> bytes | None:
        return dict(self.answer_headers).get(name)

    async def through(self, gate: Gate) -> Request:
        """Raises what the gate raises."""
        scope: dict[str, Any] = {
            "type": "http",
            "path": self.path,
            "query_string": self.query,
            "method": self.method,
            "headers": self.headers,
            "client": self.peer,
        }
        state_of(scope).answer_headers = self.answer_headers

        async def receive() -> Message:
            self.reads += 1
            await asyncio.sleep(self.pause)
            if self.reads > len(self.chunks) or (self.leaves and self.reads == len(self.chunks)):
                return {"type": "http.disconnect"}
            more = self.reads < len(self.chunks)
            return {"type": "http.request", "body": self.chunks[self.reads - 1], "more_body": more}

        async def send(message: Message) -> None:
            self.sent.append(message)

        await gate(scope, receive, send)
        return self


def post(
    token: str | None, *more: tuple[bytes, bytes], body: bytes = b'{"text": "hello"}', **fields: Any
) -> Request:
    """A good request to /embed, but for its token."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *more,
    ]
    if token is not None:
        headers.append((b"authorization", f"Bearer {token}".encode("latin-1")))
    return Request(headers=headers, chunks=[body], **fields)


def get(path: str, *headers: tuple[bytes, bytes], method: str = "GET", **fields: Any) -> Request:
    return Request(path=path, method=method, headers=list(headers), chunks=[b""], **fields)


@dataclass
class GateSetup:
    """A gate, with access to everything behind it."""

    clock: Clock = field(default_factory=Clock)
    project: Project = field(default_factory=Project)
    app: RecordingApp = field(default_factory=RecordingApp)
    service: App | None = None  # in place of the recording one
    ready: bool = True
    service_keys: ServiceKeys = field(default_factory=ServiceKeys)
    quota: Quota = field(init=False)

    def __post_init__(self) -> None:
        self.quota = MemoryQuota(Limits(100, 60.0, None), clock=self.clock)

    def gate(self, *, cors_allow_origins: Iterable[str] = (), **bounds: Any) -> Gate:
        tokens = TokenVerifier(
            keys=KeySet(secret=self.project.secret),
            issuer=ISSUER,
            allow_anonymous=False,
            clock=self.clock,
        )
        return Gate(
            self.service or self.app,
            routes=ROUTES,
            authenticator=Authenticator(tokens, self.service_keys, clock=self.clock),
            quota=self.quota,
            cors_allow_origins=cors_allow_origins,
            ready=lambda: self.ready,
            clock=self.clock,
            **USUAL_BOUNDS | bounds,
        )


async def refusal_of(gate: Gate, request: Request) -> GateError:
    """The refusal, after a check that the body was not read and no answer was sent."""
    with pytest.raises(GateError) as refusal:
        await request.through(gate)
    assert request.reads == 0
    assert request.sent == []
    return refusal.value


@contextlib.asynccontextmanager
async def calls_held(setup: GateSetup, gate: Gate, *tokens: str) -> AsyncIterator[None]:
    """Keep one request per token in flight, from another address."""
    setup.app.answers.clear()
    before = len(setup.app.calls)
    async with asyncio.TaskGroup() as calls:
        for token in tokens:
            calls.create_task(post(token, peer=("192.0.2.99", 1)).through(gate))
        async with asyncio.timeout(5):
            while len(setup.app.calls) < before + len(tokens):
                await asyncio.sleep(0)
        yield
        setup.app.answers.set()
