"""Listing all that a change log is about: where its token was lost, and now and then as a safety net.

It is bounded: a page at a time, resumed where time ran out. What is listed and not stored as it is there is asked for;
then, after a complete listing, what is stored and was not listed. Nothing is deleted for being missing here: it is
asked for by id, of everybody who may see it.
"""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from connections.gdrive_connection import DriveConnection
from connections.state import Saved
from ingestion.gdrive import fields
from ingestion.gdrive.client import DriveClient, File, subjects_of
from ingestion.gdrive.errors import LostTokenError
from ingestion.gdrive.events import SYSTEM, relationship_of, shard_of
from ingestion.gdrive.memory import LogMemory, LogNotes, Relisting, keep_log, new_listed_ids, part_key
from ingestion.gdrive.permissions import principals_of
from ingestion.gdrive.places import Places
from ingestion.gdrive.read_requests import ReadNotes, read_requests
from ingestion.gdrive.selection import restricts
from ingestion.source import RunReport, SourcePorts
from messaging.queues import SOURCE_WORK
from messaging.times import to_text
from shards.model import Shard
from shards.store import ShardQuery

STORE_PAGE = 200
LARGEST_PART = 20_000
"""Ids of a listing kept in one state, or a page's more: 220 KB of it."""

Hashes = npt.NDArray[np.uint64]


@dataclass(slots=True)
class ListingOfLog:
    """The listing of one log as *client*, under the connection's lease. *drive_id* None: all that the user sees.

    *drives* are the shared drives that have logs, and so listings, of their own.
    """

    connection: DriveConnection
    ports: SourcePorts
    client: DriveClient
    drive_id: str | None
    drives: Collection[str]
    key: str
    saved: Saved[LogMemory]
    _all: set[int] | None = field(default=None, init=False)
    _places: Places = field(init=False)

    def __post_init__(self) -> None:
        self._places = Places(self.connection, {})

    async def begin(self, *, start_token: str | None) -> None:
        """Begin; the log's own token stays as it is until the end."""
        await self._keep(Relisting(began_at=to_text(self.ports.clock()), start_token=start_token))

    async def go_on(self, deadline: datetime, report: RunReport) -> bool:
        """List and compare until all is done or *deadline* is past; whether all is done.

        Raises:
            SourceError, BusUnavailableError, StoreUnavailableError, StateMovedError: it goes on where it stands.
        """
        while self.ports.clock() < deadline:
            standing = self.saved.value.metadata.relisting
            if standing is None:
                return True
            if standing.phase == "list":
                await self._list_page(standing, report)
            else:
                await self._check_page(standing, report)
        return self.saved.value.metadata.relisting is None

    async def _list_page(self, standing: Relisting, report: RunReport) -> None:
        try:
            page = await self.client.files(
                "trashed = false",
                fields.LISTED,
                page_size=self.connection.page_size,
                page=standing.page,
                drive_id=self.drive_id,
            )
        except LostTokenError:
            # The page tokens of a listing live for hours. What was listed so far is listed again.
            await self._keep(msgspec.structs.replace(standing, page=None, parts=0, listed=0))
            return
        report.rows += len(page.files)
        if standing.page is None:
            await self._ask_for_top(standing)
        report.events += await self._ask(page.files, standing)
        parts = await self._note(standing, [str(file["id"]) for file in page.files])
        phase = standing.phase if page.next_page else "check"
        await self._keep(
            msgspec.structs.replace(
                standing, page=page.next_page, phase=phase, parts=parts, listed=standing.listed + len(page.files)
            )
        )

    async def _ask_for_top(self, standing: Relisting) -> None:
        """Ask for the top of a shared drive where it is not stored: no listing has it."""
        if self.drive_id is None or (self.connection.folders and self.drive_id not in self.connection.folders):
            return
        stored = await self.ports.store.get(self.connection.tenant_id, shard_of(self.connection, self.drive_id))
        if stored is None or not stored.is_live:
            await self._send([(self.drive_id, "")], f"top.{standing.began_at}")

    async def _ask(self, files: Sequence[File], standing: Relisting) -> int:
        """Ask for the files that are not stored as they are listed."""
        by_shard = {shard_of(self.connection, str(file["id"])): file for file in files}
        stored = await self.ports.store.get_many(self.connection.tenant_id, list(by_shard))
        wanted = [
            (str(file["id"]), str(file.get("version", "")))
            for shard_id, file in by_shard.items()
            if not self._is_same(file, stored.get(shard_id)) and not await self._is_left(file, stored.get(shard_id))
        ]
        await self._send(wanted, f"listed.{standing.began_at}")
        return len(wanted)

    async def _is_left(self, file: File, shard: Shard | None) -> bool:
        """Whether a file that is not stored is surely not wanted either: a folder is asked for once, a file would be
        each time."""
        if not restricts(self.connection) or (shard is not None and shard.is_live):
            return False
        place = await self._places.of(file, self.client)
        return place.whole and not place.wanted

    def _is_same(self, file: File, shard: Shard | None) -> bool:
        """Whether a file is stored as it is listed, with its readers, which move without its version."""
        relationship = relationship_of(self.connection, shard) if shard is not None else None
        permissions = file.get("permissions")
        if shard is None or relationship is None or not shard.is_live or not isinstance(permissions, list):
            return False
        if shard.structured_data.get("contentStatus") == "failed" and not shard.structured_data.get("contentVersion"):
            # What kept its content from being read may have passed.
            return False
        if file.get("ownedByMe") and _parent(file) != _stored_parent(shard):
            # It was read as somebody who does not see the folder, while its owner could not be asked.
            return False
        principals = principals_of(permissions, self.ports.clock())
        return (
            relationship.source_version == str(file.get("version"))
            and list(shard.acl.principals) == principals
            and _roles(permissions) == _roles(shard.structured_data.get("permissions", []))
        )

    async def _check_page(self, standing: Relisting, report: RunReport) -> None:
        """Ask for those of a page of what is stored of this log that were not listed."""
        listed = await self._listed(standing)
        query = ShardQuery(
            self.connection.tenant_id,
            shard_type_ids=("c_file", "c_folder"),
            system=SYSTEM,
            connection_id=self.connection.connection_id,
        )
        page = await self.ports.store.query(query, limit=STORE_PAGE, cursor=standing.cursor)
        wanted = []
        for shard in page.items:
            relationship = relationship_of(self.connection, shard)
            if relationship is None or relationship.read_at >= standing.began_at or not self._is_of_log(shard):
                continue
            if _hash(relationship.external_id) not in listed:
                wanted.append((relationship.external_id, relationship.source_version))
        await self._send(wanted, f"missing.{standing.began_at}")
        report.events += len(wanted)
        if page.cursor is not None:
            await self._keep(msgspec.structs.replace(standing, cursor=page.cursor))
            return
        notes = self.saved.value.metadata
        await self._save(LogNotes(token=standing.start_token or notes.token))

    def _is_of_log(self, shard: Shard) -> bool:
        """Whether a stored file should have been listed; what another user owns is in the listing of theirs.

        What is in a shared drive of which no user is a member was shared with one of them by itself.
        """
        data = shard.structured_data
        drive_id, owner = data.get("driveId"), data.get("owner")
        if self.drive_id is not None or drive_id in self.drives:
            return drive_id == self.drive_id
        return owner == self.client.subject or owner not in subjects_of(self.connection)

    async def _send(self, wanted: Sequence[tuple[str, str]], because: str) -> None:
        notes = ReadNotes(subject=self.client.subject)
        asked = read_requests(
            self.connection, wanted, notes, due_at=to_text(self.ports.clock()), because=f"{because}.{self.key}"
        )
        if asked:
            await self.ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK) for work in asked])

    async def _note(self, standing: Relisting, ids: Sequence[str]) -> int:
        """Keep the ids of a page; in how many parts all are kept then.

        A page that is noted twice, since it was cut off before the listing's own state was saved, is the same set.
        """
        if not ids:
            return standing.parts
        part = max(standing.parts - 1, 0)
        known = await self._part(part) if standing.parts else np.empty(0, dtype=np.uint64)
        if len(known) >= LARGEST_PART:
            part, known = part + 1, np.empty(0, dtype=np.uint64)
        hashes = np.union1d(known, np.array([_hash(file_id) for file_id in ids], dtype=np.uint64))
        packed = base64.b64encode(hashes.astype("<u8").tobytes()).decode()
        empty = new_listed_ids(self.connection, "")
        saved = await self.ports.states.load(self.connection.tenant_id, part_key(self.key, part), empty)
        value = new_listed_ids(self.connection, packed)
        await self.ports.states.save(self.connection.tenant_id, part_key(self.key, part), saved, value)
        return part + 1

    async def _part(self, part: int) -> Hashes:
        empty = new_listed_ids(self.connection, "")
        saved = await self.ports.states.load(self.connection.tenant_id, part_key(self.key, part), empty)
        return np.frombuffer(base64.b64decode(saved.value.metadata["ids"]), dtype="<u8").astype(np.uint64)

    async def _listed(self, standing: Relisting) -> set[int]:
        if self._all is None:
            found: set[int] = set()
            for part in range(standing.parts):
                found.update((await self._part(part)).tolist())
            self._all = found
        return self._all

    async def _keep(self, standing: Relisting) -> None:
        await self._save(msgspec.structs.replace(self.saved.value.metadata, relisting=standing))

    async def _save(self, notes: LogNotes) -> None:
        self.saved = await keep_log(self.connection, self.key, self.saved, notes, self.ports)


def _parent(file: File) -> str | None:
    parents = file.get("parents")
    return str(parents[0]) if isinstance(parents, list) and parents else None


def _stored_parent(shard: Shard) -> object:
    data = shard.structured_data
    return data.get("parentExternalId" if shard.shard_type_id == "c_folder" else "parentFolderExternalId")


def _roles(permissions: Sequence[Mapping[str, Any]]) -> set[tuple[object, object]]:
    return {(permission.get("id"), permission.get("role")) for permission in permissions}


def _hash(file_id: str) -> int:
    return int.from_bytes(blake2b(file_id.encode(), digest_size=8).digest(), "big")
