"""Answers as JSON in pieces: a large one neither blocks the event loop nor exists whole."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.disconnect import unless_gone
from api.turns import Turn, next_turn
from api.unread import UnreadAnswers
from request_state import state_of

PIECE = 65_536  # bytes; longer only where one item of a list is
JSON = "application/json"


def json_bytes(value: Any) -> bytes:
    """`value` as JSON. NumPy float32 values have the shortest digits that read back the same."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def json_pieces(answer: Mapping[str, Any]) -> Iterator[bytes]:
    """`answer` as JSON, in pieces of at most `PIECE` bytes. An iterator in it becomes a list, item by item."""
    piece = bytearray()
    for part in _parts(answer):
        if piece and len(piece) + len(part) > PIECE:
            yield bytes(piece)
            piece.clear()
        piece += part
    yield bytes(piece)


def _parts(answer: Mapping[str, Any]) -> Iterator[bytes]:
    yield b"{"
    separator = b""
    for name, value in answer.items():
        yield separator + json_bytes(name) + b":"
        if isinstance(value, Iterator):
            yield from _items(value)
        else:
            yield json_bytes(value)
        separator = b","
    yield b"}"


def _items(items: Iterator[Any]) -> Iterator[bytes]:
    yield b"["
    separator = b""
    for item in items:
        yield separator + json_bytes(item)
        separator = b","
    yield b"]"


class Answer:
    """One answer to send: with Content-Length when it is one piece, else piece by piece as it is read.

    Args:
        content: a JSON object, large lists in it as iterators.
        unread: the answers of all users that are being read.
        turn: waited for before each piece but the first.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        unread: UnreadAnswers,
        turn: Turn = next_turn,
    ) -> None:
        self._content = content
        self._unread = unread
        self._turn = turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ClientGoneError after the answer has begun, and AnswerUnreadError of `send`."""
        pieces = json_pieces(self._content)
        first, second = next(pieces), next(pieces, None)
        if second is None:
            await Response(first, media_type=JSON)(scope, receive, send)
        else:
            await self._stream(chain([first, second], pieces), scope, receive, send)

    async def _stream(
        self, pieces: Iterator[bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        state = state_of(scope)
        headers = [(b"content-type", JSON.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        with self._unread.hold(
            state.answer_bytes, user=state.user_id, abort=state.abort_connection
        ) as held:
            await unless_gone(self._send(pieces, send, held.progress), receive)
            await send({"type": "http.response.body", "body": b""})

    async def _send(
        self, pieces: Iterator[bytes], send: Send, progress: Callable[[], None]
    ) -> None:
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            progress()
            await self._turn()  # `send` waits for slow clients alone
