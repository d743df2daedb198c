"""Writing shards: conditionally, with all that is found by them, under one position of the change feed each."""

from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Any, NamedTuple

import apsw
import msgspec

from shards.model import Shard, encode_shard
from shards.sqlite_filters import children
from shards.sqlite_names import AclKey, OriginKey, known_keys, with_new_keys
from shards.sqlite_open_store import TRANSACTION_ROWS, OpenStore, store_errors
from shards.sqlite_rows import json_rows, json_text, one_row, put_rows
from shards.sqlite_schema import CHILD_BITS, LINK_STATUS, shard_state, text_table
from shards.store import ShardWrite


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


class SqliteShardWrites(OpenStore):
    """:meth:`shards.store.ShardStore.write_many`."""

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
        for start in range(0, len(writes), TRANSACTION_ROWS):
            batch = writes[start : start + TRANSACTION_ROWS]
            docs = [encode_shard(write.shard) for write in batch]
            with store_errors():
                positions = await self._file.run(partial(self._write, tenant_id=tenant_id, batch=batch, docs=docs))
            etags.extend(None if position is None else str(position) for position in positions)
        return etags

    def _write(
        self, connection: apsw.Connection, *, tenant_id: str, batch: Sequence[ShardWrite], docs: Sequence[bytes]
    ) -> list[int | None]:
        tenant = self._names.learn_tenant(connection, tenant_id)
        writes = [_planned(tenant, write, doc) for write, doc in zip(batch, docs, strict=True)]
        self._names.learn(
            connection,
            words={write.shard.shard_type_id for write in writes}
            | {relation for write in writes for _, relation, _ in write.links},
            origins={origin for write in writes for origin, _ in write.origins},
            acls={write.acl for write in writes},
        )
        names = self._names
        names.learn_origin_types(
            {
                (names.known_origin(origin), names.known_word(write.shard.shard_type_id))
                for write in writes
                for origin, _ in write.origins
            }
        )
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
        keys.update(known_keys(connection, tenant, named))
        return with_new_keys(connection, tenant, keys)

    def _share(self, connection: apsw.Connection, tenant: int, held: Sequence[tuple[_Write, _StoredHead]]) -> None:
        """Give each scope the principals of the newest reading of it.

        A shard rewritten with the acl it had says nothing new of the scope, which may have been re-shared meanwhile;
        one that inherits its readers never does.
        """
        said: dict[int, tuple[str, int, tuple[str, ...]]] = {}
        for write, head in held:
            acl = self._names.known_acl(write.acl)
            if acl == head.acl or write.shard.acl.inherited:
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


_STORED_HEADS = """
    SELECT json_group_array(json_array(i.key, h.position, h.acl, h.origins_hash, h.links_hash, h.name))
    FROM json_each(?2) AS j LEFT JOIN ids AS i ON i.tenant = ?1 AND i.id = j.value LEFT JOIN heads AS h ON h.key = i.key
"""


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
