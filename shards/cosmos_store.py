"""The shard store on Azure: Cosmos DB for NoSQL, by its own SDK, for any number of processes.

A shard, its progress and a parked message are each a partition of their own, read and written by their full key; a
shard's chunks are one partition. A tenant's partitions have the tenant as their first key, so whatever else is asked
is asked of one tenant. Nothing is written over what was not read: writes carry the etag they were decided on.
"""

from shards.cosmos_parked import CosmosParkedMessages
from shards.cosmos_search import CosmosSearch
from shards.cosmos_shard_writes import CosmosShardWrites


class CosmosShardStore(CosmosSearch, CosmosShardWrites, CosmosParkedMessages):
    """:class:`~shards.store.ShardStore` and :class:`~shards.parked.ParkedMessages` on one database.

    The arguments are those of :class:`~shards.cosmos_open_store.CosmosOpenStore`. What it costs is counted in
    ``charges`` (:class:`~shards.request_charges.RequestCharges`).
    """
