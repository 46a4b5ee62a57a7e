"""Work ends with its client."""

import asyncio

import pytest

from api.disconnect import unless_gone
from api.errors import ClientGoneError
from tests.api.asgi import Client


async def done() -> int:
    return 1


async def test_the_result_is_handed_on() -> None:
    assert await unless_gone(done(), Client().receive) == 1


async def test_work_is_cancelled_when_its_client_leaves() -> None:
    client = Client()
    cancelled = asyncio.Event()

    async def endless() -> None:
        try:
            client.left.set()
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(ClientGoneError):
        await unless_gone(endless(), client.receive)
    assert cancelled.is_set()


async def test_a_cancellation_from_elsewhere_is_one() -> None:
    async def endless() -> None:
        await asyncio.Event().wait()

    task = asyncio.ensure_future(unless_gone(endless(), Client().receive))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_work_is_raised() -> None:
    async def faulty() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await unless_gone(faulty(), Client().receive)
