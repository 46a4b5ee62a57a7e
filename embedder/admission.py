"""Who may add to the queue, and when to come back."""

import itertools
import math
from collections.abc import Sequence

from embedder.errors import QueueFullError, TooManyTokensError, UserQueueFullError

LEAST_TOKENS = 64  # that a text counts: its vector takes 3 KB until the whole request is answered
LONGEST_WAIT = 60  # seconds; openai-python does not wait for a longer Retry-After
KEPT = 0.9  # of the earlier forward passes in the measured rate: about ten of them count


def cost_of(n_tokens: int) -> int:
    """Tokens that a text of `n_tokens` counts in the queue."""
    return max(n_tokens, LEAST_TOKENS)


class Admission:
    """The tokens of each user that wait or run, and their bounds.

    A user may have `user_tokens`. All users together may have `total_tokens`. Beyond that, up to twice
    as many, a request is admitted if its user has little in the queue and if it leaves as much room as
    it takes: so no user, and no few users, can take the room of somebody's single query.

    Not thread-safe: the event loop alone uses it, `check_size` aside.

    Args:
        user_tokens: at most `total_tokens`.
        total_tokens: of all users.
    """

    def __init__(self, *, user_tokens: int, total_tokens: int) -> None:
        self._user_tokens, self._total_tokens = user_tokens, total_tokens
        self._little = total_tokens // 256  # by default 4,096, some queries
        self._of: dict[str, int] = {}
        self._tokens = self._seconds = 0.0  # of the latest forward passes
        self._lengths = 0  # of all users' texts, in tokens
        self.tokens = 0  # that they count

    def admit(self, user: str, lengths: Sequence[int], *, bulk: bool = False) -> None:
        """Count the texts of a request, by the tokens of each.

        Args:
            bulk: whether all other work goes before it. Such requests fill half of the queue at most.

        Raises:
            TooManyTokensError: they are more than a user may ever have.
            UserQueueFullError, QueueFullError: as `check`.
        """
        self.check_size(lengths)
        cost = sum(map(cost_of, lengths))
        self.check(user, cost, bulk=bulk)
        self._add(user, cost, sum(lengths))

    def check_size(self, lengths: Sequence[int]) -> None:
        """Raises TooManyTokensError if texts of so many tokens are more than a user may ever have."""
        costs = list(map(cost_of, lengths))
        cost = sum(costs)
        if cost > self._user_tokens:
            fit = _fitting(costs, self._user_tokens)
            raise TooManyTokensError(cost, self._user_tokens, fit=fit)

    def release(self, user: str, length: int) -> None:
        """Take off a text that was delivered or given up."""
        self._add(user, -cost_of(length), -length)

    def _add(self, user: str, cost: int, length: int) -> None:
        self.tokens += cost
        self._lengths += length
        self._of[user] = self._of.get(user, 0) + cost
        if not self._of[user]:
            del self._of[user]

    def check(self, user: str, cost: int, *, most: int = 0, bulk: bool = False) -> None:
        """Whether `user` may add `cost` tokens now; more than `user_tokens` count as that many.

        Args:
            most: what they may turn out to be where `cost` is the least, for a true `retry_after`.
            bulk: as of `admit`.

        Raises:
            UserQueueFullError: the user has too many already.
            QueueFullError: all users together have.
        """
        cost, most = min(cost, self._user_tokens), min(max(cost, most), self._user_tokens)
        own, total = self._above(user, cost, bulk)
        if own <= 0 and total <= 0:
            return
        most_own, most_total = self._above(user, most, bulk)
        wait = max(self._seconds_of_turns(most_own), self._seconds_of(most_total))
        raise UserQueueFullError(wait) if own > 0 else QueueFullError(wait)

    def _above(self, user: str, cost: int, bulk: bool) -> tuple[int, int]:
        """Tokens above the bound on the user and above that on all, if `cost` was added."""
        own = self._of.get(user, 0)
        above = self.tokens + cost - self._total_tokens
        if bulk and self.tokens:  # an empty queue takes any request
            above += self._total_tokens // 2
        elif above > 0 and own <= self._little:
            above += cost - self._total_tokens
        return own + cost - self._user_tokens, above

    def measure(self, tokens: int, seconds: float) -> None:
        """Take note of a forward pass, for `retry_after`."""
        self._tokens = KEPT * self._tokens + tokens
        self._seconds = KEPT * self._seconds + seconds

    def _seconds_of_turns(self, tokens: int) -> int:
        """Until so many of one user's are done: each other user has as many done, or all there are."""
        return self._seconds_of(sum(min(theirs, tokens) for theirs in self._of.values()))

    def _seconds_of(self, tokens: int) -> int:
        """At the measured rate, if they are of texts as long as those in the queue."""
        if not self._tokens or not self.tokens:
            return LONGEST_WAIT
        seconds = tokens * self._lengths / self.tokens * self._seconds / self._tokens
        return min(max(1, math.ceil(seconds)), LONGEST_WAIT)


def _fitting(costs: Sequence[int], room: int) -> int:
    """How many texts fit, in their order."""
    sums = itertools.accumulate(costs)
    return sum(1 for _ in itertools.takewhile(lambda so_far: so_far <= room, sums))
