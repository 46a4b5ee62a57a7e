"""How much of large bodies is in memory at once, and who may send the next piece."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

#: Bytes that a server hands over at most at once: uvicorn keeps 64 KiB, and one read of uvloop adds 256,000.
PIECE = 65_536 + 262_144
PACE = 131_072  # bytes per second: who is slower is given up while others wait for room
GRACE = 1.0  # seconds for which nobody is called slow


@dataclass(eq=False, slots=True)
class Body:
    """One body from its first byte until it is dropped. Sizes in bytes, times in seconds."""

    user_id: str
    size: int  # of all of it, or the most there may be
    received: int = 0
    reserved: int = 0  # for the piece that it may send now
    slack: float = GRACE  # left while it waits
    due: float = inf  # when it is slow, unless more comes

    @property
    def held(self) -> int:
        return self.received + self.reserved

    @property
    def missing(self) -> int:
        return self.size - self.held


class BodyRoom:
    """Room for ``total`` bytes of bodies, of which one user has ``per_user``.

    Bodies grow piece by piece, so a sender holds what it sent and not what it announced. A piece is
    granted where every body could still arrive in some order (Dijkstra's banker): senders never wait
    for one another in a circle. Nothing larger than ``per_user`` may enter, and that be at most
    ``total``. ``clock``: seconds, only differences matter.
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
        body = Body(user_id, size)
        self._bodies[body] = None
        return body

    def leave(self, body: Body) -> None:
        """The body is dropped, or given up. Again does nothing."""
        self._bodies.pop(body, None)
        self._waiting.pop(body, None)

    def ask(self, body: Body) -> None:
        """The body waits for its next piece. Its sender is not to blame for what that takes."""
        body.slack = min(body.due - self._clock(), GRACE)
        body.due = inf
        self._waiting[body] = None

    def waits(self, body: Body) -> bool:
        return body in self._waiting

    def grant(self) -> list[Body]:
        """Those who may send a piece from now on; users who hold least come first.

        Of one user's bodies those that have begun, then the others in order of arrival, so that small
        bodies cannot keep a large one waiting for ever. No other is tried where there is no room for
        the first: trying all of 64 took 3 ms.
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
        """``count`` bytes of the piece came; what else was reserved for it is free."""
        body.received += count
        body.reserved = 0
        body.due = min(body.due + count / PACE, self._clock() + GRACE)

    def complete(self, body: Body) -> None:
        """All of the body came. It is held until it leaves."""
        body.size, body.due = body.received, inf

    def slowest(self) -> Body | None:
        """The body to give up for those who wait: the one longest overdue, if there is one."""
        if not self._waiting:
            return None
        late = min(self._bodies, key=lambda body: body.due)
        if late.due > self._clock():  # asked for each piece: what follows takes 3 ms with 64 bodies
            return None
        return late if any(map(self._waits_for_others, self._waiting)) else None

    def _waits_for_others(self, body: Body) -> bool:
        """And not for other bodies of the same user."""
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
    """Its place among the waiting bodies of its user; those of one rank keep the order of arrival."""
    return not body.received, body.missing if body.received else 0


def _all_arrive(bodies: Iterable[Body], total: int) -> bool:
    """Whether there is an order in which each body finds room for what it misses, once others left."""
    begun = sorted((body for body in bodies if body.held), key=lambda body: body.missing)
    free = total - sum(body.held for body in begun)
    for body in begun:
        if body.missing > free:
            return False
        free += body.held
    return True
