"""Options that several dialects share."""

import json
from typing import Any

import jsonschema_rs
import pytest

from api.errors import InvalidBodyError
from api.options import Limits, TaskOptions
from api.wire import parse_body
from embedder.overflow import AVERAGE, ERROR, OVERFLOWS, TRUNCATE


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


@pytest.mark.parametrize("truncate", [None, True, False])
@pytest.mark.parametrize("overflow", [None, *OVERFLOWS])
def test_the_schema_allows_what_is_accepted(truncate: bool | None, overflow: str | None) -> None:
    sent = {"truncate": truncate, "overflow": overflow}
    allowed = jsonschema_rs.is_valid(TaskOptions.model_json_schema(), sent)
    try:
        options(json.dumps(sent))
    except InvalidBodyError:
        assert not allowed
    else:
        assert allowed
