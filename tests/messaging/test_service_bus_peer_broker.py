"""What the Service Bus peer keeps: no message that it has accepted is ever lost, whatever happens to it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from service_bus_peer.broker import (
    Broker,
    Entity,
    EntityDepth,
    LockLostError,
    MessageNotFoundError,
    MessageState,
    NotAllowedError,
    StoredMessage,
)
from service_bus_peer.encoded_message import EncodedMessage

from messaging.queues import QueueProperties
from messaging.times import to_milliseconds

START = datetime(2026, 3, 1, tzinfo=UTC)
QUEUE = QueueProperties(
    "work",
    lock_duration=timedelta(seconds=30),
    max_delivery_count=3,
    duplicate_detection_window=timedelta(minutes=1),
)


class MovedClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def in_seconds(self, seconds: float) -> int:
        return to_milliseconds(self.now + timedelta(seconds=seconds))


def content(name: str | None) -> EncodedMessage:
    """A message whose id and body are *name*."""
    body = b"" if name is None else name.encode()
    return EncodedMessage(name, b"\x40" * 4, (), None, b"\x00\x53\x75\xa0" + bytes([len(body)]) + body, len(body) + 5)


def name_of(message: StoredMessage) -> str:
    return message.content.body.decode()


def token_of(message: StoredMessage) -> UUID:
    assert message.lock_token is not None
    return message.lock_token


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def queue(clock: MovedClock) -> Entity:
    entity = Broker({"work": QUEUE}, clock).entity("work")
    assert entity is not None
    return entity


def receive_one(entity: Entity) -> StoredMessage:
    [message] = entity.receive(1)
    return message


def test_messages_come_in_the_order_of_their_sending(queue: Entity) -> None:
    queue.send([content("a"), content("b")])
    queue.send([content("c")])
    assert [name_of(message) for message in queue.receive(2)] == ["a", "b"]
    assert [name_of(message) for message in queue.receive(5)] == ["c"]
    assert queue.receive(5) == []


def test_a_completed_message_is_gone(queue: Entity) -> None:
    queue.send([content("a")])
    queue.complete(token_of(receive_one(queue)))
    assert queue.depth() == EntityDepth(0, 0, 0, 0, 0)


def test_an_abandoned_message_comes_first_again_and_counts(queue: Entity) -> None:
    queue.send([content("a"), content("b")])
    queue.abandon(token_of(receive_one(queue)))
    again = receive_one(queue)
    assert (name_of(again), again.delivery_count) == ("a", 1)


def test_a_released_message_comes_again_and_does_not_count(queue: Entity) -> None:
    queue.send([content("a")])
    for _ in range(QUEUE.max_delivery_count + 1):
        queue.release(token_of(receive_one(queue)))
    assert receive_one(queue).delivery_count == 0


def test_an_expired_lock_is_lost_and_counts(queue: Entity, clock: MovedClock) -> None:
    queue.send([content("a")])
    token = token_of(receive_one(queue))
    clock.pass_by(30)
    with pytest.raises(LockLostError):
        queue.complete(token)
    assert receive_one(queue).delivery_count == 1


@pytest.mark.parametrize("settle", [Entity.complete, Entity.abandon, Entity.release, Entity.defer])
def test_a_message_is_settled_once(queue: Entity, settle: Callable[[Entity, UUID], None]) -> None:
    queue.send([content("a")])
    token = token_of(receive_one(queue))
    settle(queue, token)
    with pytest.raises(LockLostError):
        settle(queue, token)


def test_a_renewed_lock_holds_as_long_as_a_new_one(queue: Entity, clock: MovedClock) -> None:
    queue.send([content("a")])
    token = token_of(receive_one(queue))
    clock.pass_by(20)
    assert queue.renew([token]) == [clock.in_seconds(30)]
    clock.pass_by(29)
    assert queue.next_change == clock.in_seconds(1)
    queue.complete(token)
    with pytest.raises(LockLostError):
        queue.renew([token])


def test_what_failed_too_often_is_dead_lettered_with_the_reason_and_its_number(
    queue: Entity, clock: MovedClock
) -> None:
    [number] = queue.send([content("a")])
    queue.abandon(token_of(receive_one(queue)))
    receive_one(queue)
    clock.pass_by(30)
    queue.abandon(token_of(receive_one(queue)))
    assert queue.depth() == EntityDepth(0, 0, 0, 0, 1)
    assert queue.dead_letters is not None
    dead = receive_one(queue.dead_letters)
    assert (dead.sequence_number, dead.delivery_count, name_of(dead)) == (number, 3, "a")
    assert dead.content.application_properties == {
        "DeadLetterReason": "MaxDeliveryCountExceeded",
        "DeadLetterErrorDescription": "Message could not be consumed after 3 delivery attempts.",
    }


def test_dead_letters_are_never_given_up_and_take_none_in(queue: Entity) -> None:
    queue.send([content("a")])
    queue.dead_letter(token_of(receive_one(queue)), "bad", "very")
    assert queue.dead_letters is not None
    for _ in range(2 * QUEUE.max_delivery_count):
        queue.dead_letters.abandon(token_of(receive_one(queue.dead_letters)))
    token = token_of(receive_one(queue.dead_letters))
    with pytest.raises(NotAllowedError):
        queue.dead_letters.dead_letter(token, "bad", "very")
    with pytest.raises(NotAllowedError):
        queue.dead_letters.send([content("b")])
    queue.dead_letters.complete(token)
    assert queue.depth().dead_lettered == 0


def test_a_deferred_message_is_only_received_by_its_number(queue: Entity, clock: MovedClock) -> None:
    [number] = queue.send([content("a")])
    queue.defer(token_of(receive_one(queue)))
    assert queue.receive(1) == []
    [message] = queue.receive_deferred([number])
    with pytest.raises(MessageNotFoundError):
        queue.receive_deferred([number])
    # Abandoned or left to expire, it stays deferred.
    queue.abandon(token_of(message))
    assert queue.receive(1) == []
    queue.receive_deferred([number])
    clock.pass_by(30)
    [message] = queue.receive_deferred([number])
    assert message.delivery_count == 2
    queue.complete(token_of(message))
    assert queue.depth() == EntityDepth(0, 0, 0, 0, 0)


def test_a_scheduled_message_comes_when_it_is_due_with_a_number_of_that_moment(
    queue: Entity, clock: MovedClock
) -> None:
    [scheduled] = queue.schedule([(content("later"), clock.in_seconds(10))])
    [sent] = queue.send([content("now")])
    assert queue.next_change == clock.in_seconds(10)
    clock.pass_by(10)
    messages = queue.receive(5)
    assert [name_of(message) for message in messages] == ["now", "later"]
    assert messages[1].sequence_number > sent > scheduled
    assert messages[1].enqueued_at == to_milliseconds(clock())
    with pytest.raises(MessageNotFoundError):
        queue.cancel([scheduled])


def test_scheduled_messages_are_cancelled_all_or_none(queue: Entity, clock: MovedClock) -> None:
    numbers = queue.schedule([(content(name), clock.in_seconds(10)) for name in "ab"])
    with pytest.raises(MessageNotFoundError):
        queue.cancel([*numbers, 99])
    assert queue.depth().scheduled == 2
    queue.cancel(numbers)
    clock.pass_by(10)
    assert queue.receive(5) == []


def test_a_message_annotated_with_a_time_is_scheduled_by_sending_it(queue: Entity, clock: MovedClock) -> None:
    queue.send(
        [replace(content("later"), scheduled_for=clock.in_seconds(5)), replace(content("past"), scheduled_for=1)]
    )
    assert [name_of(message) for message in queue.receive(5)] == ["past"]
    clock.pass_by(5)
    assert [name_of(message) for message in queue.receive(5)] == ["later"]


def test_an_id_is_taken_once_within_the_window_however_it_is_sent(queue: Entity, clock: MovedClock) -> None:
    queue.send([content("a"), content("a")])
    queue.send([content("a")])
    queue.schedule([(content("a"), clock.in_seconds(5))])
    clock.pass_by(59)
    queue.send([content("a"), content("b")])
    assert sorted(name_of(message) for message in queue.receive(9)) == ["a", "b"]
    clock.pass_by(1)
    queue.send([content("a")])
    assert [name_of(message) for message in queue.peek(4, 9)] == ["a"]


def test_messages_without_an_id_are_no_duplicates(queue: Entity) -> None:
    assert len(queue.send([content(None), content(None)])) == 2


def test_peeking_shows_every_state_from_a_number_on(queue: Entity, clock: MovedClock) -> None:
    queue.send([content(name) for name in "abc"])
    queue.schedule([(content("d"), clock.in_seconds(5))])
    queue.defer(token_of(receive_one(queue)))
    receive_one(queue)
    seen = queue.peek(0, 10)
    assert [(name_of(message), message.state) for message in seen] == [
        ("a", MessageState.DEFERRED),
        ("b", MessageState.ACTIVE),
        ("c", MessageState.ACTIVE),
        ("d", MessageState.SCHEDULED),
    ]
    assert [name_of(message) for message in queue.peek(seen[1].sequence_number, 2)] == ["b", "c"]
    assert queue.depth() == EntityDepth(active=1, locked=1, scheduled=1, deferred=1, dead_lettered=0)


def test_a_name_is_the_same_in_either_case() -> None:
    broker = Broker({"work": QUEUE}, MovedClock())
    assert broker.entity("Work/$deadletterqueue") is broker.entity("work/$DeadLetterQueue") is not None
    assert broker.entity("other") is None


class NothingIsLost(RuleBasedStateMachine):
    """Any sequence of operations: each accepted message is there until an operation that ends it has succeeded."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.clock = MovedClock()
        broker = Broker({"work": QUEUE}, self.clock)
        self.queue = broker.entity("work")
        self.dead = broker.entity("work/$DeadLetterQueue")
        self.there: set[str] = set()
        self.sent = 0

    def name(self) -> str:
        self.sent += 1
        name = str(self.sent)
        self.there.add(name)
        return name

    def of(self, *, dead: bool) -> Entity:
        entity = self.dead if dead else self.queue
        assert entity is not None
        return entity

    @rule(count=st.integers(1, 4))
    def send(self, count: int) -> None:
        self.of(dead=False).send([content(self.name()) for _ in range(count)])

    @rule(count=st.integers(1, 3), seconds=st.integers(-5, 60))
    def schedule(self, count: int, seconds: int) -> None:
        due_at = self.clock.in_seconds(seconds)
        self.of(dead=False).schedule([(content(self.name()), due_at) for _ in range(count)])

    @rule()
    def cancel_one(self) -> None:
        queue = self.of(dead=False)
        waiting = [each for each in queue.peek(0, 1000) if each.state is MessageState.SCHEDULED]
        for message in waiting[:1]:
            queue.cancel([message.sequence_number])
            self.there.discard(name_of(message))

    @rule(target=held, dead=st.booleans())
    def receive(self, dead: bool) -> tuple[bool, UUID, str]:
        for message in self.of(dead=dead).receive(1):
            return dead, token_of(message), name_of(message)
        return dead, uuid4(), ""

    @rule(target=held, dead=st.booleans())
    def receive_deferred(self, dead: bool) -> tuple[bool, UUID, str]:
        entity = self.of(dead=dead)
        for seen in entity.peek(0, 1000):
            if seen.state is MessageState.DEFERRED and seen.lock_token is None:
                [message] = entity.receive_deferred([seen.sequence_number])
                return dead, token_of(message), name_of(message)
        return dead, uuid4(), ""

    @rule(dead=st.booleans())
    def receive_and_delete(self, dead: bool) -> None:
        for message in self.of(dead=dead).receive(1, delete=True):
            self.there.discard(name_of(message))

    @rule(lock=consumes(held))
    def complete(self, lock: tuple[bool, UUID, str]) -> None:
        dead, token, name = lock
        try:
            self.of(dead=dead).complete(token)
        except LockLostError:
            return
        self.there.discard(name)

    @rule(lock=held, how=st.sampled_from([Entity.abandon, Entity.release, Entity.defer]))
    def put_back(self, lock: tuple[bool, UUID, str], how: Callable[[Entity, UUID], None]) -> None:
        dead, token, _ = lock
        try:
            how(self.of(dead=dead), token)
        except LockLostError:
            return

    @rule(lock=held)
    def dead_letter(self, lock: tuple[bool, UUID, str]) -> None:
        dead, token, _ = lock
        try:
            self.of(dead=dead).dead_letter(token, "reason", None)
        except (LockLostError, NotAllowedError):
            return

    @rule(lock=held)
    def renew(self, lock: tuple[bool, UUID, str]) -> None:
        dead, token, _ = lock
        try:
            self.of(dead=dead).renew([token])
        except LockLostError:
            return

    @rule(seconds=st.integers(0, 45))
    def time_passes(self, seconds: int) -> None:
        self.clock.pass_by(seconds)

    @rule()
    def locks_expire(self) -> None:
        self.of(dead=False).expire_locks()

    @invariant()
    def everything_is_there_once(self) -> None:
        found = [name_of(message) for dead in (False, True) for message in self.of(dead=dead).peek(0, 1000)]
        assert sorted(found) == sorted(self.there)

    def teardown(self) -> None:
        """What is there can be received, but for what was deferred."""
        for dead in (False, True):
            entity = self.of(dead=dead)
            self.clock.pass_by(100)
            received = {name_of(message) for message in entity.receive(1000)}
            deferred = {name_of(each) for each in entity.peek(0, 1000) if each.state is MessageState.DEFERRED}
            everything = {name_of(each) for each in entity.peek(0, 1000)}
            assert received | deferred == everything


TestNothingIsLost = NothingIsLost.TestCase
TestNothingIsLost.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
