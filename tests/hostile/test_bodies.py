"""The worst bodies are what they say: as large as may be, and JSON where they claim to be."""

import json
from functools import partial

import pytest

from hostile import bodies
from hostile.attacks import Flood
from hostile.table import ROWS

ROWS_OF_BODIES = {name: row for name, row in ROWS.items() if isinstance(row.attack, Flood)}


@pytest.mark.parametrize("name", ROWS_OF_BODIES)
def test_a_body_is_one_that_the_service_reads_to_the_end(name: str) -> None:
    attack = ROWS_OF_BODIES[name].attack
    assert isinstance(attack, Flood)
    for call in attack.calls:
        if call.body is not None:
            assert len(call.body()) <= bodies.LARGEST + 256


@pytest.mark.parametrize(
    "body",
    [
        partial(bodies.of_items, "1", "title", text="x"),
        bodies.of_one_key,
        partial(bodies.of_escapes, bodies.PAIR),
        partial(bodies.of_keys, text="x"),
    ],
)
def test_what_is_written_by_hand_is_json(body: partial[bytes]) -> None:
    assert isinstance(json.loads(body()), dict)


def test_texts_of_many_share_the_largest_body() -> None:
    texts = json.loads(bodies.of_texts(bodies.HANGUL, n=2_048))["texts"]
    assert len(texts) == 2_048
    assert len(bodies.of_texts(bodies.HANGUL, n=2_048)) > 0.9 * bodies.LARGEST
