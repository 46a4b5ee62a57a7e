"""Options that several dialects share."""

import json
from typing import Any

import jsonschema_rs
import pytest

from api.dialects.cohere import CohereEmbedRequest
from api.dialects.ollama import OllamaEmbeddingsRequest, OllamaEmbedRequest
from api.dialects.tei import TeiEmbedRequest
from api.errors import InvalidBodyError
from api.options import Limits, LongTextOptions, TaskOptions
from api.wire import parse_body
from embedder.overflow import AVERAGE, ERROR, OVERFLOWS, TRUNCATE
from tests.api.bodies import BODIES


def options(body: str) -> TaskOptions:
    return parse_body(TaskOptions, body.encode(), limits=Limits(8))


@pytest.mark.parametrize(
    ("body", "overflow"),
    [
        ("{}", TRUNCATE),
        ('{"truncate": true}', TRUNCATE),
        ('{"truncate": false}', ERROR),
        ('{"truncate": false, "overflow": null}', ERROR),
        ('{"truncate": null, "overflow": "average"}', AVERAGE),
        ('{"truncate": false, "overflow": "error"}', ERROR),
        ('{"truncate": true, "overflow": "truncate"}', TRUNCATE),
        *((f'{{"overflow": "{overflow}"}}', overflow) for overflow in OVERFLOWS),
    ],
)
def test_overflow_and_truncate_say_what_is_done_with_long_texts(body: str, overflow: str) -> None:
    assert options(body).long_texts == overflow


@pytest.mark.parametrize(
    ("truncate", "overflow"),
    [("true", ERROR), ("true", AVERAGE), ("false", TRUNCATE), ("false", AVERAGE)],
)
def test_options_that_contradict_each_other_are_refused(truncate: str, overflow: str) -> None:
    with pytest.raises(InvalidBodyError, match="Leave truncate out") as refusal:
        options(f'{{"truncate": {truncate}, "overflow": "{overflow}"}}')
    assert refusal.value.param == "truncate"
    assert repr(overflow) in str(refusal.value)


@pytest.mark.parametrize("overflow", ["", "cut", "Average", 1, True, []])
def test_another_overflow_is_refused_with_those_there_are(overflow: Any) -> None:
    with pytest.raises(InvalidBodyError, match="'truncate', 'error' or 'average'"):
        options(json.dumps({"overflow": overflow}))


FOREIGN = (CohereEmbedRequest, OllamaEmbedRequest, OllamaEmbeddingsRequest, TeiEmbedRequest)


@pytest.mark.parametrize("truncate", [None, True, False, "END", "START", "NONE"])
@pytest.mark.parametrize("overflow", [None, *OVERFLOWS])
@pytest.mark.parametrize("body", [TaskOptions, *FOREIGN])
def test_the_schema_allows_what_is_accepted(
    body: type[LongTextOptions], truncate: Any, overflow: str | None
) -> None:
    sent = BODIES.get(body, {}) | {"truncate": truncate, "overflow": overflow}
    allowed = jsonschema_rs.is_valid(body.model_json_schema(), sent)
    try:
        read = parse_body(body, json.dumps(sent).encode(), limits=Limits(8))
    except InvalidBodyError:
        assert not allowed
    else:
        assert allowed
        cut = ERROR if truncate in (False, "NONE") else TRUNCATE
        assert read.long_texts == overflow or (overflow is None and read.long_texts == cut)
