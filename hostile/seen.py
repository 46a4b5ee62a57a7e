"""The calls of a witness, and figures of them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lab.figures import percentile


@dataclass(frozen=True)
class Calls:
    """(start on time.monotonic(), seconds, status) of each call, in order."""

    calls: Sequence[tuple[float, float, int]]

    @classmethod
    def read(cls, line: str) -> "Calls":
        return cls([(began, seconds, status) for began, seconds, status in json.loads(line)])

    def __len__(self) -> int:
        return len(self.calls)

    def between(self, first: float, last: float) -> "Calls":
        """The calls that began between two times."""
        return Calls([call for call in self.calls if first <= call[0] < last])

    def since(self, first: float) -> "Calls":
        return self.between(first, float("inf"))

    @property
    def longest_ms(self) -> float:
        """The longest time without an answer of status 200."""
        last_good = None
        longest = 0.0
        for began, seconds, status in self.calls:
            last_good = began if last_good is None else last_good
            if status == 200:
                longest = max(longest, began + seconds - last_good)
                last_good = None
        return longest * 1e3

    def percentile_ms(self, share: float) -> float:
        """A percentile over all calls; 0 when there are none."""
        return percentile([seconds for _, seconds, _ in self.calls] or [0.0], share) * 1e3

    def failures(self) -> dict[str, int]:
        """The number of answers other than 200 by status; status 0 is a call without an answer."""
        counts = Counter(status for *_, status in self.calls)
        return {str(status): n for status, n in counts.items() if status != 200}
