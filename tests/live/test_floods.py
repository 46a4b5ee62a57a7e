"""Under attack: memory and series stay as they were, and those with a token are served."""

import asyncio
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from lab.server import USER, Server, serve, token

MB = 1_000_000


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[Server]:
    environment = {
        "MODEL_QUANTIZATION": "fp32",
        "RATE_LIMIT_PER_MIN": "100000",
        "BODY_TIMEOUT": "2",
        "MAX_QUEUE_TOKENS": "10000000",
        "MAX_IN_FLIGHT": "64",
    }
    with serve(tmp_path_factory.mktemp("besieged") / "log", environment) as running:
        yield running


def worker_memory(server: Server) -> int:
    """Resident bytes of all processes of the server."""
    processes = [
        psutil.Process(server.process.pid),
        *psutil.Process(server.process.pid).children(recursive=True),
    ]
    return sum(process.memory_info().rss for process in processes)


def is_served(server: Server) -> bool:
    """A user who has nothing else in flight."""
    with server.client(token(user_number(99))) as client:
        return client.post("/embed", json={"text": "still here"}).status_code == 200


def test_ten_thousand_paths_and_bad_tokens_leave_nothing_behind(besieged: Server) -> None:
    random.seed(1)

    async def flood(count: int) -> set[int]:
        limits = httpx.Limits(max_connections=32)
        async with httpx.AsyncClient(base_url=besieged.url, limits=limits, timeout=30) as client:

            async def one(number: int) -> int:
                if number % 2:
                    return (await client.get(f"/{random.getrandbits(64):x}")).status_code
                address = f"203.0.113.{random.randrange(256)}"  # as a local proxy reports it
                headers = {
                    "Authorization": f"Bearer {random.getrandbits(256):x}.{number}.x",
                    "X-Forwarded-For": address,
                }
                return (
                    await client.post("/embed", json={"text": "a"}, headers=headers)
                ).status_code

            return {
                status
                for start in range(0, count, 500)
                for status in await asyncio.gather(*map(one, range(start, start + 500)))
            }

    asyncio.run(flood(1_000))
    httpx.get(f"{besieged.url}/metrics")  # which counts itself from the next time on
    memory, series = worker_memory(besieged), len(httpx.get(f"{besieged.url}/metrics").text)
    assert asyncio.run(flood(10_000)) <= {401, 404, 429}
    assert worker_memory(besieged) - memory < 15 * MB
    assert (
        len(httpx.get(f"{besieged.url}/metrics").text) - series < 500
    )  # numbers grow longer, no line is added


def open_request(server: Server, *, length: str, user: str = USER) -> socket.socket:
    connection = socket.create_connection(
        ("127.0.0.1", httpx.URL(server.url).port or 0), timeout=20
    )
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(user)}\r\n"
    head += f"Content-Type: application/json\r\n{length}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def user_number(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def test_a_200_mb_body_costs_a_megabyte(besieged: Server) -> None:
    memory = worker_memory(besieged)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0
    with open_request(besieged, length="Transfer-Encoding: chunked") as connection:
        try:
            while sent < 200 * MB:
                connection.sendall(chunk)
                sent += len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 20 * MB  # the connection was closed on it
    assert worker_memory(besieged) - memory < 15 * MB


def test_slow_senders_are_cut_off_and_others_served_meanwhile(besieged: Server) -> None:
    slow = [open_request(besieged, length="Content-Length: 1000") for _ in range(40)]
    assert is_served(besieged)
    for connection in slow:
        with connection:
            assert connection.recv(100).startswith((b"HTTP/1.1 408", b"HTTP/1.1 429"))
    assert is_served(besieged)


def test_slow_bodies_of_a_few_accounts_leave_everybody_else_served(besieged: Server) -> None:
    with ExitStack() as stack:
        for number in range(4 * 64):
            connection = stack.enter_context(
                open_request(besieged, length="Content-Length: 1000", user=user_number(number % 4))
            )
            connection.sendall(b"{")
        statuses = []
        for number in range(63):
            with besieged.client(token(user_number(100 + number % 9))) as client:
                statuses.append(client.post("/embed", json={"text": "still here"}).status_code)
    assert statuses == [200] * 63


LARGEST = 8_388_608  # bytes of a body, by default


async def send_slowly(server: Server, user: str) -> None:
    """Send nearly all of the largest body at once and the rest slowly; again when it is ended."""
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(user)}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {LARGEST}\r\n\r\n"
    while True:
        _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(server.url).port or 0)
        try:
            writer.write(head.encode())
            for _ in range(LARGEST // 65_536 - 1):
                writer.write(b" " * 65_536)
                await writer.drain()
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.3)
        except OSError:
            pass
        finally:
            writer.transport.abort()


def test_slow_senders_of_the_largest_bodies_leave_memory_and_others_alone(
    tmp_path: Path, model_store: Path
) -> None:
    """64 of them, of eight accounts: more than there is room for, and more than a user may have."""
    environment = {"MODEL_QUANTIZATION": "fp32", "RATE_LIMIT_PER_MIN": "100000"}
    small = b'{"text": "still here"}'

    async def victim(server: Server) -> tuple[list[int], int]:
        headers = {"Authorization": f"Bearer {token(user_number(99))}"}
        headers["Content-Type"] = "application/json"
        statuses, peak = [], 0
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:
            for _ in range(10):
                for padding in (b"", b" " * (LARGEST // 2)):
                    answer = await client.post("/embed", content=small + padding)
                    statuses.append(answer.status_code)
                    peak = max(peak, worker_memory(server))
        return statuses, peak

    async def under_siege(server: Server) -> tuple[list[int], int]:
        senders = [
            asyncio.create_task(send_slowly(server, user_number(number % 8)))
            for number in range(64)
        ]
        await asyncio.sleep(3)
        result = await victim(server)
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        await asyncio.sleep(0.1)
        return result

    with serve(tmp_path / "log", environment) as server:
        asyncio.run(victim(server))
        before = worker_memory(server)
        statuses, peak = asyncio.run(under_siege(server))
    assert statuses == [200] * 20
    assert peak - before < 100 * MB


def test_more_in_flight_than_the_cap_is_told_to_come_back(besieged: Server) -> None:
    """Users with nothing in flight find twice as many places as those who have something."""
    users = [user_number(number) for number in range(200)]

    async def call(client: httpx.AsyncClient, user: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token(user)}"}
        return await client.post(
            "/batch-embed", json={"texts": ["word " * 100] * 4}, headers=headers
        )

    async def burst() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=besieged.url, limits=limits, timeout=120) as client:
            return await asyncio.gather(*(call(client, user) for user in users))

    answers = asyncio.run(burst())
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 128
    assert all(
        int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 503
    )
