"""Answers in place of the service while its model is not prepared, and says so in the log."""

import asyncio
import logging
from pathlib import Path

import uvicorn
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.error_forms import error_response
from api.protocol import use_bounded_connections
from container.status import Status, is_prepared, read_status
from embedder.errors import ModelPreparingError
from request_state import state_of

LOG = logging.getLogger("embedding_api")
POLL = 1.0  # seconds
PATIENCE = 60.0  # seconds that a preparation may take to begin
CLOSING = 2  # seconds for answers in progress, once the model is there
WAITING = (logging.INFO, "waiting_for_model")
FAILED = (logging.ERROR, "model_is_not_prepared")
START = "run `docker compose up -d`"
PROBES = ("/livez", "/healthz")


class Waiter:
    """What is known of a preparation.

    Args:
        store: directory of the model store.
        name: of the model in the store.
    """

    def __init__(self, store: Path, name: str) -> None:
        self._store, self._name = store, name
        self._waited = 0.0
        self._said = ""
        self.failed = False

    async def until_prepared(self) -> None:
        """Return once the store has the model; each change on the way is one line of the log."""
        # In a thread: the first look at a model reads all of it.
        while not await asyncio.to_thread(is_prepared, self._store, self._name):
            self.look()
            await asyncio.sleep(POLL)
            self._waited += POLL

    def look(self) -> None:
        """Read how far the preparation is, and log what is new."""
        status = read_status(self._store, self._name)
        problem = self._problem(status)
        self.failed = problem is not None
        detail = problem or (status.detail if status else "it has not begun")
        if detail == self._said:
            return
        self._said = detail
        level, message = FAILED if self.failed else WAITING
        LOG.log(level, message, extra={"fields": {"model": self._name, "detail": detail}})

    def _problem(self, status: Status | None) -> str | None:
        """Why no model will come by itself, with what to do; None while one may."""
        if status is None:
            return f"nothing prepares it: {START}" if self._waited > PATIENCE else None
        if status.failed:
            return f"{status.detail}; then {START}"
        if status.ended:
            return f"the preparation was killed after: {status.detail}; {START} to continue it"
        return None

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 to a probe of the process, 503 to everything else."""
        error = state_of(scope).refused or ModelPreparingError(failed=self.failed)
        response = error_response(error, path=scope["path"])
        if scope["path"] in PROBES:
            response = Response("\n", media_type="text/plain")
        response.headers["Connection"] = "close"  # the next request is for the service itself
        await response(scope, receive, send)


async def wait_for_model(
    store: Path, name: str, *, host: str, port: int, answer_timeout: float
) -> bool:
    """Answer on an address until the store has the model.

    Args:
        store: directory of the model store.
        name: of the model in the store.
        host: address to listen on.
        port: port to listen on.
        answer_timeout: seconds that a client may read nothing of its answer.

    Returns:
        Whether the model is there; False after a signal to stop.
    """
    waiter = Waiter(store, name)
    if await asyncio.to_thread(is_prepared, store, name):
        return True
    use_bounded_connections(answer_timeout=answer_timeout)
    server = uvicorn.Server(_config(waiter, host, port))
    serving = asyncio.create_task(server.serve())
    preparing = asyncio.create_task(waiter.until_prepared())
    await asyncio.wait((serving, preparing), return_when=asyncio.FIRST_COMPLETED)
    prepared = preparing.done()
    preparing.cancel()
    server.should_exit = True
    await serving
    return prepared


def _config(waiter: Waiter, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        waiter.answer,
        host=host,
        port=port,
        interface="asgi3",  # which uvicorn does not see of a method
        lifespan="off",
        proxy_headers=False,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=CLOSING,
    )
