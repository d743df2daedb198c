"""Databases of Cosmos DB for tests, each new and with its containers: on the strict peer, or on an account of yours.

``SHARDLINE_TEST_COSMOS`` is the connection string of an account to test on instead of the peer: a real one, or the
emulator. Tests of what only a peer can do on demand (faults, splits, time) then use the peer all the same. With
``SHARDLINE_TEST_COSMOS_SEARCH=no`` containers get no index and search policies, which the emulator does not know, and a
test is skipped where it comes to search.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from azure.cosmos.aio import CosmosClient
from cosmos_peer import CosmosPeer
from shard_samples import DIMENSIONS, MODEL

from shards.cosmos_connection import cosmos_client
from shards.cosmos_containers import LEASES, ContainerDefinition, containers
from shards.cosmos_provisioning import provision
from shards.cosmos_store import CosmosShardStore
from shards.store import Hit, SearchQuery

ACCOUNT = os.environ.get("SHARDLINE_TEST_COSMOS")
"""The connection string of the account to test on; None: the peer."""

SEARCH = os.environ.get("SHARDLINE_TEST_COSMOS_SEARCH", "yes") != "no"
"""Whether the account ranks vectors and text."""

Connect = Callable[[], CosmosClient]

_numbers = count(1)


def connect_to(peer: CosmosPeer) -> Connect:
    """Makes clients of the peer, set up as the store wants them."""
    return lambda: cosmos_client(peer.endpoint, peer.key)


def account_clients(connection_string: str) -> Connect:
    """Makes clients of the account that is named."""
    parts = dict(part.split("=", 1) for part in connection_string.strip(";").split(";"))
    return lambda: cosmos_client(parts["AccountEndpoint"], parts["AccountKey"])


def definitions(*, search: bool = SEARCH) -> list[ContainerDefinition]:
    """The store's containers as they are made here."""
    defined = [one for one in containers(MODEL, DIMENSIONS) if one.name != LEASES]
    return defined if search else [replace(one, vector=None, language=None, indexed=None) for one in defined]


class StoreWithoutSearch(CosmosShardStore):
    """A store on an account that ranks neither vectors nor text: a test that searches is skipped from there."""

    async def search(self, query: SearchQuery) -> list[Hit]:
        """Skip the test."""
        pytest.skip("this account ranks neither vectors nor text")


@asynccontextmanager
async def new_database(connect: Connect) -> AsyncIterator[str]:
    """A database of its own with the store's containers, deleted at the end."""
    name = f"test-{os.getpid()}-{next(_numbers)}-{uuid4().hex[:6]}"
    async with connect() as client:
        await provision(client, name, definitions())
        try:
            yield name
        finally:
            await client.delete_database(name)


def store_on(connect: Connect, database: str, **options: Any) -> CosmosShardStore:
    """A store of the tests' model; the caller closes it."""
    kind = CosmosShardStore if SEARCH else StoreWithoutSearch
    return kind(connect, database, **{"model": MODEL, "dimensions": DIMENSIONS, **options})


@asynccontextmanager
async def new_store(connect: Connect, **options: Any) -> AsyncIterator[CosmosShardStore]:
    """A store on a database of its own."""
    async with new_database(connect) as database:
        store = store_on(connect, database, **options)
        try:
            yield store
        finally:
            await store.close()
