"""What only Service Bus does to its callers: it breaks, is busy, is full, refuses, and counts by being read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusSender
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageProperties
from message_bus_contract import LOCK, QUEUES, message
from service_bus_peer import ServiceBusPeer
from service_bus_receiver import ServiceBusReceiver

from messaging import service_bus, service_bus_sender
from messaging.bus import BusUnavailableError, Message, MessageTooLargeError
from messaging.queues import QUEUES as REAL_QUEUES
from messaging.queues import QueueProperties
from messaging.service_bus import (
    CLIENT_OPTIONS,
    MOST_PEEKED,
    MOST_PEEKS,
    PATIENCE,
    PEEKED_AT_ONCE,
    ServiceBusMessageBus,
)
from messaging.service_bus_errors import FULL_FOR
from messaging.service_bus_sender import CLOSE_SECONDS, LAST_TRY_SECONDS, MOST_SCHEDULED

Connect = Callable[[], ServiceBusClient]

SHORT = timedelta(milliseconds=20)
DELAYS = [None, timedelta(minutes=5)]
QUOTA_EXCEEDED = "amqp:resource-limit-exceeded"


@pytest.fixture
async def bus(peer: ServiceBusPeer, connect: Connect) -> AsyncIterator[ServiceBusMessageBus]:
    bus = ServiceBusMessageBus(connect, queues=QUEUES, clock=peer.time.now, pause=SHORT)
    yield bus
    await bus.close()


@pytest.fixture
async def hasty(peer: ServiceBusPeer, connect: Connect) -> AsyncIterator[ServiceBusMessageBus]:
    """A bus that leaves a busy namespace alone for longer than it has patience."""
    bus = ServiceBusMessageBus(connect, queues=QUEUES, clock=peer.time.now, pause=2 * SHORT, patience=SHORT)
    yield bus
    await bus.close()


def ids(peer: ServiceBusPeer, queue: str = "work") -> list[str | None]:
    return [seen.message_id for seen in peer.state.messages(queue)]


def some(count: int, **fields: object) -> list[Message]:
    return [message(number, **fields) for number in range(count)]


# What a message is on the wire


async def test_a_message_carries_all_that_tools_and_traces_look_for(
    peer: ServiceBusPeer, bus: ServiceBusMessageBus
) -> None:
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    numbers = {"generation": 1_764_000_000, "zero": 0, "large": 2**31, "larger": 2**62, "small": -(2**40)}
    properties: dict[str, Any] = {"tenantId": "acme", "hot": True, "traceparent": traceparent, **numbers}
    await bus.send("work", [message(1, correlation_id="c-1", properties=properties)])
    [seen] = peer.state.messages("work")
    assert (seen.body, seen.message_id, seen.correlation_id) == (b"body 1", "id-1", "c-1")
    assert (seen.content_type, seen.subject) == ("application/json", "acme")
    assert seen.properties == {**properties, "Diagnostic-Id": traceparent}


async def test_what_foreign_senders_write_is_read_as_far_as_it_can_be(
    peer: ServiceBusPeer, bus: ServiceBusMessageBus, connect: Connect, service_bus_receiver: ServiceBusReceiver
) -> None:
    async with connect() as client, client.get_queue_sender("work") as sender:
        text = ServiceBusMessage("ä text", application_properties={"ü": "ß", b"raw": b"\xc3\xa4", "n": 1, "half": 0.5})
        await sender.send_messages([text, ServiceBusMessage(None)])
    received = await service_bus_receiver.receive("work", max_messages=2)
    assert [item.body for item in received] == ["ä text".encode(), b"None"]
    assert await service_bus_receiver.dead_letter(received, reason="r", description="d") == 2
    first, second = await bus.dead_letters("work")
    assert first.body == "ä text".encode()
    assert first.properties == received[0].properties == {"ü": "ß", "raw": "ä", "n": 1}
    assert (second.message_id, second.correlation_id, second.properties) == (received[1].message_id, None, {})


@pytest.mark.parametrize(
    ("given", "read"), [("text", "text"), (7, "7"), (UUID(int=1), str(UUID(int=1))), (b"\xff", "\ufffd"), (None, None)]
)
async def test_ids_of_any_kind_are_read_as_texts(
    bus: ServiceBusMessageBus, connect: Connect, service_bus_receiver: ServiceBusReceiver, given: Any, read: str | None
) -> None:
    properties = AmqpMessageProperties(message_id=given, correlation_id=given)
    async with connect() as client, client.get_queue_sender("work") as sender:
        await sender.send_messages(AmqpAnnotatedMessage(data_body=b"x", properties=properties))
    received = await service_bus_receiver.receive("work", max_messages=1)
    await service_bus_receiver.dead_letter(received, reason="r", description="d")
    [letter] = await bus.dead_letters("work")
    for item in (received[0], letter):
        assert (item.message_id, item.correlation_id) == (read or "", read)


# What breaks


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("accepted", [True, False])
async def test_a_send_of_which_nobody_knows_what_became_ends_as_one_message(
    peer: ServiceBusPeer, bus: ServiceBusMessageBus, accepted: bool, delay: timedelta | None
) -> None:
    if delay is None:
        peer.faults.drop_on_send(accepted=accepted)
    else:
        peer.faults.drop_on_management(done=accepted)
    await bus.send("work", some(3), delay=delay)
    assert ids(peer) == ["id-0", "id-1", "id-2"]
    assert peer.faults.waiting() == 0


def _detach(peer: ServiceBusPeer) -> None:
    assert peer.faults.detach_links() == 1


def _close(peer: ServiceBusPeer) -> None:
    assert peer.faults.close_connections() == 1


def _drop(peer: ServiceBusPeer) -> None:
    assert peer.faults.drop_connections() == 1


@pytest.mark.parametrize("end", [_detach, _close, _drop])
@pytest.mark.parametrize("delay", DELAYS)
async def test_a_sender_that_the_service_ended_while_idle_is_made_anew(
    peer: ServiceBusPeer,
    bus: ServiceBusMessageBus,
    end: Callable[[ServiceBusPeer], None],
    delay: timedelta | None,
) -> None:
    await bus.send("work", [message(1)])
    end(peer)
    await bus.send("work", [message(2)], delay=delay)
    assert ids(peer) == ["id-1", "id-2"]


async def test_a_sender_that_was_long_idle_is_not_even_tried(
    peer: ServiceBusPeer, bus: ServiceBusMessageBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bus.send("work", [message(1)])
    await bus.send("work", [message(2)])
    assert peer.state.counters().connections_made == 1
    monkeypatch.setattr(service_bus_sender, "IDLE_SECONDS", -1)
    await bus.send("work", [message(3)])
    assert ids(peer) == ["id-1", "id-2", "id-3"]
    assert peer.state.counters().connections_made > 1


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("'NoneType' object has no attribute 'client_ready_async'"),
        ValueError("Link already closed."),
        OSError("no route to host"),
    ],
)
async def test_whatever_kind_of_error_a_broken_sender_raises_it_is_made_anew(
    peer: ServiceBusPeer, bus: ServiceBusMessageBus, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real = ServiceBusSender.send_messages
    broken: list[ServiceBusSender] = []

    async def send(sender: ServiceBusSender, *arguments: Any, **options: Any) -> None:
        if not broken:
            broken.append(sender)
            raise error
        assert sender is not broken[0]
        await real(sender, *arguments, **options)

    monkeypatch.setattr(ServiceBusSender, "send_messages", send)
    await bus.send("work", some(2))
    assert ids(peer) == ["id-0", "id-1"]


async def test_a_link_that_breaks_each_time_is_the_bus_being_away(
    peer: ServiceBusPeer, bus: ServiceBusMessageBus
) -> None:
    peer.faults.detach_on_send(2)
    with pytest.raises(BusUnavailableError, match="work: Service Bus does not answer"):
        await bus.send("work", [message(1)])
    await bus.send("work", [message(1)])
    assert ids(peer) == ["id-1"]


async def test_a_namespace_that_says_nothing_is_given_up_and_found_again(
    peer: ServiceBusPeer, hasty: ServiceBusMessageBus
) -> None:
    await hasty.send("work", [message(1)])
    peer.faults.hang()
    with pytest.raises(BusUnavailableError, match="does not answer"):
        await hasty.send("work", [message(2)])
    peer.faults.go_on()
    await hasty.send("work", [message(2)])
    assert ids(peer) == ["id-1", "id-2"]


async def test_a_send_that_is_cancelled_spoils_no_later_one(peer: ServiceBusPeer, bus: ServiceBusMessageBus) -> None:
    await bus.send("work", [message(1)])
    peer.faults.hang()
    sending = asyncio.create_task(bus.send("work", some(50, body=bytes(20_000))))
    await asyncio.sleep(0.1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    peer.faults.go_on()
    await bus.send("work", [message(60)])
    assert ids(peer)[-1] == "id-60"


# What the service refuses


async def test_a_busy_namespace_is_left_alone_and_asked_again(peer: ServiceBusPeer, bus: ServiceBusMessageBus) -> None:
    peer.faults.refuse_sends(3)
    await bus.send("work", some(2))
    peer.faults.refuse_management(2)
    await bus.send("other", some(2), delay=timedelta(minutes=5))
    assert ids(peer) == ids(peer, "other") == ["id-0", "id-1"]
    assert peer.faults.waiting() == 0
    assert peer.state.counters().connections_made == 2, "busy is not broken"


async def test_a_namespace_too_busy_to_open_a_link_is_asked_again(
    peer: ServiceBusPeer, bus: ServiceBusMessageBus
) -> None:
    peer.faults.refuse_links(3)
    await bus.send("work", some(2))
    assert ids(peer) == ["id-0", "id-1"]
    assert peer.faults.waiting() == 0


async def test_a_namespace_that_stays_busy_is_the_bus_being_away_for_every_queue(
    peer: ServiceBusPeer, hasty: ServiceBusMessageBus
) -> None:
    peer.faults.refuse_sends(1, queue="work")
    for queue in ("work", "other"):
        with pytest.raises(BusUnavailableError, match=f"{queue}: Service Bus is throttling this namespace") as caught:
            await hasty.send(queue, [message(1)])
        assert timedelta(0) < caught.value.retry_after <= 2 * SHORT
    assert peer.state.counters().of("other", "attach").operations == 0


async def test_a_full_queue_is_told_at_once(peer: ServiceBusPeer, bus: ServiceBusMessageBus) -> None:
    peer.faults.refuse_sends(1, condition=QUOTA_EXCEEDED)
    with pytest.raises(BusUnavailableError, match="work: the queue is full") as caught:
        await bus.send("work", [message(1)])
    assert caught.value.retry_after == FULL_FOR
    await bus.send("work", [message(1)])
    assert ids(peer) == ["id-1"]


async def test_a_token_that_is_refused_names_the_role_that_is_missing(
    peer: ServiceBusPeer, bus: ServiceBusMessageBus
) -> None:
    peer.faults.refuse_tokens(1)
    await bus.send("work", [message(1)])  # a token may have run out
    peer.faults.refuse_tokens(2)
    with pytest.raises(BusUnavailableError, match="'Azure Service Bus Data Sender' on this queue"):
        await bus.send("other", [message(1)])
    peer.faults.refuse_tokens(2)
    with pytest.raises(BusUnavailableError, match="'Azure Service Bus Data Receiver' on this queue"):
        await bus.dead_letters("work")


async def test_an_identity_that_gets_no_token_is_refused_like_one_without_the_role(peer: ServiceBusPeer) -> None:
    class Nobody:
        async def get_token(self, *scopes: str, **options: Any) -> Any:
            raise ClientAuthenticationError("no identity here")

        async def close(self) -> None: ...

    def connect() -> ServiceBusClient:
        credential: Any = Nobody()
        return ServiceBusClient(f"localhost:{peer.port}", credential, use_tls=False, **CLIENT_OPTIONS)

    bus = ServiceBusMessageBus(connect)
    with pytest.raises(BusUnavailableError, match=r"no identity here.*'Azure Service Bus Data Sender'"):
        await bus.send("ingestion-events", [message(1)])
    await bus.close()


async def test_a_queue_that_the_namespace_lacks_or_has_disabled_is_told(peer: ServiceBusPeer, connect: Connect) -> None:
    queues = {**QUEUES, "forgotten": QueueProperties("forgotten")}
    bus = ServiceBusMessageBus(connect, queues=queues)
    with pytest.raises(BusUnavailableError, match="forgotten: the namespace has no such queue; deploy infra/"):
        await bus.send("forgotten", [message(1)])
    with pytest.raises(BusUnavailableError, match="forgotten: the namespace has no such queue"):
        await bus.depths()
    # A disabled queue refuses all: those links too that the SDK still opens for what was given up above.
    peer.faults.refuse_links(50, condition="com.microsoft:entity-disabled")
    with pytest.raises(BusUnavailableError, match="work: the queue is disabled"):
        await bus.send("work", [message(1)])
    peer.faults.clear()
    await bus.close()


async def test_counts_that_fail_leave_nothing_under_way(peer: ServiceBusPeer, connect: Connect) -> None:
    names = [f"forgotten-{number}" for number in range(9)]
    bus = ServiceBusMessageBus(connect, queues={name: QueueProperties(name) for name in names})
    before = asyncio.all_tasks()
    with pytest.raises(BusUnavailableError, match="forgotten"):
        await bus.depths()
    assert not any(map(_is_of_the_bus, asyncio.all_tasks() - before))
    await bus.close()


def _is_of_the_bus(task: "asyncio.Task[object]") -> bool:
    """Whether it is none of the SDK's own tasks, which keep its connections alive."""
    return str(getattr(task.get_coro(), "__qualname__", "")).startswith("ServiceBusMessageBus.")


# What is too large


async def test_properties_count_as_well(peer: ServiceBusPeer, bus: ServiceBusMessageBus) -> None:
    for large in (
        message(1, body=bytes(250_000), properties={"note": "n" * 30_000}),
        message(1, body=bytes(262_100)),  # AMQP's own few bytes are what is too much
    ):
        with pytest.raises(MessageTooLargeError) as caught:
            await bus.send("work", [large])
        assert caught.value.limit < caught.value.size


async def test_what_the_service_alone_finds_too_large_is_told_from_its_neighbours(
    peer: ServiceBusPeer, bus: ServiceBusMessageBus
) -> None:
    too_large = "amqp:link:message-size-exceeded"
    peer.faults.refuse_sends(1, condition=too_large)
    await bus.send("work", some(3))
    assert ids(peer) == ["id-0", "id-1", "id-2"]
    peer.faults.refuse_sends(2, condition=too_large)
    with pytest.raises(MessageTooLargeError, match="message id-7 is"):
        await bus.send("work", [message(7), message(8)])


# What it costs


async def test_a_long_send_takes_as_few_batches_as_fit(peer: ServiceBusPeer, bus: ServiceBusMessageBus) -> None:
    await bus.send("work", some(100, body=bytes(10_000)))
    sent = peer.state.counters().of("work", "send")
    assert (sent.operations, sent.messages) == (4, 100)  # 26 messages of 10,000 bytes fit in 256 KB
    await bus.send("other", some(250), delay=timedelta(minutes=5))
    scheduled = peer.state.counters().of("other", "schedule-message")
    assert (scheduled.operations, scheduled.messages) == (-(-250 // MOST_SCHEDULED), 250)


async def test_many_tasks_share_one_connection_a_queue(peer: ServiceBusPeer, bus: ServiceBusMessageBus) -> None:
    def send(first: int) -> Any:
        delay = timedelta(minutes=5) if first % 4 == 0 else None
        return bus.send("work", [message(first + step) for step in range(5)], delay=delay)

    await asyncio.gather(*(send(5 * task) for task in range(40)))
    assert sorted(ids(peer), key=str) == sorted((f"id-{number}" for number in range(200)), key=str)
    assert peer.state.counters().connections_made == 1


async def test_tasks_that_wait_for_their_turn_lose_patience(peer: ServiceBusPeer, hasty: ServiceBusMessageBus) -> None:
    await hasty.send("work", [message(1)])
    peer.faults.hang()
    results = await asyncio.gather(*(hasty.send("work", [message(2)]) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [BusUnavailableError] * 3
    assert sum("those who send before" in str(result) for result in results) == 2
    peer.faults.go_on()


async def test_closing_ends_every_connection(peer: ServiceBusPeer, connect: Connect) -> None:
    bus = ServiceBusMessageBus(connect, queues=QUEUES)
    await bus.send("work", [message(1)])
    await bus.send("other", [message(1)], delay=timedelta(minutes=5))
    await bus.depths()
    peer.faults.detach_on_send(1)
    await bus.send("work", [message(2)])
    await bus.close()
    await bus.close()
    async with asyncio.timeout(60):
        while peer.state.counters().connections:  # noqa: ASYNC110 - the peer hears of it a moment later
            await asyncio.sleep(0.01)


def test_the_last_call_ends_within_the_sixth_of_the_lock_that_consumers_leave_for_it() -> None:
    longest = PATIENCE.total_seconds() + 2 * (LAST_TRY_SECONDS + CLOSE_SECONDS)
    assert timedelta(seconds=longest) < min(queue.lock_duration for queue in REAL_QUEUES.values()) / 6


# What is read of it


async def test_a_long_queue_is_not_counted_to_its_end(
    peer: ServiceBusPeer, bus: ServiceBusMessageBus, service_bus_receiver: ServiceBusReceiver
) -> None:
    await bus.send("work", some(3))
    received = await service_bus_receiver.receive("work", max_messages=3)
    await service_bus_receiver.dead_letter(received, reason="r", description="d")
    await bus.send("work", [message(number) for number in range(10, 20)], delay=timedelta(minutes=5))
    await bus.send("work", [message(number) for number in range(20, 20 + 2 * MOST_PEEKED)])
    peer.state.reset_counters()
    depth = (await bus.depths())["work"]
    assert MOST_PEEKED <= depth.active + depth.scheduled < MOST_PEEKED + PEEKED_AT_ONCE
    assert (depth.scheduled, depth.dead_lettered) == (10, 3)
    assert depth.at_least == {"active", "scheduled"}
    assert peer.state.counters().of("work", "peek-message").operations <= MOST_PEEKS


async def test_large_messages_are_counted_in_few_peeks(peer: ServiceBusPeer, bus: ServiceBusMessageBus) -> None:
    await bus.send("work", some(20, body=bytes(200_000)))
    peer.state.reset_counters()
    depth = (await bus.depths())["work"]
    assert peer.state.counters().of("work", "peek-message").operations <= MOST_PEEKS
    assert depth.active == 20 or (depth.active >= MOST_PEEKS and depth.at_least == {"active", "scheduled"})


async def test_counting_neither_locks_nor_delivers(peer: ServiceBusPeer, bus: ServiceBusMessageBus) -> None:
    await bus.send("work", some(5))
    await bus.depths()
    await bus.depths()
    assert [(seen.delivery_count, seen.locked) for seen in peer.state.messages("work")] == [(0, False)] * 5


async def test_dead_letters_are_removed_from_among_others(
    peer: ServiceBusPeer, bus: ServiceBusMessageBus, service_bus_receiver: ServiceBusReceiver
) -> None:
    await bus.send("work", some(12))
    received = await service_bus_receiver.receive("work", max_messages=12)
    await service_bus_receiver.dead_letter(received, reason="r", description="d")
    numbers = [letter.sequence_number for letter in await bus.dead_letters("work")]
    assert await bus.remove_dead_letters("work", [numbers[7], numbers[10], 4_711]) == 2
    left = [number for number in numbers if number not in (numbers[7], numbers[10])]
    assert [letter.sequence_number for letter in await bus.dead_letters("work")] == left
    assert not any(seen.locked for seen in peer.state.dead_letters("work"))
    assert await bus.remove_dead_letters("work", left) == 10


async def test_a_dead_letter_that_someone_else_holds_stays(
    peer: ServiceBusPeer,
    bus: ServiceBusMessageBus,
    connect: Connect,
    service_bus_receiver: ServiceBusReceiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service_bus, "NO_MORE_SECONDS", 0.3)
    await bus.send("work", some(2))
    received = await service_bus_receiver.receive("work", max_messages=2)
    await service_bus_receiver.dead_letter(received, reason="r", description="d")
    async with (
        connect() as client,
        client.get_queue_receiver("work", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as other,
    ):
        [held] = await other.receive_messages(1)
        numbers = [letter.sequence_number for letter in await bus.dead_letters("work")]
        assert await bus.remove_dead_letters("work", numbers) == 1
        await other.complete_message(held)
    assert await bus.dead_letters("work") == []


async def test_reading_is_tried_once_more_when_it_breaks_off(
    peer: ServiceBusPeer, bus: ServiceBusMessageBus, service_bus_receiver: ServiceBusReceiver
) -> None:
    await bus.send("work", some(2))
    received = await service_bus_receiver.receive("work", max_messages=2)
    await service_bus_receiver.dead_letter(received, reason="r", description="d")
    peer.faults.drop_on_management(done=False)
    assert len(await bus.dead_letters("work")) == 2
    peer.faults.drop_on_management(2, done=False)
    with pytest.raises(BusUnavailableError, match="work: Service Bus does not answer"):
        await bus.dead_letters("work")
    peer.faults.drop_on_settlement(settled=True)
    assert await bus.remove_dead_letters("work", [item.sequence_number for item in received]) <= 2
    peer.advance(LOCK + timedelta(seconds=1))
    await bus.remove_dead_letters("work", [item.sequence_number for item in received])
    assert await bus.dead_letters("work") == []
