"""Writing shards: each conditionally by itself, since each is a partition of its own."""

import secrets
from collections.abc import Sequence

from shards.cosmos_container import Item, check_size, together
from shards.cosmos_documents import checked_id, hashed_id, item_size, scope_item, shard_item
from shards.cosmos_open_store import CosmosOpenStore
from shards.model import Acl, Shard
from shards.store import ShardWrite, StoreUnavailableError

MAX_TRIES = 20
"""How often a change that others always came before is tried before it is given up for now."""

_KNOWN_SCOPES = 10_000


class CosmosShardWrites(CosmosOpenStore):
    """:meth:`shards.store.ShardStore.write_many`."""

    async def write_many(self, writes: Sequence[ShardWrite]) -> list[str | None]:
        """See :meth:`shards.store.ShardStore.write_many`.

        The scopes come first: a shard whose scope nothing is known of yet can be read by nobody, and a crash before
        the shard leaves a scope that says what is true.

        Raises:
            ValueError: the writes are of several tenants, or two of one shard, or an id that no item can have.
        """
        if not writes:
            return []
        tenant_id = writes[0].shard.tenant_id
        if any(write.shard.tenant_id != tenant_id for write in writes):
            raise ValueError("one write is of one tenant")
        if len({checked_id(write.shard.id) for write in writes}) != len(writes):
            raise ValueError("one write has each shard once")
        items = [
            shard_item(write.shard, nonce=secrets.token_hex(8), tombstone_seconds=self._tombstone_seconds)
            for write in writes
        ]
        for item in items:
            check_size(item_size(item), f"shard {item['id']}, a {item['shardTypeId']},")
        await self._enter(tenant_id, has_shards=True)
        await self._share(tenant_id, [write.shard for write in writes])
        return await together(self._write_shard(item, write.if_etag) for item, write in zip(items, writes, strict=True))

    async def _write_shard(self, item: Item, if_etag: str | None) -> str | None:
        etag = await (self._shards.create(item) if if_etag is None else self._shards.replace(item, if_etag))
        if etag is not None:
            return etag
        # A connection that broke off may have lost the answer to a write that was carried out; what came then was
        # refused for its sake. The item says whose write it is.
        stored = await self._shards.read((item["tenantId"], item["id"]), item["id"])
        if stored is not None and stored["derived"]["nonce"] == item["derived"]["nonce"]:
            return str(stored["_etag"])
        return None

    async def _share(self, tenant_id: str, shards: Sequence[Shard]) -> None:
        """Give each scope the principals of the newest reading of it; one that inherits its readers says nothing."""
        newest: dict[str, tuple[str, Acl]] = {}
        for shard in shards:
            if shard.acl.inherited:
                continue
            asked_at = max((one.read_at for one in shard.external_relationships), default="") or shard.updated_at
            said = newest.get(shard.acl.scope)
            if said is None or (asked_at, shard.acl.principals) > (said[0], said[1].principals):
                newest[shard.acl.scope] = (asked_at, shard.acl)
        await together(self._share_scope(tenant_id, acl, asked_at) for asked_at, acl in newest.values())

    async def _share_scope(self, tenant_id: str, acl: Acl, asked_at: str) -> None:
        if acl == Acl.of(*acl.principals):
            # This scope's name is its set of principals: whatever the reading, it says the same.
            asked_at = ""
        key = (tenant_id, acl.scope)
        known = self._said.get(key)
        if known is not None and known >= (asked_at, acl.principals):
            return
        for _ in range(MAX_TRIES):
            stored = await self._progress.read((tenant_id, scope_id := hashed_id("scope", acl.scope)), scope_id)
            item = scope_item(tenant_id, acl, asked_at)
            if stored is None:
                check_size(item_size(item), f"scope {acl.scope}")
                written = await self._progress.create(item)
            elif (stored["askedAt"], tuple(stored["principals"])) >= (asked_at, acl.principals):
                self._remember((tenant_id, acl.scope), stored["askedAt"], tuple(stored["principals"]))
                return
            else:
                check_size(item_size(item), f"scope {acl.scope}")
                written = await self._progress.replace(item, stored["_etag"])
            if written is not None:
                self._remember(key, asked_at, acl.principals)
                return
        raise StoreUnavailableError(f"others wrote scope {acl.scope} {MAX_TRIES} times meanwhile")

    def _remember(self, key: tuple[str, str], asked_at: str, principals: tuple[str, ...]) -> None:
        if len(self._said) >= _KNOWN_SCOPES:
            self._said.clear()
        self._said[key] = (asked_at, principals)
