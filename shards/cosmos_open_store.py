"""The store's containers while they are open, and the directory of tenants: what each part of the store works on."""

from messaging.times import Clock, utc_now
from shards.cosmos_charge_book import CosmosChargeBook
from shards.cosmos_connection import PATIENCE, Connect, CosmosConnection
from shards.cosmos_container import CosmosContainer
from shards.cosmos_containers import DIRECTORY, PARKED, PROGRESS, SHARDS, chunks_container
from shards.cosmos_documents import checked_tenant, tenant_item
from shards.cosmos_queries import tenant_directory
from shards.request_charges import RequestCharges

TOMBSTONE_DAYS = 400
"""A tombstone keeps older readings of its record from bringing it back. Longer than any source holds back an event."""

_SECONDS_A_DAY = 86_400


class CosmosOpenStore:
    """The containers of one database. The parts of the store extend it, and share its connection.

    No query is without its tenant, so what is asked of all tenants is asked of each that the directory names. A process
    enters a tenant there before it first writes anything of it.

    Args:
        connect: makes the client (:func:`shards.cosmos_connection.cosmos_client`); the store closes it.
        database: the database that ``shardline provision`` made the containers in.
        model: the embedding model, whose chunks have a container of their own.
        dimensions: the length of its vectors.
        clock: the present moment.
        tombstone_days: after so many days a tombstone is removed; None: never.
        bulk_bucket: the throughput bucket of what gives way; None: it is sent with low priority.
        patience: how many seconds a call waits out throttling and faults.
    """

    def __init__(
        self,
        connect: Connect,
        database: str,
        *,
        model: str,
        dimensions: int,
        clock: Clock = utc_now,
        tombstone_days: int | None = TOMBSTONE_DAYS,
        bulk_bucket: int | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.charges = RequestCharges()
        self._connection = CosmosConnection(
            connect, database, charges=self.charges, patience=patience, bulk_bucket=bulk_bucket
        )
        self._shards = CosmosContainer(self._connection, SHARDS)
        self._progress = CosmosContainer(self._connection, PROGRESS)
        self._chunks = CosmosContainer(self._connection, chunks_container(model, dimensions))
        self._parked = CosmosContainer(self._connection, PARKED)
        self.charge_book = CosmosChargeBook(self._progress, self.charges, clock)
        self._model = model
        self._dimensions = dimensions
        self._clock = clock
        self._tombstone_seconds = None if tombstone_days is None else tombstone_days * _SECONDS_A_DAY
        self._entered: dict[str, bool] = {}
        """The tenants that this process has entered in the directory, and whether as ones that have shards."""
        self._said: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {}
        """By tenant and scope, what its item is known to say at least: when that was asked, and who may read."""

    async def _enter(self, tenant_id: str, *, has_shards: bool = False) -> None:
        """Have the tenant in the directory, as one that has shards if it has.

        Raises:
            ValueError: this is no tenant.
        """
        entered = self._entered.get(checked_tenant(tenant_id))
        if entered is not None and entered >= has_shards:
            return
        item = tenant_item(tenant_id, has_shards=has_shards)
        stored = await self._progress.read((DIRECTORY, item["id"]), item["id"])
        if stored is None and not has_shards:
            # One that came meanwhile may say more.
            await self._progress.create(item)
        elif stored is None or stored["hasShards"] < has_shards:
            await self._progress.put(item)
        self._entered[tenant_id] = has_shards or (stored is not None and stored["hasShards"])

    async def _tenant_ids(self, *, with_shards: bool = False) -> list[str]:
        """The tenants of the directory, in order."""
        rows = await self._progress.rows(DIRECTORY, tenant_directory(DIRECTORY))
        return sorted(row["tenant"] for row in rows if row["hasShards"] or not with_shards)

    async def close(self) -> None:
        """Give back the connection. Closing twice is harmless."""
        await self.charge_book.close()
        await self._connection.close()
