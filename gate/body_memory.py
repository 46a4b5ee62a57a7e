"""Bounds the memory of large bodies, and decides who may send the next piece."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

#: Most bytes that a server passes on at once: uvicorn keeps 64 KiB, uvloop reads up to 256,000.
PIECE = 65_536 + 262_144
PACE = 131_072  # bytes per second: a slower body is ended while others wait for memory
GRACE = 1.0  # seconds in which no body counts as slow


@dataclass(eq=False, slots=True)
class Body:
    """One body, from its first byte until it is released. Sizes in bytes, times in seconds."""

    user_id: str
    size: int  # as announced, or the most it may be
    received: int = 0
    reserved: int = 0  # for the piece that may come now
    slack: float = GRACE  # what was left of GRACE when it began to wait
    due: float = inf  # when it counts as slow, unless more comes

    @property
    def held(self) -> int:
        """Bytes that it holds."""
        return self.received + self.reserved

    @property
    def missing(self) -> int:
        """Bytes that it still needs."""
        return self.size - self.held


class BodyMemory:
    """Memory for the bodies of all users.

    Bodies grow piece by piece: a body takes what has arrived, not what was announced. A piece is
    granted only if every body could still arrive completely in some order (Dijkstra's banker's
    algorithm), so senders cannot wait for each other in a circle.

    Args:
        total: bytes of all bodies.
        per_user: bytes of one user's bodies, at most `total`; no body may be larger.
        piece: bytes that are granted at once.
        clock: seconds; only differences matter.
    """

    def __init__(
        self,
        total: int,
        *,
        per_user: int,
        piece: int = PIECE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._per_user = per_user
        self._piece = piece
        self._clock = clock
        self._bodies: dict[Body, None] = {}
        self._waiting: dict[Body, None] = {}  # in order of arrival

    def __contains__(self, body: Body) -> bool:
        return body in self._bodies

    def enter(self, user_id: str, size: int) -> Body:
        """Begin to count a body of an announced size."""
        body = Body(user_id, size)
        self._bodies[body] = None
        return body

    def leave(self, body: Body) -> None:
        """Release a body, whether it is complete or not. A second call does nothing."""
        self._bodies.pop(body, None)
        self._waiting.pop(body, None)

    def ask(self, body: Body) -> None:
        """Let a body wait for its next piece. The wait does not count as slowness."""
        body.slack = min(body.due - self._clock(), GRACE)
        body.due = inf
        self._waiting[body] = None

    def waits(self, body: Body) -> bool:
        """Whether a body waits for room."""
        return body in self._waiting

    def grant(self) -> list[Body]:
        """Grant pieces, and return their bodies; users whose bodies take least memory come first.

        A user's bodies come in this order: those that have begun, then the others as they came, so
        that small bodies cannot delay a large one for ever. If one does not fit, the next is not
        tried: trying all of 64 took 3 ms.
        """
        granted = []
        for bodies in self._waiting_by_user():
            for body in bodies:
                body.reserved = min(self._piece, body.missing)
                if not (self._user_has_room(body) and self._all_have_room()):
                    body.reserved = 0
                    break
                body.due = self._clock() + body.slack
                granted.append(body)
        for body in granted:
            del self._waiting[body]
        return granted

    def _waiting_by_user(self) -> list[list[Body]]:
        held: Counter[str] = Counter()
        for body in self._bodies:
            held[body.user_id] += body.held
        waiting: dict[str, list[Body]] = {}
        for body in sorted(self._waiting, key=_rank):
            waiting.setdefault(body.user_id, []).append(body)
        return [waiting[user_id] for user_id in sorted(waiting, key=held.__getitem__)]

    def received(self, body: Body, count: int) -> None:
        """Note `count` bytes of the granted piece; the rest of it is free again."""
        body.received += count
        body.reserved = 0
        body.due = min(body.due + count / PACE, self._clock() + GRACE)

    def complete(self, body: Body) -> None:
        """Note that a body is complete. It takes memory until `leave`."""
        body.size = body.received
        body.due = inf

    def slowest(self) -> Body | None:
        """The body to end for those that wait: the one that is overdue the longest, if any is."""
        if not self._waiting:
            return None
        late = min(self._bodies, key=lambda body: body.due)
        if late.due > self._clock():  # asked for each piece: what follows takes 3 ms with 64 bodies
            return None
        return late if any(map(self._waits_for_others, self._waiting)) else None

    def _waits_for_others(self, body: Body) -> bool:
        """Whether a body waits because of other users' bodies, not of its own user's."""
        body.reserved = min(self._piece, body.missing)
        alone = self._user_has_room(body)
        body.reserved = 0
        return alone

    def _user_has_room(self, body: Body) -> bool:
        own = (other for other in self._bodies if other.user_id == body.user_id)
        return _all_arrive(own, self._per_user)

    def _all_have_room(self) -> bool:
        return _all_arrive(self._bodies, self._total)


def _rank(body: Body) -> tuple[bool, int]:
    """The place among the waiting bodies of a user; equal ranks keep the order of arrival."""
    return not body.received, body.missing if body.received else 0


def _all_arrive(bodies: Iterable[Body], total: int) -> bool:
    """Whether all bodies can arrive completely in some order, each after others are released."""
    begun = sorted((body for body in bodies if body.held), key=lambda body: body.missing)
    free = total - sum(body.held for body in begun)
    for body in begun:
        if body.missing > free:
            return False
        free += body.held
    return True
