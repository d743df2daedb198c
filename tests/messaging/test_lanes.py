"""A tenant above its rate goes on in the bulk lane; nobody else does, and nothing is lost or changed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from messaging.contracts import IngestionEvent
from messaging.lanes import BURST_SECONDS, LaneBus, TenantRates
from messaging.queues import INGESTION_EVENTS, INGESTION_EVENTS_BULK, SHARD_EMISSION
from messaging.sqlite_bus import SqliteMessageBus


@pytest.fixture
async def queues(tmp_path: Path) -> AsyncIterator[SqliteMessageBus]:
    made = SqliteMessageBus(tmp_path / "bus.db")
    yield made
    await made.close()


def event(tenant: str, number: int) -> IngestionEvent:
    """An event of a tenant."""
    return IngestionEvent(
        tenant_id=tenant,
        source="slack",
        source_id=f"C1:{number}",
        event_type="create",
        observed_at="2026-03-02T09:00:00.000Z",
        payload={"text": "x"},
    )


async def lanes(queues: SqliteMessageBus) -> dict[str, list[tuple[str, str]]]:
    """Tenant and record of each message, by lane."""
    found: dict[str, list[tuple[str, str]]] = {}
    for lane in (INGESTION_EVENTS, INGESTION_EVENTS_BULK):
        found[lane] = []
        while messages := await queues.receive(lane, max_messages=500):
            contracts = [IngestionEvent.from_bytes(message.body) for message in messages]
            found[lane] += [(one.tenant_id, one.source_id) for one in contracts]
            await queues.complete(messages)
    return found


async def test_a_flood_goes_on_in_the_bulk_lane_and_others_stay_where_they_are(queues: SqliteMessageBus) -> None:
    bus = LaneBus(queues, TenantRates(3, monotonic=lambda: 0.0))
    burst = int(3 * BURST_SECONDS)
    flood = [event("loud", number).to_message(INGESTION_EVENTS) for number in range(burst + 50)]
    await bus.send(INGESTION_EVENTS, flood[:-10])
    await bus.send(INGESTION_EVENTS, [*flood[-10:], event("quiet", 1).to_message(INGESTION_EVENTS)])

    found = await lanes(queues)

    assert len(found[INGESTION_EVENTS_BULK]) == 50
    assert found[INGESTION_EVENTS] == [*(("loud", f"C1:{number}") for number in range(burst)), ("quiet", "C1:1")]
    assert {tenant for tenant, _ in found[INGESTION_EVENTS_BULK]} == {"loud"}


async def test_who_slows_down_is_live_again(queues: SqliteMessageBus) -> None:
    now = [0.0]
    bus = LaneBus(queues, TenantRates(2, monotonic=lambda: now[0]))
    burst = int(2 * BURST_SECONDS)
    await bus.send(INGESTION_EVENTS, [event("acme", n).to_message(INGESTION_EVENTS) for n in range(burst)])
    now[0] = 1.5
    await bus.send(INGESTION_EVENTS, [event("acme", burst + n).to_message(INGESTION_EVENTS) for n in range(5)])

    found = await lanes(queues)

    assert [len(found[lane]) for lane in (INGESTION_EVENTS, INGESTION_EVENTS_BULK)] == [burst + 3, 2]


async def test_only_events_have_lanes(queues: SqliteMessageBus) -> None:
    bus = LaneBus(queues, TenantRates(0.1, monotonic=lambda: 0.0))
    message = event("acme", 1).to_message(SHARD_EMISSION)
    await bus.send(SHARD_EMISSION, [message])
    await bus.send(INGESTION_EVENTS_BULK, [event("acme", 2).to_message(INGESTION_EVENTS_BULK)])
    depths = await bus.depths()
    assert (depths[SHARD_EMISSION].active, depths[INGESTION_EVENTS_BULK].active) == (1, 1)
