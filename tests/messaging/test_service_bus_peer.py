"""The Service Bus peer as Microsoft's own SDK meets it: what works, and what goes wrong on demand."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage, ServiceBusMessageState, ServiceBusReceiveMode
from azure.servicebus import ServiceBusReceivedMessage as Received
from azure.servicebus import ServiceBusSubQueue as SubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageNotFoundError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    ServiceBusConnectionError,
    ServiceBusError,
    ServiceBusQuotaExceededError,
    ServiceBusServerBusyError,
)
from service_bus_pauses import short_pauses
from service_bus_peer import ServiceBusPeer, ServiceBusPeerProcess, require_proton
from service_bus_peer.broker import EntityDepth, MessageState
from service_bus_peer.controls import QUOTA_EXCEEDED

from messaging.queues import QueueProperties

QUEUE = "work"
QUEUES = {
    QUEUE: QueueProperties(
        QUEUE,
        lock_duration=timedelta(minutes=1),
        max_delivery_count=3,
        duplicate_detection_window=timedelta(minutes=10),
    ),
    "other": QueueProperties("other"),
}
EMPTY = EntityDepth(0, 0, 0, 0, 0)


@pytest.fixture
def peer() -> Iterator[ServiceBusPeer]:
    require_proton()
    with short_pauses(), ServiceBusPeer(QUEUES) as started:
        yield started


def client_of(peer: ServiceBusPeer | ServiceBusPeerProcess, **options: Any) -> ServiceBusClient:
    # The SDK waits for the socket in steps of this many seconds: short ones, so that closing takes no second.
    given = {"socket_timeout": 0.02, "retry_total": 0, "retry_backoff_factor": 0.01, "keep_alive": 0, **options}
    return ServiceBusClient.from_connection_string(peer.connection_string, **given)


@pytest.fixture
async def client(peer: ServiceBusPeer) -> AsyncIterator[ServiceBusClient]:
    async with client_of(peer) as connected:
        yield connected


@dataclass
class Links:
    """A sender and a receiver of the queue."""

    sender: ServiceBusSender
    receiver: ServiceBusReceiver


@pytest.fixture
async def links(client: ServiceBusClient) -> AsyncIterator[Links]:
    # Opening and closing each sleeps for half a second in the SDK: both at once.
    made = Links(client.get_queue_sender(QUEUE), client.get_queue_receiver(QUEUE))
    await asyncio.gather(made.sender.__aenter__(), made.receiver.__aenter__())
    yield made
    await asyncio.gather(made.sender.close(), made.receiver.close())


@pytest.fixture
def sender(links: Links) -> ServiceBusSender:
    return links.sender


@pytest.fixture
def receiver(links: Links) -> ServiceBusReceiver:
    return links.receiver


def named(*names: str) -> list[ServiceBusMessage]:
    return [ServiceBusMessage(name, message_id=name) for name in names]


def body_of(message: Received) -> str:
    return b"".join(message.body).decode()


async def receive(receiver: ServiceBusReceiver, count: int) -> list[Received]:
    """Exactly *count* messages, waited for as long as the test may last."""
    messages: list[Received] = []
    while len(messages) < count:
        messages += await receiver.receive_messages(max_message_count=count - len(messages), max_wait_time=5)
    return messages


async def receive_one(receiver: ServiceBusReceiver) -> Received:
    [message] = await receive(receiver, 1)
    return message


class TestSending:
    async def test_a_message_arrives_as_it_was_sent(
        self, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        before = datetime.now(UTC) - timedelta(milliseconds=1)
        sent = ServiceBusMessage(
            "grüße" * 100,
            message_id="id-1",
            correlation_id="c-1",
            subject="create",
            content_type="application/json",
            application_properties={"text": "ä", "number": 5, "flag": True},
        )
        await sender.send_messages(sent)
        message = await receive_one(receiver)
        assert body_of(message) == "grüße" * 100
        assert (message.message_id, message.correlation_id) == ("id-1", "c-1")
        assert (message.subject, message.content_type) == ("create", "application/json")
        assert message.application_properties == {b"text": "ä".encode(), b"number": 5, b"flag": True}
        assert (message.sequence_number, message.enqueued_sequence_number, message.delivery_count) == (1, 0, 0)
        assert message.state is ServiceBusMessageState.ACTIVE
        assert message.enqueued_time_utc is not None
        assert message.locked_until_utc is not None
        assert before <= message.enqueued_time_utc <= message.locked_until_utc - QUEUES[QUEUE].lock_duration

    async def test_a_batch_is_several_messages(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.send_messages(named("a", "b", "c"))
        assert [body_of(message) for message in await receive(receiver, 3)] == ["a", "b", "c"]
        sends = peer.state.counters().of(QUEUE, "send")
        assert (sends.operations, sends.messages, sends.units) == (1, 3, 1)

    async def test_a_body_that_looks_like_a_batch_is_none(
        self, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        inner = b"\x00\x53\x75\xa0\x01x"
        await sender.send_messages(ServiceBusMessage(inner))
        assert b"".join((await receive_one(receiver)).body) == inner

    async def test_batches_may_be_as_large_as_messages(self, peer: ServiceBusPeer, sender: ServiceBusSender) -> None:
        batch = await sender.create_message_batch()
        assert batch.max_size_in_bytes == 262_144
        with pytest.raises(MessageSizeExceededError):
            batch.add_message(ServiceBusMessage(b"x" * 262_144))
        count = 0
        with pytest.raises(MessageSizeExceededError):
            while True:
                batch.add_message(ServiceBusMessage(b"x" * 50_000))
                count += 1
        await sender.send_messages(batch)
        assert peer.state.depth(QUEUE).active == count == 5
        assert peer.state.counters().of(QUEUE, "send").units == 4

    async def test_a_message_above_the_limit_is_refused_and_its_link_is_closed(
        self, peer: ServiceBusPeer, client: ServiceBusClient
    ) -> None:
        async with client.get_queue_sender(QUEUE) as sender:
            with pytest.raises(MessageSizeExceededError):
                await sender.send_messages(ServiceBusMessage(b"x" * 262_145))
            # As with the service: the SDK keeps the link that was closed, so the next send fails too.
            with pytest.raises(ServiceBusError):
                await sender.send_messages(ServiceBusMessage(b"x"))
        async with client.get_queue_sender(QUEUE) as sender:
            await sender.send_messages(ServiceBusMessage(b"x" * 261_000))
            with pytest.raises(MessageSizeExceededError):
                await sender.schedule_messages(ServiceBusMessage(b"x" * 262_145), datetime.now(UTC))
        assert peer.state.depth(QUEUE).active == 1

    async def test_the_limit_can_be_set(self) -> None:
        require_proton()
        with ServiceBusPeer(QUEUES, max_message_size=1_048_576) as peer:
            async with client_of(peer) as client, client.get_queue_sender(QUEUE) as sender:
                await sender.send_messages(ServiceBusMessage(b"x" * 1_000_000))
                assert (await sender.create_message_batch()).max_size_in_bytes == 1_048_576
            assert len(peer.state.messages(QUEUE)[0].body) == 1_000_000

    async def test_a_repeated_id_is_accepted_and_dropped(self, peer: ServiceBusPeer, sender: ServiceBusSender) -> None:
        await sender.send_messages(named("a"))
        await sender.send_messages(named("a", "b", "b"))
        await sender.schedule_messages(named("a"), datetime.now(UTC) + timedelta(minutes=5))
        assert peer.state.depth(QUEUE) == EntityDepth(active=2, locked=0, scheduled=0, deferred=0, dead_lettered=0)
        peer.advance(timedelta(minutes=10))
        await sender.send_messages(named("a"))
        assert [message.message_id for message in peer.state.messages(QUEUE)] == ["a", "b", "a"]

    async def test_there_are_no_other_queues(self, client: ServiceBusClient) -> None:
        with pytest.raises(MessagingEntityNotFoundError):
            async with client.get_queue_sender("missing"):
                pass
        with pytest.raises(MessagingEntityNotFoundError):
            async with client.get_queue_receiver("missing"):
                pass

    async def test_there_are_no_sessions(self, client: ServiceBusClient) -> None:
        with pytest.raises(ServiceBusError, match="not-allowed"):
            async with client.get_queue_receiver(QUEUE, session_id=NEXT_AVAILABLE_SESSION):
                pass


class TestReceiving:
    async def test_a_completed_message_is_gone(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.send_messages(named("a"))
        await receiver.complete_message(await receive_one(receiver))
        assert peer.state.depth(QUEUE) == EMPTY

    async def test_messages_that_come_later_are_waited_for(
        self, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        waiting = asyncio.create_task(receive_one(receiver))
        await asyncio.sleep(0.1)
        await sender.send_messages(named("a"))
        assert body_of(await waiting) == "a"

    async def test_no_more_come_than_were_asked_for(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.send_messages(named(*"abcde"))
        assert len(await receiver.receive_messages(max_message_count=2, max_wait_time=5)) == 2
        assert peer.state.depth(QUEUE).locked == 2

    async def test_an_abandoned_message_comes_again_and_ends_as_a_dead_letter(
        self, peer: ServiceBusPeer, client: ServiceBusClient, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.send_messages(ServiceBusMessage("a", message_id="a", application_properties={"mine": 1}))
        for count in range(3):
            message = await receive_one(receiver)
            assert message.delivery_count == count
            await receiver.abandon_message(message)
        assert peer.state.depth(QUEUE) == EntityDepth(0, 0, 0, 0, dead_lettered=1)
        async with client.get_queue_receiver(QUEUE, sub_queue=SubQueue.DEAD_LETTER) as dead_letters:
            dead = await receive_one(dead_letters)
            assert (body_of(dead), dead.sequence_number, dead.delivery_count) == ("a", 1, 3)
            assert dead.dead_letter_reason == "MaxDeliveryCountExceeded"
            assert dead.dead_letter_error_description == "Message could not be consumed after 3 delivery attempts."
            assert dead.application_properties is not None
            assert dead.application_properties[b"mine"] == 1
            await dead_letters.renew_message_lock(dead)
            await dead_letters.complete_message(dead)
        assert peer.state.depth(QUEUE) == EMPTY

    async def test_a_message_is_dead_lettered_with_a_reason(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.send_messages(named("a", "b"))
        first, second = await receive(receiver, 2)
        await receiver.dead_letter_message(first, reason="bad", error_description="no JSON")
        await receiver.dead_letter_message(second)
        dead = peer.state.dead_letters(QUEUE)
        assert [(each.body, each.dead_letter_reason, each.dead_letter_description) for each in dead] == [
            (b"a", "bad", "no JSON"),
            (b"b", None, None),
        ]
        assert dead[0].properties == {"DeadLetterReason": "bad", "DeadLetterErrorDescription": "no JSON"}

    async def test_an_expired_lock_is_lost(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.send_messages(named("a"))
        message = await receive_one(receiver)
        peer.advance(timedelta(minutes=1))
        for settle in (
            receiver.complete_message,
            receiver.abandon_message,
            receiver.dead_letter_message,
            receiver.defer_message,
        ):
            with pytest.raises(MessageLockLostError):
                await settle(message)
            # The SDK lets a message be settled on its link once; from then on it asks $management.
        with pytest.raises(MessageLockLostError):
            await receiver.renew_message_lock(message)
        again = await receive_one(receiver)
        assert (again.sequence_number, again.delivery_count) == (1, 1)
        await receiver.complete_message(again)
        assert peer.state.depth(QUEUE) == EMPTY

    async def test_a_renewed_lock_holds_on(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.send_messages(named("a"))
        message = await receive_one(receiver)
        before = message.locked_until_utc
        assert before is not None
        peer.advance(timedelta(seconds=35))
        until = await receiver.renew_message_lock(message)
        assert until - before >= timedelta(seconds=35)
        peer.advance(timedelta(seconds=35))
        await receiver.complete_message(message)
        assert peer.state.depth(QUEUE) == EMPTY

    async def test_receivers_share_a_queue(
        self, client: ServiceBusClient, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        async with client.get_queue_receiver(QUEUE) as second:
            asked = [asyncio.create_task(receive(each, 3)) for each in (receiver, second)]
            await asyncio.sleep(0.1)
            await sender.send_messages(named(*"abcdef"))
            received = await asyncio.gather(*asked)
        assert sorted(body_of(message) for each in received for message in each) == list("abcdef")

    async def test_what_a_closing_receiver_gives_back_does_not_count(
        self, peer: ServiceBusPeer, client: ServiceBusClient, sender: ServiceBusSender
    ) -> None:
        await sender.send_messages(named(*"abcdef"))
        async with client.get_queue_receiver(QUEUE, prefetch_count=5) as receiver:
            await receiver.complete_message(await receive_one(receiver))
        async with asyncio.timeout(60):
            while (depth := peer.state.depth(QUEUE)).locked:  # noqa: ASYNC110 - the peer tells nobody of a state
                await asyncio.sleep(0.01)
        assert depth.active == 5
        assert {message.delivery_count for message in peer.state.messages(QUEUE)} == {0}

    async def test_locks_outlive_the_connection(self, peer: ServiceBusPeer, sender: ServiceBusSender) -> None:
        await sender.send_messages(named("a"))
        async with client_of(peer, retry_total=3) as client, client.get_queue_receiver(QUEUE) as receiver:
            message = await receive_one(receiver)
            peer.faults.drop_connections()
            assert peer.state.depth(QUEUE).locked == 1
            await receiver.peek_messages()
            # On the new link the SDK can only settle by the lock token, through $management.
            await receiver.complete_message(message)
        assert peer.state.depth(QUEUE) == EMPTY
        assert peer.state.counters().of(QUEUE, "update-disposition").operations == 1

    async def test_a_message_can_be_received_and_deleted(
        self, peer: ServiceBusPeer, client: ServiceBusClient, sender: ServiceBusSender
    ) -> None:
        await sender.send_messages(named("a", "b"))
        mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
        async with client.get_queue_receiver(QUEUE, receive_mode=mode) as receiver:
            assert [body_of(message) for message in await receive(receiver, 2)] == ["a", "b"]
        assert peer.state.depth(QUEUE) == EMPTY

    async def test_a_deferred_message_is_received_by_its_number(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.send_messages(named("a", "b", "c", "d"))
        messages = await receive(receiver, 4)
        for message in messages:
            await receiver.defer_message(message)
        assert peer.state.depth(QUEUE).deferred == 4
        numbers = [message.sequence_number or 0 for message in messages]
        with pytest.raises(MessageNotFoundError):
            await receiver.receive_deferred_messages([numbers[0], 99])
        received = await receiver.receive_deferred_messages(numbers)
        assert [body_of(message) for message in received] == ["a", "b", "c", "d"]
        await receiver.complete_message(received[0])
        await receiver.abandon_message(received[1])
        await receiver.dead_letter_message(received[2], reason="why", error_description="because")
        await receiver.defer_message(received[3])
        assert peer.state.depth(QUEUE) == EntityDepth(0, 0, 0, deferred=2, dead_lettered=1)
        assert peer.state.dead_letters(QUEUE)[0].dead_letter_reason == "why"


class TestManagement:
    async def test_a_scheduled_message_comes_when_it_is_due(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        at = datetime.now(UTC) + timedelta(minutes=5)
        numbers = await sender.schedule_messages(named("a", "b"), at)
        assert len(set(numbers)) == 2
        await sender.send_messages(
            ServiceBusMessage("c", message_id="c", scheduled_enqueue_time_utc=at + timedelta(seconds=1))
        )
        assert peer.state.depth(QUEUE).scheduled == 3
        await sender.cancel_scheduled_messages(numbers[0])
        with pytest.raises(MessageNotFoundError):
            await sender.cancel_scheduled_messages(numbers[0])
        waiting = asyncio.create_task(receive(receiver, 2))
        await asyncio.sleep(0.05)
        peer.advance(timedelta(minutes=5, seconds=2))
        assert [body_of(message) for message in await waiting] == ["b", "c"]

    async def test_what_is_due_soon_comes_by_itself(
        self, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.schedule_messages(named("a"), datetime.now(UTC) + timedelta(milliseconds=100))
        [message] = await receiver.receive_messages(max_message_count=1, max_wait_time=10)
        assert body_of(message) == "a"

    async def test_a_lock_ends_by_itself(self) -> None:
        require_proton()
        short = QueueProperties(QUEUE, lock_duration=timedelta(milliseconds=200))
        with ServiceBusPeer({QUEUE: short}) as peer:
            async with client_of(peer) as client, client.get_queue_sender(QUEUE) as sender:
                await sender.send_messages(named("a"))
                async with client.get_queue_receiver(QUEUE) as receiver:
                    await receive_one(receiver)
                    [again] = await receiver.receive_messages(max_message_count=1, max_wait_time=10)
                    assert again.delivery_count == 1

    async def test_peeking_shows_every_state(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        assert await receiver.peek_messages(5) == []
        await sender.send_messages(named("deferred", "locked", "active"))
        await sender.schedule_messages(named("scheduled"), datetime.now(UTC) + timedelta(minutes=5))
        first, _ = await receive(receiver, 2)
        await receiver.defer_message(first)
        seen = await receiver.peek_messages(10, sequence_number=1)
        assert [(body_of(message), message.state) for message in seen] == [
            ("deferred", ServiceBusMessageState.DEFERRED),
            ("locked", ServiceBusMessageState.ACTIVE),
            ("active", ServiceBusMessageState.ACTIVE),
            ("scheduled", ServiceBusMessageState.SCHEDULED),
        ]
        assert [message.lock_token for message in seen] == [None] * 4
        assert [body_of(message) for message in await receiver.peek_messages(2, sequence_number=3)] == [
            "active",
            "scheduled",
        ]
        states = [message.state for message in peer.state.messages(QUEUE)]
        assert states == [MessageState.DEFERRED, MessageState.ACTIVE, MessageState.ACTIVE, MessageState.SCHEDULED]
        assert [message.locked for message in peer.state.messages(QUEUE)] == [False, True, False, False]

    async def test_dead_letters_can_be_peeked(
        self, client: ServiceBusClient, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.send_messages(named("a"))
        await receiver.dead_letter_message(await receive_one(receiver), reason="bad")
        async with client.get_queue_receiver(QUEUE, sub_queue="deadletter") as dead_letters:
            [dead] = await dead_letters.peek_messages(5)
        assert (body_of(dead), dead.dead_letter_reason) == ("a", "bad")


class TestFaults:
    async def test_a_busy_broker_is_asked_again_by_the_sdk(self, peer: ServiceBusPeer) -> None:
        peer.faults.refuse_sends(2)
        async with client_of(peer, retry_total=2) as client, client.get_queue_sender(QUEUE) as sender:
            await sender.send_messages(named("a"))
        assert peer.state.depth(QUEUE).active == 1
        assert peer.faults.waiting() == 0

    async def test_a_busy_broker_keeps_nothing(self, peer: ServiceBusPeer, sender: ServiceBusSender) -> None:
        peer.faults.refuse_sends(queue=QUEUE)
        with pytest.raises(ServiceBusServerBusyError):
            await sender.send_messages(named("a", "b"))
        assert peer.state.depth(QUEUE) == EMPTY
        await sender.send_messages(named("a", "b"))
        assert peer.state.depth(QUEUE).active == 2

    async def test_a_fault_for_one_queue_leaves_the_others_alone(
        self, peer: ServiceBusPeer, client: ServiceBusClient, sender: ServiceBusSender
    ) -> None:
        peer.faults.refuse_sends(queue="other")
        await sender.send_messages(named("a"))
        assert peer.faults.waiting() == 1
        peer.faults.clear()
        async with client.get_queue_sender("other") as other:
            await other.send_messages(named("a"))

    async def test_a_full_queue_refuses(self, peer: ServiceBusPeer, sender: ServiceBusSender) -> None:
        peer.faults.refuse_sends(condition=QUOTA_EXCEEDED)
        with pytest.raises(ServiceBusQuotaExceededError):
            await sender.send_messages(named("a"))
        assert peer.state.depth(QUEUE) == EMPTY

    @pytest.mark.parametrize("accepted", [True, False])
    async def test_a_connection_lost_at_a_send_tells_nothing_of_its_outcome(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, accepted: bool
    ) -> None:
        peer.faults.drop_on_send(accepted=accepted)
        with pytest.raises(ServiceBusError):
            await sender.send_messages(named("a"))
        assert peer.state.depth(QUEUE).active == accepted
        # Sent again, it is there once in either case.
        await sender.send_messages(named("a"))
        assert peer.state.depth(QUEUE).active == 1

    @pytest.mark.parametrize("settled", [True, False])
    async def test_a_connection_lost_at_a_settlement_tells_nothing_of_its_outcome(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, receiver: ServiceBusReceiver, settled: bool
    ) -> None:
        await sender.send_messages(named("a"))
        message = await receive_one(receiver)
        peer.faults.drop_on_settlement(settled=settled)
        # The SDK goes on to ask $management, on the broken connection first.
        with pytest.raises((ServiceBusError, ValueError)):
            await receiver.complete_message(message)
        assert peer.state.depth(QUEUE).locked == (not settled)

    async def test_a_settlement_can_be_refused(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.send_messages(named("a"))
        peer.faults.refuse_settlements()
        with pytest.raises(MessageLockLostError):
            await receiver.complete_message(await receive_one(receiver))
        assert peer.state.depth(QUEUE).locked == 1

    async def test_every_lock_can_be_ended(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.send_messages(named("a"))
        await receive_one(receiver)
        peer.faults.expire_locks("other")
        assert peer.state.depth(QUEUE).locked == 1
        peer.faults.expire_locks(QUEUE)
        assert (await receive_one(receiver)).delivery_count == 1

    async def test_connections_can_be_broken(self, peer: ServiceBusPeer, sender: ServiceBusSender) -> None:
        await sender.send_messages(named("a"))
        assert peer.faults.drop_connections() == 2
        with pytest.raises(ServiceBusError):
            await sender.send_messages(named("b"))
        await sender.send_messages(named("b"))
        counters = peer.state.counters()
        # Each sender and each receiver of the SDK has a connection of its own; that of the receiver is still broken.
        assert (counters.connections, counters.most_connections, counters.connections_made) == (1, 2, 3)

    async def test_idle_connections_are_closed_as_the_service_does(
        self, peer: ServiceBusPeer, sender: ServiceBusSender
    ) -> None:
        await sender.send_messages(named("a"))
        assert peer.faults.close_connections() == 2
        with pytest.raises(ServiceBusConnectionError):
            await sender.send_messages(named("b"))
        await sender.send_messages(named("b"))

    async def test_idle_links_are_detached_as_the_service_does(
        self, peer: ServiceBusPeer, client: ServiceBusClient, sender: ServiceBusSender, receiver: ServiceBusReceiver
    ) -> None:
        await sender.send_messages(named("a"))
        assert peer.faults.detach_links(queue="other") == 0
        assert peer.faults.detach_links(queue=QUEUE, role="sender") == 1
        with pytest.raises(ServiceBusError):
            await sender.send_messages(named("b"))
        assert body_of(await receive_one(receiver)) == "a"
        assert peer.faults.detach_links() == 1
        async with client_of(peer, retry_total=3) as patient, patient.get_queue_sender(QUEUE) as other:
            await other.send_messages(named("c"))
            peer.faults.detach_links()
            await other.send_messages(named("d"))
        assert {message.message_id for message in peer.state.messages(QUEUE)} >= {"a", "c", "d"}

    async def test_a_link_can_be_detached_at_a_send(self, peer: ServiceBusPeer, sender: ServiceBusSender) -> None:
        peer.faults.detach_on_send()
        with pytest.raises(ServiceBusError):
            await sender.send_messages(named("a"))
        assert peer.state.depth(QUEUE) == EMPTY
        await sender.send_messages(named("a"))

    async def test_links_can_be_refused(self, peer: ServiceBusPeer, client: ServiceBusClient) -> None:
        peer.faults.refuse_links(queue=QUEUE)
        with pytest.raises(ServiceBusServerBusyError):
            async with client.get_queue_receiver(QUEUE):
                pass
        async with client.get_queue_receiver(QUEUE):
            pass

    async def test_a_hanging_broker_answers_later(self, peer: ServiceBusPeer, sender: ServiceBusSender) -> None:
        await sender.send_messages(named("a"))
        peer.faults.hang()
        with pytest.raises(OperationTimeoutError):
            await sender.send_messages(named("b"), timeout=0.3)
        assert peer.state.depth(QUEUE).active == 1
        waiting = asyncio.create_task(sender.send_messages(named("c")))
        await asyncio.sleep(0.1)
        peer.faults.go_on()
        await waiting
        # What had come while it hung was read as well.
        assert {message.message_id for message in peer.state.messages(QUEUE)} == {"a", "b", "c"}

    async def test_new_connections_to_a_hanging_broker_wait_too(self, peer: ServiceBusPeer) -> None:
        async def send() -> None:
            async with client_of(peer) as client, client.get_queue_sender(QUEUE) as sender:
                await sender.send_messages(named("a"))

        peer.faults.hang()
        waiting = asyncio.create_task(send())
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        peer.faults.go_on()
        await waiting
        assert peer.state.depth(QUEUE).active == 1

    async def test_tokens_can_be_refused(self, peer: ServiceBusPeer, client: ServiceBusClient) -> None:
        peer.faults.refuse_tokens()
        with pytest.raises(ServiceBusAuthenticationError):
            async with client.get_queue_sender(QUEUE):
                pass
        async with client.get_queue_sender(QUEUE) as sender:
            await sender.send_messages(named("a"))
        assert peer.state.depth(QUEUE).active == 1

    async def test_management_can_be_refused(self, peer: ServiceBusPeer, sender: ServiceBusSender) -> None:
        at = datetime.now(UTC) + timedelta(minutes=5)
        peer.faults.refuse_management()
        with pytest.raises(ServiceBusServerBusyError):
            await sender.schedule_messages(named("a"), at)
        assert peer.state.depth(QUEUE) == EMPTY
        await sender.schedule_messages(named("a"), at)

    @pytest.mark.parametrize("done", [True, False])
    async def test_a_connection_lost_at_a_request_tells_nothing_of_its_outcome(
        self, peer: ServiceBusPeer, sender: ServiceBusSender, done: bool
    ) -> None:
        at = datetime.now(UTC) + timedelta(minutes=5)
        peer.faults.drop_on_management(done=done)
        with pytest.raises((ServiceBusError, ValueError)):
            await sender.schedule_messages(named("a"), at)
        assert peer.state.depth(QUEUE).scheduled == done

    async def test_what_was_accepted_is_there_once_however_connections_break(self, peer: ServiceBusPeer) -> None:
        batches = [[f"{worker}-{turn}-{part}" for part in range(3)] for worker in range(3) for turn in range(8)]
        disturbances: list[Callable[[], object]] = [
            peer.faults.drop_connections,
            peer.faults.detach_links,
            peer.faults.close_connections,
            peer.faults.refuse_sends,
            peer.faults.detach_on_send,
            partial(peer.faults.drop_on_send, accepted=True),
            partial(peer.faults.drop_on_send, accepted=False),
            peer.faults.refuse_tokens,
        ]
        waiting, accepted = list(batches), list[str]()

        async def send() -> None:
            while waiting:
                with contextlib.suppress(ServiceBusError):
                    async with client_of(peer) as client, client.get_queue_sender(QUEUE) as sender:
                        while waiting:
                            batch = waiting.pop()
                            try:
                                await sender.send_messages(named(*batch))
                            except ServiceBusError:
                                waiting.append(batch)
                                raise
                            accepted.extend(batch)
                            if len(accepted) % 9 == 0 and disturbances:
                                disturbances.pop()()

        await asyncio.gather(*(send() for _ in range(3)))
        assert disturbances == []
        kept = [message.message_id or "" for message in peer.state.messages(QUEUE)]
        assert sorted(kept) == sorted(accepted) == sorted(name for batch in batches for name in batch)


class TestProcess:
    async def test_it_runs_as_a_process_with_the_same_controls(self) -> None:
        require_proton()
        queue = "embedding-jobs"
        with ServiceBusPeerProcess() as peer:
            peer.faults.refuse_sends()
            async with client_of(peer, retry_total=1) as client, client.get_queue_sender(queue) as sender:
                await sender.send_messages(named("a"))
                await sender.schedule_messages(named("b"), datetime.now(UTC) + timedelta(minutes=5))
            assert peer.faults.waiting() == 0
            peer.advance(timedelta(minutes=6))
            assert [message.body for message in peer.state.messages(queue)] == [b"a", b"b"]
            assert peer.state.depths()[queue].active == 2
            counters = peer.state.counters()
            assert counters.total("send").operations == counters.of(queue, "send").operations == 1
            assert counters.bytes_received > 0
            peer.state.reset_counters()
            assert peer.state.counters().by_queue == {}
            with pytest.raises(KeyError, match="no queue 'missing'"):
                peer.state.depth("missing")
        peer.close()
        assert peer.exit_code == 0

    def test_it_ends_with_its_starter(self) -> None:
        require_proton()
        start = (
            "import os; from service_bus_peer import ServiceBusPeerProcess; peer = ServiceBusPeerProcess();"
            " print(peer.pid, flush=True); os.kill(os.getpid(), 9)"
        )
        # Whoever holds the starter's output sees its end only once the peer, which has it too, has ended.
        printed = subprocess.run(
            [sys.executable, "-c", start],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            check=False,
            timeout=100,
        )
        assert printed.returncode == -signal.SIGKILL
        assert int(printed.stdout) > 0

    def test_one_that_can_not_start_says_so(self) -> None:
        with pytest.raises(RuntimeError, match="exit code 2"):
            ServiceBusPeerProcess(max_message_size="large")  # type: ignore[arg-type]  # refused by the command line

    def test_it_serves_until_it_is_told_to_end(self, tmp_path: Path) -> None:
        require_proton()
        port_file = tmp_path / "port"
        process = subprocess.Popen(
            [sys.executable, "-m", "service_bus_peer", "--port-file", str(port_file)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            with process.stdout:
                line = process.stdout.readline()
            assert f"sb://localhost:{int(port_file.read_text())};" in line
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()


class TestThread:
    def test_it_ends_with_its_thread_and_its_connections(self) -> None:
        require_proton()
        before = threading.active_count()
        peer = ServiceBusPeer(QUEUES).start()
        port = peer.port
        peer.close()
        peer.close()
        assert threading.active_count() == before
        again = ServiceBusPeer(QUEUES, port=port)
        with again:
            assert again.port == port

    def test_a_port_in_use_is_told_at_the_start(self, peer: ServiceBusPeer) -> None:
        with pytest.raises(OSError, match="in use"):
            ServiceBusPeer(QUEUES, port=peer.port).start()

    def test_a_failure_within_it_is_told_at_the_end(self) -> None:
        require_proton()

        def broken() -> datetime:
            raise RuntimeError("no time")

        peer = ServiceBusPeer(QUEUES, clock=broken).start()
        with pytest.raises(RuntimeError, match="no time"):
            peer.time.now()
        peer.time.look_again()
        with pytest.raises(ExceptionGroup):
            peer.close()

    def test_a_clock_of_the_tests_own_moves_it(self) -> None:
        require_proton()
        ahead = timedelta()
        with ServiceBusPeer(QUEUES, clock=lambda: datetime.now(UTC) + ahead) as peer:
            before = peer.time.now()
            ahead = timedelta(hours=1)
            peer.time.look_again()
            assert peer.time.now() - before >= ahead


class TestRequirement:
    @pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
    def test_without_proton_tests_are_skipped_and_fail_where_nothing_may_be(
        self, monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
    ) -> None:
        monkeypatch.setenv("CI", ci)
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        with pytest.raises(outcome, match="C compiler"):
            require_proton()
