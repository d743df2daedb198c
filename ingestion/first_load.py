"""The first load: a source's history, page by page on the bulk lane, as fast as the chain digests it.

Pages come from a plain function of connection and position. This module alone sends their events, asks for what they
make necessary and keeps the position, so whoever drives it (a queue message, a command, an orchestration) can stop
anywhere and go on later.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b

import msgspec

from connections.connection import Connection
from connections.lease import new_lease
from connections.state import Saved, StateMovedError, StateStore
from ingestion.errors import BudgetExhaustedError, TransientError
from ingestion.history_memory import HistoryMemory, HistoryNotes, history_key, new_history_memory
from ingestion.source import HistoryPage, Pages
from messaging.bus import Message, MessageBus
from messaging.contracts import IngestionEvent, SourceWork
from messaging.message_ids import message_id
from messaging.queues import INGESTION_EVENTS_BULK, SOURCE_WORK
from messaging.times import Clock, from_text, to_text, utc_now
from processors.backpressure import MOST_UNFINISHED, unfinished_events

log = logging.getLogger(__name__)

SLICE = 500
"""Events sent between two looks at the queues."""

LEASE_FOR = timedelta(minutes=5)
DIGESTING_DELAY = timedelta(seconds=1)

PAUSE = timedelta(minutes=2)
"""The time between two pages counts, waits for the chain included, unless it is longer: then the load stood still."""


@dataclass(frozen=True, slots=True)
class FirstLoadPorts:
    """What first loads reach the world through."""

    bus: MessageBus
    states: StateStore
    clock: Clock = utc_now


@dataclass(frozen=True, slots=True)
class LoadStep:
    """What a call has come to: *again_in* says when to go on, None: the load is finished."""

    notes: HistoryNotes
    again_in: timedelta | None


class LoadBusyError(Exception):
    """Another worker drives this load."""


async def note_asked(
    connection: Connection, ports: FirstLoadPorts, *, anew: bool = False, key: str | None = None
) -> bool:
    """Note that the load is asked for: it goes on where it stands, or *anew* at the beginning; whether any is left.

    A worker that is at it stops when it is to begin anew: what it has sent comes again, which the chain takes for
    nothing new.

    Raises:
        StateMovedError: others kept writing; try again.
        StateError: what is stored is of another version.
    """

    is_left = True

    def asked(memory: HistoryMemory) -> HistoryMemory:
        nonlocal is_left
        is_left = anew or memory.metadata.finished_at is None
        if memory.metadata.asked_at is not None and not anew:
            return memory
        begun = new_history_memory(connection) if anew else memory
        return msgspec.structs.replace(
            begun, metadata=msgspec.structs.replace(begun.metadata, asked_at=to_text(ports.clock()))
        )

    empty = new_history_memory(connection)
    await ports.states.change(connection.tenant_id, key or history_key(connection), empty, asked)
    return is_left


async def load_pages(
    connection: Connection,
    pages: Pages,
    ports: FirstLoadPorts,
    *,
    deadline: datetime,
    seen: Callable[[HistoryNotes], None] | None = None,
    key: str | None = None,
) -> LoadStep:
    """Send the history's pages from where it stands until it ends, the chain is full, or *deadline* is past.

    Fewer than :data:`~processors.backpressure.MOST_UNFINISHED` events are ever unfinished at once.

    A page's position is saved once the bus has all its events: cut off before that, the page is read and sent again,
    which the chain takes for nothing new. *seen* is told of each page and each wait. *key* keeps apart the position
    of another history than the source's own (an export's).

    Raises:
        LoadBusyError: another worker drives this load.
        StateMovedError: it was asked for anew meanwhile.
        CredentialError, BusUnavailableError, StoreUnavailableError, StateError: it goes on from there next time.
    """
    saved = await _load(connection, ports, key)
    if saved.value.metadata.finished_at is not None:
        return LoadStep(saved.value.metadata, None)
    now = ports.clock()
    if saved.value.lease is not None and saved.value.lease.holds(now):
        raise LoadBusyError(f"another worker drives the first load of {connection.connection_id}")
    notes = saved.value.metadata
    if notes.began_at is None:
        notes = msgspec.structs.replace(notes, began_at=to_text(now), asked_at=notes.asked_at or to_text(now))
    try:
        saved = await _save(
            connection,
            ports,
            key,
            saved,
            msgspec.structs.replace(saved.value, lease=new_lease(now, LEASE_FOR), metadata=notes),
        )
    except StateMovedError:
        raise LoadBusyError(f"another worker drives the first load of {connection.connection_id}") from None
    run = _Load(connection, pages, ports, key, saved, seen)
    try:
        again_in = await run.until(deadline)
    except BaseException:
        await run.give_back(None)
        raise
    await run.give_back(run.error)
    return LoadStep(run.saved.value.metadata, again_in)


@dataclass(slots=True)
class _Load:
    """A first load being driven."""

    connection: Connection
    pages: Pages
    ports: FirstLoadPorts
    key: str | None
    saved: Saved[HistoryMemory]
    seen: Callable[[HistoryNotes], None] | None
    error: str | None = None

    async def until(self, deadline: datetime) -> timedelta | None:
        """Work until *deadline*; when to go on, None when the load is finished."""
        while self.ports.clock() < deadline:
            notes = self._notes()
            room = await self._room()
            if room <= 0:
                return DIGESTING_DELAY
            began = self.ports.clock()
            try:
                page = await self.pages(notes.position)
            except BudgetExhaustedError as error:
                self.error = str(error)
                until = error.until
                await self._waits(f"calls left at the source: {error}")
                return timedelta(minutes=5) if until is None else max(until - self.ports.clock(), DIGESTING_DELAY)
            except TransientError as error:
                self.error = str(error)
                backoff = await self._back_off(str(error), notes.failures)
                return error.after or backoff
            # Before its events: what a page cut off has sent is not sent again when it is read anew.
            await self._ask(page.later)
            if not await self._send(page.events, room, deadline):
                return DIGESTING_DELAY
            await self._keep(page, (self.ports.clock() - began).total_seconds())
            if page.next_position is None or page.waits_for is not None:
                self.error = page.waits_for
                return None if page.waits_for is None else await self._back_off(page.waits_for, notes.failures)
        return timedelta(0)

    async def _back_off(self, reason: str, failures: int) -> timedelta:
        """How long the load waits after one failure more than *failures* in a row."""
        await self._waits(reason, failures=failures + 1)
        return min(timedelta(seconds=5 * 2.0 ** min(failures, 8)), timedelta(minutes=10))

    async def give_back(self, error: str | None) -> None:
        """Let the next worker have the load."""
        memory = msgspec.structs.replace(self.saved.value, lease=None, error_message=error)
        try:
            self.saved = await _save(self.connection, self.ports, self.key, self.saved, memory)
        except StateMovedError:
            log.warning("the lease on the first load of %s ran out", self.connection.connection_id)

    def _message(self, event: IngestionEvent) -> Message:
        """The event's message under an id of this load: what an earlier load has sent may have been purged since."""
        message = event.to_message(INGESTION_EVENTS_BULK)
        asked_at = round(from_text(str(self._notes().asked_at)).timestamp())
        own_id = message_id(INGESTION_EVENTS_BULK, message.message_id, "load", asked_at)
        return msgspec.structs.replace(message, message_id=own_id)

    async def _room(self, sent: tuple[str, ...] | None = None) -> int:
        """How many events may be sent now; where there are none, *sent* of the page are remembered."""
        unfinished = unfinished_events(await self.ports.bus.depths())
        room = MOST_UNFINISHED - 1 - unfinished
        if room <= 0:
            await self._waits(f"the chain, which has {unfinished:,} messages to digest", sent=sent)
        return room

    def _notes(self) -> HistoryNotes:
        return self.saved.value.metadata

    async def _send(self, events: Sequence[IngestionEvent], room: int, deadline: datetime) -> bool:
        """Whether all events were sent before the chain was full or *deadline* past.

        What was sent then is marked, or a page larger than the room there ever is would never come to its end.
        """
        done = set(self._notes().sent)
        left = [event for event in events if _mark(event) not in done] if done else events
        start = 0
        while start < len(left):
            part = left[start : start + min(SLICE, room)]
            await self.ports.bus.send(INGESTION_EVENTS_BULK, [self._message(event) for event in part])
            start += len(part)
            room -= len(part)
            if start < len(left) and room <= 0:
                marks = (*self._notes().sent, *map(_mark, left[:start]))
                room = await self._room(sent=marks)
                if room > 0 and self.ports.clock() < deadline:
                    continue
                if room > 0:
                    await self._waits("its next turn", sent=marks)
                return False
        return True

    async def _ask(self, later: Sequence[SourceWork]) -> None:
        """Ask for what a page makes necessary, each when it is due."""
        for work in later:
            delay = max(from_text(work.due_at) - self.ports.clock(), timedelta(0))
            await self.ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)], delay=delay)

    async def _keep(self, page: HistoryPage, seconds: float) -> None:
        notes = self._notes()
        now = to_text(self.ports.clock())
        last = self.saved.value.last_sync_at
        if last is not None and (gap := from_text(now) - from_text(last)) <= PAUSE:
            seconds = gap.total_seconds()
        notes = msgspec.structs.replace(
            notes,
            position=page.next_position,
            pages=notes.pages + 1,
            records=notes.records + len(page.events),
            total=page.total if page.total is not None else notes.total,
            estimated=page.estimated,
            seconds=round(notes.seconds + seconds, 3),
            waiting_for=None,
            failures=0,
            sent=(),
            finished_at=now if page.next_position is None else None,
            last_position=notes.position if page.next_position is None else None,
        )
        self.error = None
        await self._put(
            msgspec.structs.replace(
                self.saved.value,
                metadata=notes,
                last_sync_at=now,
                last_sync_status="success" if notes.finished_at else "partial",
                lease=new_lease(from_text(now), LEASE_FOR),
            )
        )

    async def _waits(self, reason: str, *, failures: int = 0, sent: tuple[str, ...] | None = None) -> None:
        notes = self._notes()
        kept = notes.sent if sent is None else sent
        notes = msgspec.structs.replace(notes, waiting_for=reason, failures=failures, sent=kept)
        await self._put(msgspec.structs.replace(self.saved.value, metadata=notes))

    async def _put(self, memory: HistoryMemory) -> None:
        self.saved = await _save(self.connection, self.ports, self.key, self.saved, memory)
        if self.seen is not None:
            self.seen(memory.metadata)


def _mark(event: IngestionEvent) -> str:
    """What tells an event from the others of its page, and from another reading of its record."""
    told = f"{event.source_key()}|{event.source_version}|{event.event_type}"
    return blake2b(told.encode(), digest_size=6).hexdigest()


async def _load(connection: Connection, ports: FirstLoadPorts, key: str | None) -> Saved[HistoryMemory]:
    key = key or history_key(connection)
    return await ports.states.load(connection.tenant_id, key, new_history_memory(connection))


async def _save(
    connection: Connection, ports: FirstLoadPorts, key: str | None, saved: Saved[HistoryMemory], memory: HistoryMemory
) -> Saved[HistoryMemory]:
    return await ports.states.save(connection.tenant_id, key or history_key(connection), saved, memory)
