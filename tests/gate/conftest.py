"""A gate with everything behind it."""

import pytest

from tests.gate.asgi import GateSetup


@pytest.fixture
def setup() -> GateSetup:
    return GateSetup()
