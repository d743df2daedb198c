"""All that the Drives hold, as resumable pages of whole events: folders of each Drive first, then what is in them.

The same pages come from a folder tree on disk.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from connections.gdrive_connection import DriveConnection
from ingestion.errors import CredentialError, SourceError, TransientError
from ingestion.gdrive import fields
from ingestion.gdrive.client import DriveClient, DriveClients, File, subjects_of
from ingestion.gdrive.closed_files import ClosedFiles
from ingestion.gdrive.content import ContentPassingError, ContentReader, RecentContents, TextExtractor, content_version
from ingestion.gdrive.errors import (
    HTML_PAUSE,
    FileRefusedError,
    LostTokenError,
    NotFoundError,
    RequestRefusedError,
    SubjectError,
)
from ingestion.gdrive.events import Content, content_of_shard, file_event, gone_event, instance_of, shard_of
from ingestion.gdrive.file_reader import FileReader, ReadFile
from ingestion.gdrive.folder_tree import FolderTreeError, TreeFile, read_folder_tree
from ingestion.gdrive.memory import DriveNotes, log_key, new_log_memory
from ingestion.gdrive.mime_types import FOLDER
from ingestion.gdrive.neighbours import ask_elsewhere, is_of_one_of, neighbours_of
from ingestion.gdrive.permissions import principals_of
from ingestion.gdrive.poll import Log, logs_of
from ingestion.gdrive.read_requests import at_end
from ingestion.gdrive.taking import known_drives
from ingestion.source import HistoryPage, Pages, Position, SourcePorts
from messaging.contracts import IngestionEvent, SourceWork
from messaging.times import to_text
from shards.model import Shard

log = logging.getLogger(__name__)

FOLDERS_A_PAGE: Final = 100
FILES_A_PAGE: Final = 25
"""Each is downloaded and read within its page."""
PAGE_FOR: Final = timedelta(seconds=45)
"""How long one page is worked at, but for its first file: the rest comes with the next, well within a lease."""
FILE_TRIES: Final = 5
"""How often a file that fails by itself is tried (each time with pauses) before the load goes on without its content,
or without it; sweeps ask for it."""
AGAIN_AFTER: Final = timedelta(seconds=2)

_QUERIES: Final[Mapping[str, tuple[str, int]]] = {
    "folders": (f"mimeType = '{FOLDER}' and trashed = false", FOLDERS_A_PAGE),
    "files": (f"mimeType != '{FOLDER}' and trashed = false", FILES_A_PAGE),
}


@dataclass(slots=True)
class History:
    """The first load of one connection."""

    connection: DriveConnection
    ports: SourcePorts
    clients: DriveClients
    extractor: TextExtractor
    recent: RecentContents
    closed: ClosedFiles

    async def page(self, position: Position | None) -> HistoryPage:
        """The page at *position*: ``{"log", "part": "folders" | "files", "page", "after"?, "tries"?}``, None for the
        beginning. *after* is the file of the page that was read last, *tries* how often the next one failed.

        Raises:
            TransientError: Drive can't be asked now; or the first poll has yet to take the start tokens, and what
                changes during the load would be lost.
            CredentialError: no user can be asked.
        """
        notes = await known_drives(self.connection, self.ports)
        logs = logs_of(self.connection, notes)
        if position is None:
            await self._require_tokens(logs, notes)
        at = position or {"log": logs[0].name, "part": "folders", "page": None}
        here = next((one for one in logs if one.name == at["log"]), None)
        if here is None:
            # A user or a drive that has gone since: the next that is still there, in the order of logs.
            return HistoryPage([], self._after_gone(str(at["log"]), logs))
        try:
            return await self._as_a_member(here, at, notes, logs)
        except LostTokenError:
            return HistoryPage([], {"log": here.name, "part": at["part"], "page": None})
        except (NotFoundError, FileRefusedError, RequestRefusedError, CredentialError) as error:
            tries = int(at.get("tries", 0))
            if isinstance(error, CredentialError):
                await self._require_somebody(error)
                if not isinstance(error, SubjectError) and tries < FILE_TRIES:
                    return HistoryPage([], {**at, "tries": tries + 1})
            elif len(logs) == 1:
                raise
            log.warning("connection %s: %s is not loaded: %s", self.connection.connection_id, here.name, error)
            return HistoryPage([], self._next(here, "files", None, logs))

    async def _as_a_member(self, here: Log, at: Position, notes: DriveNotes, logs: list[Log]) -> HistoryPage:
        """The page; of a shared drive as the first member reads it whom Google gives a token."""
        members = notes.drives[here.drive_id].members if here.drive_id is not None else ()
        for member in members[:-1]:
            try:
                return await self._read(replace(here, subject=member), at, notes, logs)
            except CredentialError as error:
                log.info("connection %s: %s", self.connection.connection_id, error)
        return await self._read(replace(here, subject=members[-1]) if members else here, at, notes, logs)

    async def _require_somebody(self, error: CredentialError) -> None:
        """Raise *error* unless another user can be asked: then it is of one user alone."""
        for subject in subjects_of(self.connection):
            try:
                await self.clients.of(self.connection, subject).about()
            except (CredentialError, FileRefusedError):
                continue
            return
        raise error

    def _next(self, here: Log, part: str, page: str | None, logs: list[Log]) -> Position | None:
        if page is not None:
            return {"log": here.name, "part": part, "page": page}
        if part == "folders":
            return {"log": here.name, "part": "files", "page": None}
        place = [one.name for one in logs].index(here.name) + 1
        return {"log": logs[place].name, "part": "folders", "page": None} if place < len(logs) else None

    def _after_gone(self, name: str, logs: list[Log]) -> Position | None:
        left = [one for one in logs if one.drive_id is not None and one.name > name]
        return {"log": left[0].name, "part": "folders", "page": None} if left else None

    async def _require_tokens(self, logs: list[Log], notes: DriveNotes) -> None:
        for one in logs:
            key, empty = log_key(self.connection, one.name), new_log_memory(self.connection, one.name)
            saved = await self.ports.states.load(self.connection.tenant_id, key, empty)
            if notes.asked_at is None or (saved.value.metadata.token is None and saved.value.error_message is None):
                raise TransientError("the first poll has yet to take the start token", AGAIN_AFTER)

    async def _read(self, here: Log, at: Position, notes: DriveNotes, logs: list[Log]) -> HistoryPage:
        part, page = str(at["part"]), at.get("page")
        q, size = _QUERIES[part]
        client = self.clients.of(self.connection, here.subject)
        began = self.ports.clock()
        listed = await client.files(q, fields.FILES, page_size=size, page=page, drive_id=here.drive_id)
        files = listed.files
        if part == "folders" and page is None and here.drive_id is not None:
            files = [await client.file(here.drive_id), *files]
        files = [file for file in _after(files, at.get("after")) if not self._is_of_another(file, here, notes)]
        content = ContentReader(self.connection, self.extractor, self.ports.blobs, self.recent)
        reader = FileReader(self.connection, self.clients, notes.drives, content, self.ports.clock, self.closed)
        stored = await self._stored(files)
        read_at = to_text(began)
        neighbours = await neighbours_of(self.connection, self.ports.registry)
        events: list[IngestionEvent] = []
        ends: list[SourceWork] = []
        here_again = {"log": here.name, "part": part, "page": page}
        for place, file in enumerate(files):
            if place and self.ports.clock() >= began + PAGE_FOR:
                return HistoryPage(events, {**here_again, "after": str(files[place - 1]["id"])}, later=ends)
            tries = int(at.get("tries", 0)) if place == 0 else 0
            try:
                read = await self._told(reader, client, file, stored.get(str(file["id"])), read_at)
                if read is not None and read.unread is not None and _is_waited_for(read.unread, tries):
                    raise read.unread
            except TransientError as error:
                if place:
                    # What was read so far is told; the next page begins with this file.
                    return HistoryPage(events, {**here_again, "after": str(files[place - 1]["id"])}, later=ends)
                if error.after not in (None, HTML_PAUSE) or error.smaller:
                    raise
                if tries < FILE_TRIES:
                    return HistoryPage([], {**at, "tries": tries + 1})
                log.warning("%s: the file %s is left to a sweep: %s", client.name, file["id"], error)
                continue
            if read is not None and read.event is not None and not self._is_of_one_of(neighbours, read, stored):
                events.append(read.event)
            if read is not None and read.closed:
                ends += ask_elsewhere(neighbours, [read.file_id], read.read_at, because="closed elsewhere")
            if read is not None and read.expires_at is not None:
                ends.append(at_end(self.connection, read.file_id, read.expires_at, subject=here.subject))
        self.closed.tell(self.connection)
        return HistoryPage(events, self._next(here, part, listed.next_page, logs), later=ends)

    def _is_of_one_of(self, neighbours: list[DriveConnection], read: ReadFile, stored: Mapping[str, Shard]) -> bool:
        """Whether a file that is not wanted here, or closed, is stored for another connection of the domain."""
        shard = stored.get(read.file_id)
        if shard is None or (read.there and not (read.closed and shard.acl.principals)):
            return False
        return is_of_one_of(neighbours, self.connection, shard)

    async def _told(
        self, reader: FileReader, client: DriveClient, file: File, stored: Shard | None, read_at: str
    ) -> ReadFile | None:
        """The file; None when it is gone.

        Raises:
            TransientError: try again.
        """
        try:
            return await reader.told(file, client, stored, read_at=read_at)
        except NotFoundError:
            # Gone since it was listed: the change log tells.
            return None

    def _is_of_another(self, file: File, here: Log, notes: DriveNotes) -> bool:
        """Whether a file that was shared with this user is told of with its owner's own, or with its shared drive's."""
        if here.drive_id is None and file.get("driveId") in notes.drives:
            return True
        owners = file.get("owners")
        owner = str(owners[0].get("emailAddress") or "").lower() if isinstance(owners, list) and owners else ""
        return here.drive_id is None and owner != here.subject and owner in subjects_of(self.connection)

    async def _stored(self, files: list[File]) -> dict[str, Shard]:
        by_shard = {shard_of(self.connection, str(file["id"])): str(file["id"]) for file in files}
        found = await self.ports.store.get_many(self.connection.tenant_id, list(by_shard))
        return {by_shard[shard_id]: shard for shard_id, shard in found.items()}


def _is_waited_for(error: TransientError, tries: int) -> bool:
    """Whether a content is tried again within the load, not left to a sweep."""
    if isinstance(error, ContentPassingError):
        return False
    return tries < FILE_TRIES or error.after not in (None, HTML_PAUSE)


def _after(files: list[File], last: object) -> list[File]:
    """What comes behind the file *last*; all when it is not among *files*."""
    place = next((number for number, file in enumerate(files) if file["id"] == last), -1)
    return files[place + 1 :]


def history_of_folder(
    path: Path, connection: DriveConnection, ports: SourcePorts, extractor: TextExtractor, *, domain: str | None = None
) -> Pages:
    """The history that a folder tree on disk tells, in pages like those of the Drives.

    All have version 1, so that what is read of Drive itself wins. The pages raise :class:`SourceError` naming what
    can't be read.
    """
    whose = domain or _domain(connection)

    async def page(position: Position | None) -> HistoryPage:
        try:
            tree = read_folder_tree(path, domain=whose)
        except FolderTreeError as error:
            raise TreeError(str(error)) from error
        start = int((position or {}).get("next", 0))
        part = tree.files[start : start + FILES_A_PAGE]
        reader = ContentReader(connection, extractor, ports.blobs)
        read_at = to_text(ports.clock())
        events = [await _tree_event(connection, file, reader, ports, read_at) for file in part]
        end = start + len(part)
        following = {"next": end} if end < len(tree.files) else None
        return HistoryPage(events, following, total=len(tree.files))

    return page


class TreeError(SourceError):
    """A folder tree that can't be read."""


async def _tree_event(
    connection: DriveConnection, file: TreeFile, reader: ContentReader, ports: SourcePorts, read_at: str
) -> IngestionEvent:
    resource = dict(file.resource)
    if resource.get("trashed"):
        return gone_event(connection, file.file_id, str(resource["version"]), read_at=read_at)
    content: Content | None = None
    if file.location is not None:
        stored = await ports.store.get(connection.tenant_id, shard_of(connection, file.file_id))
        content = await _tree_content(connection, file, reader, content_of_shard(stored))
    permissions = [dict(permission) for permission in file.permissions]
    return file_event(
        connection,
        {**resource, "permissions": permissions},
        path=f"/{file.path}",
        acl=principals_of(permissions, ports.clock()),
        content=content,
        read_at=read_at,
        is_new=True,
    )


async def _tree_content(
    connection: DriveConnection, file: TreeFile, reader: ContentReader, stored: Content | None
) -> Content:
    version = content_version(file.resource)
    if stored is not None and stored.version == version:
        return stored
    with _opened(file) as opened:
        content = opened.read(connection.content_bytes + 1)
    if len(content) > connection.content_bytes:
        problem = f"too-large: the file has more than the {connection.content_bytes:,} bytes that are read"
        return Content("none", version, problem=problem)
    return await reader.kept(file.resource, content, file.content_type)


def _opened(file: TreeFile) -> Any:
    try:
        return file.open()
    except FolderTreeError as error:
        raise TreeError(str(error)) from error


def _domain(connection: DriveConnection) -> str:
    """The domain that files on disk belong to: that of the first user."""
    subjects = subjects_of(connection)
    return subjects[0].rpartition("@")[2] or instance_of(connection).removeprefix("domain:")
