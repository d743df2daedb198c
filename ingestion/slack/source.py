"""Slack as a source: which module does which work."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from connections.slack_connection import SlackConnection
from ingestion.errors import TransientError
from ingestion.slack.checking import check
from ingestion.slack.client import SlackClients
from ingestion.slack.errors import RefusedError
from ingestion.slack.export_history import export_history
from ingestion.slack.history import history
from ingestion.slack.pushes import Pushed
from ingestion.slack.reads import Reads
from ingestion.slack.reconcile import reconcile
from ingestion.slack.sweep import sweep
from ingestion.slack.workspace import KnownWorkspace, Workspace
from ingestion.source import Checked, HistoryPage, Pages, Position, Report, RunReport, SourcePorts
from messaging.contracts import Recurring, SourceWork
from processors.outcome import PermanentError


class SlackSource:
    """See :class:`ingestion.source.Source`."""

    def __init__(self, ports: SourcePorts, *, simulator: str | None) -> None:
        self._ports = ports
        self._clients = SlackClients(ports.secrets, ports.states, ports.clock, simulator=simulator)
        self._known: dict[tuple[str, str], KnownWorkspace] = {}

    def _workspace(self, connection: SlackConnection) -> Workspace:
        known = self._known.setdefault((connection.tenant_id, connection.connection_id), KnownWorkspace())
        return Workspace(connection, self._clients.of(connection), self._ports, known)

    def every(self, connection: SlackConnection) -> Mapping[Recurring, timedelta]:
        """Polls by the second, sweeps by the hour."""
        schedule = connection.schedule
        return {"poll": timedelta(seconds=schedule.poll_seconds), "sweep": timedelta(hours=schedule.sweep_hours)}

    async def run(self, connection: SlackConnection, work: SourceWork, deadline: datetime) -> Report:
        """A poll, which finds what events have missed, or a sweep, which finds what is gone."""
        workspace = self._workspace(connection)
        try:
            return await (sweep if work.work == "sweep" else reconcile)(workspace, work, deadline)
        except RefusedError as error:
            # What is refused of one channel has its place in the report: this is of all.
            return RunReport(errors={"workspace": str(error)}, failed=True, instance=connection.instance)

    async def take(self, connection: SlackConnection, work: SourceWork) -> int:
        """See :meth:`ingestion.source.Source.take`."""
        workspace = self._workspace(connection)
        try:
            return await (Reads(workspace, work) if work.work == "read" else Pushed(workspace, work)).take()
        except RefusedError as error:
            raise PermanentError("source-refused", f"{error}: mend it at Slack, then replay") from error

    async def history(self, connection: SlackConnection, position: Position | None) -> HistoryPage:
        """See :meth:`ingestion.source.Source.history`."""
        try:
            return await history(self._workspace(connection), position)
        except RefusedError as error:
            raise TransientError(f"{error}: mend it at Slack, and the load goes on") from error

    def history_of_export(self, connection: SlackConnection, paths: Sequence[Path]) -> Pages:
        """See :meth:`ingestion.source.Source.history_of_export`."""
        return partial(export_history, connection, paths, self._ports.store)

    async def check(self, connection: SlackConnection) -> Checked:
        """See :meth:`ingestion.source.Source.check`."""
        return await check(self._clients.of(connection))

    async def stop(self, connection: SlackConnection) -> None:
        """Slack does nothing for a connection but send its events, which are refused once it is gone."""

    def forget(self, connection: SlackConnection) -> None:
        """See :meth:`ingestion.source.Source.forget`."""
        self._clients.drop(connection)
        self._known.pop((connection.tenant_id, connection.connection_id), None)

    def close(self) -> None:
        """See :meth:`ingestion.source.Source.close`."""
        self._clients.close()
