"""Reading whole files by id: by the user who sees most of them, with permissions, path and text."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connections.gdrive_connection import DriveConnection
from ingestion.errors import CredentialError, SourceError, TransientError
from ingestion.gdrive.client import DriveClient, DriveClients, File, subjects_of
from ingestion.gdrive.closed_files import ClosedFiles
from ingestion.gdrive.content import ContentReader
from ingestion.gdrive.errors import FileRefusedError, NotFoundError
from ingestion.gdrive.events import Content, closed_event, content_of_shard, file_event, gone_event, relationship_of
from ingestion.gdrive.memory import KnownDrive
from ingestion.gdrive.mime_types import FOLDER
from ingestion.gdrive.permissions import next_end, principals_of
from ingestion.gdrive.places import Place, Places
from messaging.contracts import IngestionEvent
from messaging.times import Clock, to_text
from shards.model import Shard

log = logging.getLogger(__name__)

ASKED_FOR_PERMISSIONS = 10
"""So many users are asked who may read a file before it stays closed."""
ASKED_FOR_FOLDERS = 10
"""So many others are asked for a file whose reader does not see all folders above it."""


class UnaskedError(SourceError):
    """Nobody who could be asked sees the file, but not everybody could be asked: nothing is known."""


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file as it was read. *event* None: it is not there (or not wanted), and nothing is stored of it.

    *there*: it is to be read; a file in the bin or out of the folders wanted is not. *found*: some user sees it, or
    may. *closed*: nobody may read it, since nobody could say who may. *unread*: why its content could not be had now.
    *expires_at*: when somebody may open it no longer.
    """

    file_id: str
    read_at: str
    event: IngestionEvent | None
    there: bool
    found: bool
    folder: bool = False
    closed: bool = False
    path: str = ""
    principals: tuple[str, ...] = ()
    client: DriveClient | None = None
    drive_id: str | None = None
    unread: TransientError | None = None
    expires_at: datetime | None = None


@dataclass(slots=True)
class FileReader:
    """Reads files of one connection; use one for files that are read together."""

    connection: DriveConnection
    clients: DriveClients
    drives: Mapping[str, KnownDrive]
    content: ContentReader
    clock: Clock
    closed: ClosedFiles
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.places = Places(self.connection, self.drives)

    async def read(self, file_id: str, stored: Shard | None, first: str | None, *, told: bool = False) -> ReadFile:
        """The file as it is now; *first* is the user who is asked first. *told*: its log, and maybe others, told of it.

        What nobody sees who could be asked, while others could not, is closed: somebody may have lost it.

        Raises:
            TransientError, BudgetExhaustedError, CredentialError: ask again.
        """
        read_at = to_text(self.clock())
        try:
            found = await self._find(file_id, self._candidates(stored, first, told=told))
        except UnaskedError as error:
            self.closed.note(self.connection, file_id, str(error))
            return self._unasked(file_id, stored, read_at)
        if found is None:
            return self._gone(file_id, stored, read_at)
        file, client = await self._as_who_sees_most(*found)
        return await self.told(file, client, stored, read_at=read_at)

    async def told(self, file: File, client: DriveClient, stored: Shard | None, *, read_at: str) -> ReadFile:
        """A file that *client* has just read, with all that is to be known of it."""
        file_id, folder = str(file["id"]), file.get("mimeType") == FOLDER
        drive = self.drives.get(file_id)
        if drive is not None and file.get("driveId") == file_id:
            # The top of a shared drive is a folder whose name is not the drive's.
            file = {**file, "name": drive.name}
        if folder:
            self.places.note(file, client)
        place = await self.places.of(file, client)
        if not place.whole and (self.connection.folders or self.connection.left_out):
            file, client, place = await self._with_folders(file, client, place)
        if file.get("trashed") or not place.wanted:
            # What was read of it before may be on its way to the store; but what is never wanted leaves no trace.
            told = place.wanted or (stored is not None and stored.is_live)
            event = gone_event(self.connection, file_id, str(file["version"]), read_at=read_at) if told else None
            return ReadFile(file_id, read_at, event, there=False, found=True, folder=folder, client=client)
        return await self._there(file, client, stored, place, read_at)

    async def _with_folders(self, file: File, client: DriveClient, place: Place) -> tuple[File, DriveClient, Place]:
        """The file as a user sees it who sees the folders above it: by those it is wanted or not."""
        drive = self.drives.get(str(file.get("driveId") or ""))
        others = drive.members if drive else subjects_of(self.connection)
        for subject in [other for other in others if other != client.subject][:ASKED_FOR_FOLDERS]:
            other = self.clients.of(self.connection, subject)
            try:
                seen = await other.file(str(file["id"]))
                further = await self.places.of(seen, other)
            except (NotFoundError, FileRefusedError, CredentialError):
                continue
            if further.whole or (further.wanted and not place.wanted):
                return seen, other, further
        return file, client, place

    async def _there(
        self, file: File, client: DriveClient, stored: Shard | None, place: Place, read_at: str
    ) -> ReadFile:
        permissions = await self._permissions(file, client)
        file = {**file, "permissions": permissions} if permissions is not None else _without(file, "permissions")
        acl = None if permissions is None else principals_of(permissions, self.clock())
        known, unread = _still_right(content_of_shard(stored), stored, file), None
        try:
            content = await self.content.content(file, client, known)
        except TransientError as error:
            # Who may read it is told all the same.
            unread = error
            content = known or Content("failed", problem=f"not read yet: {error}"[:500])
        event = file_event(
            self.connection,
            file,
            path=place.path,
            acl=acl,
            content=content,
            read_at=read_at,
            is_new=stored is None,
        )
        return ReadFile(
            str(file["id"]),
            read_at,
            event,
            there=True,
            found=True,
            folder=file.get("mimeType") == FOLDER,
            closed=acl is None,
            path=place.path,
            principals=tuple(acl or ()),
            client=client,
            drive_id=file.get("driveId"),
            unread=unread,
            expires_at=next_end(permissions or [], self.clock()),
        )

    def _gone(self, file_id: str, stored: Shard | None, read_at: str) -> ReadFile:
        """A file that nobody sees, as of the moment of asking."""
        event = None
        folder = stored is not None and stored.shard_type_id == "c_folder"
        if stored is not None and stored.is_live and (relationship := relationship_of(self.connection, stored)):
            event = gone_event(self.connection, file_id, relationship.source_version, read_at=read_at)
        return ReadFile(file_id, read_at, event, there=False, found=False, folder=folder)

    def _unasked(self, file_id: str, stored: Shard | None, read_at: str) -> ReadFile:
        """A file of which nothing is known: as it is stored, and closed."""
        event = closed_event(self.connection, stored, read_at=read_at) if stored is not None else None
        folder = stored is not None and stored.shard_type_id == "c_folder"
        path = str(stored.structured_data.get("path") or "") if stored is not None else ""
        there = stored is None or stored.is_live
        return ReadFile(file_id, read_at, event, there=there, found=True, folder=folder, closed=True, path=path)

    def _candidates(self, stored: Shard | None, first: str | None, *, told: bool) -> list[str]:
        """Who may see the file, likeliest first. Of what is not stored nothing is lost if the others are not asked."""
        subjects = subjects_of(self.connection)
        known = [first] if first in subjects else []
        if stored is None or not stored.is_live:
            return list(dict.fromkeys([*known, *subjects])) if told else known or list(subjects)
        data = stored.structured_data
        drive = self.drives.get(str(data.get("driveId") or ""))
        owner = data.get("owner")
        named = {principal.removeprefix("user:") for principal in stored.acl.principals}
        others: Sequence[str] = subjects
        if named and all(principal.startswith("user:") for principal in stored.acl.principals) and drive is None:
            others = [subject for subject in subjects if subject in named]
        likely = [owner] if owner in subjects else []
        return list(dict.fromkeys([*known, *likely, *(drive.members if drive else ()), *others]))

    async def _find(self, file_id: str, candidates: Sequence[str]) -> tuple[File, DriveClient] | None:
        refused: CredentialError | FileRefusedError | None = None
        asked = 0
        for subject in candidates:
            client = self.clients.of(self.connection, subject)
            try:
                return await client.file(file_id), client
            except NotFoundError:
                asked += 1
            except (CredentialError, FileRefusedError) as error:
                refused = error
        if isinstance(refused, CredentialError) and not asked and set(candidates) >= set(subjects_of(self.connection)):
            raise refused
        if refused is not None:
            raise UnaskedError(f"it is not found, but not every user could be asked: {refused}")
        return None

    async def _as_who_sees_most(self, file: File, client: DriveClient) -> tuple[File, DriveClient]:
        """The file as its owner sees it, or a member of its shared drive, who see the folders above it; as it was read,
        where those are no users of ours."""
        drive = self.drives.get(str(file.get("driveId") or ""))
        if drive is not None:
            return await self._as_a_member(file, client, drive)
        subjects = subjects_of(self.connection)
        owners = file.get("owners")
        owner = str(owners[0].get("emailAddress") or "").lower() if isinstance(owners, list) and owners else ""
        if owner == client.subject or owner not in subjects:
            return file, client
        as_owner = self.clients.of(self.connection, owner)
        try:
            return await as_owner.file(str(file["id"])), as_owner
        except (NotFoundError, FileRefusedError, CredentialError) as error:
            log.info("%s could not read a file of their own: %s", as_owner.name, error)
            return file, client

    async def _as_a_member(self, file: File, client: DriveClient, drive: KnownDrive) -> tuple[File, DriveClient]:
        if client.subject in drive.members:
            return file, client
        for member in drive.members:
            as_member = self.clients.of(self.connection, member)
            try:
                return await as_member.file(str(file["id"])), as_member
            except (NotFoundError, FileRefusedError, CredentialError) as error:
                log.info("%s could not read a file of their shared drive: %s", as_member.name, error)
        return file, client

    async def _permissions(self, file: File, client: DriveClient) -> list[dict[str, Any]] | None:
        """Who may open the file; None when nobody who was asked may know."""
        drive_id = file.get("driveId")
        known = file.get("permissions")
        if isinstance(known, list) and not drive_id:
            return known
        drive = self.drives.get(str(drive_id or ""))
        others = (*(drive.members if drive else ()), *subjects_of(self.connection))
        for subject in list(dict.fromkeys([client.subject, *others]))[:ASKED_FOR_PERMISSIONS]:
            try:
                return await self.clients.of(self.connection, subject).permissions(str(file["id"]))
            except (NotFoundError, FileRefusedError, CredentialError):
                continue
        self.closed.note(self.connection, str(file["id"]), "nobody may say who reads it")
        return None


def _still_right(content: Content | None, stored: Shard | None, file: File) -> Content | None:
    """What is stored of the content, unless nothing was read of it for what its name and type said before."""
    if content is None or stored is None or content.status == "extracted":
        return content
    data = stored.structured_data
    same = (data.get("name"), data.get("mimeType")) == (file.get("name"), file.get("mimeType"))
    return content if same else None


def _without(file: File, name: str) -> File:
    return {key: value for key, value in file.items() if key != name}
