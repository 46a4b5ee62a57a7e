"""What errors are called where they are counted."""

from urllib.error import URLError

import pytest

from api.errors import ERRORS, fault_reasons, reason_of, spec_of
from embedder.errors import EngineEndedError, EngineStalledError, QueueFullError
from errors import Overloaded


@pytest.mark.parametrize(
    "error", [URLError(OSError("a secret")), UnicodeError(), KeyError("text"), Exception()]
)
def test_a_reason_that_is_not_ours_becomes_no_series(error: Exception) -> None:
    assert reason_of(error) == "internal_error"


def test_what_only_an_heir_says_is_known_too() -> None:
    errors = [
        EngineStalledError(1.0),
        EngineEndedError(OSError()),
        QueueFullError(1),
        Overloaded("", retry_after=1),
    ]
    assert {reason_of(error) for error in errors} < fault_reasons()
    assert all(spec_of(error).status == 503 for error in errors)


def test_a_fault_is_nobody_elses() -> None:
    refused = {getattr(cls, "reason", None) for cls, spec in ERRORS.items() if spec.status < 500}
    assert not refused & fault_reasons()
