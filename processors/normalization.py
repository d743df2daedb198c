"""Normalize: an ingestion event becomes the state of its shard, if it is newer and different."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Protocol

from messaging.bus import MessageBus
from messaging.contracts import ChangeType, IngestionEvent, ShardEmission
from messaging.queues import SHARD_EMISSION
from messaging.times import Clock, from_text, to_text
from processors.delivery import Delivery
from processors.mapping import DEFAULT_CURRENCY, Mapped, MappingError, map_record
from processors.outcome import DONE, Later, Outcome, Park, PermanentError
from processors.structured_links import with_structured_links
from processors.threads import REPLIES_TO
from shards.blobs import BlobStore
from shards.file_text import delete_text
from shards.identity import InvalidExternalIdError, canonical_external_id, link_id, salesforce_id, shard_id
from shards.model import (
    ExternalRelationship,
    InternalRelationship,
    Shard,
    ShardStatus,
    UnstructuredData,
    content_fingerprint,
)
from shards.ordering import Decision, Reading, decide, version_key
from shards.store import ShardStore, ShardWrite, Stage, StoreUnavailableError
from shards.types import InvalidStructuredDataError, validate

log = logging.getLogger(__name__)

WRITE_TRIES = 5
"""How often a shard that others keep changing is read and written anew before its event waits."""
CONTENTION_DELAY = timedelta(seconds=5)

_STORED_MOMENT = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z\Z"
)

_INTEGER = re.compile(r"[0-9]{1,30}\Z")

SYSTEM_TYPES = {"salesforce": "crm", "gdrive": "storage", "slack": "messaging"}
"""The ``systemType`` of each source; others are ``custom``."""


class SourceFacts(Protocol):
    """What a connection tells of its records."""

    @property
    def base_url(self) -> str: ...
    @property
    def default_currency(self) -> str | None: ...


class Connections(Protocol):
    """What normalization asks of the connections that its events came by."""

    async def resolve_instance(self, tenant_id: str, system: str) -> str | None:
        """The instance of the tenant's only connection of *system*; None when there is none or several."""

    async def facts(self, tenant_id: str, connection_id: str) -> SourceFacts:
        """What the connection tells of its records; nothing when there is no such connection."""


@dataclass(frozen=True, slots=True)
class NormalizationPorts:
    """What normalization reaches of the world."""

    store: ShardStore
    bus: MessageBus
    connections: Connections
    blobs: BlobStore
    clock: Clock


@dataclass(frozen=True, slots=True)
class _Record:
    """An event as far as it can be told without the store."""

    index: int
    event: IngestionEvent
    redelivered: bool
    shard_id: str
    instance: str
    mapped: Mapped
    structured_data: dict[str, Any]
    unstructured_data: UnstructuredData | None
    status: ShardStatus
    redirect_to: str | None
    external_url: str | None
    reading: Reading


@dataclass(frozen=True, slots=True)
class _Change:
    """A shard as it shall be written, and what it came from."""

    shard: Shard
    stored: Shard | None
    record: _Record
    counts: bool


@dataclass(slots=True)
class _Applied:
    """What became of the records of one tenant: emissions due, records whose shards others kept changing, and texts
    of files that no shard names any more, each list with a record that it was of."""

    emissions: list[ShardEmission] = field(default_factory=list)
    contended: list[_Record] = field(default_factory=list)
    outdated_texts: list[tuple[_Record, list[str]]] = field(default_factory=list)

    def settle(self, standing: Shard | None, before: Shard | None, readings: Sequence[_Record]) -> None:
        """Note which texts went out of use, now that the shard stands as it does."""
        told = [before.unstructured_data if before else None, *(record.unstructured_data for record in readings)]
        named = {data.content_ref for data in told if data and data.content_ref}
        if standing and standing.unstructured_data:
            named.discard(standing.unstructured_data.content_ref or "")
        if named:
            self.outdated_texts.append((readings[0], sorted(named)))


async def normalize(deliveries: Sequence[Delivery[IngestionEvent]], ports: NormalizationPorts) -> list[Outcome]:
    """Write what each event says of its record, emit what changed, and tell each event's end.

    An event that changes nothing writes nothing. When it comes again after a broken try, the emission that may have
    been lost with that try is sent again, under its old message id.
    """
    outcomes: list[Outcome] = [DONE] * len(deliveries)
    tenants: dict[str, dict[str, list[_Record]]] = {}
    for index, delivery in enumerate(deliveries):
        try:
            record = await _read(index, delivery, ports)
        except PermanentError as error:
            outcomes[index] = Park(error.reason, error.detail)
        else:
            tenants.setdefault(record.event.tenant_id, {}).setdefault(record.shard_id, []).append(record)

    for tenant_id, records in tenants.items():
        applied = await _apply(tenant_id, records, ports)
        for record in applied.contended:
            outcomes[record.index] = Later(CONTENTION_DELAY, "other writers keep changing the shard")
        emissions = applied.emissions
        if emissions:
            await ports.store.advance(
                tenant_id,
                Stage.NORMALIZED,
                [(emission.shard_id, emission.shard_type_id, emission.revision) for emission in emissions],
            )
            await ports.bus.send(
                SHARD_EMISSION,
                [emission.to_message(SHARD_EMISSION, generation=emission.generation) for emission in emissions],
            )
        for record, references in applied.outdated_texts:
            await _delete_texts(record, references, ports.blobs)
    return outcomes


async def _delete_texts(record: _Record, references: list[str], blobs: BlobStore) -> None:
    """Delete texts that went out of use. The shard stands already, so nothing would come of trying the event again."""
    event = record.event
    try:
        await delete_text(blobs, event.tenant_id, record.mapped.external_id, references, instance=record.instance)
    except StoreUnavailableError as error:
        log.warning(
            "the text of %s of %s stays behind under %s: %s", record.shard_id, event.tenant_id, references, error
        )


async def _read(index: int, delivery: Delivery[IngestionEvent], ports: NormalizationPorts) -> _Record:
    """The event as its record.

    Raises:
        PermanentError: it can't be one, whatever is stored.
    """
    event = delivery.value
    facts = await ports.connections.facts(event.tenant_id, event.connection_id) if event.connection_id else None
    mapped = _mapped(event, (facts.default_currency if facts else None) or DEFAULT_CURRENCY)
    instance = event.instance or await ports.connections.resolve_instance(event.tenant_id, event.source)
    if not instance:
        raise PermanentError(
            "instance-unknown",
            f"the event names no instance, and the tenant has no single connection of {event.source}: "
            "send the instance, or connect the source, then replay",
        )
    reading_version, read_at = _moment_of_reading(event, mapped)
    instance, this_shard, winner = _identity(event, mapped, instance)
    status: ShardStatus = "deleted" if mapped.deleted else "active"
    structured_data = {} if mapped.deleted else mapped.structured_data
    unstructured_data = None if mapped.deleted else mapped.unstructured_data
    redirect_to = winner if mapped.deleted and winner != this_shard else None
    base_url = facts.base_url if facts and event.source == "salesforce" else ""
    fingerprint = content_fingerprint(structured_data, unstructured_data, mapped.acl, status, redirect_to)
    return _Record(
        index=index,
        event=event,
        redelivered=delivery.redelivered,
        shard_id=this_shard,
        instance=instance,
        mapped=mapped,
        structured_data=structured_data,
        unstructured_data=unstructured_data,
        status=status,
        redirect_to=redirect_to,
        external_url=mapped.external_url or (f"{base_url}/{mapped.external_id}" if base_url else None),
        reading=Reading(reading_version, read_at, fingerprint, moves_moment=bool(event.moves_moment)),
    )


def _mapped(event: IngestionEvent, currency: str) -> Mapped:
    try:
        mapped = map_record(
            event.source,
            event.object_type,
            event.record,
            event.event_type,
            event.source_id,
            default_currency=currency,
        )
    except MappingError as error:
        raise PermanentError(error.reason, error.detail) from None
    if not mapped.deleted:
        try:
            validate(mapped.shard_type_id, mapped.structured_data)
        except InvalidStructuredDataError as error:
            raise PermanentError("invalid-record", str(error)) from None
    return mapped


def _moment_of_reading(event: IngestionEvent, mapped: Mapped) -> tuple[str, str]:
    """The record's version, and when the source was asked."""
    try:
        observed_at = _moment(event.observed_at)
        version = event.source_version or mapped.source_version or observed_at
        if event.source == "salesforce":
            # Versions are compared as texts, and a producer may write the vendor's +0000.
            version = _moment(version)
        if event.source == "gdrive":
            version = _drive_version(event.source_version or mapped.source_version)
        if event.source == "slack" and version_key(version)[0] != 1:
            # A time as text would pass for newer than any of Slack's own.
            version = f"{from_text(version).timestamp():.6f}"
        return version, _moment(event.read_at) if event.read_at else observed_at
    except (ValueError, OverflowError) as error:
        raise PermanentError("invalid-message", f"a time of the event can't be read: {error}") from None


def _drive_version(version: str) -> str:
    """A file's version in its one form. A time in its place would pass for newer than any version."""
    if not _INTEGER.match(version):
        told = f"the version {version[:40]!r} is no whole number" if version else "the file has no version"
        raise PermanentError("invalid-record", f"{told}: read it with `version` among its fields, and send it again")
    return str(int(version))


def _identity(event: IngestionEvent, mapped: Mapped, instance: str) -> tuple[str, str, str | None]:
    """The instance in its one form, the id of the record's shard, and of the shard of the record it was merged into."""
    try:
        named = canonical_external_id(event.source, event.source_id)
        if event.source == "salesforce":
            instance = salesforce_id(instance)
        identity = (event.tenant_id, event.source, instance, mapped.object_type)
        this_shard = shard_id(*identity, mapped.external_id)
        winner = shard_id(*identity, mapped.merged_into_external_id) if mapped.merged_into_external_id else None
    except InvalidExternalIdError as error:
        raise PermanentError("invalid-record", str(error)) from None
    if mapped.external_id != named:
        raise PermanentError(
            "invalid-record", f"sourceId is {event.source_id!r}, the payload is of {mapped.external_id!r}"
        )
    return instance, this_shard, winner


def _moment(text: str) -> str:
    """The time in the stored form; a text that has it already is taken as it is."""
    if _STORED_MOMENT.match(text):
        return text
    return to_text(from_text(text))


async def _apply(tenant_id: str, records: dict[str, list[_Record]], ports: NormalizationPorts) -> _Applied:
    """Write each shard's newest reading; what became of the records."""
    applied = _Applied()
    unchanged: list[tuple[Shard, _Record]] = []
    pending = records
    for _ in range(WRITE_TRIES):
        stored = await ports.store.get_many(tenant_id, list(pending))
        now = to_text(ports.clock())
        changes: list[_Change] = []
        for this_shard, readings in pending.items():
            standing = stored.get(this_shard)
            change = _change(standing, readings, now)
            if change:
                changes.append(change)
                continue
            applied.settle(standing, None, readings)
            if standing:
                unchanged.extend((standing, record) for record in readings if record.redelivered)
        if not changes:
            pending = {}
            break
        etags = await ports.store.write_many(
            [ShardWrite(change.shard, change.stored.etag if change.stored else None) for change in changes]
        )
        contended: dict[str, list[_Record]] = {}
        for change, etag in zip(changes, etags, strict=True):
            readings = records[change.shard.id]
            if etag is None:
                contended[change.shard.id] = readings
                continue
            applied.settle(change.shard, change.stored, readings)
            if change.counts:
                applied.emissions.append(_emission(change))
            else:
                unchanged.extend((change.shard, record) for record in readings if record.redelivered)
        pending = contended
        if not pending:
            break
    applied.emissions.extend(await _lost_emissions(tenant_id, unchanged, ports))
    applied.contended.extend(record for readings in pending.values() for record in readings)
    return applied


def _change(stored: Shard | None, readings: Sequence[_Record], now: str) -> _Change | None:
    """What *readings*, in whichever order, make of the stored shard; None when they leave it as it is."""
    standing = _standing(stored, readings[0]) if stored else None
    first = standing
    applied: _Record | None = None
    newest: _Record | None = None
    for record in sorted(readings, key=_reading_order):
        decision = decide(standing, record.reading)
        if decision is Decision.APPLY:
            applied = newest = record
            standing = record.reading
        elif decision is Decision.MOVE_VERSION:
            newest = record
            standing = record.reading
    if newest is None or standing is None:
        return None
    if stored and first and first.fingerprint == standing.fingerprint:
        return _Change(_with_version(stored, newest, now), stored, newest, counts=False)
    record = applied or newest
    return _Change(_with_content(stored, record, newest, now), stored, record, counts=True)


def _reading_order(record: _Record) -> tuple[Any, str, str]:
    reading = record.reading
    return (version_key(reading.source_version), reading.read_at, reading.fingerprint)


def _standing(stored: Shard, record: _Record) -> Reading | None:
    relationship = _own_relationship(stored, record)
    if relationship is None:
        return None
    return Reading(relationship.source_version, relationship.read_at, stored.fingerprint)


def _own_relationship(stored: Shard, record: _Record) -> ExternalRelationship | None:
    for relationship in stored.external_relationships:
        if (
            relationship.external_id == record.mapped.external_id
            and relationship.system == record.event.source
            and relationship.instance == record.instance
            and relationship.object_type == record.mapped.object_type
        ):
            return relationship
    return None


def _relationship(record: _Record, newest: _Record, now: str) -> ExternalRelationship:
    return ExternalRelationship(
        system=record.event.source,
        instance=record.instance,
        system_type=SYSTEM_TYPES.get(record.event.source, "custom"),
        object_type=record.mapped.object_type,
        external_id=record.mapped.external_id,
        external_url=record.external_url,
        last_synced_at=now,
        source_version=newest.reading.source_version,
        read_at=newest.reading.read_at,
        connection_id=newest.event.connection_id,
    )


def _relationships(stored: Shard | None, record: _Record, newest: _Record, now: str) -> list[ExternalRelationship]:
    mine = _relationship(record, newest, now)
    own = _own_relationship(stored, record) if stored else None
    others = [other for other in stored.external_relationships if other is not own] if stored else []
    if own and mine.external_url is None:
        mine.external_url = own.external_url
    return [mine, *others]


def _with_version(stored: Shard, newest: _Record, now: str) -> Shard:
    """The stored shard under a newer version of the same content."""
    shard = _copy(stored)
    shard.external_relationships = _relationships(stored, newest, newest, now)
    shard.last_activity_at = newest.mapped.last_activity_at or stored.last_activity_at
    return shard


def _with_content(stored: Shard | None, record: _Record, newest: _Record, now: str) -> Shard:
    """The shard as *record* says; what is not the source's stays as it was."""
    links = stored.internal_relationships if stored else []
    if record.status != "deleted":
        links = [link for link in links if link.belongs_to_people or link.relationship_type != "merged_into"]
    else:
        links = [link for link in links if link.belongs_to_people or link.relationship_type == REPLIES_TO]
        if record.redirect_to:
            links.append(_merged_into(record, now))
    shard = Shard(
        id=record.shard_id,
        tenant_id=record.event.tenant_id,
        # The report of a deletion may not tell a folder from a file.
        shard_type_id=stored.shard_type_id if stored and record.mapped.deleted else record.mapped.shard_type_id,
        revision=stored.revision + 1 if stored else 1,
        status=record.status,
        structured_data=record.structured_data,
        unstructured_data=record.unstructured_data,
        external_relationships=_relationships(stored, record, newest, now),
        internal_relationships=links,
        acl=record.mapped.acl,
        fingerprint=record.reading.fingerprint,
        written_by="chain",
        created_at=stored.created_at if stored else now,
        updated_at=now,
        last_activity_at=newest.mapped.last_activity_at or (stored.last_activity_at if stored else None),
        deleted_at=now if record.status == "deleted" else None,
        redirect_to=record.redirect_to,
        etag=stored.etag if stored else "",
    )
    # One write instead of two: nobody sees the shard without the links that its own fields tell.
    shard.internal_relationships = with_structured_links(shard, now)
    return shard


def _copy(shard: Shard) -> Shard:
    return Shard(**{field: getattr(shard, field) for field in shard.__struct_fields__})


def _merged_into(record: _Record, now: str) -> InternalRelationship:
    target = record.redirect_to or ""
    return InternalRelationship(
        id=link_id(record.shard_id, "merged_into", target),
        target_shard_id=target,
        target_shard_type_id=record.mapped.shard_type_id,
        relationship_type="merged_into",
        status="active",
        confidence=Decimal(1),
        source="crm",
        method="structured-field",
        evidence={"field": "MasterRecordId"},
        created_at=now,
        created_by="system",
    )


def _emission(change: _Change) -> ShardEmission:
    shard, stored, event = change.shard, change.stored, change.record.event
    kind: ChangeType = "delete" if shard.status == "deleted" else "update" if stored else "create"
    before = stored.structured_data if stored else {}
    fields = shard.structured_data.keys() | before.keys()
    changed = {name for name in fields if shard.structured_data.get(name) != before.get(name)}
    if stored and shard.unstructured_data != stored.unstructured_data:
        changed.add("unstructuredData")
    return ShardEmission(
        tenant_id=shard.tenant_id,
        shard_id=shard.id,
        shard_type_id=shard.shard_type_id,
        revision=shard.revision,
        change_type=kind,
        changed_fields=sorted(changed) if stored else [],
        # A shard that was lost with its store comes back under the same id, and its revisions begin at 1 again.
        generation=round(from_text(shard.created_at).timestamp() * 1000),
        observed_at=event.observed_at,
        correlation_id=event.correlation_id,
        traceparent=event.traceparent,
        pipeline=event.pipeline,
    )


async def _lost_emissions(
    tenant_id: str, unchanged: Sequence[tuple[Shard, _Record]], ports: NormalizationPorts
) -> list[ShardEmission]:
    """Emissions that an earlier, broken try may have written for without sending them."""
    if not unchanged:
        return []
    progress = await ports.store.progress(tenant_id, [shard.id for shard, _ in unchanged])
    lost: list[ShardEmission] = []
    for shard, record in unchanged:
        known = progress.get(shard.id)
        if known is None or known.enriched < shard.revision:
            lost.append(_emission(_Change(shard, shard, record, counts=True)))
    return lost
