"""A request body on its way in: how large, and how slow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from auth.errors import BodyTimeout, BodyTooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


async def read_body(receive: Receive, *, limit: int, seconds: float) -> bytes:
    """The whole body, of at most ``limit`` bytes, within ``seconds``.

    Raises BodyTooLarge, BodyTimeout (also for a caller who leaves in mid-body).
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise BodyTimeout(
                        "The connection closed before the body was whole.", reason="client_left"
                    )
                body += message.get("body", b"")
                if len(body) > limit:
                    raise BodyTooLarge(limit=limit)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise BodyTimeout(
            f"The body did not arrive within {seconds:g} seconds. Send it without pauses."
        ) from None


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that hands out ``body`` once, then whatever the server says (a disconnect)."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_body() -> Message:
        return next(messages, None) or await receive()

    return receive_body
