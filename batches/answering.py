"""What a batch needs of the route that answers its requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from quota.quota import Quota
from quota.receipt import Counts, Receipt, Spent, receipt_of, tokens_alone

SUCCESS = 200


class LineTokens:
    """Charges the tokens of one request of a batch.

    Args:
        quota: that of batches.
        user_id: who is charged.
        free: whether they may have been charged before a crash: then they are not charged again.
        admitted: is called once the tokens are charged.

    Attributes:
        never_fits: whether the request needs more tokens than a day has.
    """

    def __init__(
        self, quota: Quota, user_id: str, *, free: bool, admitted: Callable[[], None]
    ) -> None:
        self._quota = quota
        self._free = free
        self._admitted = admitted
        self.never_fits = False
        nothing = Counts("", 0, 0, 0, 0)
        self.receipt = receipt_of(nothing, quota.limits_of(user_id), user_id=user_id)

    async def spend(self, receipt: Receipt, *, tokens: int) -> Receipt:
        """As `Quota.spend`."""
        per_day = self.receipt.tokens_limit
        self.never_fits = per_day is not None and tokens > per_day
        if self._free:
            self.receipt = replace(receipt, spent=Spent(tokens))
        else:
            self.receipt = await self._quota.spend(receipt, tokens=tokens)
        self._admitted()
        return self.receipt

    async def refund(self, receipt: Receipt) -> Receipt:
        """As `Quota.refund`, of some of the tokens."""
        if self._free or not receipt.spent.tokens:
            return receipt
        left = self.receipt.spent
        self.receipt = replace(
            self.receipt, spent=replace(left, tokens=left.tokens - receipt.spent.tokens)
        )
        return await self._quota.refund(receipt)

    async def refund_all(self) -> None:
        """Take back what is still charged."""
        await self.refund(tokens_alone(self.receipt))


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one request.

    Attributes:
        status: of HTTP.
        request_id: of the answer.
        body: makes its JSON in pieces, without line breaks; can be called again.
        prompt_tokens: that the model read.
        cached_tokens: of those, what was not computed.
    """

    status: int
    request_id: str
    body: Callable[[], Iterator[bytes]]
    prompt_tokens: int = 0
    cached_tokens: int = 0


class Answerer(Protocol):
    """The route that answers the requests of batches."""

    async def decode(self, content: bytes) -> Any:
        """A line as JSON. Raises LineFault."""

    def n_texts(self, body: Mapping[str, Any]) -> int:
        """Texts in a body, each of which takes memory until the answer is written."""

    def most_bytes(self, body: Mapping[str, Any]) -> int:
        """Bytes that the answer to a body may take, at most."""

    async def answer(
        self, body: Mapping[str, Any], *, user_id: str, caller: str, tokens: LineTokens
    ) -> Answered:
        """The answer to a body, errors included; what was charged for an error is given back.

        Raises:
            NotNow: it has to wait; nothing is charged.
        """
