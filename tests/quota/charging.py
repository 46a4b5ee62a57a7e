"""Charges as a request makes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.signing import NOW
from quota.errors import QuotaExceeded
from quota.quota import Quota
from quota.receipt import Receipt

DAY = 86_400
MIDNIGHT = NOW // DAY * DAY + DAY


MakeQuota = Callable[..., Quota]


async def refused(quota: Quota, user: str) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as refusal:
        await quota.charge(user)
    return refusal.value


async def spend(quota: Quota, user: str, tokens: int) -> Receipt:
    """A request and its tokens."""
    return await quota.spend(await quota.charge(user), tokens=tokens)


async def refused_tokens(quota: Quota, user: str, tokens: int) -> QuotaExceeded:
    """Of a request that stays charged."""
    receipt = await quota.charge(user)
    with pytest.raises(QuotaExceeded) as refusal:
        await quota.spend(receipt, tokens=tokens)
    return refusal.value


async def is_refused(quota: Quota, user: str) -> bool:
    try:
        await quota.charge(user)
    except QuotaExceeded:
        return True
    return False
