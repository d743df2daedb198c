"""What every message bus must do, as cases that each implementation inherits."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from messaging.bus import Message, MessageBus, QueueReceiver, ReceivedMessage
from messaging.queues import QueueProperties
from messaging.sqlite_bus import SqliteMessageBus

QUEUES = {
    "work": QueueProperties(
        "work",
        lock_duration=timedelta(seconds=60),
        max_delivery_count=3,
        duplicate_detection_window=timedelta(minutes=10),
    ),
    "other": QueueProperties("other"),
}


class Bus(MessageBus, QueueReceiver, Protocol):
    """Both halves."""


def message(number: int, **fields: object) -> Message:
    values: dict[str, object] = {"body": f"body {number}".encode(), "message_id": f"id-{number}", **fields}
    return Message(**values)  # type: ignore[arg-type]  # a case names only the fields it is about


def bodies(messages: list[ReceivedMessage]) -> list[str]:
    return [received.body.decode() for received in messages]


class MessageBusContract(ABC):
    """The cases. An implementation gives the fixture ``bus`` with the queues above, and says how time passes."""

    @abstractmethod
    async def pass_time(self, duration: timedelta) -> None:
        """Let *duration* go by for the bus."""

    async def receive_all(self, bus: Bus, queue: str = "work") -> list[ReceivedMessage]:
        """All that can be received now; a bus may give fewer at a time than it is asked for."""
        received: list[ReceivedMessage] = []
        while batch := await bus.receive(queue, max_messages=100):
            received += batch
        return received

    async def test_what_is_sent_is_received_whole_and_in_order(self, bus: Bus) -> None:
        first = message(
            1,
            body=b"\x00\xff" * 10,
            correlation_id="c-1",
            properties={"tenantId": "acme", "generation": 2, "hot": True},
        )
        await bus.send("work", [first, message(2)])
        await bus.send("work", [message(3)])
        received = await self.receive_all(bus)
        assert [item.message_id for item in received] == ["id-1", "id-2", "id-3"]
        assert received[0].body == b"\x00\xff" * 10
        assert received[0].correlation_id == "c-1"
        assert received[0].properties == {"tenantId": "acme", "generation": 2, "hot": True}
        assert received[0].queue == "work"
        assert received[0].delivery_count == 1
        assert received[1].correlation_id is None
        assert received[0].sequence_number < received[1].sequence_number < received[2].sequence_number
        assert received[0].locked_until - received[0].enqueued_at >= timedelta(seconds=60)

    async def test_an_empty_queue_gives_nothing_and_queues_are_apart(self, bus: Bus) -> None:
        await bus.send("other", [message(1)])
        assert await bus.receive("work", max_messages=10) == []
        assert bodies(await self.receive_all(bus, "other")) == ["body 1"]

    async def test_an_unknown_queue_is_a_key_error(self, bus: Bus) -> None:
        with pytest.raises(KeyError):
            await bus.send("nowhere", [message(1)])
        with pytest.raises(KeyError):
            await bus.receive("nowhere", max_messages=1)
        with pytest.raises(KeyError):
            await bus.dead_letters("nowhere")

    async def test_no_more_come_than_were_asked_for(self, bus: Bus) -> None:
        await bus.send("work", [message(number) for number in range(10)])
        sizes, seen = [], []
        while batch := await bus.receive("work", max_messages=3):
            sizes.append(len(batch))
            seen += bodies(batch)
        assert max(sizes) <= 3
        assert seen == [f"body {number}" for number in range(10)]

    async def test_a_locked_message_is_not_received_again(self, bus: Bus) -> None:
        await bus.send("work", [message(1)])
        assert len(await self.receive_all(bus)) == 1
        assert await bus.receive("work", max_messages=1) == []

    async def test_completed_messages_are_gone(self, bus: Bus) -> None:
        await bus.send("work", [message(1), message(2)])
        received = await self.receive_all(bus)
        assert await bus.complete(received) == 2
        await self.pass_time(timedelta(minutes=5))
        assert await self.receive_all(bus) == []
        assert await bus.complete(received) == 0

    async def test_a_batch_is_settled_message_by_message(self, bus: Bus) -> None:
        await bus.send("work", [message(number) for number in range(6)])
        received = await self.receive_all(bus)
        assert await bus.complete(received[1:3]) == 2
        assert await bus.abandon(received[3:4]) == 1
        assert await bus.dead_letter(received[5:], reason="poison", description="no such type") == 1
        again = await self.receive_all(bus)
        assert [(item.body, item.delivery_count, item.sequence_number) for item in again] == [
            (b"body 3", 2, received[3].sequence_number)
        ]
        assert await bus.complete([*received, *again]) == 3  # 0 and 4 under the first lock, 3 under the second
        assert await self.receive_all(bus) == []

    async def test_abandoned_messages_come_again_first_and_counted(self, bus: Bus) -> None:
        await bus.send("work", [message(1), message(2)])
        received = await self.receive_all(bus)
        await bus.send("work", [message(3)])
        assert await bus.abandon(received) == 2
        again = await self.receive_all(bus)
        assert [(item.body, item.delivery_count) for item in again] == [(b"body 1", 2), (b"body 2", 2), (b"body 3", 1)]
        assert await bus.abandon(received) == 0

    async def test_a_lock_expires_and_its_holder_can_settle_no_more(self, bus: Bus) -> None:
        await bus.send("work", [message(1)])
        [lost] = await bus.receive("work", max_messages=1, lock_for=timedelta(seconds=2))
        await self.pass_time(timedelta(seconds=3))
        [held] = await bus.receive("work", max_messages=1)
        assert held.delivery_count == 2
        assert await bus.complete([lost]) == 0
        assert await bus.abandon([lost]) == 0
        assert await bus.renew([lost]) == 0
        assert await bus.dead_letter([lost], reason="r", description="d") == 0
        assert await bus.complete([held]) == 1

    async def test_an_expired_lock_is_lost_before_anyone_else_has_the_message(self, bus: Bus) -> None:
        await bus.send("work", [message(1)])
        lost = await bus.receive("work", max_messages=1, lock_for=timedelta(seconds=2))
        await self.pass_time(timedelta(seconds=3))
        assert await bus.complete(lost) == 0
        assert await bus.renew(lost) == 0
        assert len(await self.receive_all(bus)) == 1

    async def test_a_renewed_lock_lasts(self, bus: Bus) -> None:
        await bus.send("work", [message(1), message(2)])
        received = await bus.receive("work", max_messages=2, lock_for=timedelta(seconds=3))
        await self.pass_time(timedelta(seconds=2))
        assert await bus.renew(received[:1], lock_for=timedelta(seconds=60)) == 1
        await self.pass_time(timedelta(seconds=2))
        assert bodies(await self.receive_all(bus)) == ["body 2"]
        assert await bus.complete(received) == 1

    async def test_a_message_received_too_often_is_dead_lettered(self, bus: Bus) -> None:
        await bus.send("work", [message(1, correlation_id="c", properties={"tenantId": "acme"}), message(2)])
        for delivery in (1, 2, 3):
            received = await self.receive_all(bus)
            assert [item.delivery_count for item in received if item.message_id == "id-1"] == [delivery]
            await bus.complete([item for item in received if item.message_id == "id-2"])
            await bus.abandon([item for item in received if item.message_id == "id-1"])
        assert await self.receive_all(bus) == []
        [letter] = await bus.dead_letters("work")
        assert (letter.queue, letter.message_id, letter.body) == ("work", "id-1", b"body 1")
        assert letter.reason == "MaxDeliveryCountExceeded"
        assert letter.delivery_count == 3
        assert letter.correlation_id == "c"
        assert letter.properties == {"tenantId": "acme"}
        assert letter.enqueued_at <= letter.dead_lettered_at

    async def test_dead_letters_are_paged_and_removed(self, bus: Bus) -> None:
        await bus.send("work", [message(number) for number in range(5)])
        received = await self.receive_all(bus)
        assert await bus.dead_letter(received, reason="unknown-type", description="Foo__c") == 5
        assert await self.receive_all(bus) == []
        first = await bus.dead_letters("work", limit=2)
        rest = await bus.dead_letters("work", after=first[-1].sequence_number)
        assert [letter.body for letter in [*first, *rest]] == [f"body {number}".encode() for number in range(5)]
        assert {(letter.reason, letter.description) for letter in first} == {("unknown-type", "Foo__c")}
        assert await bus.remove_dead_letters("work", [letter.sequence_number for letter in first]) == 2
        assert await bus.remove_dead_letters("work", [letter.sequence_number for letter in first]) == 0
        assert [letter.sequence_number for letter in await bus.dead_letters("work")] == [
            letter.sequence_number for letter in rest
        ]
        assert await bus.dead_letters("other") == []

    async def test_a_delayed_message_comes_when_it_is_due(self, bus: Bus) -> None:
        await bus.send("work", [message(1), message(2)], delay=timedelta(seconds=3))
        await bus.send("work", [message(3)])
        assert (await bus.depths())["work"].scheduled == 2
        assert bodies(await self.receive_all(bus)) == ["body 3"]
        await self.pass_time(timedelta(seconds=4))
        due = await self.receive_all(bus)
        assert bodies(due) == ["body 1", "body 2"]
        assert [item.delivery_count for item in due] == [1, 1]
        assert await bus.complete(due) == 2

    async def test_a_repeated_id_is_dropped_within_the_window_of_its_queue(self, bus: Bus) -> None:
        await bus.send("work", [message(1), message(1, body=b"repeat"), message(2)])
        await bus.send("work", [message(2), message(3)])
        received = await self.receive_all(bus)
        assert bodies(received) == ["body 1", "body 2", "body 3"]
        await bus.complete(received)
        await bus.send("work", [message(1), message(3)], delay=timedelta(seconds=1))
        await self.pass_time(timedelta(seconds=2))
        assert await self.receive_all(bus) == []
        await bus.send("other", [message(1)])
        assert len(await self.receive_all(bus, "other")) == 1

    async def test_ids_like_digests_are_told_apart_by_case_and_blanks(self, bus: Bus) -> None:
        digest = "ab" * 20
        ids = [digest, digest.upper(), "ab " + "ab" * 18 + "a", digest[:-1] + "x", ""]
        await bus.send("work", [message(number, message_id=text) for number, text in enumerate(ids)])
        await bus.send("work", [message(9, message_id=digest)])
        assert [item.message_id for item in await self.receive_all(bus)] == ids

    async def test_depths_count_each_state(self, bus: Bus) -> None:
        assert (await bus.depths())["work"].oldest_enqueued_at is None
        await bus.send("work", [message(number) for number in range(6)])
        await bus.send("work", [message(7)], delay=timedelta(minutes=5))
        await bus.dead_letter(await bus.receive("work", max_messages=1), reason="r", description="d")
        locked = await bus.receive("work", max_messages=2)
        depth = (await bus.depths())["work"]
        assert (depth.active, depth.locked, depth.scheduled, depth.dead_lettered) == (3, 2, 1, 1)
        assert depth.oldest_enqueued_at is not None
        assert set(await bus.depths()) == set(QUEUES)
        await bus.abandon(locked)
        depth = (await bus.depths())["work"]
        assert (depth.active, depth.locked) == (5, 0)

    async def test_sending_nothing_is_allowed(self, bus: Bus) -> None:
        await bus.send("work", [])
        assert await bus.complete([]) == 0
        assert await self.receive_all(bus) == []

    async def test_a_long_send_arrives_whole(self, bus: Bus) -> None:
        sent = [message(number, body=bytes(200 * (number % 7))) for number in range(2_500)]
        await bus.send("work", sent)
        received = await self.receive_all(bus)
        assert [(item.message_id, item.body) for item in received] == [(item.message_id, item.body) for item in sent]
        assert await bus.complete(received) == 2_500

    async def test_receivers_at_the_same_time_share_the_messages(self, bus: Bus) -> None:
        await bus.send("work", [message(number) for number in range(200)])
        batches = await asyncio.gather(*(bus.receive("work", max_messages=10) for _ in range(30)))
        seen = [item.sequence_number for batch in batches for item in batch]
        assert len(seen) == len(set(seen)) == 200


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class TestSqliteMessageBus(MessageBusContract):
    @pytest.fixture
    def clock(self) -> Clock:
        self.moved = Clock()
        return self.moved

    @pytest.fixture
    async def bus(self, tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteMessageBus]:
        bus = SqliteMessageBus(tmp_path / "bus.sqlite", QUEUES, clock)
        yield bus
        await bus.close()

    async def pass_time(self, duration: timedelta) -> None:
        self.moved.now += duration

    async def test_an_id_is_free_again_after_the_window(self, bus: SqliteMessageBus) -> None:
        await bus.send("work", [message(1)])
        await self.pass_time(timedelta(minutes=9, seconds=59))
        await bus.send("work", [message(1)])
        assert len(await self.receive_all(bus)) == 1
        await self.pass_time(timedelta(seconds=1))
        await bus.send("work", [message(1)])
        await bus.send("work", [message(1)])
        assert bodies(await self.receive_all(bus))[-1:] == ["body 1"]
        depth = (await bus.depths())["work"]
        assert depth.active + depth.locked == 2

    async def test_the_next_due_time_is_of_schedules_and_locks(self, bus: SqliteMessageBus, clock: Clock) -> None:
        assert await bus.next_due() is None
        await bus.send("work", [message(1)], delay=timedelta(minutes=5))
        assert await bus.next_due() == clock.now + timedelta(minutes=5)
        await bus.send("work", [message(2)])
        assert await bus.waiting() == {"work": 1, "other": 0}
        [held] = await bus.receive("work", max_messages=10)
        assert await bus.waiting() == {"work": 0, "other": 0}
        assert await bus.next_due() == held.locked_until == clock.now + timedelta(seconds=60)
        await self.pass_time(timedelta(seconds=60))
        assert await bus.waiting() == {"work": 1, "other": 0}
        await self.pass_time(timedelta(minutes=4))
        assert await bus.waiting() == {"work": 2, "other": 0}

    async def test_messages_received_before_come_in_batches_of_their_own(self, bus: SqliteMessageBus) -> None:
        await bus.send("work", [message(1), message(2)])
        await bus.abandon(await bus.receive("work", max_messages=1))
        assert bodies(await bus.receive("work", max_messages=10)) == ["body 1"]
        assert bodies(await bus.receive("work", max_messages=10)) == ["body 2"]
