"""What a folder's change means for what is in it: Drive tells of the folder alone.

Its children are asked for anew, by id, level by level; each has its path and its permissions read then, and its text
only if its content has changed. Where somebody lost the folder, everything below is closed first, from what is stored
and without a call, and opened again by that reading.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from connections.gdrive_connection import DriveConnection
from ingestion.gdrive.client import DriveClient
from ingestion.gdrive.errors import FileRefusedError, LostTokenError, NotFoundError
from ingestion.gdrive.events import closed_event, relationship_of, shard_of
from ingestion.gdrive.file_reader import ReadFile
from ingestion.gdrive.folder_memory import keep_folder, known_folder
from ingestion.gdrive.memory import KnownFolder
from ingestion.gdrive.read_requests import ReadNotes, close_request, read_requests
from ingestion.source import SourcePorts
from messaging.contracts import IngestionEvent, SourceWork
from messaging.queues import INGESTION_EVENTS, SOURCE_WORK
from messaging.times import from_text, to_text
from shards.model import Shard

log = logging.getLogger(__name__)

PAGE = 100
CLOSED_AT_ONCE = 2_000
"""So many are closed by one message; another goes on."""

_INSIDE = frozenset({"child_of", "belongs_to"})


@dataclass(frozen=True, slots=True)
class Following:
    """Follows changes of one connection's folders."""

    connection: DriveConnection
    ports: SourcePorts

    async def changed(self, read: ReadFile, stored: Shard | None, notes: ReadNotes) -> int:
        """Do what is to be done below a folder that was *read*, before its own event is sent; how many were closed.

        Raises:
            SourceError, BusUnavailableError, StoreUnavailableError: nothing is remembered; read the folder again.
        """
        known = await known_folder(self.connection, read.file_id, stored, self.ports)
        now = KnownFolder(read_at=read.read_at, there=read.there, path=read.path, principals=read.principals)
        closed = 0
        if not read.there:
            if notes.below or (known is not None and known.there):
                await self._ask(read, await self._stored_children(read.file_id), notes)
        elif known is None or not known.there:
            await self._ask(read, await self._children(read), notes)
        elif notes.below or (known.path, known.principals) != (now.path, now.principals):
            if not notes.closed and not set(known.principals) <= set(now.principals):
                # As of just before the folder was read: whatever is read from then on stands.
                closed = await self.close_below([read.file_id], _before(read.read_at))
                notes = replace(notes, closed=True)
            await self._ask(read, await self._children(read), notes)
        if known is None or _as_of(known, now) != now:
            await keep_folder(self.connection, read.file_id, now, self.ports)
        return closed

    async def close_below(self, folder_ids: Sequence[str], read_at: str) -> int:
        """Close all that was read below folders before *read_at*; how many that were.

        What is too much for one message goes on in another.
        """
        waiting = list(folder_ids)
        met: set[str] = set()
        closed = 0
        while waiting:
            if closed >= CLOSED_AT_ONCE:
                asked = close_request(self.connection, waiting, due_at=read_at, because=to_text(self.ports.clock()))
                await self.ports.bus.send(SOURCE_WORK, [asked.to_message(SOURCE_WORK)])
                return closed
            folder_id = waiting.pop(0)
            async for shards in self._stored_pages(folder_id):
                fresh = [shard for shard in shards if shard.id not in met]
                met.update(shard.id for shard in fresh)
                events = self._closed(fresh, read_at)
                if events:
                    messages = [event.to_message(INGESTION_EVENTS) for event in events]
                    await self.ports.bus.send(INGESTION_EVENTS, messages)
                closed += len(events)
                waiting += [
                    relationship.external_id
                    for shard in fresh
                    if shard.shard_type_id == "c_folder"
                    and (relationship := relationship_of(self.connection, shard)) is not None
                ]
        return closed

    def _closed(self, shards: Iterable[Shard], read_at: str) -> list[IngestionEvent]:
        events = [closed_event(self.connection, shard, read_at=read_at) for shard in shards]
        return [event for event in events if event is not None]

    async def _ask(self, read: ReadFile, file_ids: Iterable[str], notes: ReadNotes) -> None:
        """Ask to read what is in a folder, after what happens to the folder itself."""
        wanted = [(file_id, read.read_at) for file_id in file_ids]
        subject = read.client.subject if read.client is not None else notes.subject
        below = replace(notes, subject=subject, below=True, after_gone=0, unread=0)
        asked = read_requests(self.connection, wanted, below, due_at=read.read_at, because=read.file_id)
        await self.send(asked)

    async def send(self, asked: Sequence[SourceWork]) -> None:
        """Put requests on their queue."""
        if asked:
            await self.ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK) for work in asked])

    async def _children(self, read: ReadFile) -> list[str]:
        """What is in a folder: as Drive says now, and what is stored of it (which may have left it)."""
        listed = await self._listed_children(read, read.client) if read.client is not None else []
        return list(dict.fromkeys([*listed, *await self._stored_children(read.file_id)]))

    async def _listed_children(self, read: ReadFile, client: DriveClient) -> list[str]:
        found: list[str] = []
        page: str | None = None
        drive_id = read.drive_id
        while True:
            try:
                answer = await client.children(read.file_id, page=page, drive_id=drive_id)
            except LostTokenError:
                found, page = [], None
                continue
            except (NotFoundError, FileRefusedError) as error:
                if drive_id is not None:
                    # Only its members may list a shared drive; a folder of it may be shared with others.
                    found, page, drive_id = [], None, None
                    continue
                log.info("%s can't list a folder any more: %s", client.name, error)
                return found
            found += [str(file["id"]) for file in answer.files]
            page = answer.next_page
            if page is None:
                return found

    async def _stored_children(self, folder_id: str) -> list[str]:
        return [
            relationship.external_id
            async for shards in self._stored_pages(folder_id)
            for shard in shards
            if (relationship := relationship_of(self.connection, shard)) is not None
        ]

    async def _stored_pages(self, folder_id: str) -> AsyncIterator[list[Shard]]:
        store, tenant_id = self.ports.store, self.connection.tenant_id
        cursor: str | None = None
        while True:
            page = await store.incoming(tenant_id, shard_of(self.connection, folder_id), limit=PAGE, cursor=cursor)
            ids = list(
                dict.fromkeys(one.source_shard_id for one in page.items if one.link.relationship_type in _INSIDE)
            )
            found = await store.get_many(tenant_id, ids) if ids else {}
            yield [shard for shard in found.values() if shard.is_live]
            cursor = page.cursor
            if cursor is None:
                return


def _before(moment: str) -> str:
    return to_text(from_text(moment) - timedelta(milliseconds=1))


def _as_of(known: KnownFolder, now: KnownFolder) -> KnownFolder:
    """*known* as of the moment of *now*."""
    return KnownFolder(read_at=now.read_at, there=known.there, path=known.path, principals=known.principals)
