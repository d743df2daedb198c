"""What source work keeps in ``integration.state``: the form of all its memories, and the one of a connection itself.

The connection's says when which work was done, and who is at it.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

import msgspec

from connections.connection import Connection
from connections.lease import Lease
from connections.state import Saved, StateStore

SyncStatus = Literal["pending", "success", "failed", "partial"]


class SourceMemory(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What every memory of a connection begins with; what is remembered comes behind it, mostly as ``metadata``."""

    name: str
    integration_id: str
    integration_type: str
    last_sync_status: SyncStatus

    @classmethod
    def new(cls, connection: Connection, of: str, *, status: SyncStatus = "pending", **more: Any) -> Self:
        """The memory of something of *connection* that nothing is remembered of but *more*; *of* names it to people."""
        return cls(
            name=f"{connection.name or connection.connection_id}: {of}",
            integration_id=connection.connection_id,
            integration_type=connection.system,
            last_sync_status=status,
            **more,
        )


class ConnectionNotes(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """By kind of work: *done_due* are the due times last done, *next_at* when it is due next (of polls the state itself
    says it). *failures* counts runs in a row that failed."""

    done_due: Mapping[str, str] = msgspec.field(default_factory=dict)
    next_at: Mapping[str, str] = msgspec.field(default_factory=dict)
    failures: int = 0


class ConnectionMemory(SourceMemory, frozen=True, kw_only=True):
    """How work against a connection stands, and who is at it.

    *last_sync_at* is when a poll last came to its end with something read: the lag counts from there, so a poll that
    fails does not move it, nor does other work, which reads no changes.
    """

    last_sync_at: str | None = None
    next_sync_at: str | None = None
    error_message: str | None = None
    lease: Lease | None = None
    metadata: ConnectionNotes = ConnectionNotes()


def connection_key(connection: Connection) -> str:
    """Under which key :class:`ConnectionMemory` is kept."""
    return connection.connection_id


def _new_memory(connection: Connection) -> ConnectionMemory:
    """The memory of a connection that nothing has been done with."""
    return ConnectionMemory(
        name=connection.name or connection.connection_id,
        integration_id=connection.connection_id,
        integration_type=connection.system,
        last_sync_status="pending",
    )


async def memory_of(connection: Connection, states: StateStore) -> Saved[ConnectionMemory]:
    """How work against *connection* stands.

    Raises:
        StateError: what is stored is of another version.
    """
    return await states.load(connection.tenant_id, connection_key(connection), _new_memory(connection))
