"""What /usage and /health answer."""

import math

import bentoml
from pydantic import Field


class Allowance(bentoml.IODescriptor):
    """One limit and what is left of it."""

    limit: int
    remaining: int
    reset_after: int = Field(
        description="Seconds until something of it is given back, 0 when nothing is used"
    )


class UsageResponse(bentoml.IODescriptor):
    """The caller's limits."""

    caller: str = Field(description="`user`, or `service:NAME` of a service key")
    requests: Allowance | None = Field(
        description="Requests in any 60 seconds; null when there is no limit"
    )
    tokens: Allowance | None = Field(description="Tokens in a UTC day; null when there is no limit")


class HealthResponse(bentoml.IODescriptor):
    """What serves here."""

    status: str = Field(description="`ok`")
    model: str
    quantization: str
    kernel: str = Field(description="Instruction set that computes, or the device of torch")
    fingerprint: str = Field(
        description="Names the vector space: vectors of two fingerprints do not mix"
    )
    redis: str = Field(description="`ok`, `degraded` (counting in memory meanwhile) or `disabled`")
    version: str


def allowance(
    limit: int | None, remaining: int | None, reset_after: float | None
) -> dict[str, int] | None:
    """An Allowance; None where there is no limit."""
    if limit is None:
        return None
    return {"limit": limit, "remaining": remaining or 0, "reset_after": math.ceil(reset_after or 0)}
