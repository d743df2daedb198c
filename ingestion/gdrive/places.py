"""Where files are: their paths, and whether the connection wants them, by the folders above them."""

from collections.abc import Mapping
from dataclasses import dataclass
from unicodedata import normalize

from connections.gdrive_connection import DriveConnection
from ingestion.gdrive import fields
from ingestion.gdrive.client import DriveClient, File
from ingestion.gdrive.errors import FileRefusedError, NotFoundError
from ingestion.gdrive.memory import KnownDrive

DEEPEST = 200
"""Folders above a file; Drive has at most 100 levels."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file's path from the top of its Drive (behind the name of a shared drive), and whether it is to be read.

    *whole*: all folders up to the top were seen; where some are hidden from a user, another may know better.
    """

    path: str
    wanted: bool
    whole: bool


class Places:
    """Looks up folders above files; each folder is asked for once, so use one for files that are read together."""

    def __init__(self, connection: DriveConnection, drives: Mapping[str, KnownDrive]) -> None:
        self._connection = connection
        self._drives = drives
        self._folders: dict[tuple[str, str], File | None] = {}

    def note(self, file: File, client: DriveClient) -> None:
        """Remember a folder that was just read."""
        self._folders[client.subject, str(file["id"])] = file

    async def of(self, file: File, client: DriveClient) -> Place:
        """The place of *file*, which *client* has just read.

        Names in it are in Unicode's composed form, and a slash in a name is written as U+2215.
        """
        chains = [await self._chain(file, parent, client) for parent in _parents(file)] or [([], [], False)]
        names = chains[0][0]
        path = "/" + "/".join([*reversed(names), _shown(file.get("name"))])
        own = {str(file["id"]), str(file.get("driveId") or "")}
        wanted = any(self._wants({*ids, *own}) for _, ids, _ in chains)
        whole = all(seen for _, _, seen in chains)
        return Place(path, wanted and (not file.get("driveId") or self._connection.shared_drives), whole)

    def _wants(self, ids: set[str]) -> bool:
        folders, left_out = self._connection.folders, self._connection.left_out
        return (not folders or not ids.isdisjoint(folders)) and ids.isdisjoint(left_out)

    async def _chain(self, file: File, parent: str, client: DriveClient) -> tuple[list[str], list[str], bool]:
        """Names and ids of the folders above *file*, the nearest first, and whether that is all up to the top. What
        can't be seen ends it."""
        names: list[str] = []
        ids: list[str] = []
        above: str | None = parent
        while above is not None and above not in ids and len(ids) < DEEPEST:
            ids.append(above)
            if above == file.get("driveId"):
                names.append(_shown(await self._drive_name(above, client)))
                return names, ids, True
            folder = await self._folder(above, client)
            if folder is None:
                break
            parents = _parents(folder)
            if not parents and above == await client.root():
                return names, ids, True
            names.append(_shown(folder.get("name")))
            above = parents[0] if parents else None
        return names, ids, False

    async def _drive_name(self, drive_id: str, client: DriveClient) -> str:
        known = self._drives.get(drive_id)
        if known is not None:
            return known.name
        folder = await self._folder(drive_id, client)
        return str(folder.get("name") or "") if folder else ""

    async def _folder(self, folder_id: str, client: DriveClient) -> File | None:
        key = (client.subject, folder_id)
        if key not in self._folders:
            try:
                self._folders[key] = await client.file(folder_id, fields.FOLDER)
            except (NotFoundError, FileRefusedError):
                self._folders[key] = None
        return self._folders[key]


def _parents(file: File) -> list[str]:
    parents = file.get("parents")
    return [str(parent) for parent in parents] if isinstance(parents, list) else []


def _shown(name: object) -> str:
    return normalize("NFC", str(name or "")).replace("/", "\u2215")
