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
    done = False

    def cancel(_: object) -> None:
        if not done:  # it may be called for once the work is done in the same turn
            task.cancel()

    leaving.add_done_callback(cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if leaving.done() and not leaving.cancelled():
            task.uncancel()
            raise ClientGoneError from None
        raise
    finally:
        done = True
        leaving.cancel()
