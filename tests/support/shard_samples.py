"""Shards, chunks and vectors for tests of the stores."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from shards.identity import chunk_id, link_id, shard_id
from shards.model import Acl, Chunk, ExternalRelationship, InternalRelationship, LinkStatus, Shard, ShardStatus
from shards.store import ShardStore, ShardWrite, Vectors

ACME, GLOBEX = "acme", "globex"
OPEN = Acl.of("tenant")
START = "2026-01-01T00:00:00.000Z"
MODEL, DIMENSIONS = "test-model", 3


def id_of(name: str, tenant: str = ACME) -> str:
    """The id of the shard that *make* makes under this name."""
    return shard_id(tenant, "crm", "org", "Account", name)


def link(
    source: str, target: str, relation: str = "child_of", status: LinkStatus = "active", tenant: str = ACME
) -> InternalRelationship:
    """A link between the shards of these names."""
    return InternalRelationship(
        id=link_id(id_of(source, tenant), relation, id_of(target, tenant)),
        target_shard_id=id_of(target, tenant),
        target_shard_type_id="c_account",
        relationship_type=relation,
        status=status,
        confidence=Decimal("0.9"),
        source="crm",
        method="structured-field",
        evidence={"field": "ParentId"},
        created_at=START,
        created_by="system",
    )


def make(
    name: str,
    *,
    tenant: str = ACME,
    title: str | None = None,
    kind: str = "c_account",
    links: Sequence[InternalRelationship] = (),
    acl: Acl = OPEN,
    updated_at: str = START,
    status: ShardStatus = "active",
    redirect_to: str | None = None,
    system: str = "crm",
    object_type: str = "Account",
    read_at: str = START,
    connection_id: str | None = "connection",
) -> Shard:
    """A shard; *name* is its external id, *title* what people call it."""
    return Shard(
        id=id_of(name, tenant),
        tenant_id=tenant,
        shard_type_id=kind,
        status=status,
        structured_data={"name": name if title is None else title, "amount": Decimal("1234.50")},
        external_relationships=[
            ExternalRelationship(
                system=system,
                instance="org",
                system_type="crm",
                object_type=object_type,
                external_id=name,
                source_version=START,
                read_at=read_at,
                connection_id=connection_id,
            )
        ],
        internal_relationships=list(links),
        acl=acl,
        created_at=START,
        updated_at=updated_at,
        redirect_to=redirect_to,
    )


def chunk_of(shard: Shard, text: str, *, ordinal: int = 0, text_hash: str | None = None, scope: str = "") -> Chunk:
    """A chunk of the shard."""
    return Chunk(
        id=chunk_id(shard.id, ordinal),
        tenant_id=shard.tenant_id,
        shard_id=shard.id,
        shard_type_id=shard.shard_type_id,
        ordinal=ordinal,
        text=text,
        hash=text if text_hash is None else text_hash,
        acl_scope=scope or shard.acl.scope,
        updated_at=START,
        place={"heading": "Überschrift"},
    )


def unit(*numbers: float) -> Vectors:
    """The unit vector of this direction, in at least as many dimensions as all stores of the tests have."""
    vector = np.array([*numbers, *[0.0] * (DIMENSIONS - len(numbers))], dtype=np.float32)
    return vector / np.float32(np.linalg.norm(vector))


async def write(store: ShardStore, *shards: Shard) -> list[str | None]:
    """Write the shards over whatever is there."""
    stored = await store.get_many(shards[0].tenant_id, [shard.id for shard in shards])
    return await store.write_many(
        [ShardWrite(shard, stored[shard.id].etag if shard.id in stored else None) for shard in shards]
    )


async def write_with_text(store: ShardStore, shard: Shard, text: str, vector: Vectors | None = None) -> Chunk:
    """Write the shard with one chunk, and its vector if there is one."""
    await write(store, shard)
    chunk = chunk_of(shard, text)
    await store.put_chunks(shard.tenant_id, [chunk])
    if vector is not None:
        await store.put_vectors(shard.tenant_id, [(chunk.id, chunk.hash)], vector[np.newaxis], model=MODEL)
    return chunk
