"""A simulated org, the bus and the store on files, and polling between them, as the tests drive it."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from connections.registry import ConnectionRegistry
from connections.salesforce_connection import PolledObject, SalesforceAuth, SalesforceConnection
from connections.secrets import EnvironmentSecrets, SecretStore, environment_variable
from connections.state import StateStore
from ingestion.connection_memory import ConnectionMemory, memory_of
from ingestion.ports import IngestionPorts
from ingestion.salesforce.client import SalesforceClients
from ingestion.salesforce.memory import (
    ObjectMemory,
    new_object_memory,
    object_key,
)
from ingestion.salesforce.poll import PollReport, poll
from ingestion.salesforce.session import PollingPorts
from ingestion.salesforce.source import SalesforceSource
from ingestion.salesforce.sweep import SweepReport, sweep
from ingestion.source import AnySource
from local.company import Company, default_org_id
from local.salesforce.org import Org
from local.salesforce.schema import empty_table
from local.salesforce.server import SalesforceSimulator
from messaging.bus import ReceivedMessage
from messaging.contracts import IngestionEvent
from messaging.queues import INGESTION_EVENTS, INGESTION_EVENTS_BULK
from messaging.sqlite_bus import SqliteMessageBus
from shards.identity import shard_id
from shards.model import Acl, ExternalRelationship, Shard
from shards.ordering import Decision, Reading, decide
from shards.sqlite_store import SqliteShardStore
from shards.store import ShardWrite

TENANT = "acme"
CONNECTION = "sf"
LANES = (INGESTION_EVENTS, INGESTION_EVENTS_BULK)
OBJECTS = ("Account", "Contact", "Opportunity", "User")


class MovedClock:
    """A clock that runs and that the test moves on."""

    def __init__(self) -> None:
        self._offset = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def advance(self, by: timedelta) -> None:
        """Move the time on, or back."""
        self._offset += by


@dataclass
class Seen:
    """What came out of the bus: the newest state of each record as the ordering rule has it, and each event counted."""

    readings: dict[tuple[str, str], Reading] = field(default_factory=dict)
    events: dict[tuple[str, str], IngestionEvent] = field(default_factory=dict)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def take(self, message: ReceivedMessage) -> IngestionEvent:
        """Apply one message."""
        event = IngestionEvent.from_bytes(message.body)
        key = (str(event.object_type), event.source_id)
        fingerprint = repr(sorted(event.record.items()))
        reading = Reading(str(event.source_version), str(event.read_at), fingerprint)
        self.counts[(*key, fingerprint)] += 1
        if decide(self.readings.get(key), reading) in (Decision.APPLY, Decision.MOVE_VERSION):
            self.readings[key], self.events[key] = reading, event
        return event

    def records(self, object_type: str) -> dict[str, dict[str, Any]]:
        """The live records of an object by id."""
        return {
            source_id: event.record
            for (of, source_id), event in self.events.items()
            if of == object_type and event.event_type != "delete"
        }

    @property
    def repeated(self) -> int:
        """How many events told nothing new about their record."""
        return sum(count - 1 for count in self.counts.values())


class PolledOrg:
    """An org and everything that polls it."""

    def __init__(self, folder: Path, company: Company | None = None, **settings: Any) -> None:
        company = company or Company(TENANT, default_org_id(TENANT), {name: empty_table(name) for name in OBJECTS})
        self.org = Org(company)
        self.simulator = SalesforceSimulator(self.org).start()
        self.api = self.simulator.api
        self.clock = MovedClock()
        self.bus = SqliteMessageBus(folder / "bus.db", clock=self.clock)
        self.store_file = folder / "store.db"
        credentials = self.simulator.credentials
        self.environment = {
            environment_variable(TENANT, "sf-password"): credentials.password,
            environment_variable(TENANT, "sf-token"): credentials.security_token,
            environment_variable(TENANT, "sf-consumer"): credentials.consumer_secret,
        }
        self.planted = [credentials.password, credentials.security_token, credentials.consumer_secret]
        self.clients = SalesforceClients(
            EnvironmentSecrets(self.environment), simulator=self.simulator.base_url, clock=self.clock
        )
        self.settings = settings
        self.seen = Seen()
        self._open_store()

    def _open_store(self) -> None:
        self.store = SqliteShardStore(self.store_file, clock=self.clock)
        self.registry = ConnectionRegistry(self.store, clock=self.clock)
        self.states = StateStore(self.store, clock=self.clock)
        self.ports = PollingPorts(self.bus, self.registry, self.states, self.clients, self.clock)
        self.work_ports = IngestionPorts(
            self.bus, self.registry, self.states, self.store, self.store, self._sources(), self.clock
        )

    def _sources(self) -> dict[str, AnySource]:
        return {"salesforce": SalesforceSource(self.ports, self.store)}

    def use_secrets(self, secrets: SecretStore) -> None:
        """Take the connection's secrets from there, in place of :attr:`environment`."""
        self.clients.close()
        self.clients = SalesforceClients(secrets, simulator=self.simulator.base_url, clock=self.clock)
        self.ports = replace(self.ports, clients=self.clients)
        self.work_ports = replace(self.work_ports, sources=self._sources())

    async def lose_store(self) -> None:
        """Delete the store's files, and open a new store; the bus is kept."""
        await self.store.close()
        for file in self.store_file.parent.glob(f"{self.store_file.name}*"):
            file.unlink()
        self.seen = Seen()
        self._open_store()

    def auth(self, **changes: Any) -> SalesforceAuth:
        """The login by client credentials."""
        return SalesforceAuth(
            **{
                "flow": "client-credentials",
                "domain": "acme.my",
                "consumer_key": self.simulator.credentials.consumer_key,
                "consumer_secret": f"secret:{TENANT}/sf-consumer",
                **changes,
            }
        )

    def pass_time(self, by: timedelta) -> None:
        """Let time pass, here and in the org."""
        self.clock.advance(by)
        self.org.clock.advance(by)

    async def connect(self, *objects: str, **changes: Any) -> SalesforceConnection:
        """Register the connection."""
        polled = tuple(PolledObject(name=name) for name in objects or ("Contact",))
        connection = SalesforceConnection(
            connection_id=CONNECTION,
            tenant_id=TENANT,
            system="salesforce",
            name="Acme",
            auth=self.auth(),
            objects=polled,
        )
        saved = await self.registry.save(msgspec.structs.replace(connection, **{**self.settings, **changes}))
        assert isinstance(saved, SalesforceConnection)
        return saved

    async def connection(self) -> SalesforceConnection:
        """The connection as it is stored."""
        connection = await self.registry.get(TENANT, CONNECTION)
        assert isinstance(connection, SalesforceConnection)
        return connection

    async def poll(self, **options: Any) -> PollReport:
        """Poll once, and take what came out of the bus."""
        report = await poll(await self.connection(), self.ports, self.store, **options)
        await self.drain()
        return report

    async def sweep(self, **options: Any) -> SweepReport:
        """Sweep once, and take what came out of the bus."""
        report = await sweep(await self.connection(), self.ports, self.store, **options)
        await self.drain()
        return report

    async def drain(self) -> list[IngestionEvent]:
        """Take all events off the bus, and store their records as the chain would."""
        taken: list[IngestionEvent] = []
        for lane in LANES:
            while messages := await self.bus.receive(lane, max_messages=500):
                taken.extend(self.seen.take(message) for message in messages)
                await self.bus.complete(messages)
        await self._store({(str(event.object_type), event.source_id) for event in taken})
        return taken

    async def _store(self, keys: set[tuple[str, str]]) -> None:
        writes = []
        for object_type, source_id in sorted(keys):
            event = self.seen.events[object_type, source_id]
            instance = str(event.instance)
            identity = shard_id(TENANT, "salesforce", instance, object_type, source_id)
            standing = await self.store.get(TENANT, identity)
            shard = Shard(
                id=identity,
                tenant_id=TENANT,
                shard_type_id=f"c_{object_type.lower()}",
                revision=standing.revision + 1 if standing else 1,
                status="deleted" if event.event_type == "delete" else "active",
                structured_data=self.structured_data(event),
                external_relationships=[
                    ExternalRelationship(
                        system="salesforce",
                        instance=instance,
                        system_type="crm",
                        object_type=object_type,
                        external_id=source_id,
                        source_version=str(event.source_version),
                        read_at=str(event.read_at),
                        connection_id=event.connection_id,
                    )
                ],
                acl=Acl.of("tenant"),
                created_at=event.observed_at,
                updated_at=event.observed_at,
            )
            writes.append(ShardWrite(shard, standing.etag if standing else None))
        if writes:
            assert all(await self.store.write_many(writes))

    def structured_data(self, event: IngestionEvent) -> dict[str, Any]:
        """What is stored of a record."""
        return {"name": str(event.record.get("Name"))}

    async def memory(self, object_type: str = "Contact") -> ObjectMemory:
        """What is remembered of an object."""
        connection = await self.connection()
        empty = new_object_memory(connection, object_type)
        return (await self.states.load(TENANT, object_key(connection, object_type), empty)).value

    async def connection_memory(self) -> ConnectionMemory:
        """What is remembered of the connection."""
        return (await memory_of(await self.connection(), self.states)).value

    def truth(self, object_type: str = "Contact") -> dict[str, Any]:
        """The live records of the org."""
        records = self.org.tables[object_type].records.values()
        return {str(record["Id"]): record for record in records if not record.get("IsDeleted")}

    def queries(self, object_type: str = "Contact") -> list[str]:
        """The queries that the org has answered or refused, oldest first."""
        return [str(call.soql) for call in self.api.calls if call.soql and f"FROM {object_type} " in f"{call.soql} "]

    async def close(self) -> None:
        """Stop the server and close the files."""
        self.clients.close()
        self.simulator.stop()
        await self.bus.close()
        await self.store.close()
