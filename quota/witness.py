"""What Redis confirmed to this process. If it is missing at the next call, Redis lost counts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass, replace

from quota.receipt import DAY, Receipt

MAX_USERS = 10_000  # that called last


@dataclass(frozen=True, slots=True)
class Witness:
    """What Redis confirmed of one user. `at` (µs) and `day` (since 1970) are of Redis's clock."""

    request_id: str = ""  # "": no request is expected
    at: int = 0
    tokens: int = 0
    day: int = 0


NOTHING = Witness()


class Witnesses:
    """The newest request and the tokens of the day of each user, for the users that called last."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, Witness] = OrderedDict()

    def of(self, user_id: str) -> Witness:
        """The witness of a user."""
        return self._of.get(user_id, NOTHING)

    def saw_charge(self, receipt: Receipt) -> None:
        """Keep the newest request by Redis's clock: answers may come in another order."""
        known = self.of(receipt.user_id)
        if receipt.charged_at >= known.at or not known.request_id:
            at = receipt.charged_at
            self._keep(receipt.user_id, replace(known, request_id=receipt.request_id, at=at))

    def saw_tokens(self, receipt: Receipt) -> None:
        """Remember the tokens of a receipt."""
        known, day = self.of(receipt.user_id), receipt.spent.at // DAY
        before = known.tokens if known.day == day else 0
        self._keep(receipt.user_id, replace(known, tokens=before + receipt.spent.tokens, day=day))

    def forget(self, receipt: Receipt) -> None:
        """Expect no more what a refund takes back. Call before the refund is sent."""
        known, spent = self.of(receipt.user_id), receipt.spent
        if receipt.request_id and known.request_id == receipt.request_id:
            known = replace(known, request_id="", at=0)
        if spent.shared and spent.at // DAY == known.day:
            known = replace(known, tokens=max(0, known.tokens - spent.tokens))
        self._keep(receipt.user_id, known)

    def keep_only(self, user_id: str, request_ids: Container[str]) -> None:
        """Expect only the requests that were restored."""
        known = self.of(user_id)
        if known.request_id not in request_ids:
            self._keep(user_id, replace(known, request_id="", at=0))

    def _keep(self, user_id: str, witness: Witness) -> None:
        self._of[user_id] = witness
        self._of.move_to_end(user_id)
        if len(self._of) > MAX_USERS:
            self._of.popitem(last=False)
