"""Answers larger than one piece, and those that nobody reads."""

import json
import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from lab.server import Server, serve, token
from tests.live.calls import MODEL, answer, post
from tests.live.conftest import PLENTY

MB = 1_000_000
MANY = [f"a text of its own, number {number}" for number in range(300)]


@pytest.mark.parametrize("encoding", ["float", "base64", "int8", "binary"])
def test_a_large_answer_has_the_vectors_of_small_ones(gemma_server: Server, encoding: str) -> None:
    """It comes in pieces, without Content-Length."""
    options: dict[str, Any] = {"encoding_format": encoding, "dimensions": 512}
    whole = post(gemma_server, "/batch-embed", texts=MANY, **options)
    listed = post(gemma_server, "/v1/embeddings", model=MODEL, input=MANY, **options).json()
    for start in (0, 299):
        few = post(gemma_server, "/batch-embed", texts=MANY[start : start + 2], **options)
        assert int(few.headers["content-length"]) == len(few.content)
        expected = few.json()["embeddings"]
        assert whole.json()["embeddings"][start : start + 2] == expected
        data = listed["data"][start : start + 2]
        assert [item["embedding"] for item in data] == expected
    assert ("content-length" in whole.headers) == (len(whole.content) <= 65_536)


def test_large_answers_of_other_routes_are_whole_too(gemma_server: Server) -> None:
    ids = answer(gemma_server, "/tokenize", texts=["word " * 2000] * 40)["texts"]
    assert len(ids) == 40
    assert all(text == ids[0] for text in ids)
    cosines = np.array(answer(gemma_server, "/similarity", texts=MANY[:256])["similarities"])
    assert cosines.shape == (256, 256)
    np.testing.assert_array_equal(cosines, cosines.T)


def test_a_client_of_http_1_0_reads_a_large_answer(gemma_server: Server) -> None:
    body = json.dumps({"texts": MANY}).encode()
    address = httpx.URL(gemma_server.url)
    head = f"POST /batch-embed HTTP/1.0\r\nAuthorization: Bearer {token()}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((address.host, address.port or 0), timeout=60) as connection:
        connection.sendall(head.encode() + body)
        read = HTTPResponse(connection)
        read.begin()
        assert len(json.loads(read.read())["embeddings"]) == len(MANY)


def test_a_client_that_leaves_in_the_middle_of_its_answer_harms_nobody(
    gemma_server: Server,
) -> None:
    with gemma_server.client() as client:
        for _ in range(3):
            with client.stream("POST", "/batch-embed", json={"texts": MANY}) as response:
                next(response.iter_raw())
    assert answer(gemma_server, "/embed", text="still here")["embedding"]


def unread(server: Server, texts: list[str], user: str) -> socket.socket:
    """A request of `user` that has been sent, by a client that takes little of its answer."""
    body = json.dumps({"texts": texts}).encode()
    address = httpx.URL(server.url)
    connection = socket.create_connection((address.host, address.port or 0), timeout=60)
    head = f"POST /batch-embed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(user)}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def begun(connection: socket.socket) -> socket.socket:
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def memory(server: Server) -> int:
    """Resident bytes of all processes of the server."""
    supervisor = psutil.Process(server.process.pid)
    processes = [supervisor, *supervisor.children(recursive=True)]
    return sum(process.memory_info().rss for process in processes)


def is_aborted(connection: socket.socket) -> bool:
    end = b""
    try:
        while not end.endswith(b"\r\n0\r\n\r\n"):
            piece = connection.recv(1 << 20)
            if not piece:
                return True
            end = end[-10:] + piece
    except ConnectionResetError:
        return True
    return False


@pytest.fixture
def patient_server(gemma_directory: Path, tmp_path: Path) -> Iterator[Server]:
    """A server that ends no answer for standing still."""
    environment = PLENTY | {"MODEL_QUANTIZATION": "fp32", "MODEL_NAME": str(gemma_directory)}
    with serve(tmp_path / "log", environment | {"ANSWER_TIMEOUT": "600"}) as running:
        yield running


def test_answers_that_nobody_reads_make_room_for_others(patient_server: Server) -> None:
    """Each is 6.3 MB of vectors and 19 MB of JSON; 64 MB of vectors are kept."""
    texts = [f"text {number}" for number in range(2048)]
    begun(unread(patient_server, texts, str(uuid.uuid4()))).close()
    before = memory(patient_server)
    hoarder, others = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(4)]
    users = [others[0], *[hoarder] * 10, *others[1:]]
    with ExitStack() as opened:
        connections = [
            opened.enter_context(begun(unread(patient_server, texts, user))) for user in users
        ]
        assert memory(patient_server) - before < 120 * MB
        with ThreadPoolExecutor(len(connections)) as pool:
            aborted = list(pool.map(is_aborted, connections))
    assert aborted == [False, *[True] * 4, *[False] * 9]


def test_offsets_say_where_tokens_lie_in_a_text_without_its_prompt(gemma_server: Server) -> None:
    text = "Naïve 🌈 토큰"
    asked: dict[str, Any] = {"texts": [text], "task": "query"}
    [plain] = answer(gemma_server, "/tokenize", **asked)["texts"]
    [located] = answer(gemma_server, "/tokenize", **asked, offsets=True)["texts"]
    places = located.pop("offsets")
    assert located == plain
    assert len(places) == len(plain["ids"])
    of_text = [place for place in places if place is not None]
    assert places[0] is places[-1] is None
    assert of_text[0][0] == 0
    assert {index for place in of_text for index in range(*place)} == {*range(len(text))}


def test_a_text_that_is_too_long_for_offsets_is_named(gemma_server: Server) -> None:
    body = {"texts": ["a", "word " * 4_000], "overflow": "average", "offsets": True}
    with gemma_server.client() as client:
        refused = client.post("/tokenize", json=body)
    assert refused.status_code == 422
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("offsets_too_far", "texts.1")
