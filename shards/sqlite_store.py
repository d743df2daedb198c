"""The shard store on one machine: one SQLite file, for any number of processes on it.

A call is a handful of statements however many shards it has: lists go in as one JSON text or one blob and come out as
one row, because a step of a statement costs far more than the row in it (see :mod:`messaging.sqlite`).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec
import numpy as np

from messaging import codec
from messaging.sqlite import SqliteFile
from messaging.times import Clock, from_text, to_text, utc_now
from shards.cursors import decode_cursor, encode_cursor
from shards.identity import chunk_id
from shards.model import Chunk, Shard, decode_shard, decode_shards, encode_shard
from shards.search import Candidate, find_hits
from shards.sqlite_filters import ALIASES, children, conditions
from shards.sqlite_parked import SqliteParkedMessages, store_errors
from shards.sqlite_rows import all_rows, json_rows, json_text, one_row, put_rows, snapshot
from shards.sqlite_schema import (
    APPLICATION_ID,
    CHILD_BITS,
    CHILD_MASK,
    IS_LAGGING,
    LINK_STATUS,
    LIVE,
    SCHEMA,
    SLOT_BITS,
    VERSION,
    AclKey,
    Names,
    OriginKey,
    shard_state,
    text_table,
)
from shards.store import (
    Change,
    ChunkState,
    Hit,
    IncomingLink,
    Page,
    Progress,
    SearchQuery,
    ShardQuery,
    ShardWrite,
    Stage,
    StoreCounts,
    Vectors,
)
from shards.vector_matrix import VectorMatrices

TRANSACTION_SHARDS = 512
"""A larger write is several transactions, so that none keeps other writers waiting for long."""

FEW_EXTERNALS = 2_000
"""Up to so many records, a query by source reads them all and sorts; above, it walks the shards in their order."""


class _StoredHead(NamedTuple):
    """What is known of an id before a write: a key when anything has named it, the rest when there is a shard."""

    key: int | None
    position: int | None
    acl: int | None
    origins_hash: int | None
    links_hash: int | None
    name: str | None


class _Write(NamedTuple):
    """A shard to write, encoded, with what the tables around it are filled from."""

    shard: Shard
    if_position: int | None
    doc: bytes
    acl: AclKey
    asked_at: str
    origins: list[tuple[OriginKey, str]]
    links: list[tuple[str, str, int]]


class SqliteShardStore(SqliteParkedMessages):
    """:class:`~shards.store.ShardStore` and :class:`~shards.parked.ParkedMessages` on one file.

    The vectors are kept a second time in files beside it (:mod:`shards.vector_matrix`), made by the first search.

    Args:
        path: the file; made when missing.
        clock: the present moment.

    Raises:
        DataFileError: the file can't be used; the message says what to do.
        FileBusyError: another process kept the file locked.
    """

    def __init__(self, path: Path | str, *, clock: Clock = utc_now) -> None:
        file = SqliteFile(
            path, schema=SCHEMA, version=VERSION, application_id=APPLICATION_ID, prepare=_prepare, cache_kib=16_384
        )
        super().__init__(file, clock)
        self._names = Names()
        self._closed = False
        self._matrices = VectorMatrices(file.path)

    async def close(self) -> None:
        """Give back the files. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        await self._file.run(lambda _: self._matrices.close())
        self._file.close()

    # Shards

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
        return None if row is None else _shard(*row)

    async def write_many(self, writes: Sequence[ShardWrite]) -> list[str | None]:
        """See :meth:`shards.store.ShardStore.write_many`. Above 512 shards it is several transactions.

        Raises:
            ValueError: the writes are of several tenants, or two of one shard.
        """
        if not writes:
            return []
        tenant_id = writes[0].shard.tenant_id
        if any(write.shard.tenant_id != tenant_id for write in writes):
            raise ValueError("one write is of one tenant")
        if len({write.shard.id for write in writes}) != len(writes):
            raise ValueError("one write has each shard once")
        etags: list[str | None] = []
        for start in range(0, len(writes), TRANSACTION_SHARDS):
            batch = writes[start : start + TRANSACTION_SHARDS]
            docs = [encode_shard(write.shard) for write in batch]
            with store_errors():
                positions = await self._file.run(partial(self._write, tenant_id=tenant_id, batch=batch, docs=docs))
            etags.extend(None if position is None else str(position) for position in positions)
        return etags

    def _write(
        self, connection: apsw.Connection, *, tenant_id: str, batch: Sequence[ShardWrite], docs: Sequence[bytes]
    ) -> list[int | None]:
        tenant = self._learn_tenant(connection, tenant_id)
        writes = [_planned(tenant, write, doc) for write, doc in zip(batch, docs, strict=True)]
        self._learn(
            connection,
            words={write.shard.shard_type_id for write in writes}
            | {relation for write in writes for _, relation, _ in write.links},
            origins={origin for write in writes for origin, _ in write.origins},
            acls={write.acl for write in writes},
        )
        names = self._names
        pairs = names.missing_origin_types(
            {
                (names.known_origin(origin), names.known_word(write.shard.shard_type_id))
                for write in writes
                for origin, _ in write.origins
            }
        )
        if pairs:
            self._file.transaction(lambda _: names.add_origin_types(connection, pairs))
            names.remember_origin_types(pairs)
        return self._file.transaction(lambda _: self._write_planned(connection, tenant, writes))

    def _write_planned(self, connection: apsw.Connection, tenant: int, planned: Sequence[_Write]) -> list[int | None]:
        stored = [_StoredHead(*row) for row in json_rows(connection, _STORED_HEADS, (tenant, _ids(planned)))]
        held = [
            (write, head)
            for write, head in zip(planned, stored, strict=True)
            if write.if_position == (0 if head.position is None else head.position)
        ]
        if not held:
            return [None] * len(planned)
        keys = self._keys(connection, tenant, held)
        [last] = one_row(connection, "UPDATE store SET position = position + ? RETURNING position", (len(held),))
        positions = {
            write.shard.id: position for (write, _), position in zip(held, count(last - len(held) + 1), strict=False)
        }
        names = self._names
        heads, docs, stale_origins, stale_links, renamed = [], [], [], [], []
        origins: list[tuple[int, int, str]] = []
        links: list[tuple[int, int, int, int]] = []
        for write, head in held:
            shard, key = write.shard, keys[write.shard.id]
            position, name = positions[shard.id], shard.name
            origin_rows = [(names.known_origin(origin), external_id) for origin, external_id in write.origins]
            link_rows = [(keys[target], names.known_word(relation), status) for target, relation, status in write.links]
            origins_hash, links_hash = _hash(origin_rows), _hash(link_rows)
            heads.append(
                (
                    key,
                    tenant,
                    names.known_word(shard.shard_type_id),
                    shard_state(shard),
                    None if shard.redirect_to is None else keys[shard.redirect_to],
                    names.known_scope(tenant, shard.acl.scope),
                    names.known_acl(write.acl),
                    position,
                    shard.updated_at,
                    origins_hash,
                    links_hash,
                    name,
                )
            )
            docs.append((key, position, write.doc))
            first = key << CHILD_BITS
            if origins_hash != head.origins_hash:
                origins.extend((first + n, *row) for n, row in enumerate(origin_rows))
                if head.position is not None:
                    stale_origins.append(key)
            if links_hash != head.links_hash:
                links.extend((first + n, *row) for n, row in enumerate(link_rows))
                if head.position is not None:
                    stale_links.append(key)
            if head.name is not None and name != head.name:
                renamed.append((key, name))
        put_rows(connection, "INSERT OR REPLACE INTO heads", heads)
        put_rows(connection, "INSERT OR REPLACE INTO docs", docs)
        _delete_children(connection, "externals", stale_origins)
        put_rows(connection, "INSERT INTO externals", origins)
        _delete_children(connection, "links", stale_links)
        put_rows(connection, "INSERT INTO links", links)
        if renamed:
            connection.execute(
                f"INSERT OR REPLACE INTO {text_table(tenant)} (rowid, name, body)"
                " SELECT t.id, j.value ->> 1, t.text FROM json_each(?) AS j CROSS JOIN texts AS t"
                f" ON {children('t.id', '(j.value ->> 0)')}",
                (json_text(renamed),),
            )
        self._share(connection, tenant, held)
        return [positions.get(write.shard.id) for write in planned]

    def _keys(
        self, connection: apsw.Connection, tenant: int, held: Sequence[tuple[_Write, _StoredHead]]
    ) -> dict[str, int]:
        """The keys of the shards and of all they point at, given out where there were none."""
        keys = {write.shard.id: head.key for write, head in held}
        named = [target for write, _ in held for target, _, _ in write.links if target not in keys]
        named.extend(
            write.shard.redirect_to
            for write, _ in held
            if write.shard.redirect_to is not None and write.shard.redirect_to not in keys
        )
        keys.update(self._known_keys(connection, tenant, named))
        return self._with_new_keys(connection, tenant, keys)

    def _known_keys(self, connection: apsw.Connection, tenant: int, ids: Iterable[str]) -> dict[str, int | None]:
        """The key of each id, None where nothing has named it yet."""
        distinct = list(dict.fromkeys(ids))
        if not distinct:
            return {}
        found = json_rows(
            connection,
            "SELECT json_group_array(i.key) FROM json_each(?2) AS j LEFT JOIN ids AS i"
            " ON i.tenant = ?1 AND i.id = j.value",
            (tenant, json_text(distinct)),
        )
        return dict(zip(distinct, found, strict=True))

    def _with_new_keys(self, connection: apsw.Connection, tenant: int, keys: dict[str, int | None]) -> dict[str, int]:
        if None not in keys.values():
            return {name: key for name, key in keys.items() if key is not None}
        [newest] = one_row(connection, "SELECT coalesce(max(key), 0) FROM ids")
        numbers = count(newest + 1)
        fresh = {name: next(numbers) for name, key in keys.items() if key is None}
        put_rows(connection, "INSERT INTO ids", [(key, tenant, name) for name, key in fresh.items()])
        return {name: fresh[name] if key is None else key for name, key in keys.items()}

    def _share(self, connection: apsw.Connection, tenant: int, held: Sequence[tuple[_Write, _StoredHead]]) -> None:
        """Give each scope the principals of the newest reading of it.

        A shard rewritten with the acl it had says nothing new of the scope, which may have been re-shared meanwhile.
        """
        said: dict[int, tuple[str, int, tuple[str, ...]]] = {}
        for write, head in held:
            acl = self._names.known_acl(write.acl)
            if acl == head.acl:
                continue
            scope = self._names.known_scope(tenant, write.shard.acl.scope)
            said[scope] = max(said.get(scope, ("", 0, ())), (write.asked_at, acl, write.acl[2]))
        if not said:
            return
        for scope, stored_acl, stored_at in json_rows(
            connection,
            "SELECT json_group_array(json_array(s.scope, s.acl, s.asked_at)) FROM json_each(?) AS j"
            " CROSS JOIN scopes AS s ON s.scope = j.value",
            (json_text(list(said)),),
        ):
            asked_at, acl, principals = said[scope]
            if asked_at < stored_at or (asked_at == stored_at and acl == stored_acl):
                continue
            connection.execute("UPDATE scopes SET acl = ?, asked_at = ? WHERE scope = ?", (acl, asked_at, scope))
            if acl != stored_acl:
                connection.execute("DELETE FROM readers WHERE scope = ?", (scope,))
                connection.execute(
                    "INSERT OR IGNORE INTO readers SELECT ?, value, ? FROM json_each(?)",
                    (tenant, scope, json_text(principals)),
                )

    def _learn_tenant(self, connection: apsw.Connection, tenant_id: str) -> int:
        if not self._names.knows_tenant(tenant_id):
            self._file.transaction(lambda _: self._names.learn_tenant(connection, tenant_id))
        tenant = self._names.tenant(connection, tenant_id)
        if tenant is None:
            raise AssertionError("a tenant that was just written is there")
        return tenant

    def _learn(
        self,
        connection: apsw.Connection,
        *,
        words: Iterable[str] = (),
        origins: Iterable[OriginKey] = (),
        scopes: Iterable[tuple[int, str]] = (),
        acls: Iterable[AclKey] = (),
    ) -> None:
        names = self._names
        names.forget_some()
        missing: dict[str, Any] = {
            "words": names.missing_words(words),
            "origins": names.missing_origins(origins),
            "scopes": names.missing_scopes(scopes),
            "acls": names.missing_acls(acls),
        }
        if any(missing.values()):
            self._file.transaction(lambda _: names.add(connection, **missing))
            names.read(connection, **missing)

    async def query(self, query: ShardQuery, *, limit: int = 100, cursor: str | None = None) -> Page[Shard]:
        """See :meth:`shards.store.ShardStore.query`. A shard updated between two pages is seen again, never missed."""
        after = None if cursor is None else decode_cursor(cursor, str, int)
        with store_errors():
            rows = await self._file.run(partial(self._query, query=query, limit=limit + 1, after=after))
        items = [_shard(position, doc) for _, _, position, doc in rows[:limit]]
        return Page(items, encode_cursor(*rows[limit - 1][:2]) if len(rows) > limit else None)

    def _query(
        self, connection: apsw.Connection, *, query: ShardQuery, limit: int, after: list[str | int] | None
    ) -> list[tuple[Any, ...]]:
        tenant = self._names.tenant(connection, query.tenant_id)
        if tenant is None:
            return []
        types = self._type_numbers(connection, query.shard_type_ids)
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

    def _type_numbers(self, connection: apsw.Connection, shard_type_ids: Sequence[str]) -> list[int] | None:
        """The integers of the types asked for, None when none were; a type that nothing has is left out."""
        if not shard_type_ids:
            return None
        numbers = (self._names.word(connection, text) for text in shard_type_ids)
        return [number for number in numbers if number is not None]

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
            source = _shard(position, doc)
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
        items = [_shard(position, doc) for _, position, doc in rows[:limit]]
        return Page(items, encode_cursor(rows[limit - 1][0]) if len(rows) > limit else None)

    async def changes(self, *, after: int, limit: int = 100) -> list[Change]:
        """See :meth:`shards.store.ShardStore.changes`.

        A position is given out under the write lock, in the transaction that it numbers; so positions become visible
        in their order, whichever process writes.
        """
        with store_errors():
            rows = await self._file.run(
                lambda connection: all_rows(
                    connection,
                    "SELECT h.position, d.doc FROM heads AS h CROSS JOIN docs AS d ON d.key = h.key"
                    " WHERE h.position > ? ORDER BY h.position LIMIT ?",
                    (after, limit),
                )
            )
        return [Change(int(position), _shard(position, doc)) for position, doc in rows]

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
            chunks, vectors = one_row(
                connection, "SELECT count(*), count(vector) FROM chunks WHERE tenant = ?", (tenant,)
            )
            links, pending = {}, 0
            for word, alive, dead in connection.execute(_COUNT_LINKS, {"tenant": tenant}):
                pending += dead
                if alive:
                    links[self._names.text(connection, word)] = alive
        return StoreCounts(
            shards=shards, deleted=deleted, chunks=chunks, vectors=vectors, links=links, links_pending=pending
        )

    # Progress

    async def progress(self, tenant_id: str, shard_ids: Sequence[str]) -> dict[str, Progress]:
        """See :meth:`shards.store.ShardStore.progress`."""

        def read(connection: apsw.Connection) -> list[Progress]:
            rows = json_rows(
                connection,
                "SELECT json_group_array(json_array(i.id, p.type, p.normalized, p.enriched, p.prepared, p.embedded,"
                " p.updated_ms)) FROM json_each(?1) AS j CROSS JOIN ids AS i ON i.tenant = ?2 AND i.id = j.value"
                " CROSS JOIN progress AS p ON p.key = i.key",
                (json_text(list(shard_ids)), self._names.tenant(connection, tenant_id)),
            )
            return [self._progress(connection, tenant_id, row) for row in rows]

        with store_errors():
            return {progress.shard_id: progress for progress in await self._file.run(read)}

    async def advance(self, tenant_id: str, stage: Stage, shards: Sequence[tuple[str, str, int]]) -> None:
        """See :meth:`shards.store.ShardStore.advance`."""
        if not shards:
            return
        with store_errors():
            await self._file.run(partial(self._advance, tenant_id=tenant_id, stage=stage, shards=shards))

    def _advance(
        self, connection: apsw.Connection, *, tenant_id: str, stage: Stage, shards: Sequence[tuple[str, str, int]]
    ) -> None:
        tenant = self._learn_tenant(connection, tenant_id)
        self._learn(connection, words={shard_type_id for _, shard_type_id, _ in shards})
        now = _milliseconds(self._clock())

        def write(connection: apsw.Connection) -> None:
            ids = (shard for shard, _, _ in shards)
            keys = self._with_new_keys(connection, tenant, self._known_keys(connection, tenant, ids))
            put_rows(
                connection,
                f"INSERT INTO progress (key, type, {stage.value}, updated_ms)",
                [(keys[shard], self._names.known_word(kind), revision, now) for shard, kind, revision in shards],
                tail=f"""
                    ON CONFLICT (key) DO UPDATE
                    SET {stage.value} = excluded.{stage.value}, type = excluded.type, updated_ms = excluded.updated_ms
                    WHERE excluded.{stage.value} > {stage.value}
                """,
            )

        self._file.transaction(write)

    async def lagging(self, *, before: str, limit: int = 1000) -> list[Progress]:
        """See :meth:`shards.store.ShardStore.lagging`. The one that has stood still longest comes first."""
        before_ms = _milliseconds(from_text(before))

        def read(connection: apsw.Connection) -> list[Progress]:
            rows = all_rows(
                connection,
                "SELECT t.id, i.id, p.type, p.normalized, p.enriched, p.prepared, p.embedded, p.updated_ms"
                " FROM progress AS p CROSS JOIN ids AS i ON i.key = p.key"
                " CROSS JOIN tenants AS t ON t.tenant = i.tenant"
                f" WHERE {IS_LAGGING} AND p.updated_ms < ?"
                " ORDER BY p.updated_ms, p.key LIMIT ?",
                (before_ms, limit),
            )
            return [self._progress(connection, row[0], row[1:]) for row in rows]

        with store_errors():
            return await self._file.run(read)

    async def stages_behind(self) -> dict[Stage, int]:
        """See :meth:`shards.store.ShardStore.stages_behind`."""

        def read(connection: apsw.Connection) -> dict[Stage, int]:
            [counts] = all_rows(
                connection,
                "SELECT coalesce(sum(enriched < normalized), 0), coalesce(sum(prepared < normalized), 0),"
                " coalesce(sum(embedded < normalized), 0) FROM progress"
                f" WHERE {IS_LAGGING}",
                (),
            )
            return dict(zip((Stage.ENRICHED, Stage.PREPARED, Stage.EMBEDDED), counts, strict=True))

        with store_errors():
            return await self._file.run(read)

    def _progress(self, connection: apsw.Connection, tenant_id: str, row: Sequence[Any]) -> Progress:
        shard_id, word, normalized, enriched, prepared, embedded, updated_ms = row
        return Progress(
            tenant_id=tenant_id,
            shard_id=shard_id,
            shard_type_id=self._names.text(connection, word),
            normalized=normalized,
            enriched=enriched,
            prepared=prepared,
            embedded=embedded,
            updated_at=to_text(_moment(updated_ms)),
        )

    # Chunks and vectors

    async def chunk_states(self, tenant_id: str, shard_ids: Sequence[str]) -> dict[str, dict[str, ChunkState]]:
        """See :meth:`shards.store.ShardStore.chunk_states`. A shard without chunks is left out."""

        def read(connection: apsw.Connection) -> list[Any]:
            return json_rows(
                connection,
                f"SELECT json_group_array(json_array(i.id, c.id & {CHILD_MASK}, c.hash, s.name, c.vector IS NOT NULL))"
                " FROM json_each(?1) AS j CROSS JOIN ids AS i ON i.tenant = ?2 AND i.id = j.value"
                f" CROSS JOIN chunks AS c ON {children('c.id', 'i.key')} CROSS JOIN scopes AS s ON s.scope = c.scope",
                (json_text(list(shard_ids)), self._names.tenant(connection, tenant_id)),
            )

        with store_errors():
            rows = await self._file.run(read)
        states: dict[str, dict[str, ChunkState]] = {}
        for shard, ordinal, text_hash, scope, has_vector in rows:
            states.setdefault(shard, {})[chunk_id(shard, ordinal)] = ChunkState(text_hash, scope, bool(has_vector))
        return states

    async def put_chunks(self, tenant_id: str, chunks: Sequence[Chunk]) -> None:
        """See :meth:`shards.store.ShardStore.put_chunks`. Text, scope and place are written under either hash.

        Raises:
            ValueError: a chunk is of another tenant, or its id is not the one of its shard and ordinal.
        """
        for chunk in chunks:
            if chunk.tenant_id != tenant_id:
                raise ValueError(f"chunk {chunk.id} is of another tenant")
            if chunk.id != chunk_id(chunk.shard_id, chunk.ordinal) or chunk.ordinal > CHILD_MASK:
                raise ValueError(f"{chunk.id} is not the id of chunk {chunk.ordinal} of {chunk.shard_id}")
        if not chunks:
            return
        with store_errors():
            await self._file.run(partial(self._put_chunks, tenant_id=tenant_id, chunks=chunks))

    def _put_chunks(self, connection: apsw.Connection, *, tenant_id: str, chunks: Sequence[Chunk]) -> None:
        tenant = self._learn_tenant(connection, tenant_id)
        self._learn(
            connection,
            words={chunk.shard_type_id for chunk in chunks},
            scopes={(tenant, chunk.acl_scope) for chunk in chunks},
        )
        for start in range(0, len(chunks), TRANSACTION_SHARDS):
            batch = chunks[start : start + TRANSACTION_SHARDS]
            self._file.transaction(partial(self._put_chunk_batch, tenant=tenant, chunks=batch))

    def _put_chunk_batch(self, connection: apsw.Connection, *, tenant: int, chunks: Sequence[Chunk]) -> None:
        keys = self._with_new_keys(
            connection, tenant, self._known_keys(connection, tenant, (chunk.shard_id for chunk in chunks))
        )
        rows = {
            keys[chunk.shard_id] << CHILD_BITS | chunk.ordinal: (
                self._names.known_scope(tenant, chunk.acl_scope),
                self._names.known_word(chunk.shard_type_id),
                chunk,
            )
            for chunk in chunks
        }
        stored = json_rows(
            connection,
            "SELECT json_group_array(json_array(c.id, c.vector, c.scope, c.hash, t.text)) FROM json_each(?) AS j"
            " CROSS JOIN chunks AS c ON c.id = j.value CROSS JOIN texts AS t ON t.id = c.id",
            (json_text(list(rows)),),
        )
        texts = {row[0]: row[4] for row in stored}
        shard_names = dict(
            json_rows(
                connection,
                "SELECT json_group_array(json_array(h.key, h.name)) FROM json_each(?) AS j"
                " CROSS JOIN heads AS h ON h.key = j.value",
                (json_text(list(keys.values())),),
            )
        )
        put_rows(
            connection,
            "INSERT INTO chunks (id, tenant, type, scope, hash)",
            [(number, tenant, word, scope, chunk.hash) for number, (scope, word, chunk) in rows.items()],
            tail="""
                ON CONFLICT (id) DO UPDATE SET type = excluded.type, scope = excluded.scope, hash = excluded.hash,
                    vector = CASE WHEN hash = excluded.hash THEN vector END
            """,
        )
        put_rows(
            connection,
            "INSERT OR REPLACE INTO texts",
            [(number, chunk.updated_at, json_text(chunk.place), chunk.text) for number, (_, _, chunk) in rows.items()],
        )
        # The name is written into the index again by whatever write changes it.
        put_rows(
            connection,
            f"INSERT {'OR REPLACE ' if stored else ''}INTO {text_table(tenant)} (rowid, name, body)",
            [
                (number, shard_names.get(number >> CHILD_BITS, ""), chunk.text)
                for number, (_, _, chunk) in rows.items()
                if texts.get(number) != chunk.text
            ],
        )
        _count_chunks(connection, tenant, len(rows) - len(stored))
        embedded = [row for row in stored if row[1] is not None]
        changed = [vector for number, vector, _, text_hash, _ in embedded if rows[number][2].hash != text_hash]
        shared = [
            vector
            for number, vector, scope, text_hash, _ in embedded
            if rows[number][2].hash == text_hash and rows[number][0] != scope
        ]
        _free(connection, changed)
        _note_changes(connection, shared)

    async def delete_chunks(self, tenant_id: str, chunk_ids: Sequence[str]) -> None:
        """See :meth:`shards.store.ShardStore.delete_chunks`."""
        with store_errors():
            await self._file.run(partial(self._delete_chunks, tenant_id=tenant_id, chunk_ids=chunk_ids))

    def _delete_chunks(self, connection: apsw.Connection, *, tenant_id: str, chunk_ids: Sequence[str]) -> None:
        tenant = self._names.tenant(connection, tenant_id)
        if tenant is None:
            return

        def write(connection: apsw.Connection) -> list[int]:
            found = json_rows(
                connection,
                f"SELECT json_group_array(json_array(c.id, c.vector)) FROM {_NAMED_CHUNKS}",
                (json_text(_chunk_places(chunk_ids)), tenant),
            )
            numbers = json_text([number for number, _ in found])
            vectors = [vector for _, vector in found if vector is not None]
            for table, column in (("chunks", "id"), ("texts", "id"), (text_table(tenant), "rowid")):
                connection.execute(
                    f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", (numbers,)
                )
            _free(connection, vectors)
            _count_chunks(connection, tenant, -len(found))
            return vectors

        freed = self._file.transaction(write)
        self._matrices.overwrite(connection, {vector >> SLOT_BITS for vector in freed})

    async def chunks(self, tenant_id: str, shard_id: str) -> list[Chunk]:
        """See :meth:`shards.store.ShardStore.chunks`."""

        def read(connection: apsw.Connection) -> list[Chunk]:
            rows = all_rows(
                connection,
                f"{_CHUNK_COLUMNS}, v.vector FROM ids AS i CROSS JOIN chunks AS c ON {children('c.id', 'i.key')}"
                " CROSS JOIN texts AS t ON t.id = c.id LEFT JOIN vectors AS v ON v.id = c.vector"
                f" LEFT JOIN spaces AS p ON p.space = v.id >> {SLOT_BITS} JOIN scopes AS s ON s.scope = c.scope"
                " WHERE i.tenant = ? AND i.id = ? ORDER BY c.id",
                (self._names.tenant(connection, tenant_id), shard_id),
            )
            return [self._chunk(connection, tenant_id, row[:-1], row[-1]) for row in rows]

        with store_errors():
            return await self._file.run(read)

    async def chunks_by_id(self, tenant_id: str, chunk_ids: Sequence[str]) -> list[Chunk]:
        """See :meth:`shards.store.ShardStore.chunks_by_id`. In the order asked for."""
        places = json_text(_chunk_places(chunk_ids))

        def read(connection: apsw.Connection) -> list[Chunk]:
            rows = json_rows(
                connection,
                f"SELECT json_group_array(json_array({_CHUNK_COLUMNS.removeprefix('SELECT ')})) FROM {_NAMED_CHUNKS}"
                " CROSS JOIN texts AS t ON t.id = c.id JOIN scopes AS s ON s.scope = c.scope"
                f" LEFT JOIN spaces AS p ON p.space = c.vector >> {SLOT_BITS}",
                (places, self._names.tenant(connection, tenant_id)),
            )
            return [self._chunk(connection, tenant_id, row) for row in rows]

        with store_errors():
            found = {chunk.id: chunk for chunk in await self._file.run(read)}
        return [found[identifier] for identifier in dict.fromkeys(chunk_ids) if identifier in found]

    def _chunk(
        self, connection: apsw.Connection, tenant_id: str, row: Sequence[Any], vector: bytes | None = None
    ) -> Chunk:
        number, shard_id, word, text, text_hash, scope, model, dimensions, updated_at, place = row
        ordinal = number & CHILD_MASK
        return Chunk(
            id=chunk_id(shard_id, ordinal),
            tenant_id=tenant_id,
            shard_id=shard_id,
            shard_type_id=self._names.text(connection, word),
            ordinal=ordinal,
            text=text,
            hash=text_hash,
            acl_scope=scope,
            model=model,
            dimensions=dimensions,
            vector=vector,
            updated_at=updated_at,
            place=codec.decode(place),
        )

    async def put_vectors(
        self, tenant_id: str, chunks: Sequence[tuple[str, str]], vectors: Vectors, *, model: str
    ) -> None:
        """See :meth:`shards.store.ShardStore.put_vectors`.

        Raises:
            ValueError: *vectors* has not one row a chunk, or a number in it is not finite.
        """
        if vectors.ndim != 2 or len(vectors) != len(chunks):
            raise ValueError(f"{len(chunks)} chunks need a matrix of as many rows, not one of shape {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise ValueError("a vector has a number that is not finite")
        if not chunks:
            return
        with store_errors():
            await self._file.run(
                partial(self._put_vectors, tenant_id=tenant_id, chunks=chunks, vectors=vectors, model=model)
            )

    def _put_vectors(
        self,
        connection: apsw.Connection,
        *,
        tenant_id: str,
        chunks: Sequence[tuple[str, str]],
        vectors: Vectors,
        model: str,
    ) -> None:
        tenant = self._names.tenant(connection, tenant_id)
        if tenant is None:
            return
        dimensions = vectors.shape[1]
        data, size = np.ascontiguousarray(vectors, dtype="<f4").tobytes(), 4 * dimensions
        # Ids that are none keep their place with a shard that is none, so that the rows stay in step with *vectors*.
        places = json_text([(*(_chunk_place(name) or ("", 0)), text_hash) for name, text_hash in chunks])

        def write(connection: apsw.Connection) -> None:
            space = _space(connection, tenant, model, dimensions)
            matching = json_rows(
                connection,
                "SELECT json_group_array(json_array(c.id, j.key, c.vector)) FROM json_each(?1) AS j"
                " CROSS JOIN ids AS i ON i.tenant = ?2 AND i.id = (j.value ->> 0)"
                f" CROSS JOIN chunks AS c ON c.id = (i.key << {CHILD_BITS} | (j.value ->> 1))"
                " AND c.hash = (j.value ->> 2)",
                (places, tenant),
            )
            rows = {number: (row, vector) for number, row, vector in matching}
            moved = [vector for _, vector in rows.values() if vector is not None and vector >> SLOT_BITS != space]
            homeless = [
                number for number, (_, vector) in rows.items() if vector is None or vector >> SLOT_BITS != space
            ]
            slots = {number: vector for number, (_, vector) in rows.items() if vector is not None}
            reused, appended = _slots(connection, space, len(homeless))
            slots.update(zip(homeless, reused + appended, strict=True))
            if not slots:
                return
            put_rows(
                connection,
                "INSERT OR REPLACE INTO vectors",
                [(slots[number], number, data[row * size : (row + 1) * size]) for number, (row, _) in rows.items()],
            )
            put_rows(
                connection,
                "UPDATE chunks SET vector = given.column2",
                [(number, slots[number]) for number in homeless],
                source="FROM {rows} AS given",
                tail="WHERE chunks.id = given.column1",
            )
            _free(connection, moved)
            _note_changes(connection, sorted(set(slots.values()) - set(appended)))

        self._file.transaction(write)

    async def shards_without_vectors(self, tenant_id: str, shard_ids: Sequence[str]) -> set[str]:
        """See :meth:`shards.store.ShardStore.shards_without_vectors`."""

        def read(connection: apsw.Connection) -> list[str]:
            found: list[str] = json_rows(
                connection,
                "SELECT json_group_array(i.id) FROM json_each(?1) AS j"
                " CROSS JOIN ids AS i ON i.tenant = ?2 AND i.id = j.value WHERE EXISTS"
                f" (SELECT 1 FROM chunks AS c WHERE {children('c.id', 'i.key')} AND c.vector IS NULL)",
                (json_text(list(shard_ids)), self._names.tenant(connection, tenant_id)),
            )
            return found

        with store_errors():
            return set(await self._file.run(read))

    # Search

    async def search(self, query: SearchQuery) -> list[Hit]:
        """See :meth:`shards.store.ShardStore.search` and :mod:`shards.search`."""
        with store_errors():
            return await self._file.run(partial(self._search, query=query))

    def _search(self, connection: apsw.Connection, *, query: SearchQuery) -> list[Hit]:
        tenant = self._names.tenant(connection, query.tenant_id)
        if tenant is None:
            return []
        types = self._type_numbers(connection, query.shard_type_ids)
        return find_hits(
            connection, self._matrices, query, tenant=tenant, types=types, hit=partial(self._hit, query.tenant_id)
        )

    def _hit(self, tenant_id: str, connection: apsw.Connection, candidate: Candidate) -> Hit:
        row = one_row(
            connection,
            f"{_CHUNK_COLUMNS}, d.position, d.doc FROM chunks AS c CROSS JOIN ids AS i ON i.key = c.id >> {CHILD_BITS}"
            " CROSS JOIN texts AS t ON t.id = c.id CROSS JOIN docs AS d ON d.key = i.key"
            " JOIN scopes AS s ON s.scope = c.scope"
            f" LEFT JOIN spaces AS p ON p.space = c.vector >> {SLOT_BITS} WHERE c.id = ?",
            (candidate.chunk,),
        )
        *columns, position, doc = row
        chunk = self._chunk(connection, tenant_id, columns)
        return Hit(shard=_shard(position, doc), chunk=chunk, score=candidate.score)


_STORED_HEADS = """
    SELECT json_group_array(json_array(i.key, h.position, h.acl, h.origins_hash, h.links_hash, h.name))
    FROM json_each(?2) AS j LEFT JOIN ids AS i ON i.tenant = ?1 AND i.id = j.value LEFT JOIN heads AS h ON h.key = i.key
"""

_CHUNK_COLUMNS = "SELECT c.id, i.id, c.type, t.text, c.hash, s.name, p.model, p.dimensions, t.updated_at, t.place"

_NAMED_CHUNKS = (
    "json_each(?1) AS j CROSS JOIN ids AS i ON i.tenant = ?2 AND i.id = (j.value ->> 0)"
    f" CROSS JOIN chunks AS c ON c.id = (i.key << {CHILD_BITS} | (j.value ->> 1))"
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

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def _prepare(connection: apsw.Connection) -> None:
    # Sorted rows and IN lists stay in memory; none of them is large.
    connection.execute("PRAGMA temp_store = MEMORY")


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND


def _shard(position: int, doc: bytes) -> Shard:
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


def _planned(tenant: int, write: ShardWrite, doc: bytes) -> _Write:
    shard = write.shard
    externals = shard.external_relationships
    return _Write(
        shard=shard,
        if_position=0 if write.if_etag is None else int(write.if_etag) if write.if_etag.isdecimal() else -1,
        doc=doc,
        acl=(tenant, shard.acl.scope, shard.acl.principals),
        asked_at=max((external.read_at for external in externals), default="") or shard.updated_at,
        origins=[
            (
                (tenant, external.system, external.instance, external.object_type, external.connection_id or ""),
                external.external_id,
            )
            for external in externals
        ],
        links=[
            (link.target_shard_id, link.relationship_type, LINK_STATUS[link.status])
            for link in shard.internal_relationships
        ],
    )


def _ids(planned: Sequence[_Write]) -> str:
    return json_text([write.shard.id for write in planned])


def _hash(rows: Sequence[tuple[Any, ...]]) -> int:
    """A number that is another for other rows, 0 for none."""
    if not rows:
        return 0
    return int.from_bytes(blake2b(msgspec.msgpack.encode(rows), digest_size=7).digest(), "little")


def _delete_children(connection: apsw.Connection, table: str, keys: Sequence[int]) -> None:
    """Delete what *table* has of the shards."""
    if keys:
        connection.execute(
            f"DELETE FROM {table} WHERE id IN (SELECT e.id FROM json_each(?) AS j CROSS JOIN {table} AS e"
            f" ON {children('e.id', 'j.value')})",
            (json_text(keys),),
        )


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


def _chunk_place(name: str) -> tuple[str, int] | None:
    """The shard and the ordinal of a chunk's id, None when it is no such id."""
    shard, _, ordinal = name.rpartition(".")
    if not (ordinal.isascii() and ordinal.isdecimal()) or int(ordinal) > CHILD_MASK:
        return None
    return (shard, int(ordinal)) if chunk_id(shard, int(ordinal)) == name else None


def _chunk_places(names: Iterable[str]) -> list[tuple[str, int]]:
    places = (_chunk_place(name) for name in names)
    return [place for place in places if place is not None]


def _space(connection: apsw.Connection, tenant: int, model: str, dimensions: int) -> int:
    """The space of the tenant's vectors of one model and length."""
    key = (tenant, model, dimensions)
    find = "SELECT space FROM spaces WHERE tenant = ? AND model = ? AND dimensions = ?"
    space = connection.execute(find, key).get
    if space is None:
        connection.execute("INSERT INTO spaces (tenant, model, dimensions) VALUES (?, ?, ?)", key)
        space = connection.execute(find, key).get
    return int(space)


def _slots(connection: apsw.Connection, space: int, wanted: int) -> tuple[list[int], list[int]]:
    """Slots for *wanted* vectors: freed ones, and new ones at the end."""
    first, last = space << SLOT_BITS, ((space + 1) << SLOT_BITS) - 1
    reused = [
        slot
        for (slot,) in connection.execute(
            "SELECT id FROM vectors WHERE chunk IS NULL AND id BETWEEN ? AND ? LIMIT ?", (first, last, wanted)
        )
    ]
    [newest] = one_row(connection, "SELECT max(id) FROM vectors WHERE id BETWEEN ? AND ?", (first, last))
    start = first if newest is None else newest + 1
    return reused, list(range(start, start + wanted - len(reused)))


def _free(connection: apsw.Connection, vectors: Sequence[int]) -> None:
    """Empty slots, whose chunks have no vector any more."""
    if vectors:
        connection.execute(
            "UPDATE vectors SET chunk = NULL, vector = NULL WHERE id IN (SELECT value FROM json_each(?))",
            (json_text(list(vectors)),),
        )
        _note_changes(connection, vectors)


def _count_chunks(connection: apsw.Connection, tenant: int, more: int) -> None:
    if more:
        connection.execute("UPDATE tenants SET chunks = chunks + ? WHERE tenant = ?", (more, tenant))


def _note_changes(connection: apsw.Connection, vectors: Sequence[int]) -> None:
    if vectors:
        connection.execute(
            "INSERT INTO vector_changes (vector) SELECT value FROM json_each(?)", (json_text(list(vectors)),)
        )
