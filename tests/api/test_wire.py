"""Bodies as clients send them: encodings, nulls, fields of other APIs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from api.errors import InvalidBodyError, MalformedBodyError
from api.foreign_fields import KNOWN, REFUSED
from api.openai_schemas import EmbeddingsRequest
from api.options import Body
from api.schemas import BatchEmbedRequest, EmbedRequest, SimilarityRequest, TokenizeRequest
from api.wire import parse_body

API = Path(__file__).parents[2] / "docs" / "api.md"
BODIES: dict[type[Body], dict[str, Any]] = {
    EmbedRequest: {"text": "a"},
    BatchEmbedRequest: {"texts": ["a"]},
    TokenizeRequest: {"texts": ["a"]},
    SimilarityRequest: {"texts": ["a"]},
    EmbeddingsRequest: {"input": "a", "model": "m"},
}
OPTIONAL = [
    (model, name)
    for model in BODIES
    for name, field in model.model_fields.items()
    if not field.is_required()
]


def read(model: type[Body], **fields: Any) -> Body:
    return parse_body(model, json.dumps(BODIES[model] | fields).encode())


def refusal(model: type[Body], **fields: Any) -> InvalidBodyError:
    with pytest.raises(InvalidBodyError) as refused:
        read(model, **fields)
    return refused.value


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


# --- encodings ----------------------------------------------------------------------------------


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse_body(EmbedRequest, b'\xef\xbb\xbf{"text": "a"}') == EmbedRequest(text="a")


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
        parse_body(EmbedRequest, body)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"text", b'{"text": "\\ud800"}', b'{"x":' + b"[" * 9999]
)
def test_what_is_not_json_is_told_where(body: bytes) -> None:
    for model in (EmbedRequest, EmbeddingsRequest):
        with pytest.raises(MalformedBodyError, match=r"The body is not JSON: .* at line 1 column"):
            parse_body(model, body)


# --- what is no text ----------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [[["a", "b"]], [["a"], ["b"]]])
def test_lists_of_texts_are_not_called_token_ids(texts: list[list[str]]) -> None:
    refused = refusal(EmbeddingsRequest, input=texts)
    assert "one list of strings" in str(refused)
    assert "token ids" not in str(refused)
    assert refused.param == "input"


@pytest.mark.parametrize("ids", [[1, 2], [[1, 2], [3]], [[]]])
def test_token_ids_are(ids: list[Any]) -> None:
    assert "token ids are not texts" in str(refusal(EmbeddingsRequest, input=ids))


# --- fields of other APIs -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [*sorted(KNOWN - {"user"}), "something_new"])
def test_openais_route_ignores_what_cannot_change_a_vector(name: str) -> None:
    sent = read(EmbeddingsRequest, **{name: True})
    assert {field: getattr(sent, field) for field in EmbeddingsRequest.model_fields} == {
        field: getattr(read(EmbeddingsRequest), field) for field in EmbeddingsRequest.model_fields
    }


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_openais_route_refuses_what_would(name: str) -> None:
    refused = refusal(EmbeddingsRequest, **{name: "query"})
    assert refused.param == name
    assert "Leave it out" in str(refused)
    read(EmbeddingsRequest, **{name: None})


@pytest.mark.parametrize(
    ("name", "meant"), [("dimension", "dimensions"), ("encoding_fromat", "encoding_format")]
)
def test_a_misspelt_option_is_not_ignored(name: str, meant: str) -> None:
    refused = refusal(EmbeddingsRequest, **{name: 256})
    assert f"did you mean {meant}?" in str(refused)
    assert refused.param == name


def test_the_documents_list_both() -> None:
    ignored, refused = (
        next(line for line in API.read_text().splitlines() if line.startswith(f"| {kind}"))
        for kind in ("ignored", "refused")
    )
    assert set(re.findall(r"`(\w+)`", ignored)) == KNOWN
    assert set(re.findall(r"`(\w+)`", refused)) == REFUSED


def test_our_own_routes_refuse_every_field_they_do_not_have() -> None:
    for model in (EmbedRequest, BatchEmbedRequest, TokenizeRequest, SimilarityRequest):
        refused = refusal(model, drop_params=True)
        assert refused.param == "drop_params"
        assert "Leave it out" in str(refused)
