"""A slow network between this process and Redis."""

from __future__ import annotations

import asyncio


class DelayingProxy:
    """A TCP proxy on the loopback interface that delays every answer. Yields its port."""

    def __init__(self, port: int, *, seconds: float) -> None:
        self._port = port
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        answers, requests = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, requests, 0.0))
                both.create_task(self._pump(answers, writer, self._seconds))
        except* OSError:
            pass
        finally:
            for end in (writer, requests):
                end.close()
            self._tasks.discard(task)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, pause: float
    ) -> None:
        while data := await source.read(65_536):
            await asyncio.sleep(pause)
            target.write(data)
            await target.drain()
        target.close()
