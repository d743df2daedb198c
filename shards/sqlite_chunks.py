"""The chunks of shards, with their text, their place in the full-text index, and their vectors."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import apsw
import numpy as np

from messaging import codec
from messaging.times import to_milliseconds
from shards.identity import chunk_id
from shards.model import Chunk
from shards.sqlite_filters import children
from shards.sqlite_names import known_keys, with_new_keys
from shards.sqlite_open_store import TRANSACTION_ROWS, OpenStore, store_errors
from shards.sqlite_rows import all_rows, json_rows, json_text, put_rows
from shards.sqlite_schema import CHILD_BITS, CHILD_MASK, SLOT_BITS, text_table
from shards.sqlite_vector_slots import free_slots, note_changes, slots_for, space_of
from shards.store import ChunkState, Vectors

CHUNK_COLUMNS = "SELECT c.id, i.id, c.type, t.text, c.hash, s.name, p.model, p.dimensions, t.updated_at, t.place"
"""A chunk as :meth:`SqliteChunks._chunk` takes it, from ``chunks AS c``, ``ids AS i``, ``texts AS t``, ``scopes AS s``
and ``spaces AS p``."""


class SqliteChunks(OpenStore):
    """What :class:`~shards.store.ShardStore` keeps of chunks and vectors."""

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
        tenant = self._names.learn_tenant(connection, tenant_id)
        self._names.learn(
            connection,
            words={chunk.shard_type_id for chunk in chunks},
            scopes={(tenant, chunk.acl_scope) for chunk in chunks},
        )
        for start in range(0, len(chunks), TRANSACTION_ROWS):
            batch = chunks[start : start + TRANSACTION_ROWS]
            self._file.transaction(partial(self._put_chunk_batch, tenant=tenant, chunks=batch))

    def _put_chunk_batch(self, connection: apsw.Connection, *, tenant: int, chunks: Sequence[Chunk]) -> None:
        keys = with_new_keys(connection, tenant, known_keys(connection, tenant, (chunk.shard_id for chunk in chunks)))
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
        kept = {number for number, _, _, text_hash, _ in embedded if rows[number][2].hash == text_hash}
        self._await_vectors(connection, {number >> CHILD_BITS for number in rows.keys() - kept})
        changed = [vector for number, vector, _, text_hash, _ in embedded if rows[number][2].hash != text_hash]
        shared = [
            vector
            for number, vector, scope, text_hash, _ in embedded
            if rows[number][2].hash == text_hash and rows[number][0] != scope
        ]
        free_slots(connection, changed)
        note_changes(connection, shared)

    def _await_vectors(self, connection: apsw.Connection, keys: set[int]) -> None:
        """Take back that these shards are embedded: they have a chunk without a vector now."""
        if keys:
            connection.execute(
                "UPDATE progress SET embedded = normalized - 1, updated_ms = ?"
                " WHERE key IN (SELECT value FROM json_each(?)) AND normalized > 0 AND embedded >= normalized",
                (to_milliseconds(self._clock()), json_text(sorted(keys))),
            )

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
            free_slots(connection, vectors)
            _count_chunks(connection, tenant, -len(found))
            return vectors

        freed = self._file.transaction(write)
        self._matrices.overwrite(connection, {vector >> SLOT_BITS for vector in freed})

    async def chunks(self, tenant_id: str, shard_id: str) -> list[Chunk]:
        """See :meth:`shards.store.ShardStore.chunks`."""

        def read(connection: apsw.Connection) -> list[Chunk]:
            rows = all_rows(
                connection,
                f"{CHUNK_COLUMNS}, v.vector FROM ids AS i CROSS JOIN chunks AS c ON {children('c.id', 'i.key')}"
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
                f"SELECT json_group_array(json_array({CHUNK_COLUMNS.removeprefix('SELECT ')})) FROM {_NAMED_CHUNKS}"
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
            space = space_of(connection, tenant, model, dimensions)
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
            reused, appended = slots_for(connection, space, len(homeless))
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
            free_slots(connection, moved)
            note_changes(connection, sorted(set(slots.values()) - set(appended)))

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


_NAMED_CHUNKS = (
    "json_each(?1) AS j CROSS JOIN ids AS i ON i.tenant = ?2 AND i.id = (j.value ->> 0)"
    f" CROSS JOIN chunks AS c ON c.id = (i.key << {CHILD_BITS} | (j.value ->> 1))"
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


def _count_chunks(connection: apsw.Connection, tenant: int, more: int) -> None:
    if more:
        connection.execute("UPDATE tenants SET chunks = chunks + ? WHERE tenant = ?", (more, tenant))
