"""Making a connection work, and ending it: the test that tells what it leads to, and what is asked for then."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import msgspec

from connections.connection import Connection, InvalidConnectionError
from connections.state import StateMovedError
from ingestion.errors import SourceError
from ingestion.first_load import FirstLoadPorts, restart
from ingestion.source import AnySource, Checked, Finding, Pages
from ingestion.work import IngestionPorts
from messaging import tracing
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import to_text


async def check(connection: Connection, ports: IngestionPorts) -> Checked:
    """Try *connection* out; what stops it is a finding too, with its remedy.

    Raises:
        InvalidConnectionError: no source here reads its system.
    """
    source = source_of(connection, ports)
    source.forget(connection)
    try:
        checked = await source.check(connection)
    except SourceError as error:
        return Checked("", "", [Finding("login", "error", "the source could not be asked", str(error))])
    if connection.instance and checked.instance and checked.instance != connection.instance:
        finding = Finding(
            "instance",
            "error",
            f"the login leads to {checked.instance}, but the connection is of {connection.instance}",
            "make a new connection for another instance, or log in to the old one",
        )
        return replace(checked, findings=[*checked.findings, finding])
    return checked


async def establish(connection: Connection, checked: Checked, ports: IngestionPorts) -> Connection:
    """Store *connection* with what its test found, active, and ask for its first poll at once.

    Raises:
        InvalidConnectionError: the stored one of its id is of another instance.
    """
    found = {
        "instance": checked.instance,
        "base_url": checked.base_url,
        "status": "active",
        "error_message": None,
        **checked.found,
    }
    saved = await ports.registry.save(msgspec.structs.replace(connection, **found))
    await ask(saved, "poll", ports)
    return saved


async def ask_for_history(connection: Connection, ports: IngestionPorts, *, anew: bool = False) -> None:
    """Ask for the connection's first load: where it stands, or *anew* from the beginning.

    Raises:
        LoadBusyError: it is to begin anew while a worker is at it.
    """
    if anew:
        await restart(connection, FirstLoadPorts(ports.bus, ports.states, ports.clock))
    await ask(connection, "history", ports)


async def disconnect(connection: Connection, ports: IngestionPorts, *, purge: bool) -> str | None:
    """End the connection: nothing is asked of the source any more, and nothing taken from it.

    With *purge* all that it brought is taken away. What the source itself does for it (push channels) is ended as far
    as it can still be reached; else the answer says what was left, in words.
    """
    left: str | None = None
    try:
        await source_of(connection, ports).stop(connection)
    except (SourceError, StateMovedError) as error:
        left = str(error)
    await ports.registry.set_status(connection, "disconnected")
    if purge:
        await ask(connection, "purge", ports)
    return left


async def ask(connection: Connection, work: str, ports: IngestionPorts) -> None:
    """Ask for a piece of work on *connection* now.

    Raises:
        BusUnavailableError: it was not asked for.
    """
    asked = SourceWork.model_validate(
        {
            "tenantId": connection.tenant_id,
            "connectionId": connection.connection_id,
            "work": work,
            "dueAt": to_text(ports.clock()),
            "traceparent": tracing.new_trace(SOURCE_WORK, connection.tenant_id),
        }
    )
    await ports.bus.send(SOURCE_WORK, [asked.to_message(SOURCE_WORK)])


def export_key(paths: Sequence[Path]) -> str:
    """What tells the position in an export from that in every other: the places of its files."""
    return blake2b("\n".join(sorted(str(path.resolve()) for path in paths)).encode(), digest_size=8).hexdigest()


def history_of_export(connection: Connection, paths: Sequence[Path], ports: IngestionPorts) -> Pages:
    """The history that an export of the source's tells, as pages like the source's own.

    Raises:
        InvalidConnectionError: no source here reads its system.
    """
    return source_of(connection, ports).history_of_export(connection, paths)


def source_of(connection: Connection, ports: IngestionPorts) -> AnySource:
    """The source that reads *connection*.

    Raises:
        InvalidConnectionError: none here does.
    """
    source = ports.sources.get(connection.system)
    if source is None:
        raise InvalidConnectionError(
            f"{connection.system} is no source that this version reads; it reads {', '.join(ports.sources)}"
        )
    return source
