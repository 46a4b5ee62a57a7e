"""Answers as JSON in pieces.

A large answer does not block the event loop, and is never in memory as a whole.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, TypeAlias

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.disconnect import unless_gone
from api.turns import Turn, next_turn
from api.unread import UnreadAnswers
from request_state import state_of

PIECE = 65_536  # bytes; a single longer item of a list makes a longer piece
JSON = "application/json"
Content: TypeAlias = Mapping[str, Any] | Iterator[Any]


def json_bytes(value: Any) -> bytes:
    """`value` as JSON. NumPy float32 values have the shortest digits that read back the same."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def json_pieces(answer: Content) -> Iterator[bytes]:
    """`answer` as JSON in pieces of at most `PIECE` bytes; an iterator becomes a list."""
    piece = bytearray()
    for part in _parts(answer):
        if piece and len(piece) + len(part) > PIECE:
            yield bytes(piece)
            piece.clear()
        piece += part
    yield bytes(piece)


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, Iterator):
        yield from _items(value)
    elif isinstance(value, Mapping):
        yield from _members(value)
    else:
        yield json_bytes(value)


def _members(answer: Mapping[str, Any]) -> Iterator[bytes]:
    yield b"{"
    separator = b""
    for name, value in answer.items():
        yield separator + json_bytes(name) + b":"
        yield from _parts(value)
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
    """One answer: with Content-Length if it is one piece, else sent piece by piece as it is read.

    Args:
        content: a JSON object or list, with large lists as iterators.
        unread: counts the memory of all answers that are being sent.
        turn: awaited after each piece, before the next one is made.
    """

    def __init__(
        self,
        content: Content,
        unread: UnreadAnswers,
        turn: Turn = next_turn,
    ) -> None:
        self._content = content
        self._unread = unread
        self._turn = turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer.

        Raises:
            ClientGoneError: the client left after the answer had begun.
            AnswerUnreadError: `send` found that the client does not read.
        """
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
            await self._turn()  # `send` itself waits only if the client is slow
