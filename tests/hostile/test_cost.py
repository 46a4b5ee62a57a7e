"""The effect of an attacker on other users is bounded, and the attacker is charged.

Figures are measured by `make hostile`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile.report import missed_on_any_machine
from hostile.row import DEFAULT
from hostile.run import play
from hostile.stage import Stage, staged

SERVED = {"200"}
# And not charged. The errors of other APIs have no code.
REFUSED = {"429 quota_requests", "429 too_many_concurrent", "503 overloaded", "429", "503"}
INVALID = {"422 invalid_request"}
NO_JSON = {"400 malformed_json"}
TOO_LONG = {"422 text_too_long"}
FULL = {"413 too_many_tokens", "429 user_queue_full", "503 queue_full"}
SLOW = {"408 body_timeout"}
CUT_OFF = {"closed"}

# The answers that the attackers of a row may get, besides a refusal.
ANSWERS = {
    "dots": TOO_LONG,
    "dots-64": SERVED,
    "combining": SERVED | TOO_LONG,
    "tokenize-dots": SERVED,
    "batch-2048": FULL,
    "average-dots": FULL,
    "average-spaces": SERVED,
    "cohere-start-hangul": SERVED,
    "tei-left": SERVED,
    "tokenize-2048": SERVED,
    "title-numbers": INVALID,
    "keys": INVALID,
    "user-lists": INVALID,
    "short-texts": INVALID,
    "nesting": NO_JSON | INVALID,
    "digits": NO_JSON | INVALID,
    "pairs": SERVED | INVALID,
    "slow-bodies": SLOW,
    "stalled-bodies": SLOW,
    "leaving": {"left"},
    "unread": {"asked"},
    "header-lines": {"431 headers_too_large", *CUT_OFF},
    "header-value": {"431 headers_too_large", *CUT_OFF},
    "request-line": {"414 url_too_long", *CUT_OFF},
    "openapi": SERVED,
    "neighbour": {"401 token_invalid", "429 too_many_failures"},
    "bulk": SERVED | FULL,
    "similarity": SERVED | FULL,
}
STRANGERS = {"header-lines", "header-value", "request-line", "openapi", "neighbour"}  # no token
UNANSWERED = {"left", "asked", *CUT_OFF}


@pytest.fixture(scope="module")
def stage(model_store: Path) -> Iterator[Stage]:
    environment = {"BENTOML_HOME": os.environ["BENTOML_HOME"], "MODEL_QUANTIZATION": "fp32"}
    with staged(environment, per_minute=DEFAULT) as running:
        yield running


@pytest.mark.parametrize("name", ANSWERS)
def test_other_users_are_served_and_the_attackers_are_charged(name: str, stage: Stage) -> None:
    result = play(name, stage, seconds=1.0, idle=0.3)
    assert missed_on_any_machine(result) == []
    assert set(result.outcomes) <= ANSWERS[name] | REFUSED
    answered = sum(result.outcomes[told] for told in set(result.outcomes) - REFUSED - UNANSWERED)
    assert (0 if name in STRANGERS else answered) <= result.requests <= DEFAULT * result.users
    if name == "leaving":
        assert result.requests == DEFAULT  # although nobody read an answer
