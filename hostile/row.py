"""One kind of attack: what is sent, by how many users, under which limit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hostile.attacks import Attack, Flood
from hostile.wire import Call

ALIAS = "m"  # of the served model, whichever it is
DEFAULT, HIGH = 10, 1_000_000  # RATE_LIMIT_PER_MIN: the default, and one that is never reached


@dataclass(frozen=True)
class Row:
    """One kind of attack.

    The victim calls /embed with a sentence; if it is "large", /tokenize with 100 KB.
    """

    title: str
    attack: Attack
    users: int = 1
    per_minute: int = HIGH
    seconds: float = 3.0
    victim: Literal["sentence", "large"] = "sentence"
    fresh_tokens: bool = False  # each call of the victim has a token that the service has not seen
    hanging_keys: bool = False  # the key server answers once, then hangs
    titles: bool = False  # with a model that accepts titles
    cache: bool = False  # with the cache, so that a text costs tokens only once


def post(path: str, body: Callable[[], bytes], **how: object) -> Flood:
    """A flood of one request."""
    return Flood((Call(path, body),), **how)  # type: ignore[arg-type]
