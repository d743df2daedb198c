"""A data folder with a connection to a simulator, and the environment in which the app runs on it."""

from dataclasses import dataclass
from pathlib import Path

import apsw

from connections.registry import ConnectionRegistry
from connections.salesforce_connection import PolledObject, SalesforceAuth, SalesforceConnection
from connections.secrets import environment_variable
from local.home import prepare_home
from local.salesforce.server import SimulatorProcess
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.sqlite_bus import SqliteMessageBus
from messaging.times import to_text, utc_now
from shards.sqlite_store import SqliteShardStore

TENANT = "bench"
CONNECTION_ID = "salesforce-bench"
SECRET_NAME = "salesforce-bench"
NEVER = "0 0 0 1 1 *"
"""A schedule that does not tick while a bench runs: what is measured begins when the bench says so."""


@dataclass(frozen=True, slots=True)
class BenchHome:
    """A folder of data, and what its processes need to know."""

    data: Path
    environment: dict[str, str]

    @property
    def state_dir(self) -> Path:
        """Where the host keeps what it remembers."""
        return self.data / "host"

    def open_bus(self) -> SqliteMessageBus:
        """The bus of this home."""
        return SqliteMessageBus(self.data / "bus.db")

    def open_store(self) -> SqliteShardStore:
        """The store of this home."""
        return SqliteShardStore(self.data / "store.db")


def bench_connection(simulator: SimulatorProcess) -> SalesforceConnection:
    """A connection to the org that *simulator* plays; it polls contacts."""
    return SalesforceConnection(
        connection_id=CONNECTION_ID,
        tenant_id=TENANT,
        system="salesforce",
        name="bench",
        auth=SalesforceAuth(
            flow="client-credentials",
            domain="bench.my",
            consumer_key=simulator.credentials.consumer_key,
            consumer_secret=f"secret:{TENANT}/{SECRET_NAME}",
        ),
        objects=(PolledObject(name="Contact"),),
    )


async def make_home(data: Path, simulator: SimulatorProcess) -> BenchHome:
    """A home in the new folder *data* whose connection leads to *simulator*."""
    environment = {
        **prepare_home(data, simulators={"salesforce": simulator.base_url}),
        "SHARDLINE_POLL_SCHEDULE": NEVER,
        "SHARDLINE_LOG_LEVEL": "WARNING",
        environment_variable(TENANT, SECRET_NAME): simulator.credentials.consumer_secret,
    }
    home = BenchHome(data, environment)
    store = home.open_store()
    try:
        await ConnectionRegistry(store).save(bench_connection(simulator))
    finally:
        await store.close()
    return home


async def ask_for_poll(home: BenchHome) -> None:
    """Put on the queue what the timer puts there when a poll is due."""
    work = SourceWork(tenant_id=TENANT, connection_id=CONNECTION_ID, work="poll", due_at=to_text(utc_now()))
    bus = home.open_bus()
    try:
        await bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)])
    finally:
        await bus.close()


def stored_texts(home: BenchHome) -> list[str]:
    """The texts of all chunks in the store, in their order."""
    connection = apsw.Connection(str(home.data / "store.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return [str(text) for (text,) in connection.execute("SELECT text FROM texts ORDER BY id")]
    finally:
        connection.close()
