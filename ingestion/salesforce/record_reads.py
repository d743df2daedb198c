"""Records read by id, because something said that they changed: what is read becomes their events.

Requests for one object that run at the same time in one process are one query. No lease is held: a read writes no
cursor, and the order of events is told by their versions.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from connections.salesforce_connection import PolledObject, SalesforceConnection
from ingestion.patience import patiently
from ingestion.salesforce.cursor import Sighting, Window, earlier
from ingestion.salesforce.errors import ObjectError
from ingestion.salesforce.events import SYSTEM, gone_messages, page_events
from ingestion.salesforce.field_notes import newest, note_learnt
from ingestion.salesforce.fields import FieldList
from ingestion.salesforce.memory import ObjectMemory, new_object_memory, object_key
from ingestion.salesforce.reader import ObjectReader
from ingestion.salesforce.session import PollingPorts, Session, opened
from ingestion.salesforce.sweep import FEW, absent_ids
from messaging import tracing
from messaging.contracts import Recurring, SourceWork
from messaging.queues import INGESTION_EVENTS, SOURCE_WORK
from messaging.times import from_text, to_text
from processors.outcome import PermanentError
from shards.identity import InvalidExternalIdError, salesforce_id, shard_id
from shards.model import ExternalRelationship, Shard
from shards.store import ShardStore
from shards.types import SALESFORCE_KEY_PREFIXES

log = logging.getLogger(__name__)

JOIN_SECONDS = 0.05
"""How long the first of several requests waits for the others."""
IDS_A_READ = 200
"""Ids of one query: with all fields of most objects it still fits into a URI."""

READ_AGAIN_AFTER = timedelta(seconds=5)
"""A callout made before its transaction commits names a record that nobody sees yet; and a second has gone by then."""
AGAIN = ".again"

RELATED_DEPTH = 3
"""A deleted account takes its opportunities along, and these what belongs to them."""
MOST_RELATED = 2_000
"""Children of one record that are read at once; the poll reads the others."""

PREFIXES_FOR = timedelta(hours=1)
"""How long the key prefixes of an org's own objects are kept."""


@dataclass(slots=True)
class _Batch:
    """Ids of one object that are read together."""

    ids: dict[str, None] = field(default_factory=dict)
    first_time: set[str] = field(default_factory=set)
    """Those of them that are asked for the first time."""
    task: "asyncio.Task[int] | None" = None


@dataclass(slots=True)
class _Reading:
    """A read under way: what has been asked for, what is to be, and the events sent."""

    seen: set[tuple[str, str]]
    sent: int = 0


class RecordReads:
    """The reads by id of a process."""

    def __init__(self, ports: PollingPorts, store: ShardStore, *, join_seconds: float = JOIN_SECONDS) -> None:
        self._ports = ports
        self._store = store
        self._join_seconds = join_seconds
        self._open: dict[tuple[str, str, str], _Batch] = {}
        self._fields: dict[tuple[str, str, str], FieldList] = {}
        self._prefixes: dict[tuple[str, str], tuple[datetime, dict[str, str]]] = {}

    async def read(self, connection: SalesforceConnection, work: SourceWork) -> int:
        """Send events of the records that *work* names; how many.

        Raises:
            PermanentError: nobody knows the object, or the login may not read it.
            TransientError, BudgetExhaustedError, CredentialError: see :mod:`ingestion.salesforce.errors`.
            BusUnavailableError, StoreUnavailableError: ask again.
        """
        since = (work.push or {}).get("everythingSince")
        again = (work.event_id or "").endswith(AGAIN)
        sent = 0
        for object_type, ids in (await self._by_object(connection, work.ids)).items():
            if not connection.wants(object_type):
                log.info("connection %s reads no %s", connection.connection_id, object_type)
                continue
            if isinstance(since, str):
                await self._rewind(connection, object_type, since)
            for start in range(0, len(ids), IDS_A_READ):
                sent += await self._joined(connection, object_type, ids[start : start + IDS_A_READ], again=again)
        if isinstance(since, str):
            await self._ask(connection, "poll")
            await self._ask(connection, "sweep")
        return sent

    async def _by_object(
        self, connection: SalesforceConnection, given: Mapping[str, Sequence[str]]
    ) -> dict[str, list[str]]:
        """18-character ids by object; an object that is not said is told by the key prefix."""
        found: dict[str, list[str]] = {}
        for object_type, texts in given.items():
            if object_type:
                found.setdefault(object_type, [])
            for text in texts:
                try:
                    record_id = salesforce_id(text)
                except InvalidExternalIdError as error:
                    raise PermanentError("invalid-message", str(error)) from None
                known = object_type or await self._object_of(connection, record_id)
                found.setdefault(known, []).append(record_id)
        return found

    async def _object_of(self, connection: SalesforceConnection, record_id: str) -> str:
        prefix = record_id[:3]
        standard = SALESFORCE_KEY_PREFIXES.get(prefix)
        if standard is not None:
            return standard.object_type
        key = (connection.tenant_id, connection.connection_id)
        now = self._ports.clock()
        known = self._prefixes.get(key)
        if known is None or known[0] + PREFIXES_FOR <= now:
            async with opened(connection, self._ports) as session:
                client = session.client
                answer = await patiently(f"{client.name}: list of objects", partial(client.call, "GET", "sobjects"))
            listed = answer.json().get("sobjects", ())
            known = self._prefixes[key] = now, {one["keyPrefix"]: one["name"] for one in listed if one.get("keyPrefix")}
        object_type = known[1].get(prefix)
        if object_type is None:
            raise PermanentError(
                "unknown-object-type",
                f"no object that the login may see has ids that begin with {prefix} (as {record_id} does): send the "
                "object's name along, or give the user access to it, then replay",
            )
        return object_type

    async def _joined(
        self, connection: SalesforceConnection, object_type: str, ids: Sequence[str], *, again: bool
    ) -> int:
        """Read *ids* together with what others ask for at the same time; the events sent, told to the first alone."""
        key = (connection.tenant_id, connection.connection_id, object_type)
        batch = self._open.get(key)
        is_first = batch is None or len(batch.ids) + len(ids) > IDS_A_READ
        if batch is None or is_first:
            batch = self._open[key] = _Batch()
            batch.task = asyncio.create_task(self._run(connection, object_type, batch))
        batch.ids.update(dict.fromkeys(ids))
        if not again:
            batch.first_time.update(ids)
        if batch.task is None:
            raise AssertionError("a batch has a task")
        # One that gives up (its host stops) must not take the others' read with it.
        sent = await asyncio.shield(batch.task)
        return sent if is_first else 0

    async def _run(self, connection: SalesforceConnection, object_type: str, batch: _Batch) -> int:
        await asyncio.sleep(self._join_seconds)
        key = (connection.tenant_id, connection.connection_id, object_type)
        if self._open.get(key) is batch:
            del self._open[key]
        ids = list(batch.ids)
        reading = _Reading({(object_type, one) for one in ids})
        async with opened(connection, self._ports) as session:
            unsettled = await self._read(session, object_type, ids, reading, RELATED_DEPTH)
        once_more = [one for one in unsettled if one in batch.first_time]
        if once_more:
            await self._ask_again(connection, object_type, once_more)
        return reading.sent

    async def _read(
        self, session: Session, object_type: str, ids: Sequence[str], reading: _Reading, depth: int
    ) -> list[str]:
        """Send the events of *ids* and of what changed along with them; the ids to be read once more: those that nobody
        has ever seen, and those that may be changed again within the second that their version resolves."""
        connection, ports = session.connection, self._ports
        key = (connection.tenant_id, connection.connection_id, object_type)
        empty = new_object_memory(connection, object_type)
        memory = (await ports.states.load(connection.tenant_id, object_key(connection, object_type), empty)).value
        fields = newest(memory.metadata.fields, self._fields.get(key))
        notes = msgspec.structs.replace(memory.metadata, fields=fields)
        polled = next((one for one in connection.objects if one.name == object_type), PolledObject(name=object_type))
        reader = ObjectReader(session.client, polled, notes, page_size=IDS_A_READ, clock=ports.clock)
        try:
            read = await reader.by_ids(ids)
        except ObjectError as error:
            raise PermanentError("object-unreadable", f"connection {connection.connection_id}: {error}") from None
        if reader.notes.fields is not None:
            self._fields[key] = reader.notes.fields
        await note_learnt(connection, ports.states, memory, reader.notes.fields)
        read_at = to_text(read.asked_at)
        events = page_events(
            read.records,
            session.origin(object_type),
            nonce=memory.metadata.nonce,
            queue=INGESTION_EVENTS,
            read_at=read_at,
            window=None,
        )
        if events.messages:
            await ports.bus.send(INGESTION_EVENTS, events.messages)
            reading.sent += len(events.messages)
            await ports.owners.ask_for_unknown(
                connection, session.instance, read.records, store=self._store, bus=ports.bus, clock=ports.clock
            )
        unseen = await self._missing(session, object_type, read.missing, read_at, reading)
        unseen += _changed_twice(memory.metadata.window, events.rows, read.records)
        deleted = [record for record in read.records if record.get("IsDeleted")]
        if deleted and depth:
            for related, related_ids in (await self._related(session, object_type, deleted, reading)).items():
                for start in range(0, len(related_ids), IDS_A_READ):
                    part = related_ids[start : start + IDS_A_READ]
                    await self._read(session, related, part, reading, depth - 1)
        return unseen

    async def _related(
        self, session: Session, object_type: str, deleted: Iterable[Mapping[str, Any]], reading: _Reading
    ) -> dict[str, list[str]]:
        """What a deletion or a merge changes too: the record merged into, and stored records that refer to it."""
        found: dict[str, list[str]] = {}

        def add(name: str, record_id: str) -> None:
            if (name, record_id) not in reading.seen and session.connection.wants(name):
                reading.seen.add((name, record_id))
                found.setdefault(name, []).append(record_id)

        tenant_id = session.connection.tenant_id
        for record in deleted:
            if record.get("MasterRecordId"):
                add(object_type, record["MasterRecordId"])
            identity = shard_id(tenant_id, SYSTEM, session.instance, object_type, record["Id"])
            cursor: str | None = None
            taken = 0
            while taken < MOST_RELATED:
                page = await self._store.incoming(tenant_id, identity, cursor=cursor)
                shards = await self._store.get_many(tenant_id, [link.source_shard_id for link in page.items])
                taken += len(page.items)
                for shard in shards.values():
                    for one in _of_instance(shard, session.instance):
                        add(one.object_type, one.external_id)
                cursor = page.cursor
                if cursor is None:
                    break
        return found

    async def _missing(
        self, session: Session, object_type: str, ids: Sequence[str], read_at: str, reading: _Reading
    ) -> list[str]:
        """Send that stored records among *ids* are gone, if that can be believed; those that are not stored."""
        if not ids:
            return []
        connection = session.connection
        identities = {shard_id(connection.tenant_id, SYSTEM, session.instance, object_type, one): one for one in ids}
        stored = await self._store.get_many(connection.tenant_id, list(identities))
        versions = {
            one.external_id: one.source_version
            for shard in stored.values()
            if shard.is_live
            for one in _of_instance(shard, session.instance)
            if one.connection_id == connection.connection_id and one.read_at < read_at
        }
        absent = await absent_ids(session, object_type, sorted(versions)) if versions else set()
        if len(absent) > max(FEW, len(reading.seen) // 2):
            # What a permission taken away looks like; the sweep compares with all there is.
            log.warning(
                "connection %s: %d records of %s can't be seen any more; the next sweep tells whether they are gone",
                connection.connection_id,
                len(absent),
                object_type,
            )
        elif absent:
            gone = {one: versions[one] for one in absent}
            messages = gone_messages(session.origin(object_type), gone, queue=INGESTION_EVENTS, read_at=read_at)
            await self._ports.bus.send(INGESTION_EVENTS, messages)
            reading.sent += len(messages)
        return [one for identity, one in identities.items() if identity not in stored]

    async def _ask_again(self, connection: SalesforceConnection, object_type: str, ids: Sequence[str]) -> None:
        due = self._ports.clock() + READ_AGAIN_AFTER
        work = SourceWork(
            tenant_id=connection.tenant_id,
            connection_id=connection.connection_id,
            work="read",
            due_at=to_text(due),
            ids={object_type: list(ids)},
            event_id=f"{ids[0]}.{len(ids)}.{to_text(due)}{AGAIN}",
            traceparent=tracing.new_trace(SOURCE_WORK, connection.tenant_id),
        )
        await self._ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)], delay=READ_AGAIN_AFTER)

    async def _rewind(self, connection: SalesforceConnection, object_type: str, since: str) -> None:
        """Have the object's next walk begin before *since*.

        Raises:
            StateMovedError: the worker that polls the object was always faster; ask again.
        """
        try:
            to = earlier(to_text(from_text(since)), timedelta(seconds=connection.look_back_seconds))
        except (ValueError, OverflowError):
            raise PermanentError("invalid-message", "everythingSince is no time") from None
        empty = new_object_memory(connection, object_type)

        def rewound(memory: ObjectMemory) -> ObjectMemory:
            notes = memory.metadata
            # What was never polled has no walk to begin anew.
            if memory == empty or (notes.rewind_to is not None and notes.rewind_to <= to):
                return memory
            return msgspec.structs.replace(memory, metadata=msgspec.structs.replace(notes, rewind_to=to))

        await self._ports.states.change(connection.tenant_id, object_key(connection, object_type), empty, rewound)

    async def _ask(self, connection: SalesforceConnection, kind: Recurring) -> None:
        """Ask for a poll or a sweep of all objects now: one of some objects would pass for one of all."""
        work = SourceWork(
            tenant_id=connection.tenant_id,
            connection_id=connection.connection_id,
            work=kind,
            due_at=to_text(self._ports.clock()),
            traceparent=tracing.new_trace(SOURCE_WORK, connection.tenant_id),
        )
        await self._ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)])


def _changed_twice(
    window: Mapping[str, str], rows: Sequence[tuple[bytes, str, bytes]], records: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Ids of the records that a poll has read otherwise under the same version: changed back within that second, a poll
    takes them for what it has sent already."""
    stamps = {version for _, version, _ in rows} & window.keys()
    seen = Window({stamp: window[stamp] for stamp in stamps}, ceiling=len(rows))
    return [
        record["Id"]
        for (key, version, digest), record in zip(rows, records, strict=True)
        if seen.sighting(key, version, digest) is Sighting.CHANGED
    ]


def _of_instance(shard: Shard, instance: str) -> list[ExternalRelationship]:
    return [one for one in shard.external_relationships if one.system == SYSTEM and one.instance == instance]
