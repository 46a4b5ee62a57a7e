"""Limits of the queue, for each user and for all, and when a refused caller should retry."""

import itertools
import math
from collections.abc import Sequence

from embedder.errors import QueueFullError, TooManyTokensError, UserQueueFullError

MIN_COST = 64  # tokens; the vector of any text takes 3 KB until its request is answered
LONGEST_WAIT = 60  # seconds; openai-python does not wait for a longer Retry-After
DECAY = 0.9  # of earlier forward passes in the measured rate; about ten of them count


def cost_of(n_tokens: int) -> int:
    """Tokens that a text of `n_tokens` counts as in the queue."""
    return max(n_tokens, MIN_COST)


class Admission:
    """Counts the tokens of each user that wait or run, and bounds them.

    A user may have `user_tokens` in the queue, and all users together `total_tokens`. Between
    `total_tokens` and twice as many, a request is admitted if its user has little in the queue and
    the request leaves as much space as it takes. So a few users cannot keep out another user's
    single query.

    Not thread-safe: only the event loop uses it, except for `require_size`.

    Args:
        user_tokens: limit of one user, at most `total_tokens`.
        total_tokens: limit of all users together.
    """

    def __init__(self, *, user_tokens: int, total_tokens: int) -> None:
        self.user_tokens, self._total_tokens = user_tokens, total_tokens
        self._little = total_tokens // 256  # 4,096 by default, a few queries
        self._of: dict[str, int] = {}
        self._tokens = self._seconds = 0.0  # of recent forward passes
        self._lengths = 0  # tokens of all texts in the queue
        self.tokens = 0  # what those texts count as

    def admit(self, user: str, lengths: Sequence[int], *, bulk: bool = False) -> None:
        """Add the texts of a request to the queue.

        Args:
            user: who sent the request.
            lengths: tokens of each text.
            bulk: whether all other work has priority. Such requests fill at most half of the queue.

        Raises:
            TooManyTokensError: the request is larger than a user's limit.
            UserQueueFullError: the user has too many tokens in the queue.
            QueueFullError: all users together have.
        """
        costs = [*map(cost_of, lengths)]
        self.require_size(costs)
        self.require_space(user, sum(costs), bulk=bulk)
        self._add(user, sum(costs), sum(lengths))

    def require_size(self, costs: Sequence[int]) -> None:
        """Refuse a request that does not fit even into an empty queue.

        Args:
            costs: what each text counts in the queue.

        Raises:
            TooManyTokensError: they are more than a user's limit.
        """
        cost = sum(costs)
        if cost > self.user_tokens:
            fit = _fitting(costs, self.user_tokens)
            raise TooManyTokensError(cost, self.user_tokens, fit=fit)

    def release(self, user: str, length: int) -> None:
        """Remove a text that was delivered or dropped."""
        self._add(user, -cost_of(length), -length)

    def _add(self, user: str, cost: int, length: int) -> None:
        self.tokens += cost
        self._lengths += length
        self._of[user] = self._of.get(user, 0) + cost
        if not self._of[user]:
            del self._of[user]

    def require_space(self, user: str, cost: int, *, most: int = 0, bulk: bool = False) -> None:
        """Refuse a request for which there is no space in the queue now.

        Args:
            user: who sent the request.
            cost: tokens that it counts at least. More than `user_tokens` count as `user_tokens`.
            most: tokens that it may count at most, from which `retry_after` is calculated.
            bulk: as in `admit`.

        Raises:
            UserQueueFullError: the user has too many tokens in the queue.
            QueueFullError: all users together have.
        """
        cost, most = min(cost, self.user_tokens), min(max(cost, most), self.user_tokens)
        own, total = self._above(user, cost, bulk)
        if own <= 0 and total <= 0:
            return
        most_own, most_total = self._above(user, most, bulk)
        wait = max(self._seconds_of_own(user, most_own, bulk), self._seconds_of(most_total))
        raise UserQueueFullError(wait) if own > 0 else QueueFullError(wait)

    def _above(self, user: str, cost: int, bulk: bool) -> tuple[int, int]:
        """Tokens above the user's limit, and above the limit of all, with `cost` added."""
        own = self._of.get(user, 0)
        above = self.tokens + cost - self._total_tokens
        if bulk and self.tokens:  # an empty queue takes any request
            above += self._total_tokens // 2
        elif above > 0 and own <= self._little:
            above += cost - self._total_tokens
        return own + cost - self.user_tokens, above

    def measure(self, tokens: int, seconds: float) -> None:
        """Record a forward pass, from which `retry_after` is calculated."""
        self._tokens = DECAY * self._tokens + tokens
        self._seconds = DECAY * self._seconds + seconds

    def _seconds_of_own(self, user: str, tokens: int, bulk: bool) -> int:
        """Seconds until `tokens` of one user are done; 0 for none.

        The queue is fair: by then every other user has as many done, or all of theirs. A bulk user
        waits for all of theirs.
        """
        if tokens <= 0:
            return 0
        if bulk:
            return self._seconds_of(self.tokens - self._of[user] + tokens)
        return self._seconds_of(sum(min(theirs, tokens) for theirs in self._of.values()))

    def _seconds_of(self, tokens: int) -> int:
        """Seconds for `tokens` at the measured rate, of texts as long as those in the queue."""
        if not self._tokens or not self.tokens:
            return LONGEST_WAIT
        seconds = tokens * self._lengths / self.tokens * self._seconds / self._tokens
        return min(max(1, math.ceil(seconds)), LONGEST_WAIT)


def _fitting(costs: Sequence[int], space: int) -> int:
    """How many of the first texts fit."""
    sums = itertools.accumulate(costs)
    return sum(1 for _ in itertools.takewhile(lambda so_far: so_far <= space, sums))
