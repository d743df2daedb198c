"""The Cosmos DB store on a server that others wrote: shards, progress and parked messages, by the same contracts.

What that server can't do (patches in batches, change feeds from a continuation, vectors, full text) is tested on the
strict peer alone.
"""

from collections.abc import AsyncIterator, Iterator

import pytest
from azure.cosmos.aio import CosmosClient
from cosmos_databases import new_store
from independent_cosmos import IndependentCosmos
from node_process import require_node_peers
from parked_messages_contract import ParkedMessagesContract
from shard_store_contract import ProgressContract, ShardsContract

from shards.cosmos_connection import cosmos_client
from shards.cosmos_store import CosmosShardStore

EVERY_PARTITION = {"x-ms-documentdb-query-enablecrosspartition": "true"}


@pytest.fixture(scope="module")
def cosmos() -> Iterator[IndependentCosmos]:
    require_node_peers()
    server = IndependentCosmos()
    yield server
    server.end()


@pytest.fixture
async def store(cosmos: IndependentCosmos) -> AsyncIterator[CosmosShardStore]:
    def connect() -> CosmosClient:
        # As IndependentCosmos.connect does it, but for the store's own settings.
        return cosmos_client(cosmos.endpoint, cosmos.key, connection_verify=False, headers=EVERY_PARTITION)

    async with new_store(connect) as opened:
        yield opened


@pytest.fixture
def parked(store: CosmosShardStore) -> CosmosShardStore:
    return store


class TestShardsOnIndependentCosmos(ShardsContract):
    """Shards."""


class TestProgressOnIndependentCosmos(ProgressContract):
    """Progress."""


class TestParkedMessagesOnIndependentCosmos(ParkedMessagesContract):
    """Parked messages."""
