"""New containers on a Cosmos DB peer, through the real SDK."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient, DatabaseProxy
from cosmos_peer import PeerHandle

TENANT_AND_ID = ("/tenantId", "/id")

_numbers = count(1)


@asynccontextmanager
async def new_database(peer: PeerHandle, client: CosmosClient | None = None) -> AsyncIterator[DatabaseProxy]:
    """A database of its own, by a client of its own or this one."""
    async with client or peer.connect() as connected:
        yield await connected.create_database(f"database{next(_numbers)}")


def partition_key(paths: Sequence[str]) -> PartitionKey:
    """The key of these levels."""
    if len(paths) == 1:
        return PartitionKey(path=paths[0], kind="Hash")
    return PartitionKey(path=list(paths), kind="MultiHash")


@asynccontextmanager
async def new_container(
    peer: PeerHandle, *paths: str, client: CosmosClient | None = None, **policies: Any
) -> AsyncIterator[ContainerProxy]:
    """A container ``things`` with this key (none: tenant and id) and these policies, in a database of its own."""
    async with new_database(peer, client) as database:
        yield await database.create_container("things", partition_key(paths or TENANT_AND_ID), **policies)


def database_of(container: ContainerProxy) -> str:
    """The name of the container's database."""
    return str(container.container_link).split("/")[1]


async def rows(
    container: ContainerProxy, query: str, *, parameters: dict[str, Any] | None = None, **options: Any
) -> Any:
    """All rows of a query; *parameters* by their names with the ``@``."""
    given = None if parameters is None else [{"name": name, "value": value} for name, value in parameters.items()]
    return [row async for row in container.query_items(query, parameters=given, **options)]


async def pages(container: ContainerProxy, query: str, **options: Any) -> list[list[Any]]:
    """The rows of a query in their pages."""
    return [[row async for row in page] async for page in container.query_items(query, **options).by_page()]
