"""One side of an ASGI connection: what a client sends, and what it has read so far."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from starlette.types import ASGIApp, Message

from auth.principal import Principal
from request_state import state_of

USER = "6f1c1c86-6d3c-4c8a-9d0b-2c8f6d1a0001"


class Client:
    """Reads `reads` messages of an answer, or all; then it stops reading until it leaves."""

    def __init__(self, *, reads: int | None = None, user: str = USER) -> None:
        self.messages: list[Message] = []
        self.left = asyncio.Event()
        self.aborted = False
        self._reads = reads
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "headers": [],
        }
        self.state = state_of(self.scope)
        self.state.principal = Principal(user, session_id=None, is_anonymous=False)
        self.state.abort_connection = self._abort

    def _abort(self) -> None:
        """As the connection does."""
        self.aborted = self.state.unread = True
        self.left.set()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._reads is not None and len(self.messages) > self._reads:
            await self.left.wait()
            return
        self.messages.append(message)

    async def call(self, app: ASGIApp, *, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.scope["headers"] = list(headers)
        await app(self.scope, self.receive, self.send)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def pieces(self) -> list[bytes]:
        return [message["body"] for message in self.messages[1:]]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def complete(self) -> bool:
        return not self.messages[-1].get("more_body", False)


async def turns_during(work: Coroutine[Any, Any, object]) -> int:
    """How often another task had its turn before `work` was done."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    running = asyncio.create_task(other())
    await work
    running.cancel()
    return turns
