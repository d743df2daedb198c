"""Events whose payload is too large for the bus: processors see it whole, and every way that it can go wrong ends."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from azure.functions.servicebus import ServiceBusMessage
from chain_rig import TENANT, Rig, event

from local.host.queue_pump import to_service_bus_message
from messaging import codec
from messaging.bus import BusUnavailableError, Message, MessageTooLargeError
from messaging.claim_check import LARGEST_INLINE, LARGEST_PAYLOAD
from messaging.contracts import IngestionEvent
from messaging.queues import INGESTION_EVENTS, QUEUES
from operations.replay import ReplaySelection, replay, select
from processors.delivery import CLAIM_CHECKS_AT_ONCE, Delivery, DeliveryPorts, consume
from processors.normalization import normalize
from processors.outcome import DONE, Cause, Done, Later, Outcome, Park
from shards.blobs import Space, blob_reference
from shards.store import StoreUnavailableError

GLOBE = "\N{EARTH GLOBE EUROPE-AFRICA}"
LONG_TEXTS = {"300 KB of globes": GLOBE * 75_000, "1 MB of letters": "x" * 1_048_576, "lines": "a line\r\n" * 40_000}


def large(number: int, **fields: Any) -> IngestionEvent:
    return event("Account", number, 1, Name=f"Account {number}", Notes__c="x" * LARGEST_INLINE, **fields)


class Blobs:
    """The rig's blob store, away while *away* says so."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.away = True
        self.asked = 0

    async def put(self, tenant_id: str, content: bytes, *, space: Space) -> str:
        if self.away:
            raise StoreUnavailableError("no answer")
        return await self._rig.services.blobs.put(tenant_id, content, space=space)

    async def get(self, tenant_id: str, reference: str, *, limit: int | None = None) -> bytes:
        self.asked += 1
        if self.away:
            raise StoreUnavailableError("no answer")
        return await self._rig.services.blobs.get(tenant_id, reference, limit=limit)


class Recorder:
    """A processor that remembers the records it was given, and fails those that are named."""

    def __init__(self, failing: str = "") -> None:
        self.batches: list[list[str]] = []
        self._failing = failing

    async def __call__(self, deliveries: Sequence[Delivery[IngestionEvent]]) -> list[Outcome]:
        names = [str(delivery.value.record["Name"]) for delivery in deliveries]
        self.batches.append(names)
        if self._failing in names:
            raise RuntimeError("not this one")
        return [DONE] * len(names)


async def deliver(rig: Rig, process: Any, ports: DeliveryPorts | None = None) -> list[Outcome]:
    """Give what can be received to *process* in one batch and complete it."""
    messages = await rig.receive(INGESTION_EVENTS)
    batch = [to_service_bus_message(message) for message in messages]
    outcomes = await consume(batch, INGESTION_EVENTS, IngestionEvent, process, ports or rig.services.delivery)
    await rig.bus.complete(messages)
    return outcomes


@pytest.mark.parametrize("name", LONG_TEXTS)
async def test_a_long_record_becomes_the_shard_that_a_short_one_would(rig: Rig, name: str) -> None:
    await rig.send(event("Account", 1, 1, Name="Acme", AnnualRevenue=1200.5, Description=LONG_TEXTS[name]))
    waiting = await rig.receive(INGESTION_EVENTS)
    assert len(waiting[0].body) < 1_000
    await rig.bus.abandon(waiting)
    await rig.drain()
    shard = await rig.shard("Account", 1)
    assert shard.name == "Acme"
    assert await rig.chunks("Account", 1)
    assert await rig.parked() == []


async def test_a_producer_may_leave_the_payload_itself(rig: Rig) -> None:
    whole = event("Account", 1, 1, Name="Outside")
    reference = await rig.services.blobs.put(TENANT, codec.encode(whole.record))
    body = codec.decode(whole.to_bytes())
    body.pop("payload")
    await rig.send_body(INGESTION_EVENTS, codec.encode(body | {"payloadRef": reference}), "m-1")
    await rig.drain()
    assert (await rig.shard("Account", 1)).name == "Outside"


async def test_large_payloads_are_in_memory_a_few_at_a_time(rig: Rig) -> None:
    count = 2 * CLAIM_CHECKS_AT_ONCE + 3
    await rig.send(*(large(number) for number in range(count)), event("Account", 90, 1, Name="Small"))
    process = Recorder()
    assert await deliver(rig, process) == [DONE] * (count + 1)
    assert [len(batch) for batch in process.batches] == [1, CLAIM_CHECKS_AT_ONCE, CLAIM_CHECKS_AT_ONCE, 3]
    assert process.batches[0] == ["Small"]


def _checked(number: int, reference: str) -> bytes:
    body = codec.decode(event("Account", number, 1, Name="").to_bytes())
    body.pop("payload")
    return codec.encode(body | {"payloadRef": reference})


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (None, "payload-missing", "there is no content"),
        ("payloads/acme/../other/secret", "payload-missing", "no reference of the form"),
        ("payloads/other/" + "0" * 64, "payload-missing", "outside the space of tenant acme"),
        (b"[1, 2]", "payload-invalid", "no object"),
        (b"\x00\x01", "payload-invalid", "no JSON"),
        (b" " * (LARGEST_PAYLOAD + 1), "payload-invalid", "more than 8,388,608 bytes"),
    ],
)
async def test_a_claim_check_that_gives_no_payload_parks_its_message_alone(
    rig: Rig, content: bytes | str | None, reason: str, said: str
) -> None:
    if isinstance(content, bytes):
        reference = await rig.services.blobs.put(TENANT, content)
    else:
        reference = content or blob_reference(TENANT, b"never put")
    await rig.send(large(1), event("Account", 2, 1, Name="Small"))
    await rig.send_body(INGESTION_EVENTS, _checked(3, reference), "m-3", tenantId=TENANT)
    process = Recorder()
    await deliver(rig, process)
    assert sorted(name for batch in process.batches for name in batch) == ["Account 1", "Small"]
    [parked] = await rig.parked()
    assert (parked.reason, parked.tenant_id, parked.message_id) == (reason, TENANT, "m-3")
    assert said in parked.detail
    assert codec.decode(parked.body)["payloadRef"] == reference


async def test_another_tenants_payload_is_out_of_reach(rig: Rig) -> None:
    theirs = await rig.services.blobs.put("other", codec.encode(event("Account", 3, 1, Name="Theirs").record))
    await rig.send_body(INGESTION_EVENTS, _checked(3, theirs), "m-3", tenantId=TENANT)
    await rig.drain()
    assert await rig.find("Account", 3) is None
    [parked] = await rig.parked()
    assert parked.reason == "payload-missing"
    assert "Theirs" not in parked.detail + parked.body


async def test_a_payload_that_was_missing_is_found_by_replay(rig: Rig) -> None:
    content = codec.encode(event("Account", 3, 1, Name="Found").record)
    reference = blob_reference(TENANT, content)
    await rig.send_body(INGESTION_EVENTS, _checked(3, reference), "m-3", tenantId=TENANT)
    await rig.drain()
    assert [message.reason for message in await rig.parked()] == ["payload-missing"]
    assert await rig.services.blobs.put(TENANT, content) == reference
    async for page in select(rig.services.replay, ReplaySelection(reason="payload-missing")):
        await replay(rig.services.replay, page)
    await rig.drain()
    assert (await rig.shard("Account", 3)).name == "Found"
    assert await rig.parked() == []


async def test_while_the_blob_store_is_away_large_events_wait_and_small_ones_do_not(rig: Rig) -> None:
    await rig.send(*(large(number) for number in range(20)), event("Account", 90, 1, Name="Small"))
    blobs = Blobs(rig)
    ports = replace(rig.services.delivery, payloads=blobs)
    process = Recorder()
    outcomes = await deliver(rig, process, ports)
    assert process.batches == [["Small"]]
    assert [outcome.cause for outcome in outcomes if isinstance(outcome, Later)] == [Cause.OUTAGE] * 20
    assert blobs.asked <= CLAIM_CHECKS_AT_ONCE, "an outage is not asked about again for each message"
    depth = await rig.depth(INGESTION_EVENTS)
    assert (depth.active, depth.scheduled) == (0, 20)
    blobs.away = False
    rig.wait(10)
    assert await deliver(rig, process, ports) == [DONE] * 20
    assert await rig.parked() == []


async def test_copies_keep_the_claim_check(rig: Rig) -> None:
    await rig.send(large(1))
    [first] = await rig.receive(INGESTION_EVENTS)
    await rig.bus.abandon([first])
    await deliver(rig, Recorder(failing="Account 1"))
    rig.wait(10)
    [copy] = await rig.receive(INGESTION_EVENTS)
    assert (copy.body, copy.properties["attempt"]) == (first.body, 1)


async def test_a_copy_of_an_event_that_came_large_and_inline_gets_a_claim_check(rig: Rig) -> None:
    """Whoever sends to Service Bus without this code may use all of a message's room."""
    inline = large(1).to_bytes()
    assert len(inline) > LARGEST_INLINE
    await rig.send_body(INGESTION_EVENTS, inline, "m-1")
    await deliver(rig, Recorder(failing="Account 1"))
    rig.wait(10)
    [copy] = await rig.receive(INGESTION_EVENTS)
    assert len(copy.body) < 1_000
    await rig.bus.abandon([copy])
    process = Recorder()
    assert await deliver(rig, process) == [DONE]
    assert process.batches == [["Account 1"]]


async def test_the_bus_is_waited_for_while_a_copy_needs_the_blob_store(rig: Rig) -> None:
    await rig.send_body(INGESTION_EVENTS, large(1).to_bytes(), "m-1")
    real = rig.services.delivery
    puts = 0

    class Bus:
        async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
            nonlocal puts
            puts += 1
            if puts < 3:
                raise StoreUnavailableError("no answer")
            await real.bus.send(queue, messages, delay=delay)

    bus: Any = Bus()
    outcomes = await deliver(rig, Recorder(failing="Account 1"), replace(real, bus=bus))
    assert [type(outcome) for outcome in outcomes] == [Later]
    assert puts == 3
    assert (await rig.depth(INGESTION_EVENTS)).scheduled == 1


# What is too large for the bus all the same


async def test_what_makes_a_message_that_the_bus_never_takes_is_parked_alone(rig: Rig) -> None:
    await rig.send(*(event("Account", number, 1, Name=f"Account {number}") for number in range(4)))

    async def process(deliveries: Sequence[Delivery[IngestionEvent]]) -> list[Outcome]:
        if any(delivery.value.record["Name"] == "Account 2" for delivery in deliveries):
            raise MessageTooLargeError("shard-emission", "m-9", size=300_000, limit=262_144)
        return [DONE] * len(deliveries)

    outcomes = await deliver(rig, process)
    assert [type(outcome) for outcome in outcomes] == [Done, Done, Park, Done]
    [parked] = await rig.parked()
    assert parked.reason == "message-too-large"
    assert "shard-emission: message m-9 is 300,000 bytes, and the bus takes 262,144 at most" in parked.detail
    assert codec.decode(parked.body)["payload"]["Name"] == "Account 2"


class FullBus:
    """The rig's bus, but that copies of one message are above its limit."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        for message in messages:
            if b"Account 1" in message.body:
                raise MessageTooLargeError(queue, message.message_id, size=262_200, limit=262_144)
        await self._rig.bus.send(queue, messages, delay=delay)


async def test_a_message_that_is_too_large_for_a_copy_is_parked_and_the_others_copied(rig: Rig) -> None:
    await rig.send(*(event("Account", number, 1, Name=f"Account {number}") for number in range(3)))

    async def later(deliveries: Sequence[Delivery[IngestionEvent]]) -> list[Outcome]:
        return [Later(timedelta(seconds=5), "not yet")] * len(deliveries)

    bus: Any = FullBus(rig)
    outcomes = await deliver(rig, later, replace(rig.services.delivery, bus=bus))
    assert [type(outcome) for outcome in outcomes] == [Later, Park, Later]
    assert [message.reason for message in await rig.parked()] == ["message-too-large"]
    assert (await rig.depth(INGESTION_EVENTS)).scheduled == 2


# What there is time for


@pytest.mark.parametrize("processing", [0, 100, 149])
async def test_whoever_waits_for_the_bus_ends_within_the_lock(rig: Rig, processing: int) -> None:
    """Each call of a bus that is away takes its time, and the last one still begins and ends under the lock."""
    lock = QUEUES[INGESTION_EVENTS].lock_duration
    await rig.send(event("Account", 1, 1, Name="Acme"))
    began = rig.now
    calls: list[timedelta] = []

    class Away:
        async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
            calls.append(rig.now - began)
            rig.wait(34)
            raise BusUnavailableError("no answer")

    async def process(deliveries: Sequence[Delivery[IngestionEvent]]) -> list[Outcome]:
        rig.wait(processing)
        return [Later(timedelta(0), "not yet")] * len(deliveries)

    bus: Any = Away()
    with pytest.raises(BusUnavailableError):
        await deliver(rig, process, replace(rig.services.delivery, bus=bus))
    assert len(calls) >= 3
    assert rig.now - began < lock
    waited = rig.now - began - timedelta(seconds=processing)
    assert waited <= lock / 3 + timedelta(seconds=34)


async def test_a_late_try_leaves_its_copies_less_time(rig: Rig) -> None:
    """Half of the lock has gone by before the last try, which itself waits for the bus; then the copies need it too."""
    lock = QUEUES[INGESTION_EVENTS].lock_duration
    await rig.send(*(event("Account", number, 1, Name=f"Account {number}") for number in range(2)))
    await rig.give_back(INGESTION_EVENTS, 1)
    began = rig.now
    tries = 0

    class Away:
        async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
            rig.wait(30)
            raise BusUnavailableError("no answer")

    async def process(deliveries: Sequence[Delivery[IngestionEvent]]) -> list[Outcome]:
        nonlocal tries
        tries += 1
        if tries == 1:
            rig.wait(140)
        elif tries < 5:
            rig.wait(30)
            raise BusUnavailableError("no answer")
        return [Later(timedelta(0), "not yet")] * len(deliveries)

    bus: Any = Away()
    with pytest.raises(BusUnavailableError):
        await deliver(rig, process, replace(rig.services.delivery, bus=bus))
    assert tries == 5
    assert rig.now - began < lock


async def test_an_event_too_large_for_any_item_is_parked_by_claim_check_and_replayed_whole(rig: Rig) -> None:
    """A Premium namespace takes messages of 100 MB, from producers that know nothing of claim checks."""
    name = "\n" * 2_000_000
    unplaced = event("Account", 1, 1, Name="Account 1", Notes__c=name, instance=None)
    process = partial(normalize, ports=rig.services.normalization)
    given = ServiceBusMessage(
        body=unplaced.to_bytes(),
        message_id="large",
        sequence_number=1,
        delivery_count=1,
        application_properties={"tenantId": TENANT},
        user_properties={},
    )
    await consume([given], INGESTION_EVENTS, IngestionEvent, process, rig.services.delivery)
    [parked] = await rig.parked()
    assert parked.reason == "instance-unknown"
    assert len(parked.body) < LARGEST_INLINE
    recorded = Recorder()
    assert await replay(rig.services.replay, [parked]) == 1
    [again] = await rig.receive(INGESTION_EVENTS)
    outcomes = await consume(
        [to_service_bus_message(again)], INGESTION_EVENTS, IngestionEvent, recorded, rig.services.delivery
    )
    assert outcomes == [DONE]
    assert recorded.batches == [["Account 1"]]
