"""Work that ends when its client leaves."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from starlette.types import Receive

from api.errors import ClientGoneError

Result = TypeVar("Result")


async def unless_gone(work: Coroutine[Any, Any, Result], receive: Receive) -> Result:
    """The result of `work`, cancelled when the client leaves first.

    Raises:
        ClientGoneError: it left.
    """
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    leaving = asyncio.ensure_future(receive())  # the body is read: what can come is a disconnect
    leaving.add_done_callback(cancel := lambda _: task.cancel())
    try:
        return await work
    except asyncio.CancelledError:
        if leaving.done() and not leaving.cancelled():
            task.uncancel()
            raise ClientGoneError from None
        raise
    finally:
        leaving.remove_done_callback(cancel)
        leaving.cancel()
