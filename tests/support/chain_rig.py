"""The chain as tests drive it: the app's own functions over SQLite files, one batch at a time, with a clock they move.

A batch goes the way it goes in the host: received under a lock, handed over as ``azure.functions.ServiceBusMessage``,
completed when the function returns and abandoned when it raises.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from the_app import app

import composition
from composition import LocalServices, build_local
from local.home import DEFAULT_SCHEDULES
from local.host.app_index import index_app
from local.host.host_json import read_host_json
from local.host.queue_pump import to_service_bus_message
from local.host.worker import run_worker
from messaging import codec
from messaging.bus import BusUnavailableError, Message, QueueDepth, ReceivedMessage
from messaging.contracts import EventType, IngestionEvent, ShardEmission
from messaging.queues import (
    EMBEDDING_JOBS,
    ENRICHMENT_JOBS,
    INGESTION_EVENTS,
    INGESTION_EVENTS_BULK,
    QUEUES,
    SHARD_EMISSION,
)
from messaging.times import to_text, utc_now
from operations.telemetry import Telemetry
from processors.models.embedding import EmbeddingModel, StaticEmbeddingModel
from settings import Settings
from shards.identity import salesforce_id, shard_id
from shards.model import Chunk, Shard, shard_document
from shards.parked import ParkedMessage

TENANT = "acme"
ORG = salesforce_id("00D000000000001")
OTHER_ORG = salesforce_id("00D000000000002")
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CHAIN_QUEUES = (INGESTION_EVENTS, INGESTION_EVENTS_BULK, SHARD_EMISSION, ENRICHMENT_JOBS, EMBEDDING_JOBS)
BATCH = 256
HOST_JSON = Path(composition.__file__).with_name("host.json")

KEY_PREFIXES = {"Account": "001", "Contact": "003", "Opportunity": "006", "User": "005"}

QueueCall = Callable[[list[Any]], Awaitable[None]]

current: ContextVar[LocalServices] = ContextVar("services")
"""Whose functions run: a process has one app, a test may have several."""
_model = StaticEmbeddingModel()


def record_id(object_type: str, number: int) -> str:
    """The 18-character id of a made-up record."""
    return salesforce_id(f"{KEY_PREFIXES[object_type]}{number:012d}")


def moment(seconds: float) -> str:
    """A time that many seconds after :data:`START`, as it stands in messages."""
    return to_text(START + timedelta(seconds=seconds))


def id_of(object_type: str, number: int, *, tenant_id: str = TENANT, instance: str = ORG) -> str:
    """The shard id of a made-up record."""
    return shard_id(tenant_id, "salesforce", instance, object_type, record_id(object_type, number))


def event(
    object_type: str,
    number: int,
    version: float,
    *,
    read_at: float | None = None,
    event_type: EventType = "update",
    tenant_id: str = TENANT,
    instance: str | None = ORG,
    **fields: Any,
) -> IngestionEvent:
    """The event of a whole record with the SystemModstamp *version*, read at *read_at* (seconds after START)."""
    read = moment(version + 1 if read_at is None else read_at)
    payload: dict[str, Any] = {
        "Id": record_id(object_type, number),
        "IsDeleted": event_type == "delete",
        "SystemModstamp": moment(version),
        **fields,
    }
    return IngestionEvent(
        tenant_id=tenant_id,
        source="salesforce",
        source_id=record_id(object_type, number),
        event_type=event_type,
        observed_at=read,
        payload=payload,
        event_id=f"{moment(version)}.{codec.encode(payload).hex()[-40:]}.{read}",
        connection_id="main",
        instance=instance,
        object_type=object_type,
        source_version=moment(version),
        read_at=read,
        correlation_id="c0ffee",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )


class Rig:
    """One folder's app, as one process would hold it."""

    def __init__(
        self,
        folder: Path,
        *,
        model: EmbeddingModel | None = None,
        start: datetime = START,
        telemetry: Telemetry | None = None,
        **settings: Any,
    ) -> None:
        self.now = start + timedelta(days=1)
        self.settings = Settings(home="local", data_dir=folder, **settings)
        built = build_local(self.settings, clock=self.clock, telemetry=telemetry)
        self.services = replace(built, model=model or _model)
        self.bus, self.store = self.services.queues, self.services.store
        self.index = index_app(app, read_host_json(HOST_JSON), environment=DEFAULT_SCHEDULES)
        self._calls: dict[str, QueueCall] = {function.queue: function.call for function in self.index.queues}

    def clock(self) -> datetime:
        """The present moment of this app."""
        return self.now

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    async def close(self) -> None:
        """Give back the files."""
        await self.services.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(self, *events: IngestionEvent, queue: str = INGESTION_EVENTS) -> None:
        """Put events on their queue, each under its own deterministic message id."""
        await self.services.bus.send(queue, [one.to_message(queue) for one in events])

    async def send_body(self, queue: str, body: bytes, message_id: str, **properties: str | int | bool) -> None:
        """Put a message on a queue as it is."""
        await self.bus.send(queue, [Message(body, message_id, properties=properties)])

    async def emit_again(self, object_type: str, number: int, *, generation: int) -> None:
        """Put the emission of a record's shard, as it stands, on its queue once more."""
        shard = await self.shard(object_type, number)
        emission = ShardEmission(
            tenant_id=shard.tenant_id,
            shard_id=shard.id,
            shard_type_id=shard.shard_type_id,
            revision=shard.revision,
            change_type="update",
            generation=generation,
        )
        await self.bus.send(SHARD_EMISSION, [emission.to_message(SHARD_EMISSION, generation=generation)])

    async def receive(self, queue: str, *, max_messages: int = BATCH) -> list[ReceivedMessage]:
        """A batch under its lock."""
        return await self.bus.receive(queue, max_messages=max_messages)

    async def call(self, queue: str, messages: Sequence[ReceivedMessage]) -> None:
        """Run the app's function of *queue* on a batch, without settling it."""
        current.set(self.services)
        await self._calls[queue]([to_service_bus_message(message) for message in messages])

    async def step(self, queue: str, *, max_messages: int = BATCH) -> int:
        """One batch of *queue* from receipt to its end; how many messages it had."""
        messages = await self.receive(queue, max_messages=max_messages)
        if messages:
            try:
                await self.call(queue, messages)
            except BusUnavailableError:
                await self.bus.abandon(messages)
                raise
            await self.bus.complete(messages)
        return len(messages)

    async def drain(self, *queues: str, max_messages: int = BATCH) -> None:
        """Run the chain until nothing of *queues* (all of the chain's, in order) can be received now."""
        while any([await self.step(queue, max_messages=max_messages) for queue in queues or CHAIN_QUEUES]):
            pass

    def handled(self, stage: str) -> int:
        """How many messages of *stage* (normalize, enrich, prepare, embed) have been processed."""
        return self.services.meter.messages[stage]

    async def run(self, *events: IngestionEvent) -> None:
        """Send events and run the chain until it is idle."""
        await self.send(*events)
        await self.drain()

    async def give_back(self, queue: str, times: int | None = None) -> None:
        """Receive what waits and give it back, as a host does that ends in the middle; as often as it may be tried."""
        for _ in range(QUEUES[queue].max_delivery_count - 2 if times is None else times):
            held: list[ReceivedMessage] = []
            while received := await self.receive(queue):
                held += received
            await self.bus.abandon(held)

    async def depth(self, queue: str) -> QueueDepth:
        """How many messages of *queue* wait."""
        return (await self.bus.depths())[queue]

    async def parked(self) -> list[ParkedMessage]:
        """All parked messages, oldest first."""
        return (await self.store.parked(limit=1000)).items

    async def find(self, object_type: str, number: int, *, tenant_id: str = TENANT) -> Shard | None:
        """The stored shard of a made-up record, as it is (redirects not followed)."""
        return await self.store.get(tenant_id, id_of(object_type, number, tenant_id=tenant_id))

    async def shard(self, object_type: str, number: int, *, tenant_id: str = TENANT) -> Shard:
        """As :meth:`find`; the shard must be there."""
        found = await self.find(object_type, number, tenant_id=tenant_id)
        assert found is not None, f"there is no shard of {object_type} {number}"
        return found

    async def chunks(self, object_type: str, number: int, *, tenant_id: str = TENANT) -> list[Chunk]:
        """The chunks of a made-up record's shard, with vectors."""
        return await self.store.chunks(tenant_id, id_of(object_type, number, tenant_id=tenant_id))

    async def picture(self, object_type: str, number: int) -> dict[str, Any]:
        """All that is kept of a record but when and how often it was written: shard, links, chunks, vectors."""
        return shard_picture(await self.shard(object_type, number), await self.chunks(object_type, number))

    async def position(self) -> str:
        """Where the change feed stands: it moves with every write of a shard."""
        return (await self.store.changes(after=None, limit=100_000)).position


class HostedRig(Rig):
    """The same app run by the local host's worker, at its own pace and in the real time."""

    def clock(self) -> datetime:
        """The present moment."""
        return utc_now()

    async def drain(self, *queues: str, max_messages: int = BATCH) -> None:
        """Let a worker run until no message waits or is worked on. It chooses its batches, and takes all queues."""
        current.set(self.services)
        stop = asyncio.Event()
        index = replace(self.index, http=(), timers=(), feeds=())
        state = self.settings.store_file.parent / "host"
        worker = asyncio.create_task(run_worker(index, self.bus, self.store, state, stop, only_queues=True))
        try:
            async with asyncio.timeout(100):
                while any(depth.active or depth.locked for depth in (await self.bus.depths()).values()):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # the bus is a file, which tells nobody that it is empty
        finally:
            stop.set()
            await worker


TIMES = ("createdAt", "updatedAt", "deletedAt")


def shard_picture(shard: Shard, chunks: Sequence[Chunk]) -> dict[str, Any]:
    """*shard* and *chunks* without times of writing, etag and revision, so that two ways to one state compare equal."""
    document = shard_document(shard)
    for field in (*TIMES, "revision"):
        document.pop(field)
    document["isDeleted"] = shard.deleted_at is not None
    for relationship in document["external_relationships"]:
        relationship.pop("lastSyncedAt")
    for link in document["internal_relationships"]:
        link.pop("createdAt")
    document["internal_relationships"].sort(key=lambda link: link["id"])
    document["chunks"] = [
        (chunk.id, chunk.text, chunk.hash, chunk.acl_scope, chunk.model, chunk.dimensions, chunk.vector, chunk.place)
        for chunk in chunks
    ]
    return document
