"""Reading a change log: from its token to its end, a page at a time.

An entry says that something of a file has changed, not what; it may come late, twice, or stand for several changes. So
the file is asked for anew, by a request that the bus has before the token moves on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import product
from typing import Any

from connections.gdrive_connection import DriveConnection
from connections.state import Saved
from ingestion.gdrive.client import DriveClient
from ingestion.gdrive.events import relationship_of, shard_of
from ingestion.gdrive.memory import LogMemory, LogNotes, keep_log
from ingestion.gdrive.mime_types import FOLDER
from ingestion.gdrive.read_requests import ReadNotes, read_requests
from ingestion.history_memory import HistoryNotes
from ingestion.source import RunReport, SourcePorts
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import from_text, to_text
from shards.model import Shard

SKEW = timedelta(minutes=10)
"""How far Drive's clock and this one's may be apart."""


@dataclass(slots=True)
class ChangeLog:
    """One change log, read as *client* under the connection's lease. *drive_id* None: the user's own log.

    *seen* are files and versions that another log of this poll has told of already. *first_load* is how that stands:
    what was in a folder that changed while it ran may have been read before. *drives_changed* says afterwards whether
    an entry was about a shared drive itself.
    """

    connection: DriveConnection
    ports: SourcePorts
    client: DriveClient
    drive_id: str | None
    key: str
    saved: Saved[LogMemory]
    seen: set[tuple[str, str]]
    first_load: HistoryNotes
    drives_changed: bool = field(default=False)

    async def read_on(self, token: str, deadline: datetime, report: RunReport) -> bool:
        """Read to the end of the log, or until *deadline*; whether the end was reached.

        Raises:
            LostTokenError: Drive does not know the token (any more).
            NotFoundError: the user is no member of the shared drive any more.
            SourceError, BusUnavailableError, StoreUnavailableError, StateMovedError: the log stays where it is.
        """
        while self.ports.clock() < deadline:
            page = await self.client.changes(token, self.drive_id, page_size=self.connection.page_size)
            report.rows += len(page.changes)
            report.events += await self._ask(page.changes)
            token = page.next_page or page.new_start or token
            if token != self.saved.value.metadata.token or page.changes:
                await self.keep(LogNotes(token=token))
            if page.next_page is None:
                return True
        return False

    async def keep(self, notes: LogNotes) -> None:
        """Save how the log stands.

        Raises:
            StateMovedError: another worker has written it.
        """
        self.saved = await keep_log(self.connection, self.key, self.saved, notes, self.ports)

    async def _ask(self, changes: Sequence[Mapping[str, Any]]) -> int:
        """Ask to read what has changed; for how many."""
        wanted: dict[str, str] = {}
        below: set[str] = set()
        for change in changes:
            if change.get("changeType", change.get("type")) == "drive":
                self.drives_changed = True
                file_id, version = str(change.get("driveId") or ""), f"drive.{change.get('time')}"
            else:
                file_id = str(change.get("fileId") or "")
                file = change.get("file")
                version = str(file.get("version") or "") if isinstance(file, Mapping) else ""
                version = f"removed.{change.get('time')}" if change.get("removed") or not version else version
            if self._may_have_missed(change):
                below.add(file_id)
            if file_id and (file_id, version) not in self.seen:
                self.seen.add((file_id, version))
                wanted[file_id] = f"{version}.{change.get('time')}"
        stored = await self._stored(list(wanted))
        fresh = [
            (file_id, version)
            for file_id, version in wanted.items()
            if file_id in below or not _is_read(stored, file_id, version)
        ]
        now = to_text(self.ports.clock())
        asked: list[SourceWork] = []
        for with_below, told in product((False, True), (True, False)):
            pairs = [pair for pair in fresh if (pair[0] in below, pair[1][:1].isdigit()) == (with_below, told)]
            notes = ReadNotes(subject=self.client.subject, below=with_below, told=told)
            asked += read_requests(self.connection, pairs, notes, due_at=now, because="changed")
        if asked:
            await self.ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK) for work in asked])
        return len(fresh)

    def _may_have_missed(self, change: Mapping[str, Any]) -> bool:
        """Whether the first load may have read what is in a folder before this change, and the folder after it."""
        file, began, ended = change.get("file"), self.first_load.began_at, self.first_load.finished_at
        if not isinstance(file, Mapping) or file.get("mimeType") != FOLDER or began is None:
            return False
        if ended is None:
            return True
        try:
            time = from_text(str(change.get("time")))
        except ValueError:
            return True
        return from_text(began) - SKEW <= time <= from_text(ended) + SKEW

    async def _stored(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Version and moment of reading of those files that are stored and live, by id."""
        if not ids:
            return {}
        by_shard = {shard_of(self.connection, file_id): file_id for file_id in ids}
        shards = await self.ports.store.get_many(self.connection.tenant_id, list(by_shard))
        return {by_shard[shard_id]: read for shard_id, shard in shards.items() if (read := self._reading(shard))}

    def _reading(self, shard: Shard) -> tuple[str, str] | None:
        relationship = relationship_of(self.connection, shard)
        return (relationship.source_version, relationship.read_at) if relationship and shard.is_live else None


def _is_read(stored: Mapping[str, tuple[str, str]], file_id: str, version: str) -> bool:
    """Whether a file was read under this very version, and after it came to be: an entry that comes again."""
    known, _, time = version.partition(".")
    if file_id not in stored or not known.isdigit():
        return False
    stored_version, read_at = stored[file_id]
    try:
        return stored_version == known and from_text(read_at) > from_text(time)
    except ValueError:
        return False
