"""Content with an ETag."""

import pytest

from api.fixed import PIECE, Fixed
from api.pages import DOCS_PATHS, docs_page
from tests.api.asgi import Client

CONTENT = b"0123456789" * 20_000


async def get(app: Fixed, *known: bytes) -> Client:
    client = Client()
    await client.call(app, headers=[(b"if-none-match", tags) for tags in known])
    return client


async def test_content_is_sent_in_pieces_with_its_length_and_tag() -> None:
    client = await get(Fixed(CONTENT, "text/plain"))
    assert (client.status, client.body, client.complete) == (200, CONTENT, True)
    assert client.headers[b"content-length"] == b"200000"
    assert client.headers[b"content-type"] == b"text/plain"
    assert client.headers[b"cache-control"] == b"no-cache"
    assert max(map(len, client.pieces)) == PIECE


@pytest.mark.parametrize(
    "known", [["{}"], ["W/{}"], ["*"], [' "other", W/{} '], ['"other"', "{}"], ['"a,b",{}']]
)
async def test_a_client_that_has_it_is_told_so(known: list[str]) -> None:
    fixed = Fixed(CONTENT, "text/plain")
    tag = (await get(fixed)).headers[b"etag"].decode()
    client = await get(fixed, *(tags.replace("{}", tag).encode() for tags in known))
    assert (client.status, client.body, client.complete) == (304, b"", True)
    assert client.headers == {b"etag": tag.encode(), b"cache-control": b"no-cache"}


@pytest.mark.parametrize("known", [b'"other"', b"", b"nonsense", b'"', b"W/"])
async def test_a_client_that_has_something_else_gets_the_content(known: bytes) -> None:
    assert (await get(Fixed(CONTENT, "text/plain"), known)).status == 200


async def test_other_content_has_another_tag() -> None:
    tags = [(await get(Fixed(content, "text/plain"))).headers[b"etag"] for content in (b"a", b"b")]
    assert tags[0] != tags[1]


@pytest.mark.parametrize("path", DOCS_PATHS)
async def test_pages_of_the_documentation_are_read_once(path: str) -> None:
    assert docs_page(path) is docs_page(path)
    client = await get(docs_page(path))
    assert client.headers[b"content-type"].split(b"/")[0] in {b"text", b"image"}
    assert client.headers[b"x-frame-options"] == b"DENY"
    assert (await get(docs_page(path), client.headers[b"etag"])).status == 304
