"""A worker process that polls one connection until it is done: ``polling_process.py FOLDER SIMULATOR TENANT ID``."""

import asyncio
import sys
from pathlib import Path

from connections.registry import ConnectionRegistry
from connections.secrets import EnvironmentSecrets
from connections.state import StateStore
from ingestion.ports import IngestionPorts
from ingestion.salesforce.client import SalesforceClients
from ingestion.salesforce.session import PollingPorts
from ingestion.salesforce.source import SalesforceSource
from ingestion.source import AnySource
from ingestion.work import handle_source_work
from messaging.contracts import SourceWork
from messaging.sqlite_bus import SqliteMessageBus
from messaging.times import to_text, utc_now
from processors.outcome import DONE
from shards.sqlite_store import SqliteShardStore


async def main(folder: Path, simulator: str, tenant_id: str, connection_id: str) -> int:
    """Exit status 0 when the poll is done, 3 when it is for later."""
    bus, store = SqliteMessageBus(folder / "bus.db"), SqliteShardStore(folder / "store.db")
    clients = SalesforceClients(EnvironmentSecrets(), simulator=simulator)
    polling = PollingPorts(bus, ConnectionRegistry(store), StateStore(store), clients)
    sources: dict[str, AnySource] = {"salesforce": SalesforceSource(polling, store)}
    ports = IngestionPorts(bus, polling.registry, polling.states, store, store, sources)
    work = SourceWork(tenant_id=tenant_id, connection_id=connection_id, work="poll", due_at=to_text(utc_now()))
    outcome = await handle_source_work(work, ports)
    print(outcome, flush=True)
    clients.close()
    await bus.close()
    await store.close()
    return 0 if outcome == DONE else 3


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:])))
