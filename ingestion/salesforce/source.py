"""Salesforce as a source: which module does which work."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from connections.salesforce_connection import SalesforceConnection
from ingestion.salesforce.check import check
from ingestion.salesforce.export import CsvHistory
from ingestion.salesforce.history import HistoryReader
from ingestion.salesforce.memory import new_object_memory, object_key
from ingestion.salesforce.poll import poll
from ingestion.salesforce.record_reads import RecordReads
from ingestion.salesforce.refresh import refresh
from ingestion.salesforce.session import PollingPorts
from ingestion.salesforce.sweep import sweep
from ingestion.source import Checked, HistoryPage, Pages, Position, Report
from messaging.contracts import Recurring, SourceWork
from processors.outcome import PermanentError
from shards.store import ShardStore


class SalesforceSource:
    """See :class:`ingestion.source.Source`."""

    def __init__(self, ports: PollingPorts, store: ShardStore) -> None:
        self._ports = ports
        self._store = store
        self._reads = RecordReads(ports, store)
        self._history = HistoryReader(ports, {})

    def every(self, connection: SalesforceConnection) -> Mapping[Recurring, timedelta]:
        """Polls by the second, sweeps and refreshes by the hour."""
        schedule = connection.schedule
        return {
            "poll": timedelta(seconds=schedule.poll_seconds),
            "sweep": timedelta(hours=schedule.sweep_hours),
            "refresh": timedelta(hours=connection.refresh_hours),
        }

    async def run(self, connection: SalesforceConnection, work: SourceWork, deadline: datetime) -> Report:
        """A poll, a sweep or a refresh."""
        wanted = work.object_types
        if work.work == "refresh":
            return await refresh(connection, self._ports, self._store, deadline=deadline, due_at=work.due_at)
        if work.work == "sweep":
            return await sweep(
                connection, self._ports, self._store, object_types=wanted, deadline=deadline, due_at=work.due_at
            )
        return await poll(
            connection, self._ports, self._store, object_types=wanted, deadline=deadline, due_at=work.due_at
        )

    async def take(self, connection: SalesforceConnection, work: SourceWork) -> int:
        """Read what was said to have changed. What named no record is for people."""
        if work.work == "push":
            raise PermanentError(
                "push-unknown",
                f"connection {connection.connection_id} was sent JSON that names no record: have the flow send ids, "
                "or drop this",
            )
        return await self._reads.read(connection, work)

    async def history(self, connection: SalesforceConnection, position: Position | None) -> HistoryPage:
        """See :meth:`ingestion.source.Source.history`."""
        return await self._history.page(connection, position)

    def history_of_export(self, connection: SalesforceConnection, paths: Sequence[Path]) -> Pages:
        """The pages of Data Loader exports: CSV files, or folders of them."""

        async def spelled(object_type: str) -> Sequence[str]:
            empty = new_object_memory(connection, object_type)
            key = object_key(connection, object_type)
            fields = (await self._ports.states.load(connection.tenant_id, key, empty)).value.metadata.fields
            return fields.names if fields else ()

        return CsvHistory(connection, paths, spelled).page

    async def check(self, connection: SalesforceConnection) -> Checked:
        """See :meth:`ingestion.source.Source.check`."""
        return await check(connection, self._ports)

    async def stop(self, connection: SalesforceConnection) -> None:
        """Nothing runs at Salesforce for a connection."""

    def forget(self, connection: SalesforceConnection) -> None:
        """See :meth:`ingestion.source.Source.forget`."""
        self._ports.clients.drop(connection)

    def close(self) -> None:
        """See :meth:`ingestion.source.Source.close`."""
        self._ports.clients.close()
