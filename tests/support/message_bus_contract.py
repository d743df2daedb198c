"""What every message bus must do, as cases that each implementation inherits."""

import asyncio
from abc import ABC, abstractmethod
from datetime import timedelta

import pytest

from messaging.bus import (
    LARGEST_BODY,
    Message,
    MessageBus,
    MessageTooLargeError,
    Property,
    QueueDepth,
    QueueReceiver,
    ReceivedMessage,
)
from messaging.queues import QueueProperties

LOCK = timedelta(seconds=60)
QUEUES = {
    "work": QueueProperties(
        "work", lock_duration=LOCK, max_delivery_count=3, duplicate_detection_window=timedelta(minutes=10)
    ),
    "other": QueueProperties("other"),
}


def message(number: int, **fields: object) -> Message:
    """The message of that number, with other *fields* where a case is about them."""
    values: dict[str, object] = {"body": f"body {number}".encode(), "message_id": f"id-{number}", **fields}
    return Message(**values)  # type: ignore[arg-type]  # a case names only the fields it is about


def bodies(messages: list[ReceivedMessage]) -> list[str]:
    """The bodies as texts."""
    return [received.body.decode() for received in messages]


class MessageBusContract(ABC):
    """The cases. An implementation gives the fixtures ``bus`` and ``receiver``, of one bus with the queues above, and
    says how time passes."""

    @abstractmethod
    async def pass_time(self, duration: timedelta) -> None:
        """Let *duration* go by for the bus."""

    async def receive_all(self, receiver: QueueReceiver, queue: str = "work") -> list[ReceivedMessage]:
        """All that can be received now; a bus may give fewer at a time than it is asked for."""
        received: list[ReceivedMessage] = []
        while batch := await receiver.receive(queue, max_messages=100):
            received += batch
        return received

    async def test_what_is_sent_is_received_whole_and_in_order(self, bus: MessageBus, receiver: QueueReceiver) -> None:
        first = message(
            1,
            body=b"\x00\xff" * 10,
            correlation_id="c-1",
            properties={"tenantId": "acme", "generation": 2, "hot": True},
        )
        await bus.send("work", [first, message(2)])
        await bus.send("work", [message(3)])
        received = await self.receive_all(receiver)
        assert [item.message_id for item in received] == ["id-1", "id-2", "id-3"]
        assert received[0].body == b"\x00\xff" * 10
        assert received[0].correlation_id == "c-1"
        assert received[0].properties == {"tenantId": "acme", "generation": 2, "hot": True}
        assert received[0].queue == "work"
        assert received[0].delivery_count == 1
        assert received[1].correlation_id is None
        assert received[0].sequence_number < received[1].sequence_number < received[2].sequence_number
        assert received[0].locked_until - received[0].enqueued_at >= timedelta(seconds=60)

    async def test_an_empty_queue_gives_nothing_and_queues_are_apart(
        self, bus: MessageBus, receiver: QueueReceiver
    ) -> None:
        await bus.send("other", [message(1)])
        assert await receiver.receive("work", max_messages=10) == []
        assert bodies(await self.receive_all(receiver, "other")) == ["body 1"]

    async def test_an_unknown_queue_is_a_key_error(self, bus: MessageBus, receiver: QueueReceiver) -> None:
        with pytest.raises(KeyError):
            await bus.send("nowhere", [message(1)])
        with pytest.raises(KeyError):
            await receiver.receive("nowhere", max_messages=1)
        with pytest.raises(KeyError):
            await bus.dead_letters("nowhere")

    async def test_no_more_come_than_were_asked_for(self, bus: MessageBus, receiver: QueueReceiver) -> None:
        await bus.send("work", [message(number) for number in range(10)])
        sizes, seen = [], []
        while batch := await receiver.receive("work", max_messages=3):
            sizes.append(len(batch))
            seen += bodies(batch)
        assert max(sizes) <= 3
        assert seen == [f"body {number}" for number in range(10)]

    async def test_a_locked_message_is_not_received_again(self, bus: MessageBus, receiver: QueueReceiver) -> None:
        await bus.send("work", [message(1)])
        assert len(await self.receive_all(receiver)) == 1
        assert await receiver.receive("work", max_messages=1) == []

    async def test_completed_messages_are_gone(self, bus: MessageBus, receiver: QueueReceiver) -> None:
        await bus.send("work", [message(1), message(2)])
        received = await self.receive_all(receiver)
        assert await receiver.complete(received) == 2
        await self.pass_time(timedelta(minutes=5))
        assert await self.receive_all(receiver) == []
        assert await receiver.complete(received) == 0

    async def test_a_batch_is_settled_message_by_message(self, bus: MessageBus, receiver: QueueReceiver) -> None:
        await bus.send("work", [message(number) for number in range(6)])
        received = await self.receive_all(receiver)
        assert await receiver.complete(received[1:3]) == 2
        assert await receiver.abandon(received[3:4]) == 1
        assert await receiver.dead_letter(received[5:], reason="poison", description="no such type") == 1
        again = await self.receive_all(receiver)
        assert [(item.body, item.delivery_count, item.sequence_number) for item in again] == [
            (b"body 3", 2, received[3].sequence_number)
        ]
        assert await receiver.complete([*received, *again]) == 3  # 0 and 4 under the first lock, 3 under the second
        assert await self.receive_all(receiver) == []

    async def test_abandoned_messages_come_again_first_and_counted(
        self, bus: MessageBus, receiver: QueueReceiver
    ) -> None:
        await bus.send("work", [message(1), message(2)])
        received = await self.receive_all(receiver)
        await bus.send("work", [message(3)])
        assert await receiver.abandon(received) == 2
        again = await self.receive_all(receiver)
        assert [(item.body, item.delivery_count) for item in again] == [(b"body 1", 2), (b"body 2", 2), (b"body 3", 1)]
        assert await receiver.abandon(received) == 0

    async def test_a_lock_expires_and_its_holder_can_settle_no_more(
        self, bus: MessageBus, receiver: QueueReceiver
    ) -> None:
        await bus.send("work", [message(1)])
        [lost] = await receiver.receive("work", max_messages=1)
        await self.pass_time(LOCK + timedelta(seconds=1))
        [held] = await receiver.receive("work", max_messages=1)
        assert held.delivery_count == 2
        assert await receiver.complete([lost]) == 0
        assert await receiver.abandon([lost]) == 0
        assert await receiver.renew([lost]) == 0
        assert await receiver.dead_letter([lost], reason="r", description="d") == 0
        assert await receiver.complete([held]) == 1

    async def test_an_expired_lock_is_lost_before_anyone_else_has_the_message(
        self, bus: MessageBus, receiver: QueueReceiver
    ) -> None:
        await bus.send("work", [message(1)])
        lost = await receiver.receive("work", max_messages=1)
        await self.pass_time(LOCK + timedelta(seconds=1))
        assert await receiver.complete(lost) == 0
        assert await receiver.renew(lost) == 0
        assert len(await self.receive_all(receiver)) == 1

    async def test_a_renewed_lock_lasts(self, bus: MessageBus, receiver: QueueReceiver) -> None:
        await bus.send("work", [message(1), message(2)])
        received = await self.receive_all(receiver)
        await self.pass_time(LOCK * 2 / 3)
        assert await receiver.renew(received[:1]) == 1
        await self.pass_time(LOCK * 2 / 3)
        assert bodies(await self.receive_all(receiver)) == ["body 2"]
        assert await receiver.complete(received) == 1

    async def test_a_message_received_too_often_is_dead_lettered(
        self, bus: MessageBus, receiver: QueueReceiver
    ) -> None:
        await bus.send("work", [message(1, correlation_id="c", properties={"tenantId": "acme"}), message(2)])
        for delivery in (1, 2, 3):
            received = await self.receive_all(receiver)
            assert [item.delivery_count for item in received if item.message_id == "id-1"] == [delivery]
            await receiver.complete([item for item in received if item.message_id == "id-2"])
            await receiver.abandon([item for item in received if item.message_id == "id-1"])
        assert await self.receive_all(receiver) == []
        [letter] = await bus.dead_letters("work")
        assert (letter.queue, letter.message_id, letter.body) == ("work", "id-1", b"body 1")
        assert letter.reason == "MaxDeliveryCountExceeded"
        assert letter.delivery_count == 3
        assert letter.correlation_id == "c"
        assert letter.properties == {"tenantId": "acme"}
        assert letter.dead_lettered_at is None or letter.enqueued_at <= letter.dead_lettered_at

    async def test_dead_letters_are_paged_and_removed(self, bus: MessageBus, receiver: QueueReceiver) -> None:
        await bus.send("work", [message(number) for number in range(5)])
        received = await self.receive_all(receiver)
        assert await receiver.dead_letter(received, reason="unknown-type", description="Foo__c") == 5
        assert await self.receive_all(receiver) == []
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

    async def test_a_delayed_message_comes_when_it_is_due(self, bus: MessageBus, receiver: QueueReceiver) -> None:
        await bus.send("work", [message(1), message(2)], delay=timedelta(minutes=3))
        await bus.send("work", [message(3)])
        assert (await bus.depths())["work"].scheduled == 2
        now = await self.receive_all(receiver)
        assert bodies(now) == ["body 3"]
        assert await receiver.complete(now) == 1
        await self.pass_time(timedelta(minutes=4))
        due = await self.receive_all(receiver)
        assert bodies(due) == ["body 1", "body 2"]
        assert [item.delivery_count for item in due] == [1, 1]
        assert await receiver.complete(due) == 2

    async def test_a_repeated_id_is_dropped_within_the_window_of_its_queue(
        self, bus: MessageBus, receiver: QueueReceiver
    ) -> None:
        await bus.send("work", [message(1), message(1, body=b"repeat"), message(2)])
        await bus.send("work", [message(2), message(3)])
        received = await self.receive_all(receiver)
        assert bodies(received) == ["body 1", "body 2", "body 3"]
        await receiver.complete(received)
        await bus.send("work", [message(1), message(3)], delay=timedelta(seconds=1))
        await self.pass_time(timedelta(seconds=2))
        assert await self.receive_all(receiver) == []
        await bus.send("other", [message(1)])
        assert len(await self.receive_all(receiver, "other")) == 1

    async def test_depths_count_what_waits_is_due_later_and_was_given_up(
        self, bus: MessageBus, receiver: QueueReceiver
    ) -> None:
        assert (await bus.depths())["work"] == QueueDepth(0, 0, 0, 0, None)
        await bus.send("work", [message(number) for number in range(6)])
        await bus.send("work", [message(7)], delay=timedelta(minutes=5))
        [first] = await receiver.receive("work", max_messages=1)
        await receiver.dead_letter([first], reason="r", description="d")
        locked = await receiver.receive("work", max_messages=2)
        depths = await bus.depths()
        assert set(depths) == set(QUEUES)
        depth = depths["work"]
        assert depth.active + depth.locked == 5, "a locked message may look like one that waits"
        assert depth.locked in (0, 2)
        assert (depth.scheduled, depth.dead_lettered, depth.at_least) == (1, 1, frozenset())
        assert depth.oldest_enqueued_at == locked[0].enqueued_at
        await receiver.abandon(locked)
        depth = (await bus.depths())["work"]
        assert (depth.active, depth.locked) == (5, 0)

    async def test_what_is_only_due_later_has_no_age_yet(self, bus: MessageBus, receiver: QueueReceiver) -> None:
        await bus.send("work", [message(1)], delay=timedelta(minutes=5))
        assert (await bus.depths())["work"] == QueueDepth(0, 0, 1, 0, None)

    @pytest.mark.parametrize("body", [b"x" * 1_048_576, "\N{EARTH GLOBE EUROPE-AFRICA}".encode() * 75_000])
    async def test_a_message_that_is_too_large_is_named_and_nothing_is_sent(
        self, bus: MessageBus, receiver: QueueReceiver, body: bytes
    ) -> None:
        large = message(2, message_id="large", body=body)
        for delay in (None, timedelta(seconds=1)):
            with pytest.raises(MessageTooLargeError, match="work: message large is") as caught:
                await bus.send("work", [message(1), large, message(3)], delay=delay)
            error = caught.value
            assert (error.queue, error.message_id) == ("work", "large")
            assert LARGEST_BODY <= error.limit < len(body) <= error.size
        assert (await bus.depths())["work"] == QueueDepth(0, 0, 0, 0, None)

    async def test_the_largest_body_that_every_home_takes_arrives(
        self, bus: MessageBus, receiver: QueueReceiver
    ) -> None:
        properties: dict[str, Property] = {"tenantId": "acme", "laterBecause": "b" * 200, "traceparent": "t" * 55}
        sent = [
            message(number, body=bytes([number]) * LARGEST_BODY, correlation_id="c" * 36, properties=properties)
            for number in range(3)
        ]
        await bus.send("work", sent[:2])
        await bus.send("work", sent[2:], delay=timedelta(seconds=1))
        await self.pass_time(timedelta(seconds=2))
        assert [item.body for item in await self.receive_all(receiver)] == [item.body for item in sent]

    async def test_sending_nothing_is_allowed(self, bus: MessageBus, receiver: QueueReceiver) -> None:
        await bus.send("work", [])
        assert await receiver.complete([]) == 0
        assert await self.receive_all(receiver) == []

    async def test_a_long_send_to_be_received_later_arrives_whole(
        self, bus: MessageBus, receiver: QueueReceiver
    ) -> None:
        sent = [message(number, body=bytes(9_000)) for number in range(250)]
        await bus.send("work", sent, delay=timedelta(minutes=3))
        assert await self.receive_all(receiver) == []
        await self.pass_time(timedelta(minutes=4))
        assert [item.message_id for item in await self.receive_all(receiver)] == [item.message_id for item in sent]

    async def test_a_long_send_arrives_whole(self, bus: MessageBus, receiver: QueueReceiver) -> None:
        sent = [message(number, body=bytes(200 * (number % 7))) for number in range(2_500)]
        await bus.send("work", sent)
        received: list[ReceivedMessage] = []
        # Each batch is completed as it comes: the locks of the first ones could end before the last one is there.
        while batch := await receiver.receive("work", max_messages=100):
            assert await receiver.complete(batch) == len(batch)
            received += batch
        assert [(item.message_id, item.body) for item in received] == [(item.message_id, item.body) for item in sent]

    async def test_receivers_at_the_same_time_share_the_messages(
        self, bus: MessageBus, receiver: QueueReceiver
    ) -> None:
        await bus.send("work", [message(number) for number in range(200)])
        batches = await asyncio.gather(*(receiver.receive("work", max_messages=10) for _ in range(30)))
        seen = [item.sequence_number for batch in batches for item in batch]
        assert len(seen) == len(set(seen)) == 200
