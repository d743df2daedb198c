"""A connection at work: its login checked to lead to its org, and the org's API budget around all its calls."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from connections.budget import ApiBudget
from connections.registry import ConnectionRegistry
from connections.salesforce_connection import SalesforceConnection
from connections.state import StateMovedError, StateStore
from ingestion.errors import CredentialError
from ingestion.patience import patiently
from ingestion.salesforce.client import SalesforceClient, SalesforceClients, spending
from ingestion.salesforce.events import Origin
from ingestion.salesforce.memory import budget_key, new_budget_memory
from ingestion.salesforce.owners import KnownOwners
from messaging.bus import MessageBus
from messaging.times import Clock, utc_now

WINDOW_CEILING = 40_000
"""Rows of the look-back that are remembered: about 650 KB of state; a Cosmos DB item may have 2 MB."""


@dataclass(frozen=True, slots=True)
class PollingPorts:
    """What polling reaches the world through."""

    bus: MessageBus
    registry: ConnectionRegistry
    states: StateStore
    clients: SalesforceClients
    clock: Clock = utc_now
    window_ceiling: int = WINDOW_CEILING
    owners: KnownOwners = field(default_factory=KnownOwners)


@dataclass(frozen=True, slots=True)
class Session:
    """A connection at work."""

    connection: SalesforceConnection
    ports: PollingPorts
    client: SalesforceClient
    instance: str
    budget: ApiBudget

    def origin(self, object_type: str) -> Origin:
        """What the events about *object_type* share."""
        connection = self.connection
        return Origin(connection.tenant_id, connection.connection_id, self.instance, object_type)


@asynccontextmanager
async def opened(connection: SalesforceConnection, ports: PollingPorts) -> AsyncIterator[Session]:
    """A session of *connection*; at its end the calls made are added to the org's budget.

    Raises:
        CredentialError: the login fails, or leads to another org than before.
        TransientError: the login host can't be reached.
    """
    client = ports.clients.of(connection)
    instance = await patiently(f"{client.name}: login", client.org_id)
    if connection.instance and connection.instance != instance:
        ports.clients.drop(connection)
        raise CredentialError(
            f"the login now leads to the org {instance}, but the connection is of {connection.instance} (was a sandbox "
            "refreshed?): make a new connection"
        )
    if (connection.instance, connection.base_url) != (instance, client.base_url):
        await ports.registry.set_instance(connection, instance, client.base_url)
    key, empty = budget_key(instance), new_budget_memory(connection, instance)
    stored = await ports.states.load(connection.tenant_id, key, empty)
    budget = ApiBudget(
        stored.value.metadata,
        reserve_share=connection.api_reserve_share,
        own_share=connection.api_budget_share,
    )
    try:
        with spending(budget):
            yield Session(connection, ports, client, instance, budget)
    finally:
        while budget.changed:
            usage = budget.merge_into(stored.value.metadata, ports.clock())
            memory = msgspec.structs.replace(stored.value, metadata=usage)
            try:
                await ports.states.save(connection.tenant_id, key, stored, memory)
                break
            except StateMovedError:
                # Another connection of the same org: its calls are added up with these.
                stored = await ports.states.load(connection.tenant_id, key, empty)
