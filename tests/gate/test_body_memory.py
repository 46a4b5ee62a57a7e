"""Memory for large bodies: bounded in total and per user, fair, without deadlocks."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gate.body_memory import GRACE, PACE, Body, BodyMemory
from lab.signing import Clock

MB = 1_000_000
USERS = "abcdef"


@pytest.fixture
def memory(clock: Clock) -> BodyMemory:
    """For 32 MB, 8 of one user, in pieces of 1."""
    return BodyMemory(32 * MB, per_user=8 * MB, piece=MB, clock=clock)


def send(memory: BodyMemory, body: Body, count: int) -> int:
    """Send up to `count` bytes. Returns how many fitted."""
    sent = 0
    while sent < count:
        if not memory.waits(body):
            memory.ask(body)
        memory.grant()
        if memory.waits(body):
            break
        part = min(body.reserved, count - sent)
        memory.received(body, part)
        sent += part
    if body.received == body.size:
        memory.complete(body)
    return sent


def test_a_user_has_room_for_one_of_the_largest_bodies(memory: BodyMemory) -> None:
    first, second = memory.enter("a", 8 * MB), memory.enter("a", 8 * MB)
    assert send(memory, first, 8 * MB) == 8 * MB
    assert send(memory, second, MB) == 0
    memory.leave(first)
    assert send(memory, second, 8 * MB) == 8 * MB


def test_bodies_of_other_users_find_room_meanwhile(memory: BodyMemory) -> None:
    for user in "abcd":
        assert send(memory, memory.enter(user, 8 * MB), 8 * MB) == 8 * MB
    assert send(memory, memory.enter("e", MB), MB) == 0


def test_who_has_begun_can_always_finish(memory: BodyMemory) -> None:
    """Six half-sent bodies would fill the memory, and none could be completed."""
    bodies = [memory.enter(user, 8 * MB) for user in USERS]
    for _ in range(4):
        for body in bodies:
            send(memory, body, MB)
    while bodies:
        done = next(
            body for body in bodies if send(memory, body, body.missing) and not body.missing
        )
        memory.leave(done)
        bodies.remove(done)


def test_room_goes_to_the_user_who_holds_least(memory: BodyMemory) -> None:
    filling = [memory.enter(user, 8 * MB) for user in "abcd"]
    for body in filling:
        send(memory, body, 8 * MB)
    first, second = memory.enter("a", MB), memory.enter("e", MB)
    memory.ask(first)
    memory.ask(second)
    assert memory.grant() == []
    memory.leave(filling[1])
    assert memory.grant() == [second]
    memory.leave(filling[0])
    assert memory.grant() == [first]


def test_small_bodies_of_a_user_do_not_keep_a_large_one_waiting_for_ever(
    memory: BodyMemory,
) -> None:
    """A new body comes for each that is complete."""
    large = memory.enter("a", 8 * MB)
    send(memory, large, MB)
    memory.ask(large)
    small = [memory.enter("a", 2 * MB) for _ in range(16)]
    for body in small:
        memory.ask(body)
    for _ in range(100):
        memory.grant()
        if not memory.waits(large) and not receive_piece(memory, large):
            return
        for body in [body for body in small if body.reserved]:
            if not receive_piece(memory, body):
                memory.leave(body)
                small.remove(body)
                small.append(memory.enter("a", 2 * MB))
                memory.ask(small[-1])
    raise AssertionError(f"the large body has {large.received} bytes")


def receive_piece(memory: BodyMemory, body: Body) -> int:
    """Receive the granted piece. Returns the bytes that are still missing."""
    memory.received(body, body.reserved)
    if body.missing:
        memory.ask(body)
    else:
        memory.complete(body)
    return body.missing


def fill(memory: BodyMemory) -> list[Body]:
    """Four bodies that take all memory, each a megabyte before its end."""
    bodies = [memory.enter(user, 8 * MB) for user in "abcd"]
    for body in bodies:
        send(memory, body, 7 * MB)
    for body in bodies:
        memory.ask(body)
    assert len(memory.grant()) == 4
    return bodies


def test_nobody_is_given_up_while_nobody_waits(memory: BodyMemory, clock: Clock) -> None:
    fill(memory)
    clock.now += 100
    assert memory.slowest() is None


def test_the_slowest_is_given_up_when_others_wait(memory: BodyMemory, clock: Clock) -> None:
    bodies = fill(memory)
    waiting = memory.enter("e", MB)
    memory.ask(waiting)
    assert memory.grant() == []
    assert memory.slowest() is None
    clock.now += GRACE / 2
    for body in bodies[:1] + bodies[2:]:
        memory.received(body, PACE)
        memory.ask(body)
    memory.grant()
    clock.now += GRACE / 2
    assert memory.slowest() is bodies[1]
    memory.leave(bodies[1])
    memory.grant()
    assert not memory.waits(waiting)
    assert memory.slowest() is None


def test_a_sender_who_drips_is_slow_however_fast_it_began(memory: BodyMemory, clock: Clock) -> None:
    bodies = fill(memory)
    for _ in range(20):
        for number, body in enumerate(bodies):
            memory.received(body, 1 if number == 2 else PACE // 10)
            memory.ask(body)
        memory.grant()
        clock.now += 0.1
    memory.ask(memory.enter("e", 8 * MB))
    assert memory.grant() == []
    assert memory.slowest() is bodies[2]


def test_time_spent_waiting_is_no_ones_slowness(memory: BodyMemory, clock: Clock) -> None:
    bodies = fill(memory)
    waiting = memory.enter("e", 8 * MB)
    memory.ask(waiting)
    clock.now += 100
    memory.leave(bodies[0])
    memory.grant()
    memory.ask(memory.enter("f", 8 * MB))
    memory.grant()
    assert memory.slowest() is not waiting
    clock.now += GRACE
    memory.leave(bodies[1])
    memory.leave(bodies[2])
    memory.leave(bodies[3])
    assert not memory.waits(waiting)


def test_who_waits_for_their_own_body_alone_ends_nobody(memory: BodyMemory, clock: Clock) -> None:
    slow = memory.enter("a", 8 * MB)
    send(memory, slow, 7 * MB)
    memory.ask(slow)
    memory.grant()
    memory.ask(memory.enter("a", 8 * MB))
    assert memory.grant() == []
    clock.now += 100
    assert memory.slowest() is None


def test_leaving_twice_gives_nothing_back_twice(memory: BodyMemory) -> None:
    body, other = memory.enter("a", 8 * MB), memory.enter("a", 8 * MB)
    send(memory, body, 8 * MB)
    send(memory, other, 0)
    memory.leave(body)
    memory.leave(body)
    assert send(memory, other, 8 * MB) == 8 * MB
    assert body not in memory


class MemoryMachine(RuleBasedStateMachine):
    """Any order of senders: piece by piece, completely, slowly, or leaving in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.memory = BodyMemory(40, per_user=10, piece=3, clock=self.clock)
        self.bodies: list[Body] = []
        self.given_up: set[Body] = set()

    @rule(user=st.sampled_from(USERS), size=st.integers(1, 10))
    def enter(self, user: str, size: int) -> None:
        body = self.memory.enter(user, size)
        self.bodies.append(body)
        self.memory.ask(body)
        self.memory.grant()

    @precondition(lambda self: self.bodies)
    @rule(data=st.data(), count=st.integers(1, 3))
    def receive(self, data: st.DataObject, count: int) -> None:
        body = data.draw(st.sampled_from(self.bodies))
        if body.reserved:
            self.deliver(body, min(count, body.reserved))

    def deliver(self, body: Body, count: int) -> None:
        self.memory.received(body, count)
        if body.received == body.size:
            self.memory.complete(body)
        else:
            self.memory.ask(body)
        self.memory.grant()

    @precondition(lambda self: self.bodies)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        body = data.draw(st.sampled_from(self.bodies))
        self.bodies.remove(body)
        self.memory.leave(body)
        self.memory.grant()

    @rule(seconds=st.floats(0, 2))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        while late := self.memory.slowest():
            assert not self.memory.waits(late)
            assert any(self.memory.waits(body) for body in self.bodies)
            self.bodies.remove(late)
            self.memory.leave(late)
            self.memory.grant()

    @invariant()
    def bytes_are_bounded(self) -> None:
        assert sum(body.held for body in self.bodies) <= 40
        for user in USERS:
            assert sum(body.held for body in self.bodies if body.user_id == user) <= 10

    def teardown(self) -> None:
        """If everybody sends what is granted and leaves when done, nobody waits for ever."""
        while self.bodies:
            going = [body for body in self.bodies if not self.memory.waits(body)]
            assert going, "everybody waits"
            body = going[0]
            if body.reserved:
                self.deliver(body, body.reserved)
            else:
                self.bodies.remove(body)
                self.memory.leave(body)
                self.memory.grant()


MemoryMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestRoom = MemoryMachine.TestCase
