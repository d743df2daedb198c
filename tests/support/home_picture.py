"""All that a home keeps of a tenant, so that two ways to it, or two homes, can be compared field by field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from chain_rig import shard_picture

from shards.model import Chunk
from shards.store import ShardQuery, ShardStore, StoreCounts

PAGE = 200
OWN_TYPES = "integration."
"""Shards of the integration itself, which tell of runs and cursors."""


@dataclass
class HomePicture:
    """Each shard by id, with links, chunks and vectors; the counts that the home itself gives."""

    shards: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: StoreCounts = field(default_factory=StoreCounts)

    @property
    def incomplete(self) -> list[str]:
        """The ids of chunks without a vector."""
        chunks = (chunk for shard in self.shards.values() for chunk in shard["chunks"])
        return [chunk["id"] for chunk in chunks if chunk["vector"] is None]


async def picture_of(store: ShardStore, tenant_id: str, *, with_times_of_reading: bool = True) -> HomePicture:
    """What *store* keeps of the tenant.

    *with_times_of_reading* False: as read in another run, so without the moment at which each record was read.
    """
    picture = HomePicture(counts=await store.counts(tenant_id))
    cursor: str | None = None
    while True:
        page = await store.query(ShardQuery(tenant_id, include_deleted=True), limit=PAGE, cursor=cursor)
        for shard in page.items:
            if not shard.shard_type_id.startswith(OWN_TYPES):
                assert shard.id not in picture.shards, f"{shard.id} is there twice"
                document = shard_picture(shard, ())
                document["chunks"] = _chunks(await store.chunks(tenant_id, shard.id))
                if not with_times_of_reading:
                    for relationship in document["external_relationships"]:
                        relationship.pop("readAt")
                picture.shards[shard.id] = document
        cursor = page.cursor
        if cursor is None:
            return picture


def _chunks(chunks: Sequence[Chunk]) -> list[dict[str, Any]]:
    assert len({chunk.id for chunk in chunks}) == len(chunks), "a chunk is there twice"
    return [
        {
            "id": chunk.id,
            "ordinal": chunk.ordinal,
            "text": chunk.text,
            "hash": chunk.hash,
            "aclScope": chunk.acl_scope,
            "place": chunk.place,
            "model": chunk.model,
            "dimensions": chunk.dimensions,
            "vector": None if chunk.vector is None else np.frombuffer(chunk.vector, np.float32),
        }
        for chunk in chunks
    ]


def differences(one: HomePicture, other: HomePicture) -> list[str]:
    """What *other* has otherwise than *one*, a line each; vectors may differ by what rounding does."""
    found = [f"{name}: missing" for name in sorted(one.shards.keys() - other.shards.keys())]
    found += [f"{name}: too many" for name in sorted(other.shards.keys() - one.shards.keys())]
    for name in sorted(one.shards.keys() & other.shards.keys()):
        ours, theirs = one.shards[name], other.shards[name]
        for key in sorted(ours.keys() | theirs.keys()):
            if not _same(ours.get(key), theirs.get(key)):
                found.append(f"{name}: {key}: {ours.get(key)!s:.300} became {theirs.get(key)!s:.300}")
    return found


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and bool(np.allclose(one, other, atol=1e-6))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
