"""Taking away all that a disconnected connection brought: its records, what was remembered of it, what is parked of it.

A record goes the way of every deletion, so its text, chunks, vectors and file text go with it; what stays is a
tombstone with the record's id.
"""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from connections.connection import Connection
from connections.state import STATE_TYPE
from ingestion.first_load import unfinished_events
from messaging import codec
from messaging.bus import MessageBus
from messaging.contracts import IngestionEvent
from messaging.queues import INGESTION_EVENTS_BULK
from messaging.times import Clock, to_text, utc_now
from processors.backpressure import MOST_UNFINISHED
from shards.model import ExternalRelationship, Shard
from shards.parked import ParkedMessages
from shards.store import ShardQuery, ShardStore, ShardWrite

PAGE = 200


@dataclass(frozen=True, slots=True)
class PurgePorts:
    """What a purge reaches the world through."""

    bus: MessageBus
    store: ShardStore
    parked: ParkedMessages
    clock: Clock = utc_now


async def purge(connection: Connection, ports: PurgePorts, *, deadline: datetime) -> bool:
    """Take away what *connection* brought until all is gone or *deadline* is past; whether all is.

    It is asked for again until it finds nothing: what was still in the queues when the connection was ended is found
    by a later call.

    Raises:
        BusUnavailableError, StoreUnavailableError: ask again.
    """
    if unfinished_events(await ports.bus.depths()) >= MOST_UNFINISHED:
        return False
    found = False
    cursor: str | None = None
    # Of every instance: a channel that is shared with another workspace is a record of that one.
    query = ShardQuery(connection.tenant_id, system=connection.system)
    while True:
        page = await ports.store.query(query, limit=PAGE, cursor=cursor)
        events = [
            gone_event(connection, relationship, to_text(ports.clock()))
            for shard in page.items
            if (relationship := _brought_by(shard, connection)) is not None
        ]
        if events:
            found = True
            await ports.bus.send(INGESTION_EVENTS_BULK, [event.to_message(INGESTION_EVENTS_BULK) for event in events])
        cursor = page.cursor
        if cursor is None:
            break
        if ports.clock() >= deadline or unfinished_events(await ports.bus.depths()) >= MOST_UNFINISHED:
            return False
    if found:
        return False
    await _forget(connection, ports)
    await _unpark(connection, ports)
    return True


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
    """Empty the states of the connection."""
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
            if state.structured_data.get("integrationId") == connection.connection_id
        ]
        if writes:
            await ports.store.write_many(writes)
        cursor = page.cursor
        if cursor is None:
            return


async def _unpark(connection: Connection, ports: PurgePorts) -> None:
    """Drop the parked messages that came by the connection."""
    cursor: str | None = None
    while True:
        page = await ports.parked.parked(connection.tenant_id, limit=PAGE, cursor=cursor)
        dropped = [message.id for message in page.items if _came_by(message.body, connection)]
        if dropped:
            await ports.parked.remove_parked(dropped)
        cursor = page.cursor
        if cursor is None:
            return


def _came_by(body: str, connection: Connection) -> bool:
    try:
        content = codec.decode(body.encode())
    except codec.DecodeError:
        return False
    return isinstance(content, dict) and content.get("connectionId") == connection.connection_id
