"""Bodies on their way in."""

from __future__ import annotations

from auth.admission import read_body, replay


async def test_body_is_handed_on_once_and_then_the_server_speaks() -> None:
    async def server() -> dict[str, str]:
        return {"type": "http.disconnect"}

    receive = replay(b"body", server)
    assert [await receive() for _ in range(3)] == [
        {"type": "http.request", "body": b"body", "more_body": False},
        {"type": "http.disconnect"},
        {"type": "http.disconnect"},
    ]


async def test_empty_body_is_whole() -> None:
    async def server() -> dict[str, object]:
        return {"type": "http.request"}

    assert await read_body(server, limit=0, seconds=1.0) == b""
