"""The contract of quotas."""

from __future__ import annotations

from typing import Literal, Protocol

from quota.receipt import Limits, Receipt

State = Literal["ok", "degraded", "disabled"]


class TokenAccount(Protocol):
    """What charges the tokens of one request; described below."""

    async def spend(self, receipt: Receipt, *, tokens: int) -> Receipt: ...

    async def refund(self, receipt: Receipt) -> Receipt: ...


class Quota(TokenAccount, Protocol):
    """Requests in any rolling window, and tokens per UTC day, for each caller."""

    limits: Limits  # of users

    def limits_of(self, user_id: str) -> Limits:
        """The limits of a caller: those of users, or its own."""

    @property
    def state(self) -> State:
        """`ok`: Redis counts. `degraded`: Redis fails, `on_error` decides. `disabled`: no Redis."""

    async def start(self) -> bool:
        """Begin to work. Returns whether the store answers."""

    async def ping(self) -> bool:
        """Ask the store whether it works, to notice its recovery without a user's request."""

    async def aclose(self) -> None: ...

    async def charge(self, user_id: str) -> Receipt:
        """Charge one request.

        Raises:
            QuotaExceeded: a limit is reached, of requests or of tokens; nothing is charged.
            QuotaUnavailable: the store cannot count.
        """

    async def spend(self, receipt: Receipt, *, tokens: int) -> Receipt:
        """Charge the tokens of a request, once.

        Returns:
            The receipt that replaces `receipt`.

        Raises:
            QuotaExceeded: the day has too few tokens left. The request stays charged.
            QuotaUnavailable: the store cannot count.
        """

    async def refund(self, receipt: Receipt) -> Receipt:
        """Take a charge back, once. Never raises.

        Args:
            receipt: of the charge, or `tokens_alone` of it if the request stays charged.

        Returns:
            What is left then.
        """

    async def usage(self, user_id: str) -> Receipt:
        """What is left to a caller, free of charge. Raises QuotaUnavailable."""
