"""Doing what the source has asked itself for: reading files by id, and closing what is below folders."""

import logging
from dataclasses import dataclass, field
from datetime import timedelta

from connections.gdrive_connection import DriveConnection
from ingestion.errors import BudgetExhaustedError, TransientError
from ingestion.gdrive.client import DriveClients
from ingestion.gdrive.closed_files import ClosedFiles
from ingestion.gdrive.content import ContentReader, RecentContents, TextExtractor
from ingestion.gdrive.errors import NotFoundError
from ingestion.gdrive.events import shard_of
from ingestion.gdrive.file_reader import FileReader, ReadFile
from ingestion.gdrive.following import Following
from ingestion.gdrive.memory import DriveNotes, drives_key, new_drives_memory
from ingestion.gdrive.neighbours import NEIGHBOURS_LOOK_AFTER, ask_elsewhere, is_of_one_of, neighbours_of
from ingestion.gdrive.read_requests import (
    FILE,
    FOLDERS_TO_CLOSE,
    LOOKED_AGAIN,
    ReadNotes,
    after_gone,
    again,
    at_end,
    notes_of,
    unread,
)
from ingestion.source import SourcePorts
from messaging.contracts import IngestionEvent, SourceWork
from messaging.queues import INGESTION_EVENTS, SOURCE_WORK
from messaging.times import from_text, to_text
from shards.model import Shard

log = logging.getLogger(__name__)

LOOK_AGAIN_AFTER = timedelta(minutes=5)
TRANSIENT_PAUSE = timedelta(seconds=15)
UNREAD_TRIES = 18
LONGEST_UNREAD_PAUSE = timedelta(hours=6)
"""A content that can't be had is asked for with growing pauses, for two days; then by sweeps."""
WORKS_FOR = timedelta(seconds=60)
"""How long one message works before the rest of its files goes into another: large files take their time."""


@dataclass(slots=True)
class Taking:
    """Takes read requests of one connection."""

    connection: DriveConnection
    ports: SourcePorts
    clients: DriveClients
    extractor: TextExtractor
    recent: RecentContents
    closed: ClosedFiles
    _neighbours: list[DriveConnection] | None = field(default=None, init=False)

    async def take(self, work: SourceWork) -> int:
        """Send the events of the files that *work* asks for; how many those were.

        A file that can't be read now is asked for again by itself, so that it holds up no other.

        Raises:
            TransientError, BudgetExhaustedError: the only file, or none yet, could be read.
            CredentialError: nobody can be asked.
            BusUnavailableError, StoreUnavailableError: nothing is lost, take it again.
        """
        sent = 0
        following = Following(self.connection, self.ports)
        if folders := work.ids.get(FOLDERS_TO_CLOSE):
            sent += await following.close_below(folders, work.due_at)
        ids = work.ids.get(FILE, [])
        if ids:
            sent += await self._read(work, list(dict.fromkeys(ids)), following)
        return sent

    async def _read(self, work: SourceWork, ids: list[str], following: Following) -> int:
        reader, notes = await self._reader(), notes_of(work)
        stored = await self._stored(ids)
        sent, missing = 0, list[str]()
        until = self.ports.clock() + WORKS_FOR
        for place, file_id in enumerate(ids):
            if place and self.ports.clock() >= until:
                await self._later(again(work, ids[place:]), timedelta(0))
                break
            try:
                read = await reader.read(file_id, stored.get(file_id), notes.subject, told=notes.told)
                sent += await self._tell(read, stored.get(file_id), following, notes)
            except BudgetExhaustedError as error:
                if place == 0:
                    raise
                pause = (error.until or self.ports.clock() + TRANSIENT_PAUSE) - self.ports.clock()
                await self._later(again(work, ids[place:]), max(pause, timedelta(seconds=1)))
                break
            except (TransientError, NotFoundError) as error:
                log.info("connection %s: file %s: %s", self.connection.connection_id, file_id, error)
                after = error.after if isinstance(error, TransientError) else None
                if len(ids) == 1:
                    raise TransientError(str(error), after) from error
                await self._later(again(work, [file_id]), after or TRANSIENT_PAUSE)
                continue
            if read.unread is not None and notes.unread < UNREAD_TRIES:
                await self._later(unread(work, file_id, notes), _unread_pause(read.unread, notes))
            if read.expires_at is not None:
                asked = at_end(self.connection, file_id, read.expires_at, subject=notes.subject)
                await self._later(asked, from_text(asked.due_at) - self.ports.clock())
            if _may_come_back(read, notes):
                missing.append(file_id)
        await self._look_again(work, notes, missing, stored)
        self.closed.tell(self.connection)
        return sent

    async def _tell(self, read: ReadFile, stored: Shard | None, following: Following, notes: ReadNotes) -> int:
        sent = 0
        if read.folder or (stored is not None and stored.shard_type_id == "c_folder"):
            sent += await following.changed(read, stored, notes)
        if read.event is None:
            return sent
        if await self._leave_to_neighbours(read, read.event, stored, notes):
            return sent
        # Closed with a folder and read again, a file may say what is stored, and the closing come after that.
        event = read.event.model_copy(update={"moves_moment": True}) if notes.below else read.event
        await self.ports.bus.send(INGESTION_EVENTS, [event.to_message(INGESTION_EVENTS)])
        return sent + 1

    async def _leave_to_neighbours(
        self, read: ReadFile, event: IngestionEvent, stored: Shard | None, notes: ReadNotes
    ) -> bool:
        """Ask the other connections of the domain for a file that is gone or closed here, since they may know better;
        whether one of them has read it, so that nothing is to be said of it here."""
        gone = event.event_type == "delete" and stored is not None and stored.is_live
        if not gone and not read.closed:
            return False
        if self._neighbours is None:
            self._neighbours = await neighbours_of(self.connection, self.ports.registry)
        neighbours = self._neighbours
        of_another = stored is not None and stored.is_live and is_of_one_of(neighbours, self.connection, stored)
        if not notes.elsewhere or (gone and not of_another):
            because = "gone elsewhere" if gone else "closed elsewhere"
            for work in ask_elsewhere(neighbours, [read.file_id], read.read_at, because=because):
                await self._later(work, NEIGHBOURS_LOOK_AFTER)
        is_closed_already = read.closed and stored is not None and not stored.acl.principals
        return of_another and not is_closed_already

    async def _look_again(
        self, work: SourceWork, notes: ReadNotes, missing: list[str], stored: dict[str, Shard]
    ) -> None:
        settled = [file_id for file_id in missing if (shard := stored.get(file_id)) is not None and not shard.is_live]
        left = [file_id for file_id in missing if file_id not in settled]
        if left and notes.after_gone < LOOKED_AGAIN:
            now = to_text(self.ports.clock())
            await self._later(after_gone(work, left, notes, due_at=now), LOOK_AGAIN_AFTER)

    async def _later(self, work: SourceWork, delay: timedelta) -> None:
        await self.ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)], delay=delay)

    async def _stored(self, ids: list[str]) -> dict[str, Shard]:
        """What is stored of files, by file id."""
        by_shard = {shard_of(self.connection, file_id): file_id for file_id in ids}
        found = await self.ports.store.get_many(self.connection.tenant_id, list(by_shard))
        return {by_shard[shard_id]: shard for shard_id, shard in found.items()}

    async def _reader(self) -> FileReader:
        content = ContentReader(self.connection, self.extractor, self.ports.blobs, self.recent)
        notes = await known_drives(self.connection, self.ports)
        return FileReader(self.connection, self.clients, notes.drives, content, self.ports.clock, self.closed)


def _may_come_back(read: ReadFile, notes: ReadNotes) -> bool:
    """Whether to look for a file once more.

    One that is gone may be back before that is stored, and named then with a text that goes with the deletion.
    """
    if read.event is None:
        return not read.found or notes.after_gone == 0
    return not read.there


def _unread_pause(error: TransientError, notes: ReadNotes) -> timedelta:
    pause = min(TRANSIENT_PAUSE * float(2**notes.unread), LONGEST_UNREAD_PAUSE)
    return max(pause, error.after or timedelta(0))


async def known_drives(connection: DriveConnection, ports: SourcePorts) -> DriveNotes:
    """The shared drives as the polls last saw them."""
    saved = await ports.states.load(connection.tenant_id, drives_key(connection), new_drives_memory(connection))
    return saved.value.metadata
