"""The slow refresh: values that change without a stamp (formulas, roll-ups), and fields whose definition changed.

All records are paged through by id with these fields alone and compared with what is stored; those that differ are
read whole. It gives way to polls: it stops while calls are left to them.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from connections.salesforce_connection import PolledObject, SalesforceConnection
from connections.state import Saved
from ingestion.errors import BudgetExhaustedError
from ingestion.salesforce.errors import ObjectError
from ingestion.salesforce.events import SYSTEM, page_events, stamp_text
from ingestion.salesforce.failing_objects import FailingObjects, is_tried_again
from ingestion.salesforce.fields import KEY_FIELDS, FieldList
from ingestion.salesforce.memory import ObjectMemory, RefreshNotes, new_object_memory, object_key
from ingestion.salesforce.reader import ObjectReader
from ingestion.salesforce.session import PollingPorts, Session, opened
from ingestion.salesforce.soql import URI_LIMIT, field_groups, id_page_query
from ingestion.source import RunReport
from messaging.queues import INGESTION_EVENTS_BULK
from messaging.times import to_text
from processors.mapping.salesforce import stored_values
from shards.identity import shard_id
from shards.model import Shard
from shards.store import ShardStore

log = logging.getLogger(__name__)

PAGE = 2000
IDS_A_READ = 200
LEFT_TO_POLLS = 0.25
"""Share of the connection's own calls below which a refresh waits."""
WAIT = timedelta(hours=1)


async def refresh(
    connection: SalesforceConnection,
    ports: PollingPorts,
    store: ShardStore,
    *,
    deadline: datetime | None = None,
    due_at: str | None = None,
) -> RunReport:
    """Compare the connection's objects with what is stored until all are or *deadline* is past.

    Call it under the connection's lease. *due_at* says which refresh this is: objects that it has finished are not
    compared again.

    Raises:
        TransientError, BudgetExhaustedError, CredentialError: see :mod:`ingestion.salesforce.errors`.
        StateMovedError: another worker has the object; this one must stop.
        BusUnavailableError, StoreUnavailableError: nothing is lost, ask again.
    """
    report = RunReport()
    async with opened(connection, ports) as session:
        failing = FailingObjects(session.budget, deadline, ports.clock)
        for polled in connection.objects:
            finished = True
            with failing.trying(polled.name):
                finished = await _Refresh(session, store, polled, report, due_at).run(failing.deadline)
            if not finished:
                report.finished = False
                break
        failing.end(again=report.finished and is_tried_again(due_at, ports.clock()))
        report.errors |= failing.errors
        report.calls, report.instance = session.budget.made, session.instance
        report.calls_left = session.budget.left(ports.clock())
    report.failed = bool(report.errors) and len(report.errors) == len(connection.objects)
    return report


class _Refresh:
    """The refresh of one object."""

    def __init__(
        self, session: Session, store: ShardStore, polled: PolledObject, report: RunReport, due_at: str | None
    ) -> None:
        self._session = session
        self._store = store
        self._polled = polled
        self._report = report
        self._due_at = due_at
        self._connection = session.connection
        self._ports = session.ports
        self._saved: Saved[ObjectMemory]
        self._reader: ObjectReader

    async def run(self, deadline: datetime | None) -> bool:
        """Whether the object is finished."""
        connection, name = self._connection, self._polled.name
        self._saved = await self._ports.states.load(
            connection.tenant_id, object_key(connection, name), new_object_memory(connection, name)
        )
        memory = self._saved.value
        notes = memory.metadata.refresh
        if memory.cursor.is_first_load or (self._due_at is not None and notes.refreshed_due == self._due_at):
            return True
        self._reader = ObjectReader(
            self._session.client,
            self._polled,
            memory.metadata,
            page_size=connection.page_size,
            clock=self._ports.clock,
        )
        try:
            return await self._pages(deadline)
        except ObjectError as error:
            log.warning("connection %s: refresh of %s", connection.connection_id, error)
            self._report.errors[name] = str(error)
            return True

    @property
    def _notes(self) -> RefreshNotes:
        return self._reader.notes.refresh

    async def _pages(self, deadline: datetime | None) -> bool:
        clock = self._ports.clock
        while True:
            if deadline is not None and clock() >= deadline:
                return False
            self._leave_calls()
            if self._notes.began_at is None:
                await self._save(
                    msgspec.structs.replace(self._notes, began_at=to_text(clock()), after=None, compared=0, drifted=0)
                )
            rows, final = await self._reader.with_fields(self._rows)
            drifted = await self._drifted(rows)
            await self._send(drifted)
            notes = msgspec.structs.replace(
                self._notes,
                compared=self._notes.compared + len(rows),
                drifted=self._notes.drifted + len(drifted),
                after=rows[-1]["Id"] if rows else None,
            )
            self._report.rows += len(rows)
            if final and self._notes.began_at is not None:
                now = to_text(clock())
                notes = msgspec.structs.replace(
                    notes,
                    # Compared once more by the next one: events read by the fields before may still be under way.
                    fields=notes.fields if notes.wanted else (),
                    wanted=False,
                    began_at=None,
                    after=None,
                    last_refresh_at=now,
                    refreshed_due=self._due_at,
                )
                await self._save(notes)
                return True
            await self._save(notes)

    def _leave_calls(self) -> None:
        budget, now = self._session.budget, self._ports.clock()
        left = budget.left(now)
        reserve = budget.usage.limit * self._connection.api_budget_share * LEFT_TO_POLLS
        if left is not None and left < reserve:
            raise BudgetExhaustedError(f"a refresh leaves the last {int(reserve)} calls to polls", now + WAIT)

    def _compared(self, fields: FieldList) -> list[str]:
        """The fields to ask for, keys first."""
        wanted = dict.fromkeys((*fields.calculated, *(one for one in self._notes.fields if one in fields.names)))
        return [*KEY_FIELDS, *(one for one in wanted if one not in KEY_FIELDS)]

    async def _rows(self, fields: FieldList) -> tuple[list[dict[str, Any]], bool]:
        """The next rows with the compared fields alone, and whether they are the last."""
        name = self._polled.name
        names = self._compared(fields)
        if len(names) == len(KEY_FIELDS) and not self._notes.fields:
            return [], True
        rows: dict[str, dict[str, Any]] = {}
        final = True
        limit = self._reader.notes.page_size or PAGE
        for number, group in enumerate(
            field_groups(name, names, KEY_FIELDS, "", self._reader.notes.uri_limit or URI_LIMIT)
        ):
            soql = id_page_query(name, group, self._notes.after, limit)
            page = await self._session.client.query(soql, object_type=name, deleted_too=False)
            found = {record["Id"]: record for record in page.records}
            if number == 0:
                rows, final = found, not page.more and len(page.records) < limit
            else:
                rows = {key: {**row, **found.get(key, {})} for key, row in rows.items()}
        return list(rows.values()), final

    async def _drifted(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """Ids of the rows whose stored version is the same, but some value is not."""
        connection, name, instance = self._connection, self._polled.name, self._session.instance
        fields = self._reader.notes.fields
        vanished = [one for one in self._notes.fields if fields is None or one not in fields.names]
        drifted: list[str] = []
        for start in range(0, len(rows), 500):
            part = {
                shard_id(connection.tenant_id, SYSTEM, instance, name, row["Id"]): row
                for row in rows[start : start + 500]
            }
            stored = await self._store.get_many(connection.tenant_id, list(part))
            for identity, row in part.items():
                shard = stored.get(identity)
                if shard is not None and shard.is_live and self._has_version(shard, row):
                    told = {key: value for key, value in row.items() if key not in (*KEY_FIELDS, "attributes")}
                    told |= dict.fromkeys(vanished)
                    if _differs(name, told, shard):
                        drifted.append(row["Id"])
        return drifted

    def _has_version(self, shard: Shard, row: Mapping[str, Any]) -> bool:
        """Whether what is stored is this version of the record: any other is a poll's to bring."""
        version = stamp_text(row["SystemModstamp"])
        return any(
            one.system == SYSTEM and one.external_id == row["Id"] and one.source_version == version
            for one in shard.external_relationships
        )

    async def _send(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), IDS_A_READ):
            read = await self._reader.by_ids(ids[start : start + IDS_A_READ])
            events = page_events(
                read.records,
                self._session.origin(self._polled.name),
                nonce=self._saved.value.metadata.nonce,
                queue=INGESTION_EVENTS_BULK,
                read_at=to_text(read.asked_at),
                window=None,
            )
            await self._ports.bus.send(INGESTION_EVENTS_BULK, events.messages)
            self._report.events += len(events.messages)

    async def _save(self, notes: RefreshNotes) -> None:
        self._reader.notes = msgspec.structs.replace(self._reader.notes, refresh=notes)
        memory = msgspec.structs.replace(self._saved.value, metadata=self._reader.notes)
        key = object_key(self._connection, self._polled.name)
        self._saved = await self._ports.states.save(self._connection.tenant_id, key, self._saved, memory)


def _differs(object_type: str, told: Mapping[str, Any], shard: Shard) -> bool:
    for path, value in stored_values(object_type, told).items():
        held: Any = shard.structured_data
        for part in path:
            held = held.get(part) if isinstance(held, Mapping) else None
        if held != value:
            return True
    return False
