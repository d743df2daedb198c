"""All that the Drives hold, as resumable pages of whole events: folders of each Drive first, then what is in them.

The same pages come from a folder tree on disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from connections.gdrive_connection import DriveConnection
from ingestion.errors import CredentialError, SourceError, TransientError
from ingestion.gdrive import fields
from ingestion.gdrive.client import DriveClients, File, subjects_of
from ingestion.gdrive.content import ContentReader, TextExtractor, content_version
from ingestion.gdrive.errors import LostTokenError, NotFoundError
from ingestion.gdrive.events import FOLDER, Content, content_of_shard, file_event, gone_event, instance_of, shard_of
from ingestion.gdrive.file_reader import FileReader, ReadFile
from ingestion.gdrive.folder_tree import FolderTreeError, TreeFile, read_folder_tree
from ingestion.gdrive.memory import DriveNotes, log_key, new_log_memory
from ingestion.gdrive.permissions import principals_of
from ingestion.gdrive.poll import Log, logs_of
from ingestion.gdrive.taking import known_drives
from ingestion.source import HistoryPage, Pages, Position, SourcePorts
from messaging.contracts import IngestionEvent
from messaging.times import to_text
from shards.model import Shard

FOLDERS_A_PAGE: Final = 100
FILES_A_PAGE: Final = 10
"""Each is downloaded and read within its page."""
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

    async def page(self, position: Position | None) -> HistoryPage:
        """The page at *position*: ``{"log", "part": "folders" | "files", "page"}``, None for the beginning.

        Raises:
            TransientError: the first poll has yet to take the start tokens; what changes during the load would be lost.
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
            events, page = await self._read(here, str(at["part"]), at.get("page"), notes)
        except LostTokenError:
            return HistoryPage([], {**at, "page": None})
        except (NotFoundError, CredentialError):
            if len(subjects_of(self.connection)) == 1 and here.drive_id is None:
                raise
            return HistoryPage([], self._next(here, "files", None, logs))
        return HistoryPage(events, self._next(here, str(at["part"]), page, logs))

    def _next(self, here: Log, part: str, page: str | None, logs: list[Log]) -> Position | None:
        if page is not None:
            return {"log": here.name, "part": part, "page": page}
        if part == "folders":
            return {"log": here.name, "part": "files", "page": None}
        place = logs.index(here) + 1
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

    async def _read(
        self, here: Log, part: str, page: str | None, notes: DriveNotes
    ) -> tuple[list[IngestionEvent], str | None]:
        q, size = _QUERIES[part]
        client = self.clients.of(self.connection, here.subject)
        listed = await client.files(q, fields.FILES, page_size=size, page=page, drive_id=here.drive_id)
        files = listed.files
        if part == "folders" and page is None and here.drive_id is not None:
            files = [await client.file(here.drive_id), *files]
        content = ContentReader(self.connection, self.extractor, self.ports.blobs)
        reader = FileReader(self.connection, self.clients, notes.drives, content, self.ports.clock)
        stored = await self._stored(files)
        read_at = to_text(self.ports.clock())
        events = []
        for file in files:
            if self._is_of_another(file, here, notes):
                continue
            read = await self._told(file, here, reader, stored.get(str(file["id"])), read_at)
            if read is not None and read.event is not None:
                events.append(read.event)
        return events, listed.next_page

    async def _told(
        self, file: File, here: Log, reader: FileReader, stored: Shard | None, read_at: str
    ) -> ReadFile | None:
        client = self.clients.of(self.connection, here.subject)
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
