"""Room for large bodies: bounded for all and for each user, fair, and never at a standstill."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gate.body_room import GRACE, PACE, Body, BodyRoom
from lab.signing import Clock

MB = 1_000_000
USERS = "abcdef"


@pytest.fixture
def room(clock: Clock) -> BodyRoom:
    """For 32 MB, 8 of one user, in pieces of 1."""
    return BodyRoom(32 * MB, per_user=8 * MB, piece=MB, clock=clock)


def send(room: BodyRoom, body: Body, count: int) -> int:
    """Bytes of ``count`` that there was room for."""
    sent = 0
    while sent < count:
        if not room.waits(body):
            room.ask(body)
        room.grant()
        if room.waits(body):
            break
        part = min(body.reserved, count - sent)
        room.received(body, part)
        sent += part
    if body.received == body.size:
        room.complete(body)
    return sent


def test_a_user_has_room_for_one_of_the_largest_bodies(room: BodyRoom) -> None:
    first, second = room.enter("a", 8 * MB), room.enter("a", 8 * MB)
    assert send(room, first, 8 * MB) == 8 * MB
    assert send(room, second, MB) == 0
    room.leave(first)
    assert send(room, second, 8 * MB) == 8 * MB


def test_bodies_of_other_users_find_room_meanwhile(room: BodyRoom) -> None:
    for user in "abcd":
        assert send(room, room.enter(user, 8 * MB), 8 * MB) == 8 * MB
    assert send(room, room.enter("e", MB), MB) == 0


def test_who_has_begun_can_always_finish(room: BodyRoom) -> None:
    """Six users who each have sent half would fill the room, and none could send the rest."""
    bodies = [room.enter(user, 8 * MB) for user in USERS]
    for _ in range(4):
        for body in bodies:
            send(room, body, MB)
    while bodies:
        done = next(body for body in bodies if send(room, body, body.missing) and not body.missing)
        room.leave(done)
        bodies.remove(done)


def test_room_goes_to_the_user_who_holds_least(room: BodyRoom) -> None:
    filling = [room.enter(user, 8 * MB) for user in "abcd"]
    for body in filling:
        send(room, body, 8 * MB)
    first, second = room.enter("a", MB), room.enter("e", MB)
    room.ask(first)
    room.ask(second)
    assert room.grant() == []
    room.leave(filling[1])
    assert room.grant() == [second]
    room.leave(filling[0])
    assert room.grant() == [first]


def test_small_bodies_of_a_user_do_not_keep_a_large_one_waiting_for_ever(room: BodyRoom) -> None:
    """A new one comes for each that has left."""
    large = room.enter("a", 8 * MB)
    send(room, large, MB)
    room.ask(large)
    small = [room.enter("a", 2 * MB) for _ in range(16)]
    for body in small:
        room.ask(body)
    for _ in range(100):
        room.grant()
        if not room.waits(large) and not receive_piece(room, large):
            return
        for body in [body for body in small if body.reserved]:
            if not receive_piece(room, body):
                room.leave(body)
                small.remove(body)
                small.append(room.enter("a", 2 * MB))
                room.ask(small[-1])
    raise AssertionError(f"the large body has {large.received} bytes")


def receive_piece(room: BodyRoom, body: Body) -> int:
    """Bytes that are missing still, for which it waits."""
    room.received(body, body.reserved)
    if body.missing:
        room.ask(body)
    else:
        room.complete(body)
    return body.missing


def fill(room: BodyRoom) -> list[Body]:
    """Four bodies that keep everybody else out, each a megabyte short of its end."""
    bodies = [room.enter(user, 8 * MB) for user in "abcd"]
    for body in bodies:
        send(room, body, 7 * MB)
    for body in bodies:
        room.ask(body)
    assert len(room.grant()) == 4
    return bodies


def test_nobody_is_given_up_while_nobody_waits(room: BodyRoom, clock: Clock) -> None:
    fill(room)
    clock.now += 100
    assert room.slowest() is None


def test_the_slowest_is_given_up_when_others_wait(room: BodyRoom, clock: Clock) -> None:
    bodies = fill(room)
    waiting = room.enter("e", MB)
    room.ask(waiting)
    assert room.grant() == []
    assert room.slowest() is None
    clock.now += GRACE / 2
    for body in bodies[:1] + bodies[2:]:
        room.received(body, PACE)
        room.ask(body)
    room.grant()
    clock.now += GRACE / 2
    assert room.slowest() is bodies[1]
    room.leave(bodies[1])
    room.grant()
    assert not room.waits(waiting)
    assert room.slowest() is None


def test_a_sender_who_drips_is_slow_however_fast_it_began(room: BodyRoom, clock: Clock) -> None:
    bodies = fill(room)
    for _ in range(20):
        for number, body in enumerate(bodies):
            room.received(body, 1 if number == 2 else PACE // 10)
            room.ask(body)
        room.grant()
        clock.now += 0.1
    room.ask(room.enter("e", 8 * MB))
    assert room.grant() == []
    assert room.slowest() is bodies[2]


def test_time_spent_waiting_is_no_ones_slowness(room: BodyRoom, clock: Clock) -> None:
    bodies = fill(room)
    waiting = room.enter("e", 8 * MB)
    room.ask(waiting)
    clock.now += 100
    room.leave(bodies[0])
    room.grant()
    room.ask(room.enter("f", 8 * MB))
    room.grant()
    assert room.slowest() is not waiting
    clock.now += GRACE
    room.leave(bodies[1])
    room.leave(bodies[2])
    room.leave(bodies[3])
    assert not room.waits(waiting)


def test_who_waits_for_their_own_body_alone_ends_nobody(room: BodyRoom, clock: Clock) -> None:
    slow = room.enter("a", 8 * MB)
    send(room, slow, 7 * MB)
    room.ask(slow)
    room.grant()
    room.ask(room.enter("a", 8 * MB))
    assert room.grant() == []
    clock.now += 100
    assert room.slowest() is None


def test_leaving_twice_gives_nothing_back_twice(room: BodyRoom) -> None:
    body, other = room.enter("a", 8 * MB), room.enter("a", 8 * MB)
    send(room, body, 8 * MB)
    send(room, other, 0)
    room.leave(body)
    room.leave(body)
    assert send(room, other, 8 * MB) == 8 * MB
    assert body not in room


class RoomMachine(RuleBasedStateMachine):
    """Senders of all kinds, in any order: a piece at a time, in full, slowly, leaving in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.room = BodyRoom(40, per_user=10, piece=3, clock=self.clock)
        self.bodies: list[Body] = []
        self.given_up: set[Body] = set()

    @rule(user=st.sampled_from(USERS), size=st.integers(1, 10))
    def enter(self, user: str, size: int) -> None:
        body = self.room.enter(user, size)
        self.bodies.append(body)
        self.room.ask(body)
        self.room.grant()

    @precondition(lambda self: self.bodies)
    @rule(data=st.data(), count=st.integers(1, 3))
    def receive(self, data: st.DataObject, count: int) -> None:
        body = data.draw(st.sampled_from(self.bodies))
        if body.reserved:
            self.deliver(body, min(count, body.reserved))

    def deliver(self, body: Body, count: int) -> None:
        self.room.received(body, count)
        if body.received == body.size:
            self.room.complete(body)
        else:
            self.room.ask(body)
        self.room.grant()

    @precondition(lambda self: self.bodies)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        body = data.draw(st.sampled_from(self.bodies))
        self.bodies.remove(body)
        self.room.leave(body)
        self.room.grant()

    @rule(seconds=st.floats(0, 2))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        while late := self.room.slowest():
            assert not self.room.waits(late)
            assert any(self.room.waits(body) for body in self.bodies)
            self.bodies.remove(late)
            self.room.leave(late)
            self.room.grant()

    @invariant()
    def bytes_are_bounded(self) -> None:
        assert sum(body.held for body in self.bodies) <= 40
        for user in USERS:
            assert sum(body.held for body in self.bodies if body.user_id == user) <= 10

    def teardown(self) -> None:
        """Everybody sends what they may and leaves when done: nobody is left waiting."""
        while self.bodies:
            going = [body for body in self.bodies if not self.room.waits(body)]
            assert going, "everybody waits"
            body = going[0]
            if body.reserved:
                self.deliver(body, body.reserved)
            else:
                self.bodies.remove(body)
                self.room.leave(body)
                self.room.grant()


RoomMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestRoom = RoomMachine.TestCase
