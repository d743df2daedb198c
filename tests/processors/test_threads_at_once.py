"""Two replies of one thread, prepared at the same time by two workers: neither loses the other's words."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chain_rig import TENANT, Rig, current

from messaging.contracts import EnrichmentJob, IngestionEvent
from messaging.queues import EMBEDDING_JOBS, ENRICHMENT_JOBS, INGESTION_EVENTS, SHARD_EMISSION
from processors.delivery import Delivery
from processors.preparation import prepare
from shards.identity import shard_id
from shards.model import Chunk

ROOT, FIRST, SECOND = "1700000000.000100", "1700000001.000100", "1700000002.000100"


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr("processors.blueprint.services", current.get)
    made = Rig(tmp_path)
    yield made
    await made.close()


def message(ts: str, text: str) -> IngestionEvent:
    payload: dict[str, Any] = {"channel": "C0THREAD", "ts": ts, "thread_ts": ROOT, "text": text, "user": "U0ANN"}
    return IngestionEvent(
        tenant_id=TENANT,
        source="slack",
        source_id=f"C0THREAD:{ts}",
        event_type="update",
        observed_at="2026-03-02T09:00:00.000Z",
        payload={**payload, "shardline": {"acl": {"principals": ["tenant"]}}},
        instance="T0ACME",
        object_type="message",
    )


def id_of(ts: str) -> str:
    return shard_id(TENANT, "slack", "T0ACME", "message", f"C0THREAD:{ts}")


async def jobs(rig: Rig, *events: IngestionEvent) -> list[EnrichmentJob]:
    """What asks for the events' shards to be prepared; the chain has not done it."""
    await rig.send(*events)
    await rig.drain(INGESTION_EVENTS, SHARD_EMISSION)
    received = await rig.receive(ENRICHMENT_JOBS)
    await rig.bus.complete(received)
    return [EnrichmentJob.from_bytes(one.body) for one in received]


class SlowToPut:
    """The store of a worker that has read a thread, and puts its chunks only when it may."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.has_read = asyncio.Event()
        self.may_put = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put_chunks(self, tenant_id: str, chunks: Sequence[Chunk]) -> None:
        self.has_read.set()
        await self.may_put.wait()
        await self._store.put_chunks(tenant_id, chunks)


async def test_the_reply_that_is_put_last_does_not_undo_the_other(rig: Rig) -> None:
    await rig.run(message(ROOT, "the root"))
    [first] = await jobs(rig, message(FIRST, "the first reply"))
    slow = SlowToPut(rig.store)
    ports = rig.services.preparation
    behind = asyncio.create_task(prepare([Delivery(first)], replace(ports, store=slow)))
    await slow.has_read.wait()
    [second] = await jobs(rig, message(SECOND, "the second reply"))
    await prepare([Delivery(second)], ports)
    slow.may_put.set()
    await behind
    await rig.drain(EMBEDDING_JOBS)
    chunks = await rig.store.chunks(TENANT, id_of(ROOT))
    text = "\n".join(chunk.text for chunk in chunks)
    assert "the first reply" in text and "the second reply" in text
    assert all(chunk.vector is not None for chunk in chunks)
    assert await rig.parked() == []
