"""Reading shards: by id, by query, by link, as the change feed and as counts."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import apsw

from shards.cursors import decode_cursor, encode_cursor
from shards.model import Shard, decode_shard, decode_shards
from shards.sqlite_filters import ALIASES, READABLE_SCOPES, children, conditions
from shards.sqlite_open_store import OpenStore, store_errors
from shards.sqlite_rows import all_rows, json_text, one_row, snapshot
from shards.sqlite_schema import CHILD_BITS, CHILD_MASK, LINK_STATUS, LIVE
from shards.store import ChangePage, IncomingLink, InvalidCursorError, Page, ShardQuery, StoreCounts

FEW_EXTERNALS = 2_000
"""Up to so many records, a query by source reads them all and sorts; above, it walks the shards in their order."""

LONGEST_POSITION = 18
"""How many digits a position of the change feed has at most: SQLite's integers end at 19."""


class SqliteShardReads(OpenStore):
    """What :class:`~shards.store.ShardStore` tells of shards."""

    async def get(self, tenant_id: str, shard_id: str) -> Shard | None:
        """See :meth:`shards.store.ShardStore.get`."""
        return (await self.get_many(tenant_id, [shard_id])).get(shard_id)

    async def get_many(self, tenant_id: str, shard_ids: Sequence[str]) -> dict[str, Shard]:
        """See :meth:`shards.store.ShardStore.get_many`."""
        if not shard_ids:
            return {}
        wanted = json_text(list(shard_ids))

        def read(connection: apsw.Connection) -> tuple[Any, ...]:
            return one_row(
                connection,
                "SELECT group_concat(d.position), CAST(group_concat(d.doc, char(10)) AS BLOB) FROM json_each(?1) AS j"
                " CROSS JOIN ids AS i ON i.tenant = ?2 AND i.id = j.value CROSS JOIN docs AS d ON d.key = i.key",
                (wanted, self._names.tenant(connection, tenant_id)),
            )

        with store_errors():
            positions, docs = await self._file.run(read)
        return {shard.id: shard for shard in _shards(positions, docs)}

    async def resolve(self, tenant_id: str, shard_id: str) -> Shard | None:
        """See :meth:`shards.store.ShardStore.resolve`. A redirect that leads nowhere, or in a circle, gives None."""

        def read(connection: apsw.Connection) -> tuple[Any, ...] | None:
            # UNION drops a key met before, so that a circle ends; the key without a redirect is the end of the way.
            row = connection.execute(
                """
                WITH RECURSIVE way (key) AS (
                    SELECT key FROM ids WHERE tenant = ? AND id = ?
                    UNION SELECT h.redirect FROM way JOIN heads AS h ON h.key = way.key WHERE h.redirect IS NOT NULL
                )
                SELECT d.position, d.doc FROM way
                JOIN heads AS h ON h.key = way.key AND h.redirect IS NULL JOIN docs AS d ON d.key = h.key
                """,
                (self._names.tenant(connection, tenant_id), shard_id),
            ).fetchone()
            return None if row is None else tuple(row)

        with store_errors():
            row = await self._file.run(read)
        return None if row is None else stored_shard(*row)

    async def readable_scopes(self, tenant_id: str, scopes: Sequence[str], principals: frozenset[str]) -> set[str]:
        """See :meth:`shards.store.ShardStore.readable_scopes`."""

        def read(connection: apsw.Connection) -> list[tuple[Any, ...]]:
            return all_rows(
                connection,
                "SELECT s.name FROM json_each(:scopes) AS j"
                " JOIN scopes AS s ON s.tenant = :tenant AND s.name = j.value"
                f" WHERE s.scope IN {READABLE_SCOPES}",
                {
                    "scopes": json_text(list(scopes)),
                    "tenant": self._names.tenant(connection, tenant_id),
                    "principals": json_text(sorted(principals)),
                },
            )

        with store_errors():
            return {str(name) for [name] in await self._file.run(read)}

    async def query(self, query: ShardQuery, *, limit: int = 100, cursor: str | None = None) -> Page[Shard]:
        """See :meth:`shards.store.ShardStore.query`. A shard updated between two pages is seen again, never missed."""
        after = None if cursor is None else decode_cursor(cursor, str, int)
        with store_errors():
            rows = await self._file.run(partial(self._query, query=query, limit=limit + 1, after=after))
        items = [stored_shard(position, doc) for _, _, position, doc in rows[:limit]]
        return Page(items, encode_cursor(*rows[limit - 1][:2]) if len(rows) > limit else None)

    def _query(
        self, connection: apsw.Connection, *, query: ShardQuery, limit: int, after: list[str | int] | None
    ) -> list[tuple[Any, ...]]:
        tenant = self._names.tenant(connection, query.tenant_id)
        if tenant is None:
            return []
        types = self._names.types(connection, query.shard_type_ids)
        where, bindings = conditions(
            tenant=tenant,
            principals=query.principals,
            updated_after=query.updated_after,
            updated_before=query.updated_before,
            include_deleted=query.include_deleted,
        )
        bindings["limit"] = limit
        if after is not None:
            bindings["after_time"], bindings["after_key"] = after
            where.append("(h.updated_at, h.key) > (:after_time, :after_key)")
        given = (query.system, query.instance, query.object_type, query.external_id, query.connection_id)
        if all(part is None for part in given):
            return _in_order(connection, where, bindings, _types_of(connection, tenant) if types is None else types)
        bindings["external_id"] = query.external_id
        bindings["origins"] = json_text(
            [
                origin
                for (origin,) in connection.execute(
                    "SELECT origin FROM origins WHERE tenant = ?1 AND (?2 IS NULL OR system = ?2)"
                    " AND (?3 IS NULL OR instance = ?3) AND (?4 IS NULL OR object_type = ?4)"
                    " AND (?5 IS NULL OR connection = ?5)",
                    (tenant, query.system, query.instance, query.object_type, query.connection_id),
                )
            ]
        )
        of_source = "e.origin IN (SELECT value FROM json_each(:origins))"
        if query.external_id is not None:
            of_source += " AND e.external_id = :external_id"
        [found] = one_row(
            connection,
            f"SELECT count(*) FROM (SELECT 1 FROM externals AS e WHERE {of_source} LIMIT {FEW_EXTERNALS + 1})",
            bindings,
        )
        if found > FEW_EXTERNALS:
            # + has SQLite look at each shard's own records, not at all records of the source for each shard.
            where.append(f"EXISTS (SELECT 1 FROM externals AS e WHERE {children('e.id')} AND +{of_source})")
            kept_as = all_rows(
                connection,
                "SELECT DISTINCT type FROM origin_types WHERE origin IN (SELECT value FROM json_each(:origins))",
                bindings,
            )
            walked = [number for (number,) in kept_as if types is None or number in types]
            return _in_order(connection, where, bindings, walked)
        if types is not None:
            where.append("h.type IN (SELECT value FROM json_each(:types))")
            bindings["types"] = json_text(types)
        return _with_docs(
            connection,
            f"SELECT h.updated_at, h.key FROM (SELECT DISTINCT e.id >> {CHILD_BITS} AS key FROM externals AS e"
            f" WHERE {of_source}) AS r CROSS JOIN heads AS h ON h.key = r.key WHERE {' AND '.join(where)}"
            " ORDER BY h.updated_at, h.key LIMIT :limit",
            bindings,
        )

    async def incoming(
        self, tenant_id: str, shard_id: str, *, limit: int = 100, cursor: str | None = None
    ) -> Page[IncomingLink]:
        """See :meth:`shards.store.ShardStore.incoming`. Links to what was merged into the shard are its own."""
        after = 0 if cursor is None else decode_cursor(cursor, int)[0]

        def read(connection: apsw.Connection) -> list[tuple[Any, ...]]:
            return all_rows(
                connection,
                f"""
                SELECT l.id, d.position, d.doc FROM links AS l
                CROSS JOIN heads AS h ON h.key = l.id >> {CHILD_BITS} AND h.state = {LIVE}
                CROSS JOIN docs AS d ON d.key = h.key
                WHERE l.target IN ({ALIASES}) AND l.status <> {LINK_STATUS["rejected"]} AND l.id > :after
                ORDER BY l.id LIMIT :limit
                """,
                {
                    "tenant": self._names.tenant(connection, tenant_id),
                    "shard": shard_id,
                    "after": after,
                    "limit": limit + 1,
                },
            )

        with store_errors():
            rows = await self._file.run(read)
        items = []
        for link, position, doc in rows[:limit]:
            source = stored_shard(position, doc)
            items.append(
                IncomingLink(
                    source_shard_id=source.id,
                    source_shard_type_id=source.shard_type_id,
                    source_name=source.name,
                    link=source.internal_relationships[link & CHILD_MASK],
                )
            )
        return Page(items, encode_cursor(rows[limit - 1][0]) if len(rows) > limit else None)

    async def export_links(self, tenant_id: str, *, limit: int = 1000, cursor: str | None = None) -> Page[Shard]:
        """See :meth:`shards.store.ShardStore.export_links`."""
        after = "" if cursor is None else decode_cursor(cursor, str)[0]

        def read(connection: apsw.Connection) -> list[tuple[Any, ...]]:
            return all_rows(
                connection,
                f"""
                SELECT i.id, d.position, d.doc FROM ids AS i
                CROSS JOIN heads AS h ON h.key = i.key AND h.state = {LIVE}
                CROSS JOIN docs AS d ON d.key = i.key
                WHERE i.tenant = ? AND i.id > ? AND EXISTS (SELECT 1 FROM links AS l WHERE {children("l.id")})
                ORDER BY i.id LIMIT ?
                """,
                (self._names.tenant(connection, tenant_id), after, limit + 1),
            )

        with store_errors():
            rows = await self._file.run(read)
        items = [stored_shard(position, doc) for _, position, doc in rows[:limit]]
        return Page(items, encode_cursor(rows[limit - 1][0]) if len(rows) > limit else None)

    async def changes(self, *, after: str | None, limit: int = 100) -> ChangePage:
        """See :meth:`shards.store.ShardStore.changes`. The shards of all tenants come in the order of their writes.

        A position is given out under the write lock, in the transaction that it numbers; so positions become visible
        in their order, whichever process writes.
        """
        position = "0" if after is None else after
        if not (position.isascii() and position.isdecimal() and len(position) <= LONGEST_POSITION):
            raise InvalidCursorError("this is no position of this change feed")
        with store_errors():
            rows = await self._file.run(
                lambda connection: all_rows(
                    connection,
                    "SELECT h.position, d.doc FROM heads AS h CROSS JOIN docs AS d ON d.key = h.key"
                    " WHERE h.position > ? ORDER BY h.position LIMIT ?",
                    (int(position), limit),
                )
            )
        shards = [stored_shard(*row) for row in rows]
        return ChangePage(shards, shards[-1].etag if shards else position)

    async def tenants(self) -> list[str]:
        """See :meth:`shards.store.ShardStore.tenants`."""
        with store_errors():
            rows = await self._file.run(
                lambda connection: all_rows(
                    connection,
                    "SELECT id FROM tenants AS t WHERE EXISTS (SELECT 1 FROM heads AS h WHERE h.tenant = t.tenant)"
                    " ORDER BY id",
                )
            )
        return [tenant_id for (tenant_id,) in rows]

    async def counts(self, tenant_id: str) -> StoreCounts:
        """See :meth:`shards.store.ShardStore.counts`. A link to a redirect counts as one to its end would."""
        with store_errors():
            return await self._file.run(partial(self._counts, tenant_id=tenant_id))

    def _counts(self, connection: apsw.Connection, *, tenant_id: str) -> StoreCounts:
        tenant = self._names.tenant(connection, tenant_id)
        if tenant is None:
            return StoreCounts()
        with snapshot(connection):
            shards = {
                self._names.text(connection, word): number
                for word, number in connection.execute(
                    "SELECT type, count(*) FROM heads WHERE tenant = ? AND state = ? GROUP BY type", (tenant, LIVE)
                )
            }
            [deleted] = one_row(
                connection, "SELECT count(*) FROM heads WHERE tenant = ? AND state <> ?", (tenant, LIVE)
            )
            # By the tenant's ids: the chunks stand in the order of all tenants' keys.
            chunks, vectors = one_row(
                connection,
                "SELECT count(*), count(c.vector) FROM ids AS i"
                f" CROSS JOIN chunks AS c ON {children('c.id', 'i.key')} WHERE i.tenant = ?",
                (tenant,),
            )
            links, pending = {}, 0
            for word, alive, dead in connection.execute(_COUNT_LINKS, {"tenant": tenant}):
                pending += dead
                if alive:
                    links[self._names.text(connection, word)] = alive
        return StoreCounts(
            shards=shards, deleted=deleted, chunks=chunks, vectors=vectors, links=links, links_pending=pending
        )


_COUNT_LINKS = f"""
    WITH RECURSIVE
        ways (start, key) AS (
            SELECT key, redirect FROM heads WHERE redirect IS NOT NULL AND tenant = :tenant
            UNION SELECT w.start, h.redirect FROM ways AS w JOIN heads AS h ON h.key = w.key
                WHERE h.redirect IS NOT NULL
        ),
        alive (key) AS MATERIALIZED (
            SELECT w.start FROM ways AS w JOIN heads AS h ON h.key = w.key WHERE h.state = {LIVE}
        ),
        active (relation, lives) AS (
            SELECT l.relation, coalesce(t.state = {LIVE}, 0) OR l.target IN (SELECT key FROM alive)
            FROM heads AS h CROSS JOIN links AS l ON {children("l.id")} LEFT JOIN heads AS t ON t.key = l.target
            WHERE h.tenant = :tenant AND h.state = {LIVE} AND l.status = {LINK_STATUS["active"]}
        )
    SELECT relation, sum(lives), sum(NOT lives) FROM active GROUP BY relation
"""

_DISTINCT_TYPES = """
    WITH RECURSIVE types (type) AS (
        SELECT min(type) FROM heads WHERE tenant = ?1
        UNION ALL
        SELECT (SELECT min(type) FROM heads WHERE tenant = ?1 AND type > types.type) FROM types WHERE type IS NOT NULL
    )
    SELECT type FROM types WHERE type IS NOT NULL
"""


def stored_shard(position: int, doc: bytes) -> Shard:
    """The shard of a row of ``docs``; its etag is its position."""
    shard = decode_shard(doc)
    shard.etag = str(position)
    return shard


def _shards(positions: str | None, docs: bytes | None) -> list[Shard]:
    if positions is None or docs is None:
        return []
    shards = decode_shards(docs)
    for shard, position in zip(shards, str(positions).split(","), strict=True):
        shard.etag = position
    return shards


def _types_of(connection: apsw.Connection, tenant: int) -> list[int]:
    return [number for (number,) in connection.execute(_DISTINCT_TYPES, (tenant,))]


def _in_order(
    connection: apsw.Connection, where: Sequence[str], bindings: dict[str, Any], types: Sequence[int]
) -> list[tuple[Any, ...]]:
    """The first shards of these types by time: each type is walked by its index, and the walks are merged."""
    if not types:
        return []
    walks = " UNION ALL ".join(
        f"SELECT * FROM (SELECT h.updated_at, h.key FROM heads AS h WHERE h.type = {int(number)} AND"
        f" {' AND '.join(where)} ORDER BY h.updated_at, h.key LIMIT :limit)"
        for number in types
    )
    return _with_docs(connection, f"{walks} ORDER BY 1, 2 LIMIT :limit", bindings)


def _with_docs(connection: apsw.Connection, keys: str, bindings: dict[str, Any]) -> list[tuple[Any, ...]]:
    return all_rows(
        connection,
        f"SELECT k.updated_at, k.key, d.position, d.doc FROM ({keys}) AS k CROSS JOIN docs AS d ON d.key = k.key"
        " ORDER BY k.updated_at, k.key",
        bindings,
    )
