"""Forms with one file, as clients send them and as nobody should."""

import re
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from api.errors import ClientGoneError, MalformedFormError
from api.forms import MAX_FIELD_BYTES, MAX_FIELDS, Form, FormReader
from api.turns import next_turn
from gate.errors import BodyTimeout

BYTES = st.lists(st.sampled_from([b"\r", b"\n", b"--", b"boundary", b"a", b'"'])).map(b"".join)


def encoded(content: bytes, **fields: str) -> tuple[str, bytes]:
    """A form as httpx writes it: its content type and its body."""
    files = {"file": ("in.jsonl", content)}
    request = httpx.Request("POST", "http://test", data=fields, files=files)
    return request.headers["content-type"], request.read()


async def read(content_type: str, body: bytes, *, piece: int = 1000) -> tuple[Form, bytes]:
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)] or [b""]

    async def receive() -> dict[str, Any]:
        if not pieces:
            return {"type": "http.disconnect"}
        first = pieces.pop(0)
        return {"type": "http.request", "body": first, "more_body": bool(pieces)}

    headers = [(b"content-type", content_type.encode())]
    request = Request({"type": "http", "headers": headers}, receive)
    written = bytearray()

    async def write(found: bytes) -> None:
        written.extend(found)

    form = await FormReader(request, file="file", turn=next_turn).read(write)
    return form, bytes(written)


@given(content=BYTES, piece=st.integers(1, 40))
async def test_the_file_is_what_was_sent_however_it_comes(content: bytes, piece: int) -> None:
    form, written = await read(*encoded(content, purpose="batch"), piece=piece)
    assert written == content
    assert (form.filename, form.fields) == ("in.jsonl", {"purpose": bytearray(b"batch")})


async def test_fields_may_come_behind_the_file() -> None:
    content_type, body = encoded(b"x", purpose="batch")
    mark = body[: body.index(b"\r\n")]
    purpose, file = re.findall(rb"(?s)(Content-Disposition.*?)(?=%s)" % mark, body)
    form, written = await read(
        content_type, mark + b"\r\n" + file + mark + b"\r\n" + purpose + mark + b"--\r\n"
    )
    assert (written, bytes(form.fields["purpose"])) == (b"x", b"batch")


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=" + "b" * 300]
)
async def test_a_boundary_that_cannot_be_is_refused(content_type: str) -> None:
    with pytest.raises(MalformedFormError, match="boundary"):
        await read(content_type, b"x")


@pytest.mark.parametrize("cut", [0, 1, 50, -10])
async def test_a_form_that_ends_early_is_refused(cut: int) -> None:
    content_type, body = encoded(b"x" * 100)
    with pytest.raises(MalformedFormError):
        await read(content_type, body[:cut])


async def test_what_is_no_form_is_refused() -> None:
    with pytest.raises(MalformedFormError):
        await read("multipart/form-data; boundary=b", b"hello")


async def test_a_form_without_the_file_or_with_two_is_refused() -> None:
    request = httpx.Request("POST", "http://test", files={"other": ("a", b"x")})
    with pytest.raises(MalformedFormError, match="field file"):
        await read(request.headers["content-type"], request.read())
    files = [("file", ("a", b"x")), ("file", ("b", b"y"))]
    request = httpx.Request("POST", "http://test", files=files)
    with pytest.raises(MalformedFormError, match="one file"):
        await read(request.headers["content-type"], request.read())


async def test_long_or_many_fields_are_refused() -> None:
    with pytest.raises(MalformedFormError, match="longer"):
        await read(*encoded(b"x", purpose="p" * (MAX_FIELD_BYTES + 1)))
    with pytest.raises(MalformedFormError, match="fields"):
        await read(*encoded(b"x", **{f"f{number}": "" for number in range(MAX_FIELDS + 1)}))


def parts(*headers: bytes) -> bytes:
    """A form of fields with these headers, which never ends."""
    return b"--b\r\n" + b"".join(part + b"\r\n\r\nx\r\n--b\r\n" for part in headers)


SMALL_PARTS = [
    b"\r\n" + b"\r\n\r\n--b\r\n" * 300,
    parts(*[b'Content-Disposition: form-data; name="a"'] * 300)[3:],
    parts(b'Content-Disposition: form-data; name="' + b";" * 4_000 + b'"')[3:],
]


@pytest.mark.parametrize("body", SMALL_PARTS, ids=["empty", "one name", "long header"])
async def test_parts_are_few_and_their_headers_short(body: bytes) -> None:
    with pytest.raises(MalformedFormError, match=r"fields|not a form"):
        Form("multipart/form-data; boundary=b", file="file").take(b"--b" + body)


@pytest.mark.parametrize("options", [";" * 600, ';"' * 300, "; a=b" * 200])
async def test_a_long_content_type_is_refused(options: str) -> None:
    with pytest.raises(MalformedFormError, match="Content-Type"):
        await read("multipart/form-data; boundary=b" + options, b"x")


async def test_a_file_may_have_the_longest_name_of_a_file_system() -> None:
    files = {"file": ("안" * 85, b"x")}
    request = httpx.Request("POST", "http://test", files=files)
    form, _ = await read(request.headers["content-type"], request.read())
    assert form.filename == "안" * 85


async def test_a_client_that_leaves_ends_the_reading() -> None:
    content_type, _ = encoded(b"x" * 100)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    headers = [(b"content-type", content_type.encode())]
    reader = FormReader(
        Request({"type": "http", "headers": headers}, receive), file="file", turn=next_turn
    )

    async def write(found: bytes) -> None:
        raise AssertionError

    with pytest.raises(ClientGoneError):
        await reader.read(write)
    await reader.drain()


async def test_after_a_body_that_stalled_nothing_more_is_waited_for() -> None:
    content_type, _ = encoded(b"x" * 100)
    asked = 0

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        raise BodyTimeout("it came too slowly")

    headers = [(b"content-type", content_type.encode())]
    reader = FormReader(
        Request({"type": "http", "headers": headers}, receive), file="file", turn=next_turn
    )
    with pytest.raises(BodyTimeout):
        await reader.read(_nowhere)
    await reader.drain()
    assert asked == 1


async def _nowhere(content: bytes) -> None:
    """A file that takes everything."""
