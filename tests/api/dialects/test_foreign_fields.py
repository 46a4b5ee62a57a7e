"""What bodies of other APIs have that ours do not: other fields, and token ids."""

import re
from pathlib import Path
from typing import Any

import pytest

from api.dialects.foreign_fields import KNOWN, REFUSED
from api.dialects.native import BatchEmbedRequest, EmbedRequest, SimilarityRequest, TokenizeRequest
from api.dialects.openai import EmbeddingsRequest
from tests.api.bodies import read, refusal

PAGE = Path(__file__).parents[3] / "docs" / "clients.md"


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
        next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| {kind}"))
        for kind in ("ignored", "refused")
    )
    assert set(re.findall(r"`(\w+)`", ignored)) == KNOWN
    assert set(re.findall(r"`(\w+)`", refused)) == REFUSED


def test_our_own_routes_refuse_every_field_they_do_not_have() -> None:
    for model in (EmbedRequest, BatchEmbedRequest, TokenizeRequest, SimilarityRequest):
        refused = refusal(model, drop_params=True)
        assert refused.param == "drop_params"
        assert "Leave it out" in str(refused)


@pytest.mark.parametrize("texts", [[["a", "b"]], [["a"], ["b"]]])
def test_lists_of_texts_are_not_called_token_ids(texts: list[list[str]]) -> None:
    refused = refusal(EmbeddingsRequest, input=texts)
    assert "one list of strings" in str(refused)
    assert "token ids" not in str(refused)
    assert refused.param == "input"


@pytest.mark.parametrize("ids", [[1, 2], [[1, 2], [3]], [[]]])
def test_token_ids_are(ids: list[Any]) -> None:
    assert "token ids are not texts" in str(refusal(EmbeddingsRequest, input=ids))
