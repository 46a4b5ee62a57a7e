"""Large answers: the same bytes, in pieces, for as long as somebody reads them."""

import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.answer import PIECE, Answer, json_bytes, json_pieces
from api.dialects.dialect import EmbeddedTexts
from api.dialects.openai import embeddings
from api.errors import AnswerUnreadError, ClientGoneError
from api.refused import behind_connection
from api.unread import UnreadAnswers
from embedder.postprocess import ENCODINGS, encoded
from embedder.tokenized_text import TokenizedText
from tests.api.asgi import Client, turns_during

MB = 1_000_000
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
LISTS = st.lists(st.lists(SCALARS, max_size=5) | SCALARS, max_size=50)


def vectors(count: int, dimensions: int = 768) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, dimensions), np.float32)


def large() -> dict[str, Any]:
    return {"embeddings": encoded(vectors(2048), "float"), "model": "m"}


@given(st.dictionaries(st.text(), LISTS | SCALARS, max_size=6))
def test_pieces_are_together_what_one_piece_would_be(answer: dict[str, Any]) -> None:
    lazy = {
        name: iter(value) if isinstance(value, list) else value for name, value in answer.items()
    }
    assert b"".join(json_pieces(lazy)) == orjson.dumps(answer)


@pytest.mark.parametrize("count", [1, 2, 300])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_vectors_are_written_to_the_bit_as_if_at_once(encoding: str, count: int) -> None:
    rows = vectors(count)
    at_once = json_bytes({"embeddings": ENCODINGS[encoding](rows), "model": "m"})
    assert b"".join(json_pieces({"embeddings": encoded(rows, encoding), "model": "m"})) == at_once


def test_openais_shape_is_written_to_the_bit_as_if_at_once() -> None:
    rows = vectors(300)
    texts = [TokenizedText(np.arange(n), n_tokens=n, blank=n == 0) for n in range(300)]
    encoding = partial(encoded, rows)
    at_once, lazy = (
        embeddings(EmbeddedTexts(encoding("base64"), texts, {}, encoding)) for _ in range(2)
    )
    whole = json_bytes({"object": "list", "data": list(at_once), "model": "m"})
    assert b"".join(json_pieces({"object": "list", "data": lazy, "model": "m"})) == whole


def test_matrices_and_rows_of_cosines_are_too() -> None:
    for cosines in (vectors(256, 256), vectors(1, 256)[0]):
        at_once = json_bytes({"similarities": cosines})
        assert b"".join(json_pieces({"similarities": iter(cosines)})) == at_once


def test_lists_inside_an_object_and_a_bare_list_are_too() -> None:
    rows = vectors(300)
    several = {name: encoded(rows, name) for name in ("float", "int8")}
    at_once = {name: ENCODINGS[name](rows) for name in several}
    whole = json_bytes({"embeddings": at_once, "id": "a"})
    assert b"".join(json_pieces({"embeddings": several, "id": "a"})) == whole
    assert b"".join(json_pieces(encoded(rows, "float"))) == json_bytes(rows)


def test_no_piece_is_longer_than_a_piece() -> None:
    lengths = [len(piece) for piece in json_pieces(large())]
    assert max(lengths) <= PIECE
    assert min(lengths[:-1]) > PIECE // 2


def test_a_large_answer_never_exists_whole() -> None:
    answer = large()
    tracemalloc.start()
    written = sum(len(piece) for piece in json_pieces(answer))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert written > 15 * MB
    assert peak < 4 * PIECE


async def test_a_small_answer_is_one_piece_with_its_length() -> None:
    client = Client()
    await client.call(Answer({"embeddings": encoded(vectors(2), "float")}, UnreadAnswers()))
    assert len(client.pieces) == 1
    assert int(client.headers[b"content-length"]) == len(client.body)


async def test_a_large_answer_comes_in_pieces_and_others_run_between_them() -> None:
    client = Client()
    turns = await turns_during(client.call(Answer(large(), UnreadAnswers())))
    assert client.headers == {b"content-type": b"application/json"}
    assert client.complete
    assert len(client.pieces) > 200
    assert turns >= len(client.pieces) - 2
    assert client.body == json_bytes({"embeddings": vectors(2048), "model": "m"})


async def test_a_fault_before_the_first_piece_is_raised_before_the_answer_begins() -> None:
    def faulty() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    client = Client()
    with pytest.raises(ZeroDivisionError):
        await client.call(Answer({"items": faulty()}, UnreadAnswers()))
    assert client.messages == []


async def test_when_the_client_leaves_nothing_is_kept() -> None:
    rows = vectors(2048)
    kept = weakref.ref(rows)
    client = Client(reads=3)
    unread = UnreadAnswers()
    client.state.answer_bytes = rows.nbytes
    answer = Answer({"embeddings": encoded(rows, "float")}, unread)
    del rows
    calling = asyncio.create_task(client.call(answer))
    await asyncio.sleep(0.05)
    assert unread.n_bytes == 2048 * 768 * 4
    client.left.set()
    await asyncio.wait([calling])
    assert isinstance(calling.exception(), ClientGoneError)
    assert unread.n_bytes == 0
    del answer, calling
    await asyncio.sleep(0)
    gc.collect()
    assert kept() is None


async def test_an_unread_answer_is_aborted_when_others_need_the_memory() -> None:
    unread = UnreadAnswers(limit=2 * MB)

    async def call(client: Client) -> None:
        client.state.answer_bytes = MB
        await client.call(behind_connection(Answer(large(), unread)))

    stuck, reading, third = Client(reads=2), Client(), Client()
    waiting = asyncio.create_task(call(stuck))
    await asyncio.sleep(0.01)
    others = asyncio.create_task(call(reading)), asyncio.create_task(call(third))
    with pytest.raises(AnswerUnreadError):
        await asyncio.wait_for(waiting, 10)
    await asyncio.gather(*others)
    assert stuck.aborted
    assert not stuck.complete
    assert reading.complete
    assert third.complete
