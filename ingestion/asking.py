"""Asking for work against sources: the timer for what is due, people and the app for what is wanted now."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from connections.connection import Connection
from connections.state import StateError
from ingestion.connection_memory import ConnectionMemory, memory_of
from ingestion.first_load import FirstLoadPorts, note_asked
from ingestion.ports import IngestionPorts
from messaging import tracing
from messaging.contracts import Recurring, SourceWork, Work
from messaging.queues import SOURCE_WORK
from messaging.times import from_text, to_text

log = logging.getLogger(__name__)


async def enqueue_due(ports: IngestionPorts) -> int:
    """Ask for the polls and sweeps that are due; how many were asked for.

    The message's id is made of the due time, so a tick that fires twice, or before the last one's work is done, asks
    once.

    Raises:
        BusUnavailableError, StoreUnavailableError: the next tick asks again.
    """
    now = ports.clock()
    due: list[SourceWork] = []
    for connection in await ports.registry.all():
        if connection.status != "active" and not (connection.status == "failed" and ports.metrics.on):
            continue
        try:
            memory = (await memory_of(connection, ports.states)).value
        except StateError as error:
            log.error("connection %s can't be polled: %s", connection.connection_id, error)
            continue
        lag = now - from_text(memory.last_sync_at or connection.created_at or to_text(now))
        ports.metrics.connection_lag(connection.tenant_id, connection.connection_id, connection.system, lag)
        if connection.status == "active":
            due.extend(_due(connection, memory, now, ports))
    if due:
        await ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK) for work in due])
    return len(due)


async def ask_for_sweep(connections: Sequence[Connection], ports: IngestionPorts) -> str:
    """Ask for a sweep of each of *connections* now, whenever its next one is due; the due time it was asked for with.

    Raises:
        BusUnavailableError: nothing was asked for.
    """
    return await ask(connections, "sweep", ports)


async def ask(connections: Sequence[Connection], work: Work, ports: IngestionPorts) -> str:
    """Ask for a piece of work on each of *connections* now, whenever it is due; the due time it was asked for with.

    That is a time of its own: the bus drops no message for one that was asked for before, and may have come to nothing.

    Raises:
        BusUnavailableError: nothing was asked for.
    """
    due_at = to_text(ports.clock())
    asked = [_work(connection, work, due_at) for connection in connections]
    await ports.bus.send(SOURCE_WORK, [one.to_message(SOURCE_WORK) for one in asked])
    return due_at


async def ask_for_history(connections: Sequence[Connection], ports: IngestionPorts, *, anew: bool = False) -> None:
    """Ask for the first load of each of *connections*: where it stands, or *anew* from the beginning.

    Raises:
        BusUnavailableError, StoreUnavailableError, StateError: not all was asked for.
        StateMovedError: others kept writing; try again.
    """
    for connection in connections:
        await note_asked(connection, FirstLoadPorts(ports.bus, ports.states, ports.clock), anew=anew)
    await ask(connections, "history", ports)


def _due(connection: Connection, memory: ConnectionMemory, now: datetime, ports: IngestionPorts) -> list[SourceWork]:
    source = ports.sources.get(connection.system)
    if source is None:
        log.error("connection %s is of %s, which no source here reads", connection.connection_id, connection.system)
        return []
    first = connection.created_at or to_text(now)
    due: list[SourceWork] = []
    for work, interval in source.every(connection).items():
        if work == "poll":
            at = memory.next_sync_at or first
        else:
            at = memory.metadata.next_at.get(work) or to_text(from_text(first) + _first_after(work, interval))
        if from_text(at) <= now:
            due.append(_work(connection, work, at))
    return due


def _first_after(work: Recurring, interval: timedelta) -> timedelta:
    """What renews something is due at once; what looks for what polls miss has nothing to find at first."""
    return timedelta(0) if work == "watch" else interval


def _work(connection: Connection, work: Work, due_at: str) -> SourceWork:
    """The request for a piece of work: a trace begins with it."""
    return SourceWork(
        tenant_id=connection.tenant_id,
        connection_id=connection.connection_id,
        work=work,
        due_at=due_at,
        traceparent=tracing.new_trace(SOURCE_WORK, connection.tenant_id),
    )
