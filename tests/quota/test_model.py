"""The stores compared with a model that keeps every request and counts them all."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from lab.redis_server import RedisServer
from lab.signing import NOW, Clock
from quota.breaker import Breaker
from quota.errors import QuotaExceeded
from quota.guarded import GuardedQuota
from quota.memory import MemoryQuota
from quota.quota import Quota
from quota.receipt import Limits, Receipt, tokens_alone
from quota.redis import RedisQuota

WINDOW = 60.0
DAY = 86_400
USERS = ["a", "b"]


@dataclass
class Model:
    """One user: every request ever admitted, by id, and the tokens of the latest day."""

    requests: dict[str, float] = field(default_factory=dict)
    day: float = 0
    tokens: int = 0

    def settle(self, now: float) -> int:
        """Requests in the window that ends `now`; what lies in the future is dated now."""
        self.requests = {name: min(at, now) for name, at in self.requests.items()}
        self.tokens = self.tokens if self.day >= now // DAY else 0
        self.day = now // DAY
        return sum(now - WINDOW < at for at in self.requests.values())


class QuotaMachine(RuleBasedStateMachine):
    receipts: Bundle[Receipt] = Bundle("receipts")
    redis_url: str | None = None
    runner: asyncio.Runner

    @initialize(requests=st.integers(1, 5), per_day=st.none() | st.integers(1, 40))
    def begin(self, requests: int, per_day: int | None) -> None:
        self.clock = Clock(NOW // DAY * DAY + DAY - 300)  # five minutes to midnight
        self.most = requests
        self.limits = Limits(requests, WINDOW, per_day)
        self.models = {user: Model() for user in USERS}
        self.salt = str(uuid.uuid4())
        local = MemoryQuota(self.limits, clock=self.clock)
        self.quota: Quota = local
        if self.redis_url is not None:
            shared = RedisQuota(self.redis_url, self.limits, clock=self.clock, monotonic=self.clock)
            self.quota = GuardedQuota(
                shared, local, on_error="local", breaker=Breaker(monotonic=self.clock)
            )

    @rule(target=receipts, user=st.sampled_from(USERS))
    def charge(self, user: str) -> Receipt | MultipleResults[Receipt]:
        model, now, limits = self.models[user], self.clock.now, self.limits
        full = model.settle(now) >= self.most
        spent = limits.tokens_per_day is not None and model.tokens >= limits.tokens_per_day
        if full or spent:
            with pytest.raises(QuotaExceeded) as refusal:
                self.runner.run(self.quota.charge(user + self.salt))
            assert refusal.value.which == ("requests" if full else "tokens")
            return multiple()
        receipt = self.runner.run(self.quota.charge(user + self.salt))
        model.requests[receipt.request_id] = now
        assert receipt.remaining == self.most - model.settle(now)
        return receipt

    @rule(target=receipts, receipt=consumes(receipts), tokens=st.integers(0, 15))
    def spend(self, receipt: Receipt, tokens: int) -> Receipt:
        if receipt.spent.tokens:
            return receipt  # once per request
        model, per_day = self.models[receipt.user_id[0]], self.limits.tokens_per_day
        model.settle(self.clock.now)
        if per_day is not None and model.tokens + tokens > per_day:
            with pytest.raises(QuotaExceeded) as refusal:
                self.runner.run(self.quota.spend(receipt, tokens=tokens))
            assert refusal.value.which == "tokens"
            return receipt
        receipt = self.runner.run(self.quota.spend(receipt, tokens=tokens))
        model.tokens += tokens
        if per_day is not None:
            assert receipt.tokens_remaining == per_day - model.tokens
        return receipt

    @rule(receipt=consumes(receipts), whole=st.booleans())
    def refund(self, receipt: Receipt, whole: bool) -> None:
        model = self.models[receipt.user_id[0]]
        left = self.runner.run(self.quota.refund(receipt if whole else tokens_alone(receipt)))
        used = model.settle(self.clock.now)
        if whole and model.requests.pop(receipt.request_id, 0) > self.clock.now - WINDOW:
            used -= 1
        if model.day == receipt.spent.at // (DAY * 1_000_000):
            model.tokens = max(0, model.tokens - receipt.spent.tokens)
        if receipt.shared == (self.redis_url is not None):
            assert left.remaining == self.most - used

    @rule(user=st.sampled_from(USERS))
    def usage(self, user: str) -> None:
        model, limits = self.models[user], self.limits
        used = model.settle(self.clock.now)
        found = self.runner.run(self.quota.usage(user + self.salt))
        assert found.remaining == self.most - used
        if limits.tokens_per_day is not None:
            assert found.tokens_remaining == limits.tokens_per_day - model.tokens

    @rule(user=st.sampled_from(USERS))
    def wait_exactly_retry_after(self, user: str) -> None:
        """Wait as told after a refusal of requests; tokens of a day are back at midnight only."""
        model = self.models[user]
        if model.settle(self.clock.now) < self.most:
            return
        with pytest.raises(QuotaExceeded) as refusal:
            self.runner.run(self.quota.charge(user + self.salt))
        self.clock.now += refusal.value.retry_after
        assert model.settle(self.clock.now) < self.most

    @rule(eighths=st.integers(1, 1000))
    def time_passes(self, eighths: int) -> None:
        self.clock.now += eighths / 8  # exact in binary

    def teardown(self) -> None:
        if hasattr(self, "quota"):
            self.runner.run(self.quota.aclose())


SETTINGS = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_store_agrees_with_counting_by_brute_force(store: str, redis: RedisServer) -> None:
    with asyncio.Runner() as runner:
        url = redis.url if store == "redis" else None
        machine = type("Machine", (QuotaMachine,), {"runner": runner, "redis_url": url})
        run_state_machine_as_test(machine, settings=SETTINGS)
