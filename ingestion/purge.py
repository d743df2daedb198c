"""Taking away all that a disconnected connection brought: its records, what was remembered of it, what is parked of it.

A record goes the way of every deletion, so its text, chunks, vectors and file text go with it; what stays is a
tombstone with the record's id.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from connections.connection import Connection
from connections.lease import Lease
from connections.state import STATE_TYPE, Saved, StateMovedError, StateStore, state_shard_id
from ingestion.connection_memory import SourceMemory, memory_of
from ingestion.history_memory import load_memory
from messaging.bus import MessageBus, QueueDepth
from messaging.contracts import IngestionEvent
from messaging.queues import INGESTION_EVENTS, INGESTION_EVENTS_BULK
from messaging.times import Clock, from_text, to_text, utc_now
from processors.backpressure import MOST_UNFINISHED, unfinished_events
from shards.model import ExternalRelationship, Shard
from shards.parked import ParkedMessage, ParkedMessages
from shards.store import ShardQuery, ShardStore, ShardWrite

PAGE = 200
AGAIN_IN = timedelta(seconds=2)
LOOKS_SOON = 6
LONGEST_PAUSE = timedelta(minutes=5)
"""Between two looks, after more than :data:`LOOKS_SOON`: what still is there may be what no event can delete."""

DIGESTED_AFTER = timedelta(minutes=1)
"""The next look comes when the bulk lane is empty, or after this time: others may keep it busy."""

TAKES_LAST = timedelta(minutes=1)
"""How long what was pushed may still be being taken, for which nobody has a lease, once the connection is ended."""

COPIES_LAST = timedelta(minutes=30)
"""How long copies that wait for another try are taken for the connection's: the longest backoff and the work itself."""


class PurgeNotes(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Where a purge stands: *records* were taken away so far.

    *settled_at* is from when on nobody worked on the connection. *pass_at* and *cursor* are of the look under way,
    which has *found* so many records; *looked_at* is when the last one ended, *looks* is how many have.
    """

    began_at: str | None = None
    finished_at: str | None = None
    settled_at: str | None = None
    pass_at: str | None = None
    cursor: str | None = None
    found: int = 0
    looked_at: str | None = None
    looks: int = 0
    records: int = 0
    waiting_for: str | None = None


class PurgeMemory(SourceMemory, frozen=True, kw_only=True):
    """What is remembered of a purge."""

    metadata: PurgeNotes = PurgeNotes()


@dataclass(frozen=True, slots=True)
class PurgePorts:
    """What a purge reaches the world through."""

    bus: MessageBus
    store: ShardStore
    states: StateStore
    parked: ParkedMessages
    clock: Clock = utc_now


@dataclass(frozen=True, slots=True)
class PurgeStep:
    """What a call has come to: *again_in* says when to go on, None: all is gone."""

    notes: PurgeNotes
    again_in: timedelta | None


def purge_key(connection: Connection) -> str:
    """Under which key :class:`PurgeMemory` is kept."""
    return f"{connection.connection_id}/purge"


async def purge_notes(connection: Connection, states: StateStore) -> PurgeNotes:
    """How the purge of *connection* stands.

    Raises:
        StateError: what is stored is of another version.
    """
    return (await _load(connection, states)).value.metadata


def is_under_way(notes: PurgeNotes) -> bool:
    """Whether a purge has begun that is not finished."""
    return notes.began_at is not None and notes.finished_at is None


async def note_purge(connection: Connection, states: StateStore, now: datetime) -> None:
    """Note that all that *connection* brought is to be taken away; a purge that is under way goes on.

    Raises:
        StateMovedError: others kept writing; try again.
    """

    def begun(notes: PurgeNotes) -> PurgeNotes:
        return notes if is_under_way(notes) else PurgeNotes(began_at=to_text(now), waiting_for="its turn")

    await _change(connection, states, begun)


async def drop_notes(connection: Connection, states: StateStore) -> None:
    """Forget that *connection* was once purged: it is connected again.

    Raises:
        StateMovedError: others kept writing; try again.
    """
    await _change(connection, states, lambda _: PurgeNotes())


async def purge(connection: Connection, ports: PurgePorts, *, deadline: datetime) -> PurgeStep:
    """Take away what *connection* brought until all is gone or *deadline* is past.

    It looks again until it finds nothing: what was still in the queues when the connection was ended is found by a
    later look. Broken off anywhere, it goes on with the page it was in.

    Raises:
        StateMovedError: another worker is at it.
        BusUnavailableError, StoreUnavailableError, StateError: ask again.
    """
    run = _Purge(connection, ports, await _load(connection, ports.states))
    again_in = await run.until(deadline)
    return PurgeStep(run.notes, again_in)


@dataclass(slots=True)
class _Purge:
    """A purge being driven."""

    connection: Connection
    ports: PurgePorts
    saved: Saved[PurgeMemory]

    @property
    def notes(self) -> PurgeNotes:
        return self.saved.value.metadata

    async def until(self, deadline: datetime) -> timedelta | None:
        if not is_under_way(self.notes):
            return None
        while True:
            depths = await self.ports.bus.depths()
            if (unfinished := unfinished_events(depths)) >= MOST_UNFINISHED:
                return await self._waits(f"the chain, which has {unfinished:,} messages to digest")
            if self.notes.pass_at is None and (reason := await self._not_yet(depths)):
                return await self._waits(reason)
            if await self._page():
                if self.notes.found == 0 and self._is_past(await self.ports.bus.depths()):
                    await self._finish()
                    return None
                now = to_text(self.ports.clock())
                looks = self.notes.looks + 1
                waits = "the chain, to look again"
                if looks > LOOKS_SOON and self.notes.found:
                    waits = f"{self.notes.found:,} records that are still there: see what is parked"
                await self._note(pass_at=None, looked_at=now, looks=looks, waiting_for=waits)
                return min(AGAIN_IN * 2.0 ** min(max(looks - LOOKS_SOON, 0), 10), LONGEST_PAUSE)
            if self.ports.clock() >= deadline:
                return timedelta(0)

    async def _not_yet(self, depths: Mapping[str, QueueDepth]) -> str | None:
        """Why no look can begin now; None when one can."""
        notes, now = self.notes, self.ports.clock()
        if notes.settled_at is None:
            if await self._is_worked_on(now):
                return "the work on the connection that was under way when it was ended"
            await self._note(settled_at=to_text(now))
        elif notes.looked_at and now - from_text(notes.looked_at) < DIGESTED_AFTER:
            lane = depths[INGESTION_EVENTS_BULK]
            if lane.active or lane.locked or lane.scheduled:
                return "the chain, to digest what was taken away"
        return None

    async def _is_worked_on(self, now: datetime) -> bool:
        connection, states = self.connection, self.ports.states
        work, history = (await memory_of(connection, states)).value, await load_memory(connection, states)
        leases: list[Lease | None] = [work.lease, history.lease]
        return any(lease is not None and lease.holds(now) for lease in leases)

    async def _page(self) -> bool:
        """Take away a page of what there is; whether it was the last of this look."""
        notes, connection = self.notes, self.connection
        if notes.pass_at is None:
            await self._note(pass_at=to_text(self.ports.clock()), cursor=None, found=0, waiting_for=None)
            notes = self.notes
        query = ShardQuery(connection.tenant_id, system=connection.system, connection_id=connection.connection_id)
        page = await self.ports.store.query(query, limit=PAGE, cursor=notes.cursor)
        events = [
            gone_event(connection, relationship, str(notes.pass_at))
            for shard in page.items
            if (relationship := _brought_by(shard, connection)) is not None
        ]
        if events:
            messages = [event.to_message(INGESTION_EVENTS_BULK) for event in events]
            await self.ports.bus.send(INGESTION_EVENTS_BULK, messages)
        await self._note(
            cursor=page.cursor,
            found=notes.found + len(events),
            records=notes.records + len(events),
            waiting_for=None,
        )
        return page.cursor is None

    def _is_past(self, depths: Mapping[str, QueueDepth]) -> bool:
        """Whether no event waits that was sent before the connection was left alone, and none can still come."""
        settled = from_text(str(self.notes.settled_at)) + TAKES_LAST
        if self.ports.clock() < settled:
            return False
        for queue in (INGESTION_EVENTS, INGESTION_EVENTS_BULK):
            depth = depths[queue]
            if depth.oldest_enqueued_at is not None and depth.oldest_enqueued_at <= settled:
                return False
            if depth.scheduled and self.ports.clock() - settled < COPIES_LAST:
                return False
        return True

    async def _finish(self) -> None:
        await _forget(self.connection, self.ports)
        await _unpark(self.connection, self.ports)
        now = to_text(self.ports.clock())
        await self._note(finished_at=now, pass_at=None, cursor=None, waiting_for=None)

    async def _waits(self, reason: str) -> timedelta:
        await self._note(waiting_for=reason)
        return AGAIN_IN

    async def _note(self, **changes: object) -> None:
        notes = msgspec.structs.replace(self.notes, **changes)
        if notes != self.notes:
            memory = msgspec.structs.replace(
                self.saved.value, metadata=notes, last_sync_status="success" if notes.finished_at else "partial"
            )
            self.saved = await _save(self.connection, self.ports.states, self.saved, memory)


def gone_event(connection: Connection, relationship: ExternalRelationship, read_at: str) -> IngestionEvent:
    """The deletion of a stored record that *read_at* found gone: it carries the stored version, so that any newer one
    wins over it."""
    return IngestionEvent(
        tenant_id=connection.tenant_id,
        source=relationship.system,
        source_id=relationship.external_id,
        event_type="delete",
        observed_at=read_at,
        payload={},
        event_id=f"{relationship.source_version}.gone.{read_at}",
        connection_id=connection.connection_id,
        instance=relationship.instance,
        object_type=relationship.object_type,
        source_version=relationship.source_version,
        read_at=read_at,
    )


def _brought_by(shard: Shard, connection: Connection) -> ExternalRelationship | None:
    for relationship in shard.external_relationships:
        if relationship.system == connection.system and relationship.connection_id == connection.connection_id:
            return relationship
    return None


async def _forget(connection: Connection, ports: PurgePorts) -> None:
    """Empty the states of the connection, but for that of its purge."""
    kept = state_shard_id(connection.tenant_id, purge_key(connection))
    cursor: str | None = None
    now = to_text(ports.clock())
    while True:
        query = ShardQuery(connection.tenant_id, shard_type_ids=(STATE_TYPE,))
        page = await ports.store.query(query, limit=PAGE, cursor=cursor)
        writes = [
            ShardWrite(
                msgspec.structs.replace(state, status="deleted", structured_data={}, deleted_at=now, updated_at=now),
                state.etag,
            )
            for state in page.items
            if state.id != kept and state.structured_data.get("integrationId") == connection.connection_id
        ]
        if writes and not all(await ports.store.write_many(writes)):
            raise StateMovedError(f"what is remembered of {connection.connection_id} was written meanwhile")
        cursor = page.cursor
        if cursor is None:
            return


async def _unpark(connection: Connection, ports: PurgePorts) -> None:
    """Drop the parked messages that came by the connection."""
    cursor: str | None = None
    while True:
        page = await ports.parked.parked(connection.tenant_id, limit=PAGE, cursor=cursor)
        dropped = [message.id for message in page.items if await _is_of(message, connection, ports.store)]
        if dropped:
            await ports.parked.remove_parked(dropped)
        cursor = page.cursor
        if cursor is None:
            return


async def _is_of(message: ParkedMessage, connection: Connection, store: ShardStore) -> bool:
    """Whether a parked message came by *connection*, or is about a shard that did."""
    if not isinstance(shard_id := message.content().get("shardId"), str):
        return came_by(message, connection)
    shard = await store.get(connection.tenant_id, shard_id)
    return shard is not None and _brought_by(shard, connection) is not None


def came_by(message: ParkedMessage, connection: Connection) -> bool:
    """Whether a parked message says that it came by *connection* of its tenant."""
    return message.content().get("connectionId") == connection.connection_id


async def _load(connection: Connection, states: StateStore) -> Saved[PurgeMemory]:
    return await states.load(connection.tenant_id, purge_key(connection), PurgeMemory.new(connection, "purge"))


async def _save(
    connection: Connection, states: StateStore, saved: Saved[PurgeMemory], memory: PurgeMemory
) -> Saved[PurgeMemory]:
    return await states.save(connection.tenant_id, purge_key(connection), saved, memory)


async def _change(connection: Connection, states: StateStore, change: Callable[[PurgeNotes], PurgeNotes]) -> None:
    def changed(memory: PurgeMemory) -> PurgeMemory:
        return msgspec.structs.replace(memory, metadata=change(memory.metadata))

    await states.change(connection.tenant_id, purge_key(connection), PurgeMemory.new(connection, "purge"), changed)
