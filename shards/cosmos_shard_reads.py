"""Reading shards: by id, by query, by link, as the change feed and as counts."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from shards.cosmos_container import Item, together
from shards.cosmos_cursors import cursor_behind, feed_position, place_behind, position_text
from shards.cosmos_documents import hashed_id, is_legal_id, shard_position, stored_shard
from shards.cosmos_open_store import CosmosOpenStore
from shards.cosmos_queries import (
    BEFORE_EVERYTHING,
    MAX_LISTED,
    active_links,
    count_chunks,
    count_shards,
    linking_shards,
    live_shards,
    next_shard_type,
    redirects,
    scopes_of,
    shards_by_id,
    shards_in_order,
    shards_with_links,
)
from shards.model import Shard
from shards.store import ChangePage, IncomingLink, InvalidCursorError, Page, ShardQuery, StoreCounts


class CosmosShardReads(CosmosOpenStore):
    """What :class:`~shards.store.ShardStore` tells of shards."""

    async def get(self, tenant_id: str, shard_id: str) -> Shard | None:
        """See :meth:`shards.store.ShardStore.get`."""
        item = await self._shard_item(tenant_id, shard_id)
        return None if item is None else stored_shard(item)

    async def _shard_item(self, tenant_id: str, shard_id: str) -> Item | None:
        if not is_legal_id(shard_id):
            return None
        return await self._shards.read((tenant_id, shard_id), shard_id)

    async def get_many(self, tenant_id: str, shard_ids: Sequence[str]) -> dict[str, Shard]:
        """See :meth:`shards.store.ShardStore.get_many`."""
        items = await self._shards.some(
            tenant_id,
            filter(is_legal_id, shard_ids),
            key=lambda shard_id: (tenant_id, shard_id),
            query=lambda ids: shards_by_id(tenant_id, ids),
        )
        return {item["id"]: stored_shard(item) for item in items}

    async def resolve(self, tenant_id: str, shard_id: str) -> Shard | None:
        """See :meth:`shards.store.ShardStore.resolve`. A redirect that leads nowhere, or in a circle, gives None."""
        way = await self._way(tenant_id, shard_id)
        return None if way is None else way[-1]

    async def _way(self, tenant_id: str, shard_id: str) -> list[Shard] | None:
        """The shard and those that its redirects lead over, to one without; None when there is none."""
        way: dict[str, Shard] = {}
        following: str | None = shard_id
        while following is not None:
            shard = None if following in way else await self.get(tenant_id, following)
            if shard is None:
                return None
            way[following] = shard
            following = shard.redirect_to
        return list(way.values())

    async def _aliases(self, tenant_id: str, shard_id: str) -> list[str]:
        """The ids of the shard, of what it was merged into, and of all that was merged into either."""
        aliases = {shard_id: None}
        following = shard_id
        while True:
            shard = await self.get(tenant_id, following)
            if shard is None or shard.redirect_to is None or shard.redirect_to in aliases:
                break
            following = shard.redirect_to
            aliases[following] = None
        newest: list[str] = list(aliases)
        while newest:
            merged = await self._shards.of_list(tenant_id, newest, lambda ids: redirects(tenant_id, ids))
            newest = list(dict.fromkeys(row["id"] for row in merged if row["id"] not in aliases))
            aliases.update(dict.fromkeys(newest))
        return list(aliases)

    async def _scopes(self, tenant_id: str, principals: frozenset[str] | None) -> tuple[str, ...] | None:
        """The scopes that one of *principals* may read; None for the operator's own view."""
        if principals is None:
            return None
        found = await self._progress.of_list(tenant_id, sorted(principals), lambda part: scopes_of(tenant_id, part))
        return tuple(sorted(set(found)))

    async def readable_scopes(self, tenant_id: str, scopes: Sequence[str], principals: frozenset[str]) -> set[str]:
        """See :meth:`shards.store.ShardStore.readable_scopes`."""
        ids = dict.fromkeys(hashed_id("scope", scope) for scope in scopes)
        items = await together(self._progress.read((tenant_id, scope_id), scope_id) for scope_id in ids)
        return {item["scope"] for item in items if item is not None and not principals.isdisjoint(item["principals"])}

    async def query(self, query: ShardQuery, *, limit: int = 100, cursor: str | None = None) -> Page[Shard]:
        """See :meth:`shards.store.ShardStore.query`. A shard updated between two pages is seen again, never missed."""
        listing = (query, sorted(query.principals) if query.principals is not None else None)
        after = BEFORE_EVERYTHING if cursor is None else place_behind(listing, cursor)
        scopes = await self._scopes(query.tenant_id, query.principals)
        if scopes == ():
            return Page([])
        # A reader of many scopes is asked for with some of them at a time; what comes first of all is among it.
        found = await together(
            self._shards.first(
                query.tenant_id,
                shards_in_order(query, part, after=after, limit=limit + 1),
                lambda item: item["derived"]["position"],
                limit + 1,
            )
            for part in parts_of(scopes)
        )
        items = sorted((item for items in found for item in items), key=lambda item: item["derived"]["position"])
        shards = [stored_shard(item) for item in items[:limit]]
        more = len(items) > limit and shards
        return Page(shards, cursor_behind(listing, shard_position(shards[-1])) if more else None)

    async def incoming(
        self, tenant_id: str, shard_id: str, *, limit: int = 100, cursor: str | None = None
    ) -> Page[IncomingLink]:
        """See :meth:`shards.store.ShardStore.incoming`. Links to what was merged into the shard are its own."""
        listing = ("incoming", tenant_id, shard_id)
        source, seen = BEFORE_EVERYTHING, 0
        if cursor is not None:
            source, _, number_seen = place_behind(listing, cursor).rpartition(" ")
            if not number_seen.isdecimal():
                raise InvalidCursorError("this is no cursor of this listing")
            seen = int(number_seen)
        aliases = set(await self._aliases(tenant_id, shard_id))
        items = await self._shards.first(
            tenant_id,
            linking_shards(tenant_id, sorted(aliases), after=source, limit=limit + 2),
            lambda item: item["id"],
            limit + 2,
        )
        links = [
            (shard, number, link)
            for shard in map(stored_shard, items)
            for number, link in enumerate(shard.internal_relationships, start=1)
            if link.target_shard_id in aliases and link.status != "rejected"
            if shard.id != source or number > seen
        ]
        page = [
            IncomingLink(
                source_shard_id=shard.id,
                source_shard_type_id=shard.shard_type_id,
                source_name=shard.name,
                link=link,
            )
            for shard, _, link in links[:limit]
        ]
        if len(links) <= limit:
            return Page(page)
        last, number, _ = links[limit - 1]
        return Page(page, cursor_behind(listing, f"{last.id} {number}"))

    async def export_links(self, tenant_id: str, *, limit: int = 1000, cursor: str | None = None) -> Page[Shard]:
        """See :meth:`shards.store.ShardStore.export_links`."""
        listing = ("links", tenant_id)
        after = BEFORE_EVERYTHING if cursor is None else place_behind(listing, cursor)
        items = await self._shards.first(
            tenant_id,
            shards_with_links(tenant_id, after=after, limit=limit + 1),
            lambda item: item["id"],
            limit + 1,
        )
        shards = [stored_shard(item) for item in items[:limit]]
        more = len(items) > limit and shards
        return Page(shards, cursor_behind(listing, shards[-1].id) if more else None)

    async def changes(self, *, after: str | None, limit: int = 100) -> ChangePage:
        """See :meth:`shards.store.ShardStore.changes`. Those of one physical partition come in the order of writes."""
        page = await self._shards.changes(None if after is None else feed_position(after), limit)
        return ChangePage([stored_shard(item) for item in page.items], position_text(page.position))

    async def tenants(self) -> list[str]:
        """See :meth:`shards.store.ShardStore.tenants`."""
        return await self._tenant_ids(with_shards=True)

    async def counts(self, tenant_id: str) -> StoreCounts:
        """See :meth:`shards.store.ShardStore.counts`. A link to a redirect counts as one to its end would.

        Shards and chunks are counted by the index. Whether a link's target is alive no index tells: all links are read,
        at some RU for each hundred shards that have any.
        """
        links, pending = await self._count_links(tenant_id)
        return StoreCounts(
            shards=await self._count_types(tenant_id),
            deleted=await self._shards.count(tenant_id, count_shards(tenant_id, live=False)),
            chunks=await self._chunks.count(tenant_id, count_chunks(tenant_id)),
            vectors=await self._chunks.count(tenant_id, count_chunks(tenant_id, with_vector=True)),
            links=links,
            links_pending=pending,
        )

    async def _count_types(self, tenant_id: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        kind = BEFORE_EVERYTHING
        while found := await self._shards.rows(tenant_id, next_shard_type(tenant_id, kind)):
            kind = min(found)
            counts[kind] = await self._shards.count(tenant_id, count_shards(tenant_id, live=True, shard_type_id=kind))
        return counts

    async def _count_links(self, tenant_id: str) -> tuple[dict[str, int], int]:
        """Active links of live shards whose target is alive, by type, and how many others there are."""
        links = await self._shards.rows(tenant_id, active_links(tenant_id))
        targets = {link["targetShardId"] for link in links}
        alive = await self._alive(tenant_id, targets)
        dead = targets - alive
        if dead:
            ends = _ends(await self._shards.rows(tenant_id, redirects(tenant_id)))
            ended = {target: ends[target] for target in dead if target in ends}
            living_ends = await self._alive(tenant_id, ended.values())
            alive |= {target for target, end in ended.items() if end in living_ends}
        counts: dict[str, int] = {}
        pending = 0
        for link in links:
            if link["targetShardId"] in alive:
                counts[link["relationshipType"]] = counts.get(link["relationshipType"], 0) + 1
            else:
                pending += 1
        return counts, pending

    async def _alive(self, tenant_id: str, shard_ids: Iterable[str]) -> set[str]:
        return set(await self._shards.of_list(tenant_id, shard_ids, lambda ids: live_shards(tenant_id, ids)))


def parts_of(scopes: Collection[str] | None) -> list[Sequence[str] | None]:
    """The scopes in lists that a query takes; one None for no matter which."""
    if scopes is None:
        return [None]
    listed = sorted(scopes)
    return [listed[start : start + MAX_LISTED] for start in range(0, len(listed), MAX_LISTED)]


def _ends(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Where each redirect leads in the end; those that lead in a circle are left out."""
    redirect = {row["id"]: row["redirectTo"] for row in rows}
    ends: dict[str, str] = {}
    for start, next_ in redirect.items():
        way, end = {start}, next_
        while end in redirect and end not in way:
            way.add(end)
            end = redirect[end]
        if end not in way:
            ends[start] = end
    return ends
