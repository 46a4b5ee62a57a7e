"""Parts of files that clients ask for."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from api.dialects.openai_files import _one_range


async def asked(path: Path, ranges: list[str]) -> httpx.Response:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await FileResponse(path)(_one_range(scope), receive, send)

    transport: Any = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get("/", headers=[("range", value) for value in ranges])


@pytest.mark.parametrize(
    ("ranges", "status", "content"),
    [
        ([], 200, b"0123456789"),
        (["bytes=2-4"], 206, b"234"),
        (["bytes=7-"], 206, b"789"),
        (["bytes=-2"], 206, b"89"),
        (["bytes=20-"], 416, b""),
        (["bytes=5-1"], 200, b"0123456789"),
        (["bytes=-"], 200, b"0123456789"),
        (["bytes=0-0,2-2"], 200, b"0123456789"),
        (["lines=1-2"], 200, b"0123456789"),
        (["bytes=0-1", "bytes=2-3"], 200, b"0123456789"),
    ],
)
async def test_one_valid_range_is_sent_and_everything_else_is_the_whole_file(
    tmp_path: Path, ranges: list[str], status: int, content: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    answer = await asked(path, ranges)
    assert (answer.status_code, answer.content) == (status, content)
