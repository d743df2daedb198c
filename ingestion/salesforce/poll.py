"""A poll: each object's walk from its cursor to the newest row, page by page.

A page's events are sent before the cursor that follows them is saved, and the next page is asked for only then. So
whenever a poll is cut off, the next one starts with the page it was in: the bus drops what it has, and nothing is lost.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from connections.salesforce_connection import PolledObject, SalesforceConnection
from connections.state import Saved
from ingestion.connection_memory import SyncStatus
from ingestion.errors import TransientError
from ingestion.history_memory import load_memory
from ingestion.salesforce.cursor import (
    Cursor,
    Position,
    StuckWalkError,
    Window,
    advance,
    begin,
    bounded,
    earlier,
    finish,
    rewound,
    window_start,
)
from ingestion.salesforce.errors import ObjectError
from ingestion.salesforce.events import SYSTEM, page_events, stamp_text
from ingestion.salesforce.failing_objects import FailingObjects
from ingestion.salesforce.history import reads_from
from ingestion.salesforce.memory import ObjectMemory, new_object_memory, object_key
from ingestion.salesforce.reader import ObjectReader, ReadPage
from ingestion.salesforce.session import PollingPorts, Session, opened
from messaging import tracing
from messaging.contracts import SourceWork
from messaging.queues import INGESTION_EVENTS, INGESTION_EVENTS_BULK, SOURCE_WORK
from messaging.times import to_text
from shards.store import ShardQuery, ShardStore

log = logging.getLogger(__name__)

BULK_AFTER_PAGES = 5
"""A walk of more pages than this goes on in the bulk lane, so that it delays only itself."""

NO_ROWS = (
    "{}: a read of all records gave none: the object is empty, or the user may not see its records (sharing, object "
    "permissions)"
)
NO_ROWS_ANY_MORE = (
    "{}: a read of all records gave none, but records of it are stored: the user may no longer see them; check sharing "
    "and object permissions"
)


@dataclass(slots=True)
class ObjectReport:
    """What a poll did for one object: *rows* read in *pages*, *events* sent. *error* says why it could not go on.

    *emptied*: a read of all records gave none, though records are stored.
    """

    rows: int = 0
    pages: int = 0
    events: int = 0
    finished: bool = False
    emptied: bool = False
    error: str | None = None


@dataclass(slots=True)
class PollReport:
    """What a poll did. *calls* are API calls. Not *finished*: time ran out, and the next poll goes on from there.

    *calls_left* are API calls that Shardline may still make to the org *instance*, where it has said so.
    """

    objects: dict[str, ObjectReport] = field(default_factory=dict)
    calls: int = 0
    calls_left: int | None = None
    instance: str = ""
    finished: bool = True

    @property
    def rows(self) -> int:
        """Rows read."""
        return sum(report.rows for report in self.objects.values())

    @property
    def emptied(self) -> list[str]:
        """The objects of which no record can be read any more, though some are stored."""
        return [name for name, report in self.objects.items() if report.emptied]

    @property
    def events(self) -> int:
        """Events sent."""
        return sum(report.events for report in self.objects.values())

    @property
    def failed(self) -> bool:
        """Whether no object could be read."""
        return bool(self.objects) and len(self.errors) == len(self.objects)

    @property
    def again(self) -> bool:
        """A poll has nothing to confirm."""
        return False

    @property
    def errors(self) -> dict[str, str]:
        """What is wrong with objects, by object."""
        return {name: report.error for name, report in self.objects.items() if report.error}


async def poll(
    connection: SalesforceConnection,
    ports: PollingPorts,
    store: ShardStore,
    *,
    object_types: Sequence[str] = (),
    deadline: datetime | None = None,
    due_at: str | None = None,
) -> PollReport:
    """Poll the connection's objects, or those of *object_types* among them, until all are read or *deadline* is past.

    *due_at* says which poll this is: called again for it after a try that was cut off, what that one had finished is
    not read again. Call it under the connection's lease. What is wrong with one object is in the report; the others
    go on.

    Raises:
        TransientError, BudgetExhaustedError, CredentialError: see :mod:`ingestion.salesforce.errors`.
        StateMovedError: another worker polls the object; this one must stop.
        BusUnavailableError, StoreUnavailableError: nothing is lost, ask again.
    """
    report = PollReport()
    async with opened(connection, ports) as session:
        failing = FailingObjects(session.budget, deadline, ports.clock)
        polls: list[_ObjectPoll] = []
        for polled in connection.objects:
            if object_types and polled.name not in object_types:
                continue
            done = report.objects[polled.name] = ObjectReport()
            polls.append(_ObjectPoll(session, store, polled, done, due_at))
            with failing.trying(polled.name):
                await polls[-1].run(failing.deadline)
            done.error = done.error or failing.errors.get(polled.name)
            if not done.finished and not done.error:
                report.finished = False
                for one in polls:
                    await one.note_walked()
                break
        failing.end()
        report.calls, report.instance = session.budget.made, session.instance
        report.calls_left = session.budget.left(ports.clock())
    return report


class _ObjectPoll:
    """The poll of one object: reads, sends and saves a page at a time."""

    def __init__(
        self, session: Session, store: ShardStore, polled: PolledObject, report: ObjectReport, due_at: str | None
    ) -> None:
        connection, ports = session.connection, session.ports
        self._session = session
        self._store = store
        self._connection = connection
        self._ports = ports
        self._object = polled.name
        self._polled = polled
        self._report = report
        self._due_at = due_at
        self._origin = session.origin(polled.name)
        self._look_back = timedelta(seconds=connection.look_back_seconds)
        self._settle_lag = timedelta(seconds=connection.settle_lag_seconds)
        self._saved: Saved[ObjectMemory]
        self._window: Window
        self._reader: ObjectReader

    async def run(self, deadline: datetime | None) -> None:
        ports = self._ports
        self._saved = await ports.states.load(
            self._connection.tenant_id,
            object_key(self._connection, self._object),
            new_object_memory(self._connection, self._object),
        )
        memory = self._saved.value
        if self._due_at is not None and memory.metadata.walked_due == self._due_at and memory.cursor.walk is None:
            self._report.finished = True
            return
        self._window = Window(memory.metadata.window, ceiling=ports.window_ceiling)
        self._reader = ObjectReader(
            self._session.client,
            self._polled,
            memory.metadata,
            page_size=self._connection.page_size,
            clock=ports.clock,
        )
        try:
            await self._walk(self._rewound(await self._after_history(memory.cursor)), deadline)
        except (ObjectError, StuckWalkError) as error:
            log.warning("connection %s: %s", self._connection.connection_id, error)
            self._report.error = str(error)
            # The cursor goes back to where it stands stored, and what it is still to be taken back to stays noted.
            standing = self._saved.value.metadata.rewind_to
            self._reader.notes = msgspec.structs.replace(self._reader.notes, rewind_to=standing)
            await self._save(self._saved.value.cursor, "failed", str(error))
        except TransientError:
            await self._keep_page_size()
            raise
        notes = self._saved.value.metadata
        if notes.refresh.wanted and notes.schema_changes:
            await self._ask_for_refresh(notes.schema_changes[-1].at)

    async def note_walked(self) -> None:
        """Note that the object is finished, for the poll goes on in another try: one that met nothing new saved
        nothing, and many of those would take all the time of each try."""
        memory = self._saved.value
        if not self._report.finished or self._due_at is None or memory.metadata.walked_due == self._due_at:
            return
        notes = msgspec.structs.replace(memory.metadata, walked_due=self._due_at)
        self._saved = await self._ports.states.save(
            self._connection.tenant_id,
            object_key(self._connection, self._object),
            self._saved,
            msgspec.structs.replace(memory, metadata=notes),
        )

    async def _keep_page_size(self) -> None:
        """Remember how small the pages had become: each larger one that takes too long costs two minutes anew."""
        memory = self._saved.value
        size = self._reader.notes.page_size
        if size == memory.metadata.page_size:
            return
        notes = msgspec.structs.replace(memory.metadata, page_size=size)
        self._saved = await self._ports.states.save(
            self._connection.tenant_id,
            object_key(self._connection, self._object),
            self._saved,
            msgspec.structs.replace(memory, metadata=notes),
        )

    async def _ask_for_refresh(self, due_at: str) -> None:
        """Have records compared whose fields are defined otherwise now; asked again, it is the same request."""
        work = SourceWork(
            tenant_id=self._connection.tenant_id,
            connection_id=self._connection.connection_id,
            work="refresh",
            due_at=due_at,
            traceparent=tracing.new_trace(SOURCE_WORK, self._connection.tenant_id),
        )
        await self._ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)])

    async def _after_history(self, cursor: Cursor) -> Cursor:
        """The cursor; of an object that is new to polls, and read by a first load, from that one's beginning on."""
        if cursor.watermark is not None or cursor.walk is not None:
            return cursor
        history = (await load_memory(self._connection, self._ports.states)).metadata
        since = reads_from(history, self._object)
        if since is None:
            return cursor
        # As far back as a walk's own bound: what was being written then, by whichever of the two clocks is behind.
        return Cursor(watermark=earlier(since, self._settle_lag + self._session.client.behind))

    def _rewound(self, cursor: Cursor) -> Cursor:
        """The cursor taken back to where the notes say that changes were not told."""
        to = self._reader.notes.rewind_to
        if to is None or cursor.walk is not None:
            return cursor
        self._reader.notes = msgspec.structs.replace(self._reader.notes, rewind_to=None)
        return rewound(cursor, to)

    async def _walk(self, cursor: Cursor, deadline: datetime | None) -> None:
        ports, report = self._ports, self._report
        while True:
            if deadline is not None and ports.clock() >= deadline:
                return
            if cursor.walk is None:
                began_at = ports.clock()
                cursor = begin(
                    cursor,
                    began_at=to_text(began_at),
                    bound=to_text(began_at - self._settle_lag),
                    look_back=self._look_back,
                )
            if cursor.walk is None:
                raise AssertionError("begin() has begun a walk")
            page = await self._reader.page(cursor.walk)
            report.pages += 1
            report.rows += len(page.records)
            if cursor.walk.pages == 0:
                cursor = bounded(cursor, to_text(self._source_asked_at(page) - self._settle_lag))
            cursor = await self._emit(page, cursor)
            if page.final:
                cursor = self._finished(cursor, page)
                if cursor.is_first_load and await self._has_stored_records():
                    report.emptied = True
                    raise ObjectError(NO_ROWS_ANY_MORE.format(self._object))
                report.finished = True
            await self._save(cursor, "success", None)
            if page.final:
                return

    async def _has_stored_records(self) -> bool:
        connection = self._connection
        query = ShardQuery(
            connection.tenant_id, system=SYSTEM, instance=self._session.instance, object_type=self._object
        )
        return bool((await self._store.query(query, limit=1)).items)

    def _source_asked_at(self, page: ReadPage) -> datetime:
        """When the page was asked for, by whichever of the two clocks is behind."""
        source_time = self._session.client.source_time
        if source_time is None:
            return page.asked_at
        return min(page.asked_at, source_time - (page.answered_at - page.asked_at))

    async def _emit(self, page: ReadPage, cursor: Cursor) -> Cursor:
        """The cursor behind *page*, once the bus has its events."""
        if page.last is None:
            return cursor
        walk = cursor.walk
        first_load = cursor.is_first_load and walk is not None and (walk.pages > 0 or not page.final)
        flood = walk is not None and walk.pages >= BULK_AFTER_PAGES
        queue = INGESTION_EVENTS_BULK if first_load or flood else INGESTION_EVENTS
        events = page_events(
            page.records,
            self._origin,
            nonce=self._saved.value.metadata.nonce,
            queue=queue,
            read_at=to_text(page.asked_at),
            window=self._window,
        )
        cursor = advance(
            cursor, last=Position(stamp_text(page.last["SystemModstamp"]), page.last["Id"]), rows=len(page.records)
        )
        if events.messages:
            await self._keep_nonce()
            await self._ports.bus.send(queue, events.messages)
            await self._ports.owners.ask_for_unknown(
                self._connection,
                self._session.instance,
                page.records,
                store=self._store,
                bus=self._ports.bus,
                clock=self._ports.clock,
            )
        self._report.events += len(events.messages)
        self._window.keep(events.rows, window_start(cursor, self._look_back))
        return cursor

    async def _keep_nonce(self) -> None:
        """Store a new memory before its first events: cut off before the save after them, it sends the same ids."""
        if self._saved.shard is None:
            self._saved = await self._ports.states.save(
                self._connection.tenant_id,
                object_key(self._connection, self._object),
                self._saved,
                self._saved.value,
            )

    def _finished(self, cursor: Cursor, page: ReadPage) -> Cursor:
        self._reader.walked()
        finished = finish(
            cursor,
            ended_at=to_text(page.answered_at),
            look_back=self._look_back,
        )
        if finished.floor is not None:
            self._window.forget_to(finished.floor.stamp)
        return finished

    async def _save(self, cursor: Cursor, status: SyncStatus, error: str | None) -> None:
        standing = self._saved.value
        empty = status == "success" and cursor.walk is None and cursor.is_first_load
        notes = msgspec.structs.replace(
            self._reader.notes,
            window=self._window.stored(),
            no_rows=NO_ROWS.format(self._object) if empty else None,
            sweep=standing.metadata.sweep,
        )
        memory = msgspec.structs.replace(
            standing,
            last_sync_status=status,
            error_message=error or notes.sweep.refused,
            cursor=cursor,
            metadata=notes,
        )
        if memory == standing:
            return
        if cursor.walk is None and status == "success":
            memory = msgspec.structs.replace(memory, metadata=msgspec.structs.replace(notes, walked_due=self._due_at))
        if status == "success":
            memory = msgspec.structs.replace(memory, last_sync_at=to_text(self._ports.clock()))
        self._saved = await self._ports.states.save(
            self._connection.tenant_id, object_key(self._connection, self._object), self._saved, memory
        )
