"""Rows of a query as ingestion events, whole pages at a time."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from ingestion.salesforce.cursor import Sighting, Window, id_key
from messaging import codec
from messaging.bus import Message
from messaging.contracts import SCHEMA_VERSION, IngestionEvent
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
class PageEvents:
    """A page's messages, and its rows as :class:`Window` keeps them once the bus has the messages."""

    messages: list[Message]
    rows: list[tuple[bytes, str, bytes]]


def page_events(
    records: Sequence[dict[str, Any]], origin: Origin, *, nonce: str, queue: str, read_at: str, window: Window
) -> PageEvents:
    """The messages about those of *records* that *window* has not seen exactly so.

    The bodies are those of :class:`IngestionEvent`, put together without building one a row: this is the way of every
    record. The event's id is made of version, content and the cursor's *nonce*, so that a page sent twice is dropped by
    the bus; a second change within the second that a version resolves also carries the time of reading, or a change
    back would be lost.
    """
    messages: list[Message] = []
    rows: list[tuple[bytes, str, bytes]] = []
    traces = os.urandom(24 * len(records)).hex()
    head = f"{origin.tenant_id}|{SYSTEM}|{origin.instance}|{origin.object_type}|"
    for index, record in enumerate(records):
        record.pop("attributes", None)
        record_id: str = record["Id"]
        version = stamp_text(record["SystemModstamp"])
        payload = codec.encode(record)
        digest = blake2b(payload, digest_size=8).digest()
        key = id_key(record_id)
        rows.append((key, version, digest))
        sighting = window.sighting(key, version, digest)
        if sighting is Sighting.SEEN:
            continue
        event_id = f"{version}.{digest.hex()}.{nonce}"
        if sighting is Sighting.CHANGED:
            event_id = f"{event_id}.{read_at}"
        trace_id = traces[48 * index : 48 * index + 32]
        traceparent = f"00-{trace_id}-{traces[48 * index + 32 : 48 * index + 48]}-01"
        body = codec.encode(
            {
                "tenantId": origin.tenant_id,
                "schemaVersion": SCHEMA_VERSION,
                "correlationId": trace_id,
                "traceparent": traceparent,
                "source": SYSTEM,
                "sourceId": record_id,
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
                message_id=message_id(queue, head + record_id, event_id),
                correlation_id=trace_id,
                properties={
                    "tenantId": origin.tenant_id,
                    "schemaVersion": SCHEMA_VERSION,
                    "generation": 0,
                    "traceparent": traceparent,
                },
            )
        )
    return PageEvents(messages, rows)


def gone_message(origin: Origin, record_id: str, *, queue: str, source_version: str, read_at: str) -> Message:
    """The message that a record is gone for good: it has the version that is stored, read when the listing began."""
    trace = os.urandom(24).hex()
    event = IngestionEvent(
        tenant_id=origin.tenant_id,
        correlation_id=trace[:32],
        traceparent=f"00-{trace[:32]}-{trace[32:]}-01",
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
    return event.to_message(queue)


def stamp_text(stamp: str) -> str:
    """A time as REST writes it (``2026-05-06T11:56:44.000+0000``) in the form that is stored and compared."""
    if len(stamp) == 28 and stamp.endswith("+0000"):
        return stamp[:23] + "Z"
    return to_text(from_text(stamp))


def event_type(record: dict[str, Any]) -> str:
    """What happened to the record, as far as its newest state tells."""
    if record.get("IsDeleted"):
        return "delete"
    return "create" if record.get("CreatedDate") == record["SystemModstamp"] else "update"
