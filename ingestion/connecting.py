"""Making a connection work, and ending it: the test that tells what it leads to, and what is asked for then."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import msgspec

from connections.connection import Connection, InvalidConnectionError
from connections.secrets import SecretError, SecretStore, SecretsUnavailableError
from connections.state import StateError, StateMovedError
from connections.stored_connection import secret_references
from ingestion.asking import ask, ask_for_history
from ingestion.errors import SourceError, TransientError
from ingestion.history_memory import load_memory
from ingestion.ports import IngestionPorts
from ingestion.purge import drop_notes, is_under_way, note_purge, purge_notes
from ingestion.source import AnySource, Checked, Finding, Pages


class ConnectionStateError(Exception):
    """What is asked for does not go with the state that the connection is in; the message says what to do."""


async def check(
    connection: Connection, ports: IngestionPorts, *, instance: str = "", secrets: SecretStore | None = None
) -> Checked:
    """Try *connection* out; what stops it is a finding too, with its remedy. It must lead to *instance*, if one is
    given, and all that it refers to must be in *secrets*: what only pushes need is asked for by no call.

    Raises:
        InvalidConnectionError: no source here reads its system.
    """
    checked = await _tried(connection, ports, instance)
    if secrets is None:
        return checked
    return replace(checked, findings=[*checked.findings, *await _missing_secrets(connection, checked, secrets)])


async def _missing_secrets(connection: Connection, checked: Checked, secrets: SecretStore) -> list[Finding]:
    """The secrets that can't be had, and that nothing found speaks of yet."""
    told = " ".join(f"{one.detail} {one.remedy}" for one in checked.findings)
    missing: list[Finding] = []
    for field, reference in secret_references(connection).items():
        try:
            await secrets.get(connection.tenant_id, reference)
        except SecretError as error:
            if str(error) not in told:
                missing.append(Finding(f"secret of {field}", "error", "it can't be had", str(error)))
        except SecretsUnavailableError as error:
            if str(error) not in told:
                missing.append(Finding(f"secret of {field}", "error", str(error), "try again"))
    return missing


async def _tried(connection: Connection, ports: IngestionPorts, instance: str) -> Checked:
    source = source_of(connection, ports)
    source.forget(connection)
    try:
        checked = await source.check(connection)
    except TransientError as error:
        remedy = "try again; if it stays so, see what stands between this machine and the source, or its status page"
        return Checked("", "", [Finding("login", "error", str(error), remedy)])
    except SourceError as error:
        return Checked("", "", [Finding("login", "error", "nobody can log in", str(error))])
    wanted = instance or connection.instance
    if wanted and checked.instance and checked.instance != wanted:
        finding = Finding(
            "instance",
            "error",
            f"the login leads to {checked.instance}, but the connection is of {wanted}",
            "make a new connection (another --id) for another instance, or log in to the old one",
        )
        return replace(checked, findings=[*checked.findings, finding])
    return checked


async def establish(
    connection: Connection, checked: Checked, ports: IngestionPorts, *, load: bool = False, anew: bool = False
) -> Connection:
    """Store *connection* with what its test found, active, and ask for its first poll at once; with *load* for its
    first load too, *anew* from the beginning.

    Raises:
        InvalidConnectionError: the stored one of its id is of another instance.
        ConnectionStateError: what the one of its id brought is just being taken away.
    """
    found = {"instance": checked.instance or connection.instance, "base_url": checked.base_url, **checked.found}
    return await register(msgspec.structs.replace(connection, **found), ports, load=load, anew=anew)


async def register(
    connection: Connection, ports: IngestionPorts, *, load: bool = False, anew: bool = False
) -> Connection:
    """Store *connection* as it is described, untested, and ask for a poll at once: it is active.

    Raises:
        InvalidConnectionError, ConnectionStateError: see :func:`establish`.
    """
    notes = await purge_notes(connection, ports.states)
    if is_under_way(notes):
        raise ConnectionStateError(
            f"what {connection.connection_id} brought is still being taken away: connect it again once "
            "'shardline status' says that this is finished"
        )
    saved = await ports.registry.save(msgspec.structs.replace(connection, status="active", error_message=None))
    await drop_notes(saved, ports.states)
    # What is read no longer (an object, a user) would keep its error for good.
    await ports.states.drop_errors(saved.tenant_id, saved.connection_id)
    await _begin_again(saved, ports, load=load, anew=anew)
    return saved


async def pause(connection: Connection, ports: IngestionPorts) -> Connection:
    """Have nothing asked of the source until :func:`resume`; what is pushed meanwhile is parked.

    Raises:
        ConnectionStateError: it is disconnected.
    """
    _must_stand(connection)
    return await ports.registry.set_status(connection, "paused") or connection


async def resume(connection: Connection, ports: IngestionPorts) -> Connection:
    """Make a paused or failed connection active, ask for a poll at once, and have its first load go on.

    Raises:
        ConnectionStateError: it is disconnected.
    """
    _must_stand(connection)
    source_of(connection, ports).forget(connection)
    active = await ports.registry.set_status(connection, "active") or connection
    await _begin_again(active, ports)
    return active


async def disconnect(connection: Connection, ports: IngestionPorts, *, purge: bool) -> str | None:
    """End the connection: nothing is asked of the source any more, and nothing taken from it.

    With *purge* all that it brought is taken away. What the source itself does for it (push channels) is ended as far
    as it can still be reached; else the answer says what was left, in words.
    """
    await ports.registry.set_status(connection, "disconnected")
    if purge:
        await note_purge(connection, ports.states, ports.clock())
    left: str | None = None
    try:
        await source_of(connection, ports).stop(connection)
    except (SourceError, StateMovedError, StateError, InvalidConnectionError) as error:
        left = str(error)
    if purge:
        await ask([connection], "purge", ports)
    return left


def _must_stand(connection: Connection) -> None:
    if connection.status == "disconnected":
        raise ConnectionStateError(
            f"{connection.connection_id} is disconnected: 'shardline connect {connection.system}' connects it again"
        )


async def _begin_again(
    connection: Connection, ports: IngestionPorts, *, load: bool = False, anew: bool = False
) -> None:
    """Ask for what was dropped while the connection was not active: a poll, and the rest of its first load."""
    await ask([connection], "poll", ports)
    loaded = (await load_memory(connection, ports.states)).metadata
    if load or (loaded.asked_at is not None and loaded.finished_at is None):
        await ask_for_history([connection], ports, anew=anew)


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
