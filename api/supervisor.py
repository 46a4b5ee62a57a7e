"""BentoML's supervising process, made to look when a worker ends."""

import signal
from typing import Any

from bentoml._internal.utils import circus


class PromptArbiter(circus.Arbiter):
    """Starts the next worker when one has ended; BentoML's own looks every 10 s, and callers wait meanwhile."""

    def start(self, cb: Any = None) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: self.loop.add_callback_from_signal(self._look))
        super().start(cb)

    def _look(self) -> Any:
        return None if self._stopping else self.manage_watchers()


def notice_ended_workers() -> None:
    """Call before the supervisor is made."""
    circus.Arbiter = PromptArbiter
