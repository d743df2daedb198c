"""A flood of one tenant waits by itself: what others send is done while most of it has yet to begin."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from chain_rig import Rig, event, id_of

from messaging.bus import Message, ReceivedMessage
from messaging.contracts import IngestionEvent
from messaging.queues import (
    EMBEDDING_JOBS,
    ENRICHMENT_JOBS,
    INGESTION_EVENTS,
    INGESTION_EVENTS_BULK,
    SHARD_EMISSION,
)
from processors import backpressure
from shards.store import StoreUnavailableError

STAGES = (SHARD_EMISSION, ENRICHMENT_JOBS, EMBEDDING_JOBS)
FLOOD = 3_000
ROOM = 500
"""Messages behind normalization at which the bulk lane waits in these tests."""


@pytest.fixture
async def rig(tmp_path: Path, chain_functions: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """A chain in which a tenant may have ten events at once."""
    monkeypatch.setattr(backpressure, "MOST_UNFINISHED", ROOM)
    # Every step looks anew.
    monkeypatch.setattr(backpressure, "LOOK_EVERY", timedelta(milliseconds=1))
    monkeypatch.setattr(backpressure, "LOOKING_SHARE", 1_000)
    made = Rig(tmp_path / "data", tenant_events_per_second=1)
    try:
        yield made
    finally:
        await made.close()


def contact(tenant_id: str, number: int) -> IngestionEvent:
    """An event of a tenant."""
    return event("Contact", number, 1, tenant_id=tenant_id, Name=f"Contact {number}", Title="Buyer")


async def vectors(rig: Rig, tenant_id: str) -> int:
    """How many vectors the tenant has."""
    return (await rig.store.counts(tenant_id)).vectors


@pytest.mark.parametrize("way", ["from a source", "from an adapter"])
async def test_others_are_done_while_most_of_a_flood_waits(rig: Rig, way: str) -> None:
    bus = rig.services.bus if way == "from a source" else rig.bus
    flood = [contact("loud", number).to_message(INGESTION_EVENTS) for number in range(FLOOD)]
    await bus.send(INGESTION_EVENTS, flood)
    await rig.send(*(contact("quiet", number) for number in range(5)))

    await rig.drain(INGESTION_EVENTS, *STAGES)

    assert await vectors(rig, "quiet") == 5
    assert 10 <= await vectors(rig, "loud") < 100
    assert (await rig.depth(INGESTION_EVENTS_BULK)).active > FLOOD - 100

    # The stages behind are shared: the flood leaves room in them.
    while not backpressure.is_full(await rig.bus.depths()):
        await rig.step(INGESTION_EVENTS_BULK)
    waiting = asyncio.create_task(rig.step(INGESTION_EVENTS_BULK))
    await rig.send(contact("quiet", 5))
    await rig.drain(INGESTION_EVENTS)
    in_front = (await rig.depth(SHARD_EMISSION)).active
    assert in_front < 2 * ROOM
    assert not waiting.done()
    await rig.drain(*STAGES)
    assert await vectors(rig, "quiet") == 6
    assert await vectors(rig, "loud") < FLOOD / 2
    assert await waiting
    assert not await rig.parked()


async def test_the_bulk_lane_waits_while_a_flood_is_moved_out_of_the_live_lane(rig: Rig) -> None:
    await rig.bus.send(
        INGESTION_EVENTS, [contact("loud", number).to_message(INGESTION_EVENTS) for number in range(ROOM + 200)]
    )
    assert backpressure.is_full(await rig.bus.depths())
    await rig.step(INGESTION_EVENTS)
    assert not backpressure.is_full(await rig.bus.depths())


async def moved(rig: Rig) -> list[ReceivedMessage]:
    """What is in the bulk lane."""
    return await rig.receive(INGESTION_EVENTS_BULK)


async def test_what_is_moved_stays_as_it_is(rig: Rig) -> None:
    """Whoever put it there, and whatever of it can be told without reading it."""
    mine = [contact("loud", number).to_message(INGESTION_EVENTS) for number in range(12)]
    foreign = Message(contact("loud", 12).to_bytes(), "an adapter's own", "theirs", {"origin": "news"})
    copy = Message(contact("loud", 13).to_bytes(), "a copy", "mine", {"tenantId": "loud", "generation": 1})
    for message in (*mine, foreign, copy):
        await rig.bus.send(INGESTION_EVENTS, [message])
    await rig.drain(INGESTION_EVENTS)

    found = await moved(rig)

    told = {one.message_id: (one.body, one.correlation_id, dict(one.properties)) for one in found}
    for message in (foreign, copy):
        assert told[message.message_id] == (message.body, message.correlation_id, dict(message.properties))
    # It is counted where it becomes a shard, and there alone.
    assert rig.handled("normalize") == 14 - len(found)


async def test_what_is_delivered_again_stays_and_what_can_not_be_read_is_parked(rig: Rig) -> None:
    await rig.bus.send(INGESTION_EVENTS, [contact("loud", number).to_message(INGESTION_EVENTS) for number in range(20)])
    await rig.give_back(INGESTION_EVENTS, 1)
    await rig.send_body(INGESTION_EVENTS, b"no event", "broken")
    await rig.send_body(INGESTION_EVENTS, b"[1]", "a list")
    await rig.drain(INGESTION_EVENTS)
    assert await moved(rig) == []
    assert (await rig.store.counts("loud")).shards == {"c_contact": 20}
    assert [one.reason for one in await rig.parked()] == ["invalid-message"] * 2


async def test_what_can_not_be_moved_stays(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body too large to be sent again without the blob store, which is away."""

    async def refuse(*_args: object, **_options: object) -> str:
        raise StoreUnavailableError("the blob store is away")

    monkeypatch.setattr(type(rig.services.blobs), "put", refuse)
    large = event("Contact", 99, 1, tenant_id="loud", Name="Large", Description="x" * 200_000)
    await rig.bus.send(INGESTION_EVENTS, [contact("loud", n).to_message(INGESTION_EVENTS) for n in range(12)])
    await rig.bus.send(INGESTION_EVENTS, [large.to_message(INGESTION_EVENTS)])
    await rig.drain(INGESTION_EVENTS)
    assert await rig.store.get("loud", id_of("Contact", 99, tenant_id="loud")) is not None
    assert not await rig.parked()
