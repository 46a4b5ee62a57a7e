"""Reading bodies: complete, bounded, and without delaying others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from errors import Overloaded
from gate import bodies as module
from gate.bodies import SMALL, USERS, Bodies, Release, replay
from gate.errors import BodyTimeout, BodyTooLarge

LIMIT = 1_000_000
PART = 100_000


class Sender:
    """A client that sends what a test tells it to."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reads = 0

    async def receive(self) -> dict[str, Any]:
        self.reads += 1
        return await self.messages.get()

    def send(self, count: int, *, more: bool = True) -> Sender:
        self.messages.put_nowait({"type": "http.request", "body": b"x" * count, "more_body": more})
        return self

    def send_all(self, size: int) -> Sender:
        for sent in range(0, size, PART):
            self.send(min(PART, size - sent), more=sent + PART < size)
        return self

    def leave(self) -> Sender:
        self.messages.put_nowait({"type": "http.disconnect"})
        return self


@pytest.fixture
def bodies() -> Bodies:
    return Bodies(limit=LIMIT, seconds=5)


@pytest.fixture
async def full(bodies: Bodies) -> list[Release]:
    """As many complete bodies as fit into memory."""
    releases = []
    for user in range(USERS):
        _, release = await read(bodies, Sender().send_all(LIMIT), user=f"full-{user}")
        releases.append(release)
    return releases


async def read(
    bodies: Bodies, sender: Sender, *, user: str = "a", announced: int | None = LIMIT
) -> tuple[bytes, Release]:
    async with asyncio.timeout(10):
        return await bodies.read(sender.receive, user_id=user, announced=announced)


async def test_a_body_in_pieces_arrives_whole(bodies: Bodies) -> None:
    sender = Sender()
    for part in (b"abc", b"", b"de"):
        sender.messages.put_nowait({"type": "http.request", "body": part, "more_body": True})
    sender.messages.put_nowait({"type": "http.request"})
    content, _ = await read(bodies, sender, announced=None)
    assert content == b"abcde"


async def test_a_body_of_no_bytes_is_whole(bodies: Bodies) -> None:
    content, _ = await read(bodies, Sender().send(0, more=False), announced=0)
    assert content == b""


async def test_an_endless_body_is_cut_at_the_limit(bodies: Bodies) -> None:
    sender = Sender()
    for _ in range(1000):
        sender.send(PART)
    with pytest.raises(BodyTooLarge):
        await read(bodies, sender, announced=None)
    assert sender.reads == LIMIT // PART + 1


async def test_bodies_of_one_byte_pieces_cost_their_bytes(bodies: Bodies) -> None:
    sender = Sender()
    for _ in range(70_000):
        sender.send(1)
    content, _ = await read(bodies, sender.send(0, more=False), announced=70_000)
    assert len(content) == 70_000


async def test_who_leaves_in_the_middle_is_noticed(bodies: Bodies) -> None:
    with pytest.raises(BodyTimeout) as refusal:
        await read(bodies, Sender().send(10).leave())
    assert refusal.value.reason == "client_left"


@pytest.mark.parametrize("announced", [SMALL, LIMIT])
async def test_a_sender_that_stalls_is_given_up_early(
    bodies: Bodies, announced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALL", 0.05)
    with pytest.raises(BodyTimeout, match="No byte"):
        await read(bodies, Sender().send(10), announced=announced)


async def test_a_body_that_drips_is_given_up_in_the_end() -> None:
    sender = Sender()

    async def drip() -> None:
        while True:
            sender.send(1)
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    with pytest.raises(BodyTimeout, match=r"within 0\.3 seconds"):
        await read(Bodies(limit=LIMIT, seconds=0.3), sender)
    dripping.cancel()


async def test_small_bodies_wait_for_nobody(bodies: Bodies, full: list[Release]) -> None:
    content, _ = await read(bodies, Sender().send(SMALL, more=False), announced=SMALL)
    assert len(content) == SMALL


async def test_large_bodies_are_not_read_from_until_there_is_room(
    bodies: Bodies, full: list[Release]
) -> None:
    sender = Sender().send_all(LIMIT)
    reading = asyncio.create_task(read(bodies, sender))
    await asyncio.sleep(0.05)
    assert sender.reads == 0
    full[2]()
    full[2]()
    content, _ = await reading
    assert len(content) == LIMIT


async def test_who_finds_no_room_is_told_to_come_back(full: list[Release], bodies: Bodies) -> None:
    bodies._seconds = 0.1
    sender = Sender().send_all(LIMIT)
    with pytest.raises(Overloaded):
        await read(bodies, sender)
    assert sender.reads == 0


async def test_waiting_takes_nothing_from_the_time_to_send(
    bodies: Bodies, full: list[Release]
) -> None:
    bodies._seconds = 0.3
    sender = Sender()
    reading = asyncio.create_task(read(bodies, sender))
    await asyncio.sleep(0.25)
    full[0]()
    await asyncio.sleep(0.2)
    sender.send_all(LIMIT)
    assert len((await reading)[0]) == LIMIT


async def test_large_bodies_of_one_user_take_turns(bodies: Bodies) -> None:
    _, release = await read(bodies, Sender().send_all(LIMIT), user="a")
    second = asyncio.create_task(read(bodies, Sender().send_all(LIMIT), user="a"))
    assert len((await read(bodies, Sender().send_all(LIMIT), user="b"))[0]) == LIMIT
    assert not second.done()
    release()
    assert len((await second)[0]) == LIMIT


async def test_senders_who_stall_give_way_to_those_who_send(bodies: Bodies) -> None:
    """Each body stops one piece before its end, for longer than GRACE."""
    stalled = [Sender().send_all(LIMIT - PART) for _ in range(USERS)]
    for sender in stalled:
        sender.messages._queue[-1]["more_body"] = True  # type: ignore[attr-defined]
    reading = [
        asyncio.create_task(read(bodies, sender, user=f"slow-{number}"))
        for number, sender in enumerate(stalled)
    ]
    await asyncio.sleep(0.01)
    content, _ = await read(bodies, Sender().send_all(LIMIT), user="fast")
    assert len(content) == LIMIT
    await asyncio.sleep(0.01)
    ended = [task for task in reading if task.done()]
    assert ended
    with pytest.raises(BodyTimeout, match="while others waited"):
        await ended[0]
    for sender, task in zip(stalled, reading, strict=True):
        if not task.done():
            sender.send(PART, more=False)
            await task


async def test_readers_who_fail_leave_no_trace(bodies: Bodies) -> None:
    for _ in range(20):
        with pytest.raises(BodyTimeout):
            await read(bodies, Sender().send(PART).leave())
        cancelled = asyncio.create_task(read(bodies, Sender().send(PART)))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
    assert not bodies._memory._bodies
    assert not bodies._turns
    assert not bodies._timers


async def test_a_body_is_handed_on_once_and_then_the_server_speaks() -> None:
    async def server() -> dict[str, str]:
        return {"type": "http.disconnect"}

    receive = replay(b"body", server)
    assert [await receive() for _ in range(3)] == [
        {"type": "http.request", "body": b"body", "more_body": False},
        {"type": "http.disconnect"},
        {"type": "http.disconnect"},
    ]
