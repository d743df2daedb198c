"""What following Drives keeps in ``integration.state``: a state a change log, and some a connection."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from connections.gdrive_connection import DriveConnection
from connections.state import Saved
from ingestion.connection_memory import SourceMemory
from ingestion.source import SourcePorts
from messaging.times import to_text


class Relisting(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A listing of all that a log is about, under way.

    *start_token* is where the log goes on after it, None where it only checks. First everything is listed, from *page*
    on: *listed* ids so far, their hashes kept in *parts* states. Then what is stored is compared, from *cursor* on.
    """

    began_at: str
    start_token: str | None = None
    phase: Literal["list", "check"] = "list"
    page: str | None = None
    listed: int = 0
    parts: int = 0
    cursor: str | None = None


class LogNotes(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """*token* is where the log is read on; it is never used with another log."""

    token: str | None = None
    relisting: Relisting | None = None


class LogMemory(SourceMemory, frozen=True, kw_only=True):
    """How following one change log stands."""

    metadata: LogNotes = LogNotes()
    last_sync_at: str | None = None
    error_message: str | None = None


Stage = Literal["remove", "wait", "load", "confirm"]
"""Steps after a change of what is wanted, in their order: what is not wanted any more is taken away; the first load is
waited for; everything is listed; what was on its way is looked at."""


class SelectionNotes(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What was wanted last, as *fingerprint* of the folders and *subjects*, and how far is what follows from a change.

    *stage* None: nothing is left to be done. *changed_at* is when the change was noticed, *again_at* when a sweep is
    asked for (again) that goes on. *cursor* is of a pass through what is stored. *removed* is how many were taken away.
    *under_way* says in words what is being done.
    """

    fingerprint: str | None = None
    subjects: tuple[str, ...] = ()
    stage: Stage | None = None
    changed_at: str | None = None
    again_at: str | None = None
    cursor: str | None = None
    removed: int = 0
    under_way: str | None = None


class SelectionMemory(SourceMemory, frozen=True, kw_only=True):
    """Which folders and users a connection wanted last."""

    metadata: SelectionNotes = SelectionNotes()


class KnownDrive(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A shared drive, and those of the connection's users who are its members, in the connection's order."""

    name: str = ""
    members: tuple[str, ...] = ()


class DriveNotes(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The shared drives, *asked_at* a moment; *users* are those whose logs have been begun, *shared* whether shared
    drives were wanted.

    *cut_at* is the log at which a poll's time was over, the poll that was due at *cut_due*.
    """

    drives: Mapping[str, KnownDrive] = msgspec.field(default_factory=dict)
    asked_at: str | None = None
    users: tuple[str, ...] = ()
    shared: bool = True
    cut_at: str | None = None
    cut_due: str | None = None


class DrivesMemory(SourceMemory, frozen=True, kw_only=True):
    """What a connection knows of shared drives."""

    metadata: DriveNotes = DriveNotes()


class KnownFolder(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A folder as it was read last: its path, who may read it, and whether it was there (and wanted) at all."""

    read_at: str
    there: bool = True
    path: str = ""
    principals: tuple[str, ...] = ()


class FolderNotes(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Folders that were read lately, by id."""

    folders: Mapping[str, KnownFolder] = msgspec.field(default_factory=dict)


class FoldersMemory(SourceMemory, frozen=True, kw_only=True):
    """Folders that were read lately: what is stored of them may still be on its way."""

    metadata: FolderNotes = FolderNotes()


class Channel(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An open push channel on a log, opened as *subject*; *mark* tells its token from one that another secret makes."""

    channel_id: str
    resource_id: str
    subject: str
    expires_at: str
    address: str = ""
    mark: str = ""


class ChannelNotes(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Open channels by log, and those that are to be stopped."""

    channels: Mapping[str, Channel] = msgspec.field(default_factory=dict)
    left: tuple[Channel, ...] = ()


class ChannelsMemory(SourceMemory, frozen=True, kw_only=True):
    """The push channels of a connection."""

    metadata: ChannelNotes = ChannelNotes()


class ListedIds(SourceMemory, frozen=True, kw_only=True):
    """A part of a listing under way; *metadata* has the hashes of its ids, packed, as base64 under ``ids``."""

    metadata: Mapping[str, str]


def log_key(connection: DriveConnection, log: str) -> str:
    """Under which key :class:`LogMemory` is kept; *log* is a user's address or a shared drive's id."""
    return f"{connection.connection_id}/log/{log}"


def sweep_key(connection: DriveConnection, log: str) -> str:
    """Under which key the :class:`LogMemory` of a sweep is kept."""
    return f"{connection.connection_id}/sweep/{log}"


def part_key(key: str, part: int) -> str:
    """Under which key a part of the listing of the log memory under *key* is kept."""
    return f"{key}/listing/{part}"


def drives_key(connection: DriveConnection) -> str:
    """Under which key :class:`DrivesMemory` is kept."""
    return f"{connection.connection_id}/drives"


def selection_key(connection: DriveConnection) -> str:
    """Under which key :class:`SelectionMemory` is kept."""
    return f"{connection.connection_id}/selection"


def folders_key(connection: DriveConnection, part: str) -> str:
    """Under which key a part of :class:`FoldersMemory` is kept."""
    return f"{connection.connection_id}/folders/{part}"


def channels_key(connection: DriveConnection) -> str:
    """Under which key :class:`ChannelsMemory` is kept."""
    return f"{connection.connection_id}/channels"


def new_log_memory(connection: DriveConnection, log: str) -> LogMemory:
    """The memory of a log that was never read."""
    return LogMemory.new(connection, f"changes of {log or 'the service account'}")


async def keep_log(
    connection: DriveConnection, key: str, saved: Saved[LogMemory], notes: LogNotes, ports: SourcePorts
) -> Saved[LogMemory]:
    """Save how a log stands that was read now.

    Raises:
        StateMovedError: another worker has written it.
    """
    value = msgspec.structs.replace(
        saved.value, metadata=notes, last_sync_status="success", last_sync_at=to_text(ports.clock()), error_message=None
    )
    return await ports.states.save(connection.tenant_id, key, saved, value)


def new_drives_memory(connection: DriveConnection) -> DrivesMemory:
    """The memory of a connection that has not asked for shared drives."""
    return DrivesMemory.new(connection, "shared drives")


def new_selection_memory(connection: DriveConnection) -> SelectionMemory:
    """The memory of a connection of which nobody has noted what it wants."""
    return SelectionMemory.new(connection, "what is wanted", status="success")


def new_folders_memory(connection: DriveConnection) -> FoldersMemory:
    """The memory of a connection that has read no folder lately."""
    return FoldersMemory.new(connection, "folders read lately", status="success")


def new_channels_memory(connection: DriveConnection) -> ChannelsMemory:
    """The memory of a connection without push channels."""
    return ChannelsMemory.new(connection, "push channels")


def new_listed_ids(connection: DriveConnection, ids: str) -> ListedIds:
    """A part of a listing with *ids*, packed."""
    return ListedIds.new(connection, "listed files", status="success", metadata={"ids": ids})
