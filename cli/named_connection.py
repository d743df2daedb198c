"""A connection that a command names: which one it is, and what refuses the work on it."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cli.home import CommandError, UsageError, run, settings_of
from composition import Services
from connections.connection import Connection, InvalidConnectionError
from connections.registry import ConnectionContendedError
from connections.state import StateError, StateMovedError
from ingestion.connecting import ConnectionStateError
from ingestion.errors import SourceError
from processors.outcome import PermanentError

T = TypeVar("T")

REFUSALS = (
    ConnectionContendedError,
    ConnectionStateError,
    InvalidConnectionError,
    SourceError,
    StateError,
    StateMovedError,
)
"""What keeps a command about a connection from its end, in words for its user."""


async def the_connection(services: Services, tenant: str | None, connection_id: str) -> Connection:
    """The connection of this id, which is one tenant's alone or that of *tenant*.

    Raises:
        UsageError: there is none, or several tenants have one.
        InvalidConnectionError: it can't be read.
    """
    connections, unreadable = await services.connections.listed(tenant)
    for broken in unreadable:
        if broken.connection_id == connection_id:
            raise InvalidConnectionError(f"{broken.problem}; connect it again")
    known = [one for one in connections if one.connection_id == connection_id]
    if len(known) == 1:
        return known[0]
    if known:
        tenants = ", ".join(sorted(one.tenant_id for one in known))
        raise UsageError(f"several tenants have a connection {connection_id}: name one with --tenant ({tenants})")
    raise no_such_connection(connection_id, connections)


def no_such_connection(named: str | None, known: Sequence[Connection]) -> UsageError:
    """What is wrong with a call about a connection that is not there, or about any where there is none."""
    if not known:
        return UsageError("there is no connection here yet: 'shardline connect' makes one")
    there = ", ".join(sorted({one.connection_id for one in known}))
    return UsageError(f"there is no connection {named!r} here; there are: {there}")


def refusing(data: Path, work: Callable[[Services], Awaitable[T]]) -> T:
    """As :func:`cli.home.run`, with what refuses the work as a failure of the command.

    Raises:
        CommandError: see :data:`REFUSALS`.
    """
    try:
        return run(data, work)
    except PermanentError as error:
        raise CommandError(error.detail) from None
    except REFUSALS as error:
        raise CommandError(str(error)) from None


def the_host(data: Path) -> str:
    """Who does the work that a command asks for."""
    return "running host ('shardline up')" if settings_of(data).home == "local" else "app on Azure"
