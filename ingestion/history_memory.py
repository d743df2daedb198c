"""What is remembered of a first load: where it stands, who drives it, and how long what is left of it will take."""

from collections.abc import Mapping

import msgspec

from connections.connection import Connection
from connections.lease import Lease
from connections.state import StateStore
from ingestion.connection_memory import SourceMemory
from ingestion.source import Position

_NAME = "first load"


class HistoryNotes(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Where a first load stands.

    *waiting_for* says in words what it waits for. *seconds* are those that its pages took, one after the other. *sent*
    are marks of the events of the page at *position* that went out before the chain was full. *last_position* is that
    of the last page of a load that has finished.
    """

    asked_at: str | None = None
    began_at: str | None = None
    finished_at: str | None = None
    position: Position | None = None
    pages: int = 0
    records: int = 0
    total: int | None = None
    estimated: bool = False
    seconds: float = 0
    waiting_for: str | None = None
    failures: int = 0
    sent: tuple[str, ...] = ()
    last_position: Position | None = None


class HistoryMemory(SourceMemory, frozen=True, kw_only=True):
    """How the first load of a connection stands, and who drives it."""

    last_sync_at: str | None = None
    error_message: str | None = None
    lease: Lease | None = None
    metadata: HistoryNotes = HistoryNotes()


def history_key(connection: Connection) -> str:
    """Under which key :class:`HistoryMemory` is kept."""
    return f"{connection.connection_id}/history"


def new_history_memory(connection: Connection) -> HistoryMemory:
    """The memory of a first load that has not begun."""
    return HistoryMemory.new(connection, _NAME)


def is_history(state: Mapping[str, object]) -> bool:
    """Whether what is remembered is a :class:`HistoryMemory`."""
    return str(state.get("name")).endswith(f": {_NAME}")


async def load_memory(connection: Connection, states: StateStore, *, key: str | None = None) -> HistoryMemory:
    """How the first load of *connection* stands, or that under *key*.

    Raises:
        StateError: what is stored is of another version.
    """
    key = key or history_key(connection)
    return (await states.load(connection.tenant_id, key, new_history_memory(connection))).value


def remaining_seconds(notes: HistoryNotes) -> float | None:
    """How long the rest will take at the speed so far; None where nobody can tell."""
    rate = records_per_second(notes)
    if notes.finished_at or notes.total is None or rate is None:
        return None
    return max(notes.total - notes.records, 0) / rate


def records_per_second(notes: HistoryNotes) -> float | None:
    """How fast the load has been; None where it has not been measured."""
    return notes.records / notes.seconds if notes.records and notes.seconds > 0 else None
