"""Forms with one file (multipart/form-data), read as they come."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request
from starlette.types import Receive

from api.errors import ClientGoneError, MalformedFormError
from api.turns import Turn
from errors import GateError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 16  # besides the file
MAX_FIELD_BYTES = 1_024
MAX_FILENAME = 255  # characters
MAX_TYPE = 512  # bytes of Content-Type: 16 KiB of semicolons and quotes took 9 ms
MAX_HEADERS, MAX_HEADER_BYTES = 8, 2_048  # of one part
SLICE = 16_384  # bytes that are parsed in one turn of the event loop
FRAMING = 65_536  # bytes of a form that are not its file's
_Write: TypeAlias = Callable[[bytes], Awaitable[None]]


class Form:
    """What the parser has found so far.

    Attributes:
        fields: name -> value, but for the file.
        filename: of the file; None if there was none yet.
        content: of the file, which the reader takes out.
        complete: whether the last boundary has come.
    """

    def __init__(self, content_type: str, *, file: str) -> None:
        """Raises MalformedFormError for a type without a boundary, or a long one."""
        self._file = file
        self._name: str | None = None  # of the part that is being read; None for the file
        self._header = self._value = b""
        self._disposition = b""
        self.fields: dict[str, bytearray] = {}
        self.filename: str | None = None
        self.content = bytearray()
        self.complete = False
        self._n_parts = 0
        if len(content_type) > MAX_TYPE:
            raise MalformedFormError(f"Content-Type: longer than {MAX_TYPE} bytes. Send a form.")
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise MalformedFormError("Content-Type: the boundary is missing. Send a form.")
        self._parser = _parser(boundary, self._callbacks())

    def take(self, piece: bytes) -> None:
        """Parse the next bytes. Raises MalformedFormError."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise MalformedFormError("The body is not a form. Send multipart/form-data.") from error

    def _callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._on_data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._n_parts += 1
        if self._n_parts > MAX_FIELDS + 1:  # 16 KiB of small parts took 7 ms
            raise MalformedFormError(f"The form has more than {MAX_FIELDS} fields. Send fewer.")
        self._header = self._value = self._disposition = b""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _end_headers(self) -> None:
        options = parse_options_header(self._disposition)[1]
        name = options.get(b"name", b"").decode(errors="replace")
        if b"filename" in options:
            self._begin_file(name, options[b"filename"].decode(errors="replace"))
        else:
            self._name = name
            self.fields[name] = bytearray()

    def _begin_file(self, name: str, filename: str) -> None:
        if name != self._file or self.filename is not None:
            raise MalformedFormError(f"Send one file, in the field {self._file}.", param=name[:64])
        self._name, self.filename = None, filename[:MAX_FILENAME]

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            self.content += data[start:end]
            return
        value = self.fields[self._name]
        value += data[start:end]
        if len(value) > MAX_FIELD_BYTES:
            name = self._name[:64]
            raise MalformedFormError(f"{name}: longer than {MAX_FIELD_BYTES} bytes.", param=name)

    def _end(self) -> None:
        self.complete = True


class FormReader:
    """Reads a form with one file, in slices between which other requests run.

    Args:
        request: whose body is a form.
        file: the field that has the file.
        turn: waited for before each slice.
    """

    def __init__(self, request: Request, *, file: str, turn: Turn) -> None:
        self._receive: Receive = request.receive
        self._type = request.headers.get("content-type", "")
        self._file = file
        self._turn = turn
        self._ended = False

    async def read(self, write: _Write) -> Form:
        """Read all of it; the content of the file is given to `write`, piece by piece.

        Raises:
            MalformedFormError: it is no such form.
            GateError: the body is too large, or does not come in time.
            ClientGoneError: the client left.
        """
        form = Form(self._type, file=self._file)
        async for body in self._bodies():
            for start in range(0, len(body), SLICE):
                await self._turn()
                form.take(body[start : start + SLICE])
            if form.content:
                content, form.content = bytes(form.content), bytearray()
                await write(content)
        if not form.complete:
            raise MalformedFormError("The form ends before its last boundary. Send all of it.")
        if form.filename is None:
            raise MalformedFormError(f"{self._file}: this file is missing.", param=self._file)
        return form

    async def drain(self) -> None:
        """Read the rest and drop it: a client that still sends would not read its answer."""
        with suppress(GateError, ClientGoneError):
            async for _ in self._bodies():
                pass

    async def _bodies(self) -> AsyncIterator[bytes]:
        while not self._ended:
            self._ended = True  # also if it raises: then nothing more comes
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            self._ended = not message.get("more_body", False)
            yield message.get("body", b"")


def _parser(boundary: bytes, callbacks: "MultipartCallbacks") -> MultipartParser:
    try:
        return MultipartParser(
            boundary, callbacks, max_header_count=MAX_HEADERS, max_header_size=MAX_HEADER_BYTES
        )
    except FormParserError as error:
        raise MalformedFormError("Content-Type: the boundary is too long. Send a form.") from error
