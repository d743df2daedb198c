"""Doing work against sources: what a message of ``source-work`` asks for, one worker at a time under a lease."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from time import perf_counter

import msgspec

from connections.connection import Connection, InvalidConnectionError
from connections.lease import new_lease
from connections.state import Saved, StateError, StateMovedError
from ingestion.asking import ask_for_history
from ingestion.at_work import PUSHED
from ingestion.connection_memory import (
    ConnectionMemory,
    ConnectionNotes,
    SyncStatus,
    connection_key,
    memory_of,
)
from ingestion.errors import BudgetExhaustedError, CredentialError, TransientError
from ingestion.first_load import FirstLoadPorts, LoadBusyError, load_pages
from ingestion.ports import IngestionPorts
from ingestion.purge import PurgePorts, purge
from ingestion.source import AnySource, Report
from messaging import tracing
from messaging.contracts import SourceWork
from messaging.times import from_text, to_text
from operations.metrics import SourceRun
from processors.outcome import DONE, Cause, Later, Outcome, Park

log = logging.getLogger(__name__)

LEASE_FOR = timedelta(minutes=5)
"""Longer than :data:`ingestion.ports.RUN_FOR` and the longest call together: Salesforce ends a query after two
minutes."""

BUSY_DELAY = timedelta(seconds=2)
"""Work that was asked for twice finds the first done by then; a look at the lease costs one read."""
LOAD_BUSY_DELAY = timedelta(seconds=30)
"""Whoever drives a first load does so for long; a second message is there in case he is ended."""
FIRST_DELAY = timedelta(seconds=15)
LONGEST_DELAY = timedelta(minutes=15)
BUDGET_DELAY = timedelta(minutes=30)
"""After a login that was refused because the org's limit is reached."""

TRIED_FOR = timedelta(hours=24)
"""How long a push is tried whose source fails: as long as Salesforce repeats a message itself. Outages are shorter, and
what lasts longer is for people."""
MOST_SOURCE_FAILURES = 100
"""How often the source must have failed besides: a day of outage has more, for a failing source rests 7.5 minutes at
most. A push that is old because it waited for others, or was replayed, is not parked for one failure."""

NOT_ACTIVE = "connection-not-active"
"""Why a push is parked that came while its connection waited for people."""

ASKED_AGAIN = "it is asked again by itself"
"""What people have to know of an error that passes."""

LOST_AFTER = timedelta(minutes=15)
"""How long after its time a copy that should go on with the work is taken for lost."""


async def handle_source_work(work: SourceWork, ports: IngestionPorts, *, source_failures: int = 0) -> Outcome:
    """Do *work*, or as much of it as fits into the time a message has; later, when its connection has had its share.

    *source_failures* are how often its source, failing, has kept it from its end.

    Raises:
        BusUnavailableError, StoreUnavailableError: nothing is lost, the same message works later.
    """
    is_pushed = work.work in PUSHED
    # Where the source answers others, what fails of theirs parks nothing else: its own try tells.
    own_try = is_pushed and _is_kept_long(work, source_failures + 1, ports) and ports.at_work.answers_others(work)
    if (rest := ports.at_work.rests(work, ports.clock(), own_try=own_try)) is not None:
        if is_pushed and ports.at_work.is_failing(work) and not own_try:
            return _source_fails(work, rest, "others of the connection failed", source_failures, ports)
        return Later(rest, "others of the connection are at work")
    with ports.at_work.doing(work):
        return await _handle(work, ports, source_failures)


def _is_kept_long(work: SourceWork, failures: int, ports: IngestionPorts) -> bool:
    """Whether a push is for people once its source, failing, has kept it from its end *failures* times."""
    return failures >= MOST_SOURCE_FAILURES and ports.clock() >= from_text(work.due_at) + TRIED_FOR


def _source_fails(work: SourceWork, delay: timedelta, error: str, failures: int, ports: IngestionPorts) -> Later | Park:
    """What becomes of a push that its source, failing with *error*, has kept from its end *failures* times before."""
    failures += 1
    if not _is_kept_long(work, failures, ports):
        return Later(delay, error, Cause.SOURCE)
    return Park(
        "source-failing",
        f"the source of connection {work.connection_id} has kept it from its end {failures} times; it was pushed at "
        f"{work.due_at}. The last time: {error}. 'shardline status' says how the source is: replay when it answers, "
        "or drop this if it never does to this one",
    )


async def _handle(  # noqa: PLR0911 - one an end
    work: SourceWork, ports: IngestionPorts, source_failures: int
) -> Outcome:
    try:
        connection = await ports.registry.get(work.tenant_id, work.connection_id)
    except InvalidConnectionError as error:
        return Park("connection-invalid", str(error))
    if connection is None:
        return Park(
            "connection-unknown",
            f"tenant {work.tenant_id} has no connection {work.connection_id}: make it, then replay, or drop this",
        )
    source = ports.sources.get(connection.system)
    if source is None:
        return Park("source-unknown", f"{connection.system} is no source that this version reads: deploy one that does")
    if work.work in ("push", "read"):
        return await _take_push(source, connection, work, ports, source_failures)
    if work.work == "purge":
        return await _purge(connection, ports)
    if connection.status != "active":
        # Its status says why; once it is active again, the timer asks anew.
        return DONE
    if work.work == "history":
        return await _load_history(source, connection, ports)
    leased = await _take(connection, work, ports)
    if not isinstance(leased, Saved):
        return leased
    run = _Run(source, connection, work, ports)
    try:
        outcome, memory = await run.outcome(leased.value, ports.clock() + ports.run_for)
    except BaseException:
        # The message comes back, and should not find its own lease.
        await _give_back(connection, ports, leased)
        raise
    try:
        await _save(connection, ports, leased, msgspec.structs.replace(memory, lease=None))
    except StateMovedError:
        return Later(BUSY_DELAY, "the lease ran out, and another worker has taken the connection")
    return outcome


async def _take_push(  # noqa: PLR0911 - one an end
    source: AnySource, connection: Connection, work: SourceWork, ports: IngestionPorts, source_failures: int
) -> Outcome:
    """Make events of a push. While the connection waits for people, so does what was pushed to it."""
    if connection.status == "disconnected":
        return DONE
    if connection.status != "active":
        return Park(
            NOT_ACTIVE,
            f"connection {connection.connection_id} is {connection.status}: mend it, then replay",
        )
    try:
        await source.take(connection, work)
    except TransientError as error:
        delay = ports.at_work.failed(work, ports.clock(), error.after)
        if error.after is not None and ports.at_work.answers_others(work):
            return Later(delay, str(error))
        return _source_fails(work, delay, str(error), source_failures, ports)
    except BudgetExhaustedError as error:
        delay = BUDGET_DELAY if error.until is None else max(error.until - ports.clock(), timedelta(seconds=1))
        return Later(delay, str(error))
    except StateMovedError:
        return Later(BUSY_DELAY, "another worker has written what this one read")
    except CredentialError as error:
        await _fail(source, connection, error, ports)
        return Park(NOT_ACTIVE, f"connection {connection.connection_id}: {error}; then replay")
    except StateError as error:
        return Park("state-invalid", str(error))
    ports.at_work.worked(work)
    return DONE


async def _load_history(source: AnySource, connection: Connection, ports: IngestionPorts) -> Outcome:
    """Drive the connection's first load for as long as a message works."""
    try:
        step = await load_pages(
            connection,
            partial(source.history, connection),
            FirstLoadPorts(ports.bus, ports.states, ports.clock),
            deadline=ports.clock() + ports.run_for,
        )
    except StateMovedError as error:
        return Later(BUSY_DELAY, str(error))
    except LoadBusyError as error:
        return Later(LOAD_BUSY_DELAY, str(error))
    except StateError as error:
        return Park("state-invalid", str(error))
    except CredentialError as error:
        await _fail(source, connection, error, ports)
        return DONE
    if step.again_in is None:
        return DONE
    return Later(step.again_in, step.notes.waiting_for or "there is more to load")


async def _purge(connection: Connection, ports: IngestionPorts) -> Outcome:
    """Take away what the connection brought, for as long as a message works."""
    if connection.status != "disconnected":
        return Park(
            "connection-not-disconnected",
            f"connection {connection.connection_id} is {connection.status}: what it brought is only taken away once it "
            "is disconnected",
        )
    purging = PurgePorts(ports.bus, ports.store, ports.states, ports.parked, ports.clock)
    try:
        step = await purge(connection, purging, deadline=ports.clock() + ports.run_for)
    except StateMovedError as error:
        return Later(BUSY_DELAY, str(error))
    except StateError as error:
        return Park("state-invalid", str(error))
    if step.again_in is not None:
        return Later(step.again_in, step.notes.waiting_for or "there is more to take away")
    if step.notes.records:
        # Others of the instance may read some of the same records: those come back by their first loads, which one
        # that waits for people begins with when it is resumed.
        readable, _ = await ports.registry.listed(connection.tenant_id)
        others = [
            one
            for one in readable
            if one.system == connection.system
            and one.status != "disconnected"
            and one.instance == connection.instance != ""
        ]
        if others:
            await ask_for_history(others, ports, anew=True)
    return DONE


async def _fail(source: AnySource, connection: Connection, error: CredentialError, ports: IngestionPorts) -> None:
    """Stop the connection until someone has mended it."""
    log.warning("connection %s of %s: %s", connection.connection_id, connection.tenant_id, error)
    source.forget(connection)
    # One that people have paused or ended meanwhile stays so.
    await ports.registry.set_status(connection, "failed", error_message=str(error), only_from="active")


async def _take(connection: Connection, work: SourceWork, ports: IngestionPorts) -> Saved[ConnectionMemory] | Outcome:
    """The connection's memory with a lease of this worker; an outcome when there is nothing for it to do now."""
    try:
        saved = await memory_of(connection, ports.states)
    except StateError as error:
        return Park("state-invalid", str(error))
    if _is_done(work, saved.value.metadata):
        return DONE
    now = ports.clock()
    if saved.value.lease is not None and saved.value.lease.holds(now):
        return Later(BUSY_DELAY, "another worker has the connection")
    lease = new_lease(now, LEASE_FOR)
    try:
        return await _save(connection, ports, saved, msgspec.structs.replace(saved.value, lease=lease))
    except StateMovedError:
        return Later(BUSY_DELAY, "another worker has taken the connection")


def _is_done(work: SourceWork, notes: ConnectionNotes) -> bool:
    if work.ids:
        return False  # it asks for more than the timer does, whose next request may have been done before it
    done = notes.done_due.get(work.work)
    return done is not None and from_text(work.due_at) <= from_text(done)


@dataclass(frozen=True, slots=True)
class _Run:
    """One try of one piece of work, and what is remembered of it."""

    source: AnySource
    connection: Connection
    work: SourceWork
    ports: IngestionPorts

    async def outcome(self, memory: ConnectionMemory, deadline: datetime) -> tuple[Outcome, ConnectionMemory]:
        connection, ports = self.connection, self.ports
        try:
            report = await self._report(deadline)
        except StateMovedError:
            return Later(BUSY_DELAY, "another worker has taken the connection"), memory
        except TransientError as error:
            failures = memory.metadata.failures + 1
            delay = max(error.after or timedelta(0), min(FIRST_DELAY * 2 ** min(failures - 1, 10), LONGEST_DELAY))
            told = self._told(memory, "failed", f"{error}; {ASKED_AGAIN}", failures=failures)
            return Later(delay, str(error)), self._postponed(told, delay)
        except BudgetExhaustedError as error:
            ports.metrics.budget_left(connection.system, connection.instance or "", 0)
            delay = BUDGET_DELAY if error.until is None else max(error.until - ports.clock(), timedelta(seconds=1))
            told = self._told(memory, "partial", f"{error}; {ASKED_AGAIN}")
            return Later(delay, str(error)), self._postponed(told, delay)
        except (CredentialError, StateError) as error:
            if isinstance(error, CredentialError):
                await _fail(self.source, connection, error, ports)
            else:
                # Asked again at its next time: parked, there would be one of it for each poll.
                log.error("connection %s: %s", connection.connection_id, error)
            return DONE, self._scheduled(self._told(memory, "failed", str(error)), again=False)
        errors = report.errors
        if not report.failed:
            ports.at_work.worked(self.work)
        if not report.finished:
            return Later(timedelta(0), "there is more to read"), self._postponed(memory, timedelta(0))
        status: SyncStatus = "success" if not errors else "failed" if report.failed else "partial"
        told = self._told(memory, status, "; ".join(dict.fromkeys(errors.values())) or None)
        if self.work.work == "poll" and status != "failed":
            told = msgspec.structs.replace(told, last_sync_at=to_text(ports.clock()))
        return DONE, self._scheduled(told, again=report.again)

    async def _report(self, deadline: datetime) -> Report:
        """What the run did, counted and told by a span of its own.

        Raises:
            Exception: see :meth:`ingestion.source.Source.run`.
        """
        connection, work, ports = self.connection, self.work, self.ports
        started = perf_counter()
        of_work: tracing.Attributes = {
            "shardline.tenant_id": connection.tenant_id,
            "shardline.connection_id": connection.connection_id,
            "shardline.system": connection.system,
        }
        with tracing.span(f"{work.work} {connection.system}", of_work) as span:
            report = await self.source.run(connection, work, deadline)
            span.set_attributes(
                {
                    "shardline.calls": report.calls,
                    "shardline.rows": report.rows,
                    "shardline.events": report.events,
                    "shardline.finished": report.finished,
                }
            )
            if report.errors:
                tracing.tell_error(span, "object-error")
        done = (report.calls, report.rows, report.events, perf_counter() - started)
        whose = (connection.tenant_id, connection.connection_id, connection.system, work.work)
        ports.metrics.source_read(SourceRun(*whose, *done))
        for object_type in report.emptied:
            ports.metrics.empty_pass(*whose, object_type)
        if report.calls_left is not None:
            ports.metrics.budget_left(connection.system, report.instance, report.calls_left)
        log.log(
            logging.INFO if report.events else logging.DEBUG,
            "connection %s: %s sent %d events in %d calls",
            connection.connection_id,
            work.work,
            report.events,
            report.calls,
        )
        return report

    def _told(
        self, memory: ConnectionMemory, status: SyncStatus, error: str | None, *, failures: int = 0
    ) -> ConnectionMemory:
        return msgspec.structs.replace(
            memory,
            last_sync_status=status,
            error_message=error,
            metadata=msgspec.structs.replace(memory.metadata, failures=failures),
        )

    def _postponed(self, memory: ConnectionMemory, delay: timedelta) -> ConnectionMemory:
        """*memory* with the timer asking again only if the copy that goes on after *delay* gets lost."""
        return self._next(memory, to_text(self.ports.clock() + delay + LOST_AFTER))

    def _scheduled(self, memory: ConnectionMemory, *, again: bool) -> ConnectionMemory:
        """*memory* with the work done and its next time: the interval after this one was due, or after now if late."""
        now = self.ports.clock()
        every = self.source.every(self.connection)
        interval = next((interval for work, interval in every.items() if work == self.work.work), None)
        due_at = from_text(self.work.due_at)
        notes = memory.metadata
        notes = msgspec.structs.replace(notes, done_due={**notes.done_due, self.work.work: to_text(due_at)})
        memory = msgspec.structs.replace(memory, metadata=notes)
        if interval is None:
            return memory
        if again:
            return self._next(memory, to_text(now + self.ports.confirm_after))
        next_at = due_at + interval if self.work.work == "poll" else now + interval
        return self._next(memory, to_text(next_at if next_at > now else now + interval))

    def _next(self, memory: ConnectionMemory, at: str) -> ConnectionMemory:
        if self.work.work == "poll":
            return msgspec.structs.replace(memory, next_sync_at=at)
        notes = memory.metadata
        notes = msgspec.structs.replace(notes, next_at={**notes.next_at, self.work.work: at})
        return msgspec.structs.replace(memory, metadata=notes)


async def _save(
    connection: Connection, ports: IngestionPorts, saved: Saved[ConnectionMemory], memory: ConnectionMemory
) -> Saved[ConnectionMemory]:
    return await ports.states.save(connection.tenant_id, connection_key(connection), saved, memory)


async def _give_back(connection: Connection, ports: IngestionPorts, saved: Saved[ConnectionMemory]) -> None:
    try:
        await _save(connection, ports, saved, msgspec.structs.replace(saved.value, lease=None))
    except Exception as error:  # noqa: BLE001 - the run's own error is the one to raise; this lease ends by itself
        log.warning("connection %s: its lease could not be given back: %s", connection.connection_id, error)
