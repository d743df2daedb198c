"""Rows of a query as ingestion events, whole pages at a time."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from ingestion.salesforce.cursor import Sighting, Window, id_key
from messaging import codec, tracing
from messaging.bus import Message
from messaging.contracts import SCHEMA_VERSION, EventType, IngestionEvent
from messaging.message_ids import message_id
from messaging.times import from_text, to_text

SYSTEM = "salesforce"


@dataclass(frozen=True, slots=True)
class Origin:
    """What all events of one poll share. *instance* is the org's 18-character id."""

    tenant_id: str
    connection_id: str
    instance: str
    object_type: str


@dataclass(frozen=True, slots=True)
class Trail:
    """By what a record's message can be followed: *correlation_id* in logs, *traceparent* through the spans."""

    correlation_id: str
    traceparent: str


@dataclass(frozen=True, slots=True)
class PageEvents:
    """A page's messages, and its rows as :class:`Window` keeps them once the bus has the messages."""

    messages: list[Message]
    rows: list[tuple[bytes, str, bytes]]


def page_events(
    records: Sequence[dict[str, Any]], origin: Origin, *, nonce: str, queue: str, read_at: str, window: Window | None
) -> PageEvents:
    """The messages about those of *records* that *window* has not seen exactly so; without one about all.

    The bodies are those of :class:`IngestionEvent`, put together without building one a row: this is the way of every
    record. The event's id is made of version, content and the cursor's *nonce*, so that a page sent twice is dropped by
    the bus; a second change within the second that a version resolves also carries the time of reading, or a change
    back would be lost.
    """
    fresh: list[tuple[dict[str, Any], str, bytes, str, str]] = []
    rows: list[tuple[bytes, str, bytes]] = []
    head = f"{origin.tenant_id}|{SYSTEM}|{origin.instance}|{origin.object_type}|"
    for record in records:
        record.pop("attributes", None)
        record_id: str = record["Id"]
        version = stamp_text(record["SystemModstamp"])
        payload = codec.encode(record)
        digest = blake2b(payload, digest_size=8).digest()
        key = id_key(record_id)
        rows.append((key, version, digest))
        sighting = Sighting.CHANGED if window is None else window.sighting(key, version, digest)
        if sighting is Sighting.SEEN:
            continue
        event_id = f"{version}.{digest.hex()}.{nonce}"
        if sighting is Sighting.CHANGED:
            event_id = f"{event_id}.{read_at}"
        fresh.append((record, version, payload, event_id, message_id(queue, head + record_id, event_id)))
    messages: list[Message] = []
    trails = new_trails([identifier for *_, identifier in fresh], origin, queue=queue)
    for (record, version, payload, event_id, identifier), trail in zip(fresh, trails, strict=True):
        body = codec.encode(
            {
                "tenantId": origin.tenant_id,
                "schemaVersion": SCHEMA_VERSION,
                "correlationId": trail.correlation_id,
                "traceparent": trail.traceparent,
                "source": SYSTEM,
                "sourceId": record["Id"],
                "eventType": event_type(record),
                "observedAt": read_at,
                "payload": msgspec.Raw(payload),
                "eventId": event_id,
                "connectionId": origin.connection_id,
                "instance": origin.instance,
                "objectType": origin.object_type,
                "sourceVersion": version,
                "readAt": read_at,
            }
        )
        messages.append(
            Message(
                body=body,
                message_id=identifier,
                correlation_id=trail.correlation_id,
                properties={
                    "tenantId": origin.tenant_id,
                    "schemaVersion": SCHEMA_VERSION,
                    "generation": 0,
                    tracing.TRACEPARENT: trail.traceparent,
                },
            )
        )
    return PageEvents(messages, rows)


def whole_events(
    records: Sequence[dict[str, Any]], origin: Origin, *, nonce: str, read_at: str
) -> list[IngestionEvent]:
    """The events that *records* are as they stand; the same record gives the same event."""
    events = []
    for record in records:
        record.pop("attributes", None)
        version = stamp_text(record["SystemModstamp"])
        digest = blake2b(codec.encode(record), digest_size=8).hexdigest()
        events.append(
            IngestionEvent(
                tenant_id=origin.tenant_id,
                source=SYSTEM,
                source_id=record["Id"],
                event_type=event_type(record),
                observed_at=read_at,
                payload=record,
                event_id=f"{version}.{digest}.{nonce}",
                connection_id=origin.connection_id,
                instance=origin.instance,
                object_type=origin.object_type,
                source_version=version,
                read_at=read_at,
            )
        )
    return events


def new_trails(message_ids: Sequence[str], origin: Origin, *, queue: str) -> list[Trail]:
    """A trail for each message about records of *origin* that were read together."""
    random = os.urandom(24 * len(message_ids)).hex()
    pairs = [(random[at : at + 32], random[at + 32 : at + 48]) for at in range(0, len(random), 48)]
    traced = tracing.record_traces(
        queue,
        lambda index: {
            **tracing.which_message(message_ids[index], pairs[index][0]),
            "shardline.tenant_id": origin.tenant_id,
            "shardline.connection_id": origin.connection_id,
            "shardline.object_type": origin.object_type,
        },
        len(message_ids),
    )
    if traced is None:
        return [Trail(trace_id, f"00-{trace_id}-{span_id}-01") for trace_id, span_id in pairs]
    return [Trail(trace_id, traceparent) for (trace_id, _), traceparent in zip(pairs, traced, strict=True)]


def gone_messages(origin: Origin, versions: Mapping[str, str], *, queue: str, read_at: str) -> list[Message]:
    """The messages that records are gone for good: they have the *versions* that are stored, by record id, read when
    the listing began."""
    events = [_gone(origin, record_id, version, read_at) for record_id, version in sorted(versions.items())]
    trails = new_trails([event.to_message(queue).message_id for event in events], origin, queue=queue)
    for event, trail in zip(events, trails, strict=True):
        event.correlation_id, event.traceparent = trail.correlation_id, trail.traceparent
    return [event.to_message(queue) for event in events]


def _gone(origin: Origin, record_id: str, source_version: str, read_at: str) -> IngestionEvent:
    return IngestionEvent(
        tenant_id=origin.tenant_id,
        source=SYSTEM,
        source_id=record_id,
        event_type="delete",
        observed_at=read_at,
        payload={"Id": record_id, "IsDeleted": True},
        event_id=f"{source_version}.gone.{read_at}",
        connection_id=origin.connection_id,
        instance=origin.instance,
        object_type=origin.object_type,
        source_version=source_version,
        read_at=read_at,
    )


def stamp_text(stamp: str) -> str:
    """A time as REST writes it (``2026-05-06T11:56:44.000+0000``) in the form that is stored and compared."""
    if len(stamp) == 28 and stamp.endswith("+0000"):
        return stamp[:23] + "Z"
    return to_text(from_text(stamp))


def event_type(record: dict[str, Any]) -> EventType:
    """What happened to the record, as far as its newest state tells."""
    if record.get("IsDeleted"):
        return "delete"
    return "create" if record.get("CreatedDate") == record["SystemModstamp"] else "update"
