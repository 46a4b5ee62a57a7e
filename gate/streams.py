"""Bodies that are handed on as they come: bounded in size and time, and never in memory."""

from __future__ import annotations

import asyncio

from gate.bodies import STALL, Message, Receive, require_connection
from gate.errors import BodyTimeout, BodyTooLarge


class StreamedBody:
    """The `receive` of a request whose body the service reads piece by piece.

    Args:
        receive: of the ASGI server.
        limit: bytes of the body.
        pace: bytes per second that have to arrive on average.
        seconds: on top of what the pace allows.
    """

    def __init__(self, receive: Receive, *, limit: int, pace: float, seconds: float) -> None:
        self._receive = receive
        self._limit = limit
        self._pace = pace
        self._left = seconds
        self._n_bytes = 0
        self.complete = False

    async def __call__(self) -> Message:
        """The next message.

        Raises:
            BodyTooLarge: the body has more than `limit` bytes.
            BodyTimeout: it came too slowly, or the client disconnected before its end.
        """
        if self.complete:
            return await self._receive()
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(self._left, STALL)):
                message = await self._receive()
        except TimeoutError:
            raise BodyTimeout(
                f"The body came too slowly: send at least {self._pace / 1024:.0f} KiB per second, "
                f"without pauses of {STALL:g} seconds."
            ) from None
        require_connection(message)
        size = len(message.get("body", b""))
        self._n_bytes += size
        self._left += size / self._pace - (asyncio.get_running_loop().time() - began)
        if self._n_bytes > self._limit:
            raise BodyTooLarge(limit=self._limit)
        self.complete = not message.get("more_body", False)
        return message
