"""Work that is cancelled when its client disconnects."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from starlette.types import Receive

from api.errors import ClientGoneError

Result = TypeVar("Result")


async def unless_gone(work: Coroutine[Any, Any, Result], receive: Receive) -> Result:
    """The result of `work`, which is cancelled if the client disconnects first.

    Raises:
        ClientGoneError: the client disconnected.
    """
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    leaving = asyncio.ensure_future(receive())  # the body is read: only a disconnect can follow
    done = False

    def cancel(_: object) -> None:
        if not done:  # both may happen in the same turn of the event loop
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
