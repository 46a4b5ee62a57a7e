"""The wire format of Text Embeddings Inference: a bare list of vectors."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.dialects.dialect import AskedTexts
from api.dialects.tei import TeiEmbedRequest, TeiRoutes
from tests.api.dialects.counting import CountingService, scope


@pytest.mark.parametrize("route", ["tei", "tei_embed"])
async def test_the_answer_is_a_list_of_vectors(route: str) -> None:
    service = CountingService()
    request = TeiEmbedRequest(inputs=["a", "b"], dimensions=2, prompt_name="query")
    vectors = await getattr(TeiRoutes, route).func(service, request, scope())
    assert [row.tolist() for row in vectors] == [[1, 0], [0, 1]]
    assert service.tasks == ["query"]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("normalize", False, "always normalised"),
        ("truncation_direction", "up", "right"),
        ("inputs", [[1, 2]], "token ids"),
    ],
)
def test_a_body_that_does_not_fit_says_why(field: str, value: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TeiEmbedRequest.model_validate({"inputs": "a"} | {field: value})


@pytest.mark.parametrize(
    ("truncate", "direction", "cut_start"),
    [(True, "Left", True), (True, "right", False), (False, "left", False), (None, None, False)],
)
async def test_a_text_that_may_not_be_cut_is_not_cut_at_its_start(
    truncate: bool | None, direction: str | None, cut_start: bool
) -> None:
    service = CountingService()
    body = {"inputs": "a", "truncate": truncate, "truncation_direction": direction}
    await TeiRoutes.tei_embed.func(service, TeiEmbedRequest.model_validate(body), scope())
    [asked] = service.read_as
    assert isinstance(asked, AskedTexts)
    assert asked.cut_start is cut_start
    assert asked.long_texts == ("error" if truncate is False else "truncate")


async def test_the_model_and_its_limits_are_told() -> None:
    info = await TeiRoutes.tei_info(CountingService(), None)  # type: ignore[arg-type]
    assert (info["model_id"], info["max_input_length"]) == ("owner/model", 3)
    assert info["max_client_batch_size"] == 100
