"""The worst bodies are within the limit of the service, and valid JSON where they should be."""

import json
from functools import partial

import pytest

from hostile import bodies
from hostile.attacks import Flood
from hostile.table import ROWS

ROWS_OF_BODIES = {name: row for name, row in ROWS.items() if isinstance(row.attack, Flood)}


@pytest.mark.parametrize("name", ROWS_OF_BODIES)
def test_a_body_is_within_the_limit_of_the_service(name: str) -> None:
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
def test_bodies_written_by_hand_are_json(body: partial[bytes]) -> None:
    assert isinstance(json.loads(body()), dict)


def test_many_texts_fill_the_largest_body() -> None:
    texts = json.loads(bodies.of_texts(bodies.HANGUL, n=2_048))["texts"]
    assert len(texts) == 2_048
    assert len(bodies.of_texts(bodies.HANGUL, n=2_048)) > 0.9 * bodies.LARGEST
