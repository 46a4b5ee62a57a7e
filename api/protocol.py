"""uvicorn's connection over httptools, with bounds on what one connection may cost.

httptools has no limits of its own: 100 MB of header lines took 550 to 3,150 MB, one value of 100 MB
12 s of CPU, and trailers became headers of the request. uvicorn's h11 has limits, and costs 108 us
of CPU per request where this costs 48.

What is refused here is answered by the application like any request, in the order of requests:
`RequestState.refused` holds the error, and `api/refused.py` raises it.
"""

import asyncio
import contextlib
import socket
from functools import partial
from typing import Any, ClassVar

import httptools
from uvicorn.config import HTTP_PROTOCOLS, WS_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.bounds import (
    HEAD_TIMEOUT,
    LARGE_PIECE,
    MAX_CONNECTIONS,
    MAX_HEADER_LINES,
    MAX_HELD_BYTES,
    MAX_OVERHEAD,
    MAX_PIPELINED,
    MAX_URL_BYTES,
    MAX_WAITING_BYTES,
    PIECE,
    READS_PER_TURN,
    UNSENT,
    TooManyPipelinedError,
    bad_framing,
    connections_allowed,
    late_head,
    offers_upgrade,
    reason_of_parser,
)
from api.turns import Turns
from api.unread import unacknowledged
from api.waiting import HeldBytes, Waiting
from errors import GateError
from gate.errors import BadHeader, HeadersTooLarge, UrlTooLong
from request_state import state_of

REFUSED = b"GET /- HTTP/1.0\r\n\r\n"  # stands for what was not parsed; closes the connection


class Connection(HttpToolsProtocol):
    """One connection: its heads, its framing and its unread answers are bounded.

    `RequestState.abort_connection()` ends it at once, with whatever was not sent.
    """

    answer_timeout = 30.0  # seconds; a client that reads nothing for so long is aborted
    max_connections = MAX_CONNECTIONS
    waiting: "ClassVar[Waiting[Connection]]" = Waiting(max_bytes=MAX_WAITING_BYTES)
    held: "ClassVar[HeldBytes]" = HeldBytes(max_per_user=MAX_HELD_BYTES, small=PIECE)
    turns: "ClassVar[Turns]" = Turns(READS_PER_TURN)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._overhead = 0  # bytes of the head so far, or of its body's framing less its content
        self._in_head = self._in_body = False
        self._ended = False  # nothing more is read
        self._refusal: GateError | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._n_resumed = 0  # times that a full write buffer has become nearly empty
        self._answering: RequestResponseCycle | None = None
        self._held = b""  # what came and waits for its turn; nothing more is read meanwhile

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        with contextlib.suppress(OSError):  # not every system has it
            option = (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
            transport.get_extra_info("socket").setsockopt(*option, UNSENT)
        self.waiting.wait(self)
        self._make_room()
        wait = self.timeout_keep_alive  # proxies open some and do not use them
        self.timeout_keep_alive_task = self.loop.call_later(wait, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self.waiting.end(self)
        self._stop_head_timer()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
        super().connection_lost(exc)
        # Else a reference cycle with uvicorn's own, and up to 320 KB of a refused body in it.
        self.cycle = self._answering = None  # type: ignore[assignment]

    # --- requests -----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._unset_keepalive_if_required()
        user = self._user()
        cost = 1 + len(data) // LARGE_PIECE
        later = partial(self._read_held, user)
        if not self._held and self.turns.take(user=user, later=later, cost=cost):
            self._read(data)
        elif self.held.add(user, len(data)):
            self._held += data
            self.transport.pause_reading()  # not `flow`, which the application resumes
        else:
            self.abort()

    def _user(self) -> str:
        """The user whose turns it takes: its last request's; new connections count as one user."""
        return "new" if self.cycle is None else state_of(self.cycle.scope).user_id

    def _read_held(self, user: str) -> None:
        data, self._held = self._held, b""
        self.held.remove(user, len(data))
        if self.transport.is_closing():
            return
        if not self.flow.read_paused:
            self.transport.resume_reading()
        if not self._ended:
            self._unset_keepalive_if_required()  # of a request that was answered meanwhile
            self._read(data)

    def _read(self, data: bytes) -> None:
        pieces = memoryview(data)
        while pieces and not self._ended:
            size = LARGE_PIECE if self._in_body else PIECE  # uvicorn appends each to those before
            self._parse(pieces[:size])
            pieces = pieces[size:]
        if not self._in_body and not self._ended and (self._in_head or self._overhead):
            self._wait_for_head()

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT, self._head_is_late)
        if self in self.waiting:
            self.waiting.wait(self, sent=self._overhead)
            self._make_room()

    def _make_room(self) -> None:
        """Abort the connections that have waited longest for their client."""
        surplus = len(self.connections) - self.max_connections
        for connection in self.waiting.beyond(connections=surplus):
            self.connections.discard(connection)
            connection.abort()

    def _parse(self, piece: memoryview) -> None:
        self._overhead += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:  # to a protocol that is not supported
            self._end_after_answers()
        except httptools.HttpParserError as error:
            self._refuse(reason_of_parser(error))
        if self._overhead > MAX_OVERHEAD and not self._ended:
            self._refuse(bad_framing() if self._in_body else HeadersTooLarge(limit=MAX_OVERHEAD))
        self._overhead = max(0, self._overhead)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED and self._refusal is None:
            raise TooManyPipelinedError
        super().on_message_begin()
        self._in_head = True
        state_of(self.scope).abort_connection = self.abort

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            raise UrlTooLong(limit=MAX_URL_BYTES)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:  # a trailer, which must not become a header (RFC 9110 §6.5.1)
            return
        if len(self.headers) >= MAX_HEADER_LINES:
            raise HeadersTooLarge(limit=MAX_HEADER_LINES, unit="lines")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._overhead, self._in_head, self._in_body = 0, False, True
        self.waiting.end(self)
        self._stop_head_timer()
        self._tell(self._refusal or self._upgrade_with_body())

    def on_body(self, body: bytes) -> None:
        self._overhead -= 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._overhead, self._in_body = 0, False

    def _should_upgrade_to_ws(self) -> bool:
        return False

    def _upgrade_with_body(self) -> BadHeader | None:
        """The error of a request with a body and Upgrade: httptools would drop the body."""
        lengths = {b"transfer-encoding": b"", b"content-length": b"0"}
        announced = any(name in lengths and value != lengths[name] for name, value in self.headers)
        return offers_upgrade() if announced and self.parser.should_upgrade() else None

    # --- ends ---------------------------------------------------------------------------------

    def abort(self) -> None:
        """End the connection now; the request being answered ends with AnswerUnreadError."""
        self._ended = True
        if self._answering is not None:
            state_of(self._answering.scope).unread = True
        self.transport.abort()

    def _refuse(self, error: GateError | None) -> None:
        """Answer `error`, if there is one, after the answers that are due; read nothing more."""
        if error is None or self._in_body:
            self._tell(error)
            self._end_after_answers()
        else:
            self._refusal, self._ended = error, True
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(REFUSED)

    def _tell(self, error: GateError | None) -> None:
        """Answer `error` to the request that was read last, or is being read."""
        if error is not None:
            state_of(self.cycle.scope).refused = error
            self.cycle.message_event.set()  # it may be waiting for its body

    def _end_after_answers(self) -> None:
        self._ended = True
        self._stop_head_timer()
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.flow.read_paused or self._held:  # by us: the rest may have arrived
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT, self._head_is_late)
        else:
            self._refuse(late_head())

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    # --- answers ------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.waiting.wait(self)
        self._watch_answer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._n_resumed += 1
        if self._answering is not None and not self._answering.response_complete:
            self.waiting.end(self)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:  # kept open for another request
            self.waiting.wait(self)
        self._watch_answer()

    def _watch_answer(self) -> None:
        if self.transport.get_write_buffer_size() and self._answer_timer is None:
            now = self._progress()
            self._answer_timer = self.loop.call_later(self.answer_timeout, self._check_answer, now)

    def _check_answer(self, before: tuple[int, int, int]) -> None:
        self._answer_timer = None
        if self._progress() == before:
            self.abort()
        else:
            self._watch_answer()

    def _progress(self) -> tuple[int, int, int]:
        """Three numbers, one of which changes with every byte that the client takes.

        The buffer alone is not enough: it moves in steps of up to 64 KiB, and may be filled again
        to the same size between two checks.
        """
        descriptor = self.transport.get_extra_info("socket").fileno()
        return self._n_resumed, self.transport.get_write_buffer_size(), unacknowledged(descriptor)


def use_bounded_connections(*, answer_timeout: float) -> None:
    """Make uvicorn use `Connection`; call before it loads its configuration."""
    Connection.answer_timeout = answer_timeout
    Connection.max_connections = connections_allowed()
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{Connection.__name__}"
    WS_PROTOCOLS["auto"] = None
