"""What /usage and /health answer."""

import math
from typing import Any

import bentoml
from pydantic import Field

from quota.receipt import Receipt


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
    batch_tokens: Allowance | None = Field(
        description="Tokens of batches in a UTC day; null when there is no limit, or no batches"
    )


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


def usage_answer(
    caller: str | None, receipt: Receipt, of_batches: Receipt | None
) -> dict[str, Any]:
    """A UsageResponse.

    Args:
        caller: as in the answer.
        receipt: of the caller's requests and their tokens.
        of_batches: of the tokens of their batches; None where there are no batches.
    """
    return {
        "caller": caller,
        "requests": allowance(receipt.limit, receipt.remaining, receipt.reset_after),
        "tokens": _tokens(receipt),
        "batch_tokens": _tokens(of_batches) if of_batches else None,
    }


def _tokens(receipt: Receipt) -> dict[str, int] | None:
    return allowance(receipt.tokens_limit, receipt.tokens_remaining, receipt.tokens_reset_after)


def allowance(
    limit: int | None, remaining: int | None, reset_after: float | None
) -> dict[str, int] | None:
    """An Allowance; None where there is no limit."""
    if limit is None:
        return None
    return {"limit": limit, "remaining": remaining or 0, "reset_after": math.ceil(reset_after or 0)}
