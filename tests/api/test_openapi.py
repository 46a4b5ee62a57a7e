"""The OpenAPI document of a service, without a server."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import bentoml
import pytest

from api.dialects.openai_batches import BatchRoutes
from api.errors import ERRORS
from api.openapi import document
from api.options import Limits
from tests.api.dialects.counting import MODEL_INFO, CountingService

SERVICE: Any = bentoml.service(name="small")(CountingService)


def described(max_texts: int = 100, **changes: object) -> dict[str, Any]:
    info = replace(MODEL_INFO, **changes)  # type: ignore[arg-type]
    return document(SERVICE, version="1", model_info=info, limits=Limits(max_texts))


def values(node: Any, name: str) -> Iterator[Any]:
    """Everything under a name, anywhere in a document."""
    if isinstance(node, dict):
        if name in node:
            yield node[name]
        for child in node.values():
            yield from values(child, name)
    elif isinstance(node, list):
        for child in node:
            yield from values(child, name)


@pytest.mark.parametrize("limit", [1, 100, 4096])
def test_no_list_is_longer_than_the_setting(limit: int) -> None:
    assert max(values(described(limit), "maxItems")) == limit


def test_it_says_what_the_model_can_do() -> None:
    schemas = described()["components"]["schemas"]
    assert schemas["Task"]["enum"] == ["query", "search_query", None]
    assert schemas["Dimensions"]["enum"] == [4, 2, None]
    assert schemas["ModelName"]["enum"] == ["owner/model", "model-query"]


def test_a_model_without_titles_takes_none() -> None:
    titles = described(titles=False, blank="^ *$")["components"]["schemas"]["Titles"]
    assert titles["anyOf"][0] == {"type": ["string", "null"], "pattern": "^ *$", "maxLength": 1000}


def test_every_reference_leads_somewhere() -> None:
    whole = described()
    for reference in values(whole, "$ref"):
        assert reference.rpartition("/")[2] in whole["components"]["schemas"]


def test_every_status_of_the_table_of_errors_is_described() -> None:
    responses = described()["paths"]["/v1/embeddings"]["post"]["responses"]
    told = {spec.status for spec in ERRORS.values()} - {405, 499}
    assert {int(status) for status in responses} == told | {200, 500}


def test_teis_answer_is_described_as_a_list_of_vectors() -> None:
    schema = described()["components"]["schemas"]["TeiVectors"]
    assert (schema["type"], schema["items"]["items"]) == ("array", {"type": "number"})
    assert "properties" not in schema


def test_a_type_of_coheres_is_described_as_numbers() -> None:
    properties = described()["components"]["schemas"]["ByType"]["properties"]
    numbers = {"float": "number", "int8": "integer", "ubinary": "integer"}
    for name, kind in numbers.items():
        assert properties[name]["anyOf"][0]["items"]["items"] == {"type": kind}


def test_errors_have_the_form_of_their_path() -> None:
    paths = described()["paths"]
    forms = {
        path: operation["responses"]["401"]["content"]["application/json"]["schema"]["$ref"]
        for path in ("/embed", "/v2/embed", "/api/embed", "/api/tags", "/tei/info")
        for operation in paths[path].values()
    }
    names = [reference.rpartition("/")[2] for reference in forms.values()]
    assert names == [
        "ErrorResponse",
        "CohereErrorResponse",
        "OllamaErrorResponse",
        "OllamaErrorResponse",
        "TeiErrorResponse",
    ]


def test_fields_that_are_needed_come_first() -> None:
    properties = described()["components"]["schemas"]["EmbeddingsRequest"]["properties"]
    assert list(properties)[:2] == ["input", "model"]


def test_routes_of_batches_are_described_where_there_are_any() -> None:
    service: Any = bentoml.service(name="small")(BatchRoutes)
    without, whole = (
        document(service, version="1", model_info=MODEL_INFO, limits=Limits(8), batches=batches)
        for batches in (False, True)
    )
    added = {path: whole["paths"][path] for path in whole["paths"].keys() - without["paths"].keys()}
    assert "/v1/batches/{batch_id}/cancel" in added
    for reference in values(added, "$ref"):
        assert reference.rpartition("/")[2] in whole["components"]["schemas"]
    assert added["/v1/files"].keys() == {"get", "post"}
    assert added["/v1/files"]["post"]["requestBody"]["content"].keys() == {"multipart/form-data"}
    [body] = values(added["/v1/batches"]["post"]["requestBody"], "$ref")
    assert body.endswith("/BatchBody")
