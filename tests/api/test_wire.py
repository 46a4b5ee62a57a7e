"""Bodies as clients send them: encodings, nulls, and what is too much."""

import gc
import json
import sys
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from api.dialects.cohere import CohereEmbedRequest
from api.dialects.foreign_fields import ForeignBody
from api.dialects.native import BatchEmbedRequest, EmbedRequest, SimilarityRequest
from api.dialects.ollama import (
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
)
from api.dialects.openai import EmbeddingsRequest
from api.dialects.tei import TeiEmbedRequest
from api.errors import ClientGoneError, InvalidBodyError, MalformedBodyError
from api.json_values import SLICE
from api.options import MAX_CHARACTERS, MAX_FIELDS, MOST_TEXTS, Body, Limits
from api.wire import parse_body, read_json
from lab.worst_bodies import SIZE, TEXTS, for_openai, texts, titles, worst_bodies
from settings import Settings
from tests.api.asgi import turns_during
from tests.api.bodies import BODIES, LIMITS, read, refusal

OPTIONAL = [
    (model, name)
    for model in BODIES
    for name, field in model.model_fields.items()
    if not field.is_required() and name not in BODIES[model]
]


# --- null ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "name"), OPTIONAL)
def test_an_optional_field_given_as_null_is_left_out(model: type[Body], name: str) -> None:
    assert read(model, **{name: None}) == read(model)


@pytest.mark.parametrize(("model", "name"), OPTIONAL)
def test_the_document_allows_null_there(model: type[Body], name: str) -> None:
    described = TypeAdapter(model).json_schema()
    schema = described["properties"][name]
    if "$ref" in schema:
        schema = described["$defs"][schema["$ref"].rpartition("/")[2]]
    assert "null" in json.dumps(schema)


@pytest.mark.parametrize("model", BODIES)
def test_a_field_that_is_needed_may_not_be_null(model: type[Body]) -> None:
    name = next(iter(BODIES[model]))
    assert refusal(model, **{name: None}).param == name


# --- titles -------------------------------------------------------------------------------------


def test_titles_may_be_null_one_by_one() -> None:
    read_titles = read(BatchEmbedRequest, texts=["a", "b"], title=[None, "Mars"])
    assert isinstance(read_titles, BatchEmbedRequest)
    assert read_titles.title == [None, "Mars"]


# --- what is too much ---------------------------------------------------------------------------


async def sent(model: type[Body], body: bytes) -> Body:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    return await read_json(model, receive, limits=LIMITS)


@pytest.mark.parametrize("model", BODIES)
@pytest.mark.parametrize("nothing", [b"1", b"[]", b"null", b'""', b"{}"])
async def test_a_body_of_more_values_than_any_request_has_is_not_parsed(
    model: type[Body], nothing: bytes
) -> None:
    body = titles([nothing] * (SIZE // len(nothing)))
    tracemalloc.start()
    with pytest.raises(InvalidBodyError, match=f"at most {TEXTS} texts per request"):
        await sent(model, body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * SLICE


async def test_as_many_texts_and_titles_as_may_be_sent_are_few_enough() -> None:
    body = {"texts": ["a"] * TEXTS, "title": ["b"] * TEXTS}
    read_body = await sent(BatchEmbedRequest, json.dumps(body, indent=4).encode())
    assert isinstance(read_body, BatchEmbedRequest)
    assert len(read_body.texts) == TEXTS


async def test_a_client_that_left_is_not_waited_for() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGoneError):
        await read_json(EmbedRequest, receive, limits=LIMITS)


async def test_a_body_may_come_in_several_messages() -> None:
    body = b'{"text": "hello"}'
    messages = [
        {"type": "http.request", "body": body[i : i + 1], "more_body": True}
        for i in range(len(body))
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.request", "body": b""}

    assert await read_json(EmbedRequest, receive, limits=LIMITS) == EmbedRequest(text="hello")


async def test_fields_that_are_ignored_may_have_values_too() -> None:
    body = BODIES[EmbeddingsRequest] | {"metadata": {str(key): [1] for key in range(1000)}}
    assert await sent(EmbeddingsRequest, json.dumps(body).encode()) == read(EmbeddingsRequest)


async def test_token_ids_are_told_the_remedy_however_many() -> None:
    body = {"model": "m", "input": [list(range(1000))] * 100}
    with pytest.raises(InvalidBodyError, match="check_embedding_ctx_length=False"):
        await sent(EmbeddingsRequest, json.dumps(body).encode())


@pytest.mark.parametrize("model", BODIES)
def test_a_body_of_very_many_fields_is_refused(model: type[Body]) -> None:
    fields = dict.fromkeys((f"field_{number}" for number in range(MAX_FIELDS)), 1)
    assert f"more than {MAX_FIELDS} fields" in str(refusal(model, **fields))


@pytest.mark.parametrize(
    ("model", "fields", "param"),
    [
        (BatchEmbedRequest, {"texts": ["a"] * (TEXTS + 1)}, "texts"),
        (EmbeddingsRequest, {"input": ["a"] * (TEXTS + 1)}, "input"),
        (CohereEmbedRequest, {"texts": ["a"] * (TEXTS + 1)}, "texts"),
        (OllamaEmbedRequest, {"input": ["a"] * (TEXTS + 1)}, "input"),
        (OllamaEmbeddingsRequest, {"prompt": "a" * (MAX_CHARACTERS + 1)}, "prompt"),
        (TeiEmbedRequest, {"inputs": ["a"] * (TEXTS + 1)}, "inputs"),
        (TeiEmbedRequest, {"prompt_name": "a" * 65}, "prompt_name"),
        (BatchEmbedRequest, {"title": [None] * (TEXTS + 1)}, "title"),
        (EmbedRequest, {"title": "a" * 1001}, "title.0"),
        (EmbedRequest, {"task": "a" * 65}, "task"),
        (EmbeddingsRequest, {"user": "a" * 1001}, "user"),
        (EmbeddingsRequest, {"model": "a" * 257}, "model"),
        (SimilarityRequest, {"text_task": "a" * 65}, "text_task"),
    ],
)
def test_every_field_has_a_greatest_length(
    model: type[Body], fields: dict[str, Any], param: str
) -> None:
    assert refusal(model, **fields).param == param


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (BatchEmbedRequest, "texts"),
        (BatchEmbedRequest, "title"),
        (SimilarityRequest, "texts"),
        (EmbeddingsRequest, "input"),
        (CohereEmbedRequest, "texts"),
        (OllamaEmbedRequest, "input"),
        (TeiEmbedRequest, "inputs"),
    ],
)
def test_the_limit_of_texts_is_the_setting(model: type[Body], name: str) -> None:
    body = json.dumps(BODIES[model] | {name: ["a", "b", "c"]}).encode()
    with pytest.raises(InvalidBodyError, match="3 items, and the limit is 2 per request"):
        parse_body(model, body, limits=Limits(max_texts=2))
    parse_body(model, body, limits=Limits(max_texts=3))


def test_the_setting_may_be_as_large_as_the_types_allow() -> None:
    [largest] = [
        item.le
        for item in Settings.model_fields["max_texts_per_request"].metadata
        if hasattr(item, "le")
    ]
    assert largest == MOST_TEXTS


@pytest.mark.parametrize("name", ["texts", "title"])
def test_validation_ends_at_the_first_wrong_item(name: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        BatchEmbedRequest.model_validate({"texts": ["a"]} | {name: [1] * TEXTS})
    assert wrong.value.error_count() == 1
    assert refusal(BatchEmbedRequest, **{name: ["a", 1, 2]}).param == f"{name}.1"


@pytest.mark.parametrize("value", [42, 1.5, True, {"a": "b"}])
@pytest.mark.parametrize(
    ("model", "name"),
    [
        (EmbeddingsRequest, "input"),
        (OllamaEmbedRequest, "input"),
        (TeiEmbedRequest, "inputs"),
        (BatchEmbedRequest, "title"),
    ],
)
def test_what_may_be_a_string_or_a_list_is_not_said_to_be_a_list_alone(
    model: type[Body], name: str, value: Any
) -> None:
    assert str(refusal(model, **{name: value})) == f"{name}: send one string, or a list of strings"


@pytest.mark.parametrize("model", BODIES)
def test_a_long_name_of_a_field_is_not_repeated(model: type[Body]) -> None:
    read_or_refused = read if issubclass(model, ForeignBody) else refusal
    answer = read_or_refused(model, **{"n" * 100_000: 1})
    assert len(str(answer)) < 500


async def test_other_tasks_run_while_a_large_body_is_counted() -> None:
    body = texts("한,".encode())
    assert await turns_during(sent(BatchEmbedRequest, body)) >= len(body) // SLICE


@pytest.mark.parametrize("character", ["a", "é", "한", "😀"])
def test_a_text_is_in_memory_once(character: str) -> None:
    """pydantic's own lengths make CPython keep UTF-8 beside each text."""
    text = character * 1000
    for model, name in ((BatchEmbedRequest, "texts"), (EmbeddingsRequest, "input")):
        [kept] = getattr(read(model, **{name: [text]}), name)
        assert sys.getsizeof(kept) == sys.getsizeof(character * 999 + character)


@pytest.mark.parametrize(("name", "body"), worst_bodies(200_000).items())
async def test_the_worst_bodies_are_read_or_refused_in_few_words(name: str, body: bytes) -> None:
    for model, worst in (
        (BatchEmbedRequest, body),
        (EmbeddingsRequest, for_openai(body)),
        (CohereEmbedRequest, body.replace(b"{", b'{"model":"m",', 1)),
        (OllamaEmbedRequest, for_openai(body)),
        (TeiEmbedRequest, body.replace(b'"texts"', b'"inputs"', 1)),
    ):
        said = ""
        try:
            await sent(model, worst)
        except (InvalidBodyError, MalformedBodyError) as refused:
            said = str(refused)
        assert len(said) < 500, name


# --- encodings ----------------------------------------------------------------------------------


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse_body(EmbedRequest, b'\xef\xbb\xbf{"text": "a"}', limits=LIMITS) == EmbedRequest(
        text="a"
    )


@pytest.mark.parametrize(
    "body",
    [
        '{"text": "café"}'.encode("latin-1"),
        '{"text": "a"}'.encode("utf-16"),
        '{"text": "한"}'.encode("cp949"),
    ],
)
def test_another_encoding_is_told_to_send_utf_8(body: bytes) -> None:
    with pytest.raises(MalformedBodyError, match="Send JSON in UTF-8"):
        parse_body(EmbedRequest, body, limits=LIMITS)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"text", b'{"text": "\\ud800"}', b'{"x":' + b"[" * 9999, b'{"dimensions": NaN}'],
)
def test_what_is_not_json_is_told_where(body: bytes) -> None:
    for model in (EmbedRequest, EmbeddingsRequest):
        with pytest.raises(MalformedBodyError, match=r"The body is not JSON: .* at line 1 column"):
            parse_body(model, body, limits=LIMITS)


@pytest.mark.parametrize("body", [b'{"text": [1]}', b'{"text": ""}', b'{"x": 1}', b"{", b"\xff"])
def test_a_refused_body_is_freed_with_its_refusal(body: bytes) -> None:
    """Nothing is left for the garbage collector, which runs rarely."""
    gc.collect()
    gc.disable()
    try:
        with suppress(InvalidBodyError, MalformedBodyError):
            parse_body(EmbedRequest, body, limits=LIMITS)
        assert gc.collect() == 0
    finally:
        gc.enable()
