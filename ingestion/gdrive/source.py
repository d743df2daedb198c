"""Google Drive as a source: which module does which work."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from connections.gdrive_connection import DriveConnection
from ingestion.errors import SourceError
from ingestion.gdrive.channels import WATCHED_EVERY, Watching
from ingestion.gdrive.checking import Checking
from ingestion.gdrive.client import DriveClients
from ingestion.gdrive.closed_files import ClosedFiles
from ingestion.gdrive.content import RecentContents, TextExtractor
from ingestion.gdrive.history import History, history_of_folder
from ingestion.gdrive.poll import Polling
from ingestion.gdrive.selection import is_for_selection
from ingestion.gdrive.taking import Taking
from ingestion.source import Checked, HistoryPage, Pages, Position, Report, SourcePorts
from messaging.contracts import Recurring, SourceWork
from operations.metrics import Metrics
from processors.outcome import PermanentError


class DriveSource:
    """See :class:`ingestion.source.Source`. The *extractor* is closed by whoever made it."""

    def __init__(
        self,
        ports: SourcePorts,
        *,
        simulator: str | None,
        extractor: TextExtractor,
        metrics: Metrics | None = None,
    ) -> None:
        self._ports = ports
        self._clients = DriveClients(ports, simulator=simulator)
        self._extractor = extractor
        self._recent = RecentContents()
        self._closed = ClosedFiles(ports.clock)
        self._metrics = metrics or Metrics()

    def every(self, connection: DriveConnection) -> Mapping[Recurring, timedelta]:
        """Polls by the second, sweeps by the hour; channels are looked after where there are any."""
        schedule = connection.schedule
        due: dict[Recurring, timedelta] = {
            "poll": timedelta(seconds=schedule.poll_seconds),
            "sweep": timedelta(hours=schedule.sweep_hours),
        }
        if connection.push_address is not None:
            due["watch"] = WATCHED_EVERY
        return due

    async def run(self, connection: DriveConnection, work: SourceWork, deadline: datetime) -> Report:
        """A poll, a sweep, or the renewal of push channels."""
        self._closed.tell(connection)
        if work.work == "watch":
            return await Watching(connection, self._ports, self._clients, self._metrics).watch(deadline)
        polling = Polling(connection, self._ports, self._clients)
        if work.work == "sweep":
            return await polling.sweep(deadline, for_selection=is_for_selection(work))
        return await polling.poll(deadline, work.due_at)

    async def take(self, connection: DriveConnection, work: SourceWork) -> int:
        """Read files by id. Drive's notifications tell nothing, and are polls."""
        if work.work != "read":
            raise PermanentError("push-unknown", f"connection {connection.connection_id} takes no {work.work}")
        ports, clients = self._ports, self._clients
        return await Taking(connection, ports, clients, self._extractor, self._recent, self._closed).take(work)

    async def history(self, connection: DriveConnection, position: Position | None) -> HistoryPage:
        """All files of all Drives, folders first."""
        ports, clients = self._ports, self._clients
        return await History(connection, ports, clients, self._extractor, self._recent, self._closed).page(position)

    def history_of_export(self, connection: DriveConnection, paths: Sequence[Path]) -> Pages:
        """A folder tree on disk."""
        if len(paths) != 1:
            raise SourceError("an export of Drive is one folder: give its path alone")
        return history_of_folder(paths[0], connection, self._ports, self._extractor)

    async def check(self, connection: DriveConnection) -> Checked:
        """Log in as each user, and read a file."""
        return await Checking(connection, self._clients).check()

    async def stop(self, connection: DriveConnection) -> None:
        """Close the push channels."""
        await Watching(connection, self._ports, self._clients, self._metrics).stop()

    def forget(self, connection: DriveConnection) -> None:
        """See :meth:`ingestion.source.Source.forget`."""
        self._clients.drop(connection)

    def close(self) -> None:
        """See :meth:`ingestion.source.Source.close`."""
        self._clients.close()
