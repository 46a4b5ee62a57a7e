"""A steady load of valid calls; every answer is compared with the expected vector."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import httpx
import numpy as np

from embedder.postprocess import Vectors
from lab.server import token

Outcome = Literal["right", "wrong", "refused", "lost"]
TOLERANCE = 1e-4  # of one coordinate; two texts differ by more than 0.01
PATIENCE = 90.0  # seconds for one answer


@dataclass(frozen=True, slots=True)
class Call:
    """One call; `started` and `ended` on time.monotonic()."""

    caller: int
    started: float
    ended: float
    outcome: Outcome
    detail: str


@dataclass
class Load:
    """Users who each send a text, wait for the answer, pause, and repeat.

    Every second user opens a new connection for each call. A call is `refused` when it gets 429 or
    503 with Retry-After, or no connection. It is `lost` when it was accepted and then not answered,
    or answered with another error.

    Attributes:
        url: of the service.
        texts: sent in turns.
        vectors: the expected ones: (len(texts), dimensions).
        callers: the number of users.
        pause: seconds between the calls of a user.
        sign: makes the token of a user id.
        calls: all that have ended.
    """

    url: str
    texts: Sequence[str]
    vectors: Vectors
    callers: int = 4
    pause: float = 0.1
    sign: Callable[[str], str] = token
    calls: list[Call] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._caller(number, stop)) for number in range(self.callers)]
        try:
            yield
        finally:
            stop.set()  # calls in flight are waited for; one that hangs is lost after PATIENCE
            await asyncio.gather(*tasks)

    async def _caller(self, number: int, stop: asyncio.Event) -> None:
        user = f"00000000-0000-4000-8000-{number:012x}"
        headers = {"Authorization": f"Bearer {self.sign(user)}"}
        if number % 2:
            headers["Connection"] = "close"
        async with httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=PATIENCE
        ) as client:
            turn = number
            while not stop.is_set():
                index = turn % len(self.texts)
                started = time.monotonic()
                outcome, detail = await self._call(client, index)
                self.calls.append(Call(number, started, time.monotonic(), outcome, detail))
                turn += self.callers
                await asyncio.sleep(self.pause)

    async def _call(self, client: httpx.AsyncClient, index: int) -> tuple[Outcome, str]:
        try:
            answer = await client.post("/embed", json={"text": self.texts[index]})
        except httpx.ConnectError as error:
            return "refused", type(error).__name__
        except httpx.TransportError as error:
            return "lost", type(error).__name__
        if answer.status_code == 200:
            right = self._is_right(answer, index)
            return ("right", "") if right else ("wrong", self.texts[index][:20])
        told = answer.status_code in (429, 503) and int(answer.headers.get("retry-after", 0)) > 0
        return ("refused" if told else "lost"), f"{answer.status_code} {_code(answer)}"

    def _is_right(self, answer: httpx.Response, index: int) -> bool:
        try:
            vector = np.array(answer.json()["embedding"], np.float32)
        except (ValueError, KeyError, TypeError):
            return False
        expected = self.vectors[index]
        return vector.shape == expected.shape and bool(np.abs(vector - expected).max() < TOLERANCE)

    def longest_stall(self, since: float, until: float | None = None) -> float:
        """The longest time in seconds that a caller had no right answer.

        Args:
            since: the beginning, on time.monotonic().
            until: the end; None for the last right answer.
        """
        return max(
            (self._stall(caller, since, until) for caller in range(self.callers)), default=0.0
        )

    def _stall(self, caller: int, since: float, until: float | None) -> float:
        ends = [
            call.ended for call in self.calls if call.caller == caller and call.outcome == "right"
        ]
        before = [end for end in ends if end < since][-1:]
        marks = [
            *(before or [since]),
            *(end for end in ends if end >= since),
            *([until] if until else []),
        ]
        return max((later - earlier for earlier, later in pairwise(marks)), default=0.0)

    def last_trouble(self) -> float:
        """When the last call without a right answer ended; minus infinity if there is none."""
        return max(
            (call.ended for call in self.calls if call.outcome != "right"), default=float("-inf")
        )


def _code(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "without an error code"
