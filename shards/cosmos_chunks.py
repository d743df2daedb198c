"""The chunks of shards, with their text and their vectors: a shard's chunks are one partition, written in batches."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from shards.cosmos_container import BatchRefusedError, Item, Key, Operation, Sized, check_size, in_batches, together
from shards.cosmos_documents import (
    checked_id,
    chunk_item,
    chunk_text,
    is_legal_id,
    item_size,
    stored_chunk,
    stored_chunk_state,
    vector_fields,
)
from shards.cosmos_progress import MAX_TRIES, CosmosProgress
from shards.cosmos_queries import (
    Query,
    chunk_states,
    chunk_states_by_id,
    chunks_by_id,
    chunks_of,
    literal,
    shards_waiting,
)
from shards.identity import chunk_id
from shards.model import Chunk
from shards.store import ChunkState, StoreUnavailableError, Vectors

WAITING_AT_ONCE = 100

OPERATION_BYTES = 300
"""What the envelope of one operation in a batch has at most."""


class CosmosChunks(CosmosProgress):
    """What :class:`~shards.store.ShardStore` keeps of chunks and vectors."""

    async def chunk_states(self, tenant_id: str, shard_ids: Sequence[str]) -> dict[str, dict[str, ChunkState]]:
        """See :meth:`shards.store.ShardStore.chunk_states`. A shard without chunks is left out."""
        rows = await self._chunks.of_list(
            tenant_id, shard_ids, lambda ids: chunk_states(tenant_id, ids), key=_only_partition(tenant_id, shard_ids)
        )
        states: dict[str, dict[str, ChunkState]] = {}
        for row in rows:
            states.setdefault(row["shardId"], {})[row["id"]] = stored_chunk_state(row)
        return states

    async def put_chunks(self, tenant_id: str, chunks: Sequence[Chunk]) -> None:
        """See :meth:`shards.store.ShardStore.put_chunks`. Text, scope and place are written under either hash.

        Chunks and progress are in different containers, which no transaction spans. So the progress is taken back
        before the chunks are written, for a crash between the two leaves a shard that is looked at once more for
        nothing; and again after, for those who embedded the shard meanwhile did not see these chunks.

        Raises:
            ValueError: a chunk is of another tenant, or its id is not the one of its shard and ordinal.
        """
        shards: dict[str, dict[str, Chunk]] = {}
        for chunk in chunks:
            if chunk.tenant_id != tenant_id:
                raise ValueError(f"chunk {chunk.id} is of another tenant")
            if checked_id(chunk.id) != chunk_id(chunk.shard_id, chunk.ordinal):
                raise ValueError(f"{chunk.id} is not the id of chunk {chunk.ordinal} of {chunk.shard_id}")
            check_size(item_size(chunk_item(chunk)), f"chunk {chunk.id}")
            shards.setdefault(chunk.shard_id, {})[chunk.id] = chunk
        if not chunks:
            return
        await self._enter(tenant_id)
        stored = await self._states(tenant_id, (chunk.id for chunk in chunks))
        waiting = {
            shard_id
            for shard_id, of_shard in shards.items()
            if any(_leaves_waiting(chunk, stored.get(chunk.id)) for chunk in of_shard.values())
        }
        await self._take_back_embedded(tenant_id, waiting)
        left_waiting = await together(
            self._put_chunks_of(tenant_id, shard_id, of_shard, stored) for shard_id, of_shard in shards.items()
        )
        await self._take_back_embedded(
            tenant_id, [shard_id for shard_id, left in zip(shards, left_waiting, strict=True) if left]
        )

    async def _states(self, tenant_id: str, chunk_ids: Iterable[str]) -> dict[str, Item]:
        rows = await self._some(tenant_id, chunk_ids, chunk_states_by_id)
        return {row["id"]: row for row in rows}

    async def _some(
        self, tenant_id: str, chunk_ids: Iterable[str], query: Callable[[str, Sequence[str]], Query]
    ) -> list[Item]:
        """What *query* tells of those of the chunks that there are; of a few, whole chunks."""
        shards = {identifier: shard for identifier in chunk_ids if (shard := _shard_of(identifier)) is not None}
        return await self._chunks.some(
            tenant_id, shards, key=lambda identifier: (tenant_id, shards[identifier]), query=partial(query, tenant_id)
        )

    async def _put_chunks_of(
        self, tenant_id: str, shard_id: str, chunks: dict[str, Chunk], stored: dict[str, Item]
    ) -> bool:
        """Write one shard's chunks over what is known to be stored; whether one is left without a vector.

        A batch that others came before is written again over what they left.
        """
        key = (tenant_id, shard_id)
        left = chunks
        waits = False
        for _ in range(MAX_TRIES):
            refused: dict[str, Chunk] = {}
            for batch in in_batches(_written(chunk, stored.get(chunk.id)) for chunk in left.values()):
                written = {identifier: left[identifier] for identifier in map(_id_of, batch)}
                try:
                    await self._chunks.batch(key, batch)
                except BatchRefusedError:
                    refused |= written
                else:
                    waits |= any(_leaves_waiting(chunk, stored.get(chunk.id)) for chunk in written.values())
            stored = await self._states(tenant_id, refused)
            # What was refused for the sake of a write of this one whose answer was lost is in the store.
            there = [chunk for chunk in refused.values() if _is_written(chunk, stored.get(chunk.id))]
            waits |= any(stored[chunk.id]["waiting"] for chunk in there)
            for chunk in there:
                del refused[chunk.id]
            if not refused:
                return waits
            left = refused
        raise StoreUnavailableError(f"others wrote the chunks of {shard_id} {MAX_TRIES} times meanwhile")

    async def delete_chunks(self, tenant_id: str, chunk_ids: Sequence[str]) -> None:
        """See :meth:`shards.store.ShardStore.delete_chunks`."""
        await together(
            self._delete_chunks_of(tenant_id, shard_id, ids) for shard_id, ids in _by_shard(chunk_ids).items()
        )

    async def _delete_chunks_of(self, tenant_id: str, shard_id: str, chunk_ids: Sequence[str]) -> None:
        left: Iterable[str] = chunk_ids
        for _ in range(MAX_TRIES):
            batches = in_batches(Sized(("delete", (one,), {}), OPERATION_BYTES) for one in left)
            try:
                for batch in batches:
                    await self._chunks.batch((tenant_id, shard_id), batch)
            except BatchRefusedError:
                left = list(await self._states(tenant_id, left))
            else:
                return
        raise StoreUnavailableError(f"others wrote the chunks of {shard_id} {MAX_TRIES} times meanwhile")

    async def chunks(self, tenant_id: str, shard_id: str) -> list[Chunk]:
        """See :meth:`shards.store.ShardStore.chunks`."""
        if not is_legal_id(shard_id):
            return []
        rows = await self._chunks.rows(tenant_id, chunks_of(tenant_id, shard_id), key=(tenant_id, shard_id))
        return sorted(map(stored_chunk, rows), key=lambda chunk: chunk.ordinal)

    async def chunks_by_id(self, tenant_id: str, chunk_ids: Sequence[str]) -> list[Chunk]:
        """See :meth:`shards.store.ShardStore.chunks_by_id`. In the order asked for."""
        rows = await self._some(tenant_id, chunk_ids, chunks_by_id)
        found = {row["id"]: stored_chunk(row, with_vector=False) for row in rows}
        return [found[identifier] for identifier in dict.fromkeys(chunk_ids) if identifier in found]

    async def put_vectors(
        self, tenant_id: str, chunks: Sequence[tuple[str, str]], vectors: Vectors, *, model: str
    ) -> None:
        """See :meth:`shards.store.ShardStore.put_vectors`.

        Raises:
            ValueError: *vectors* has not one row a chunk, or a number in it is not finite, or they are not those of
                the model and of the length that the container is for.
        """
        if vectors.ndim != 2 or len(vectors) != len(chunks):
            raise ValueError(f"{len(chunks)} chunks need a matrix of as many rows, not one of shape {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise ValueError("a vector has a number that is not finite")
        if not chunks:
            return
        self.check_dimensions(vectors.shape[1])
        if model != self._model:
            raise ValueError(f"container {self._chunks.name} has the vectors of {self._model}, not of {model}")
        shards: dict[str, dict[tuple[str, str], int]] = {}
        for row, named in enumerate(chunks):
            shard_id = _shard_of(named[0])
            if shard_id is not None:
                shards.setdefault(shard_id, {})[named] = row
        await together(self._put_vectors_of(tenant_id, shard_id, rows, vectors) for shard_id, rows in shards.items())

    def check_dimensions(self, dimensions: int) -> None:
        """Refuse vectors of another length than the container's.

        Raises:
            ValueError: they have *dimensions*; the message says how many it takes.
        """
        if dimensions != self._dimensions:
            raise ValueError(
                f"container {self._chunks.name} has vectors of {self._dimensions} numbers, not {dimensions}"
            )

    async def _put_vectors_of(
        self, tenant_id: str, shard_id: str, rows: dict[tuple[str, str], int], vectors: Vectors
    ) -> None:
        """Give each ``(chunk id, hash)`` of the shard its row, if the chunk still has the hash."""
        left = rows
        for _ in range(MAX_TRIES):
            operations = (
                _with_vector(identifier, text_hash, vector_fields(vectors[row], self._model))
                for (identifier, text_hash), row in left.items()
            )
            refused: set[str] = set()
            for batch in in_batches(operations):
                try:
                    await self._chunks.batch((tenant_id, shard_id), batch)
                except BatchRefusedError:
                    refused.update(map(_id_of, batch))
            if not refused:
                return
            stored = await self._states(tenant_id, refused)
            hashes = {(identifier, state["hash"]) for identifier, state in stored.items()}
            left = {named: row for named, row in left.items() if named in hashes}
        raise StoreUnavailableError(f"others wrote the chunks of {shard_id} {MAX_TRIES} times meanwhile")

    async def shards_without_vectors(self, tenant_id: str, shard_ids: Sequence[str]) -> set[str]:
        """See :meth:`shards.store.ShardStore.shards_without_vectors`."""
        waiting: set[str] = set()
        left = list(dict.fromkeys(shard_ids))
        while left:
            rows = await self._chunks.of_list(
                tenant_id,
                left,
                lambda ids: shards_waiting(tenant_id, ids, limit=WAITING_AT_ONCE),
                key=_only_partition(tenant_id, left),
            )
            waiting.update(rows)
            # Fewer rows than were asked for are all there are; else many are of the same shards, which are known now.
            left = [shard_id for shard_id in left if shard_id not in waiting] if len(rows) >= WAITING_AT_ONCE else []
        return waiting


def _only_partition(tenant_id: str, shard_ids: Sequence[str]) -> Key | None:
    """The partition of a single shard's chunks; None where the shards are several, or no item can have the id."""
    return (tenant_id, shard_ids[0]) if len(shard_ids) == 1 and is_legal_id(shard_ids[0]) else None


def _leaves_waiting(chunk: Chunk, stored: Item | None) -> bool:
    """Whether the chunk, written over what is stored, has no vector."""
    return stored is None or stored["hash"] != chunk.hash or stored["waiting"]


def _is_written(chunk: Chunk, stored: Item | None) -> bool:
    """Whether what is stored is the chunk as it was to be written."""
    written = (chunk.hash, chunk.acl_scope, chunk.updated_at)
    return stored is not None and (stored["hash"], stored["aclScope"], stored["updatedAt"]) == written


def _written(chunk: Chunk, stored: Item | None) -> Sized:
    """The operation that writes the chunk over what is stored and nothing else."""
    size = item_size(chunk_item(chunk)) + OPERATION_BYTES
    if stored is None:
        return Sized(("create", (chunk_item(chunk),), {}), size)
    condition = {"if_match_etag": stored["_etag"]}
    if stored["hash"] != chunk.hash:
        return Sized(("replace", (chunk.id, chunk_item(chunk)), condition), size)
    return Sized(("patch", (chunk.id, _set(chunk_text(chunk))), condition), size)


def _with_vector(identifier: str, text_hash: str, fields: Item) -> Sized:
    """The operation that gives a chunk its vector, while it has this hash."""
    condition = {"filter_predicate": f"FROM c WHERE c.hash = {literal(text_hash)}"}
    return Sized(("patch", (identifier, _set(fields)), condition), item_size(fields) + OPERATION_BYTES)


def _set(fields: Item) -> list[dict[str, Any]]:
    return [{"op": "set", "path": f"/{name}", "value": value} for name, value in fields.items()]


def _id_of(operation: Operation) -> str:
    """The id of the item that an operation is about."""
    _, arguments, _ = operation
    return str(arguments[0]["id"] if isinstance(arguments[0], dict) else arguments[0])


def _shard_of(identifier: str) -> str | None:
    """The shard that a chunk's id names; None when it is no chunk's."""
    shard_id, _, ordinal = identifier.rpartition(".")
    is_number = ordinal.isascii() and ordinal.isdecimal()
    if is_number and is_legal_id(identifier) and chunk_id(shard_id, int(ordinal)) == identifier:
        return shard_id
    return None


def _by_shard(chunk_ids: Iterable[str]) -> dict[str, list[str]]:
    """The ids by the shard that they name; those that are no chunk's are left out."""
    shards: dict[str, list[str]] = {}
    for identifier in dict.fromkeys(chunk_ids):
        shard_id = _shard_of(identifier)
        if shard_id is not None:
            shards.setdefault(shard_id, []).append(identifier)
    return shards
