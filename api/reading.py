"""Reading: search, one shard with all that belongs to it, shards by type or source. The HTTP API and the command line
answer from here."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np

from api.tokens import reader_principals
from processors.models.embedding import EmbeddingModel
from shards.identity import InvalidExternalIdError, canonical_external_id
from shards.model import ANYONE_PRINCIPAL, TENANT_PRINCIPAL, Chunk, Shard, guest_principal, shard_document
from shards.store import Hit, IncomingLink, SearchQuery, ShardQuery, ShardStore

SHARD_ID = re.compile(r"sh_[0-9a-f]{40}\Z")
EXCERPT_CHARACTERS = 400
INCOMING_AT_ONCE = 200


async def search(
    store: ShardStore,
    model: EmbeddingModel,
    *,
    tenant_id: str,
    text: str,
    limit: int,
    principals: frozenset[str] | None,
    shard_type_ids: Sequence[str] = (),
    systems: Sequence[str] = (),
    linked_to: str | None = None,
    updated_after: str | None = None,
    updated_before: str | None = None,
) -> dict[str, Any]:
    """The answer to a search as users see it: ``{query, hits: […]}``, best hit first."""
    vectors = await model.embed([text])
    vector = vectors[0] if vectors[0].any() else None
    hits = await store.search(
        SearchQuery(
            tenant_id=tenant_id,
            text=text,
            vector=vector,
            limit=limit,
            principals=principals,
            shard_type_ids=tuple(shard_type_ids),
            systems=tuple(systems),
            linked_to=linked_to,
            updated_after=updated_after,
            updated_before=updated_before,
        )
    )
    return {"query": text, "hits": [_hit(hit) for hit in hits]}


def _hit(hit: Hit) -> dict[str, Any]:
    source = hit.shard.external_relationships[0] if hit.shard.external_relationships else None
    text = hit.chunk.text
    return {
        "shardId": hit.shard.id,
        "shardTypeId": hit.shard.shard_type_id,
        "name": hit.shard.name,
        "score": round(hit.score, 6),
        "text": text if len(text) <= EXCERPT_CHARACTERS else text[:EXCERPT_CHARACTERS].rstrip() + "…",
        "source": {
            "system": source.system if source else None,
            "externalId": source.external_id if source else None,
            "url": source.external_url if source else None,
        },
        "updatedAt": hit.shard.updated_at,
    }


async def find_shard(store: ShardStore, tenant_id: str, name: str) -> Shard | None:
    """The shard under its own id or any external id; a merged record's id finds what stands for it now.

    A Salesforce id may be in its 15-character form.
    """
    if SHARD_ID.match(name):
        return await store.resolve(tenant_id, name)
    for external_id in _forms(name):
        page = await store.query(ShardQuery(tenant_id, external_id=external_id, include_deleted=True), limit=1)
        if page.items:
            return await store.resolve(tenant_id, page.items[0].id)
    return None


def _forms(external_id: str) -> list[str]:
    """The external id as it is given, and where it may be one of Salesforce's, as that is stored."""
    try:
        canonical = canonical_external_id("salesforce", external_id)
    except InvalidExternalIdError:
        return [external_id]
    return list(dict.fromkeys((external_id, canonical)))


async def readable(store: ShardStore, shard: Shard, principals: frozenset[str] | None) -> bool:
    """Whether a reader may see the shard; None is the operator. An empty acl is closed.

    Its scope says who may, not the shard: it may have been shared anew since the shard was written.
    """
    return principals is None or bool(await store.readable_scopes(shard.tenant_id, [shard.acl.scope], principals))


async def describe(
    store: ShardStore, shard: Shard, principals: frozenset[str] | None, *, with_vectors: bool = False
) -> dict[str, Any]:
    """The stored shard with its incoming links and its chunks.

    A chunk has its ``vector``, a list of floats or null; without *with_vectors*, ``hasVector`` in place of it.
    """
    document = shard_document(shard)
    document["incoming"] = [_incoming(link) for link in await _readable_incoming(store, shard, principals)]
    document["chunks"] = [_chunk(chunk, with_vectors) for chunk in await store.chunks(shard.tenant_id, shard.id)]
    progress = await store.progress(shard.tenant_id, [shard.id])
    if shard.id in progress:
        known = progress[shard.id]
        document["progress"] = {
            "normalized": known.normalized,
            "enriched": known.enriched,
            "prepared": known.prepared,
            "embedded": known.embedded,
            "updatedAt": known.updated_at,
        }
    return document


async def _readable_incoming(store: ShardStore, shard: Shard, principals: frozenset[str] | None) -> list[IncomingLink]:
    links: list[IncomingLink] = []
    cursor: str | None = None
    while True:
        page = await store.incoming(shard.tenant_id, shard.id, limit=INCOMING_AT_ONCE, cursor=cursor)
        if principals is None:
            links += page.items
        else:
            sources = await store.get_many(shard.tenant_id, [link.source_shard_id for link in page.items])
            scopes = list({source.acl.scope for source in sources.values()})
            open_scopes = await store.readable_scopes(shard.tenant_id, scopes, principals)
            links += [
                link
                for link in page.items
                if link.source_shard_id in sources and sources[link.source_shard_id].acl.scope in open_scopes
            ]
        if page.cursor is None:
            return links
        cursor = page.cursor


def _incoming(link: IncomingLink) -> dict[str, Any]:
    return {
        "id": link.link.id,
        "sourceShardId": link.source_shard_id,
        "sourceShardTypeId": link.source_shard_type_id,
        "sourceName": link.source_name,
        "relationshipType": link.link.relationship_type,
        "status": link.link.status,
        "confidence": link.link.confidence,
        "method": link.link.method,
    }


def _chunk(chunk: Chunk, with_vector: bool) -> dict[str, Any]:
    vector = None if chunk.vector is None else np.frombuffer(chunk.vector, "<f4").tolist()
    return {
        "id": chunk.id,
        "tenantId": chunk.tenant_id,
        "shardId": chunk.shard_id,
        "shardTypeId": chunk.shard_type_id,
        "ordinal": chunk.ordinal,
        "text": chunk.text,
        "hash": chunk.hash,
        "aclScope": chunk.acl_scope,
        "model": chunk.model,
        "dimensions": chunk.dimensions,
        **({"vector": vector} if with_vector else {"hasVector": vector is not None}),
        "updatedAt": chunk.updated_at,
        "place": chunk.place,
    }


async def principals_of(store: ShardStore, tenant_id: str, address: str) -> frozenset[str]:
    """What an acl may name the tenant's user *address* by; of someone the tenant does not know, only ``anyone``."""
    async for _ in _users_of(store, tenant_id, address.lower()):
        return await principals_in(store, tenant_id, address, reader_principals(address))
    return frozenset({ANYONE_PRINCIPAL})


async def principals_in(store: ShardStore, tenant_id: str, address: str, principals: frozenset[str]) -> frozenset[str]:
    """Those of *principals* that *address* goes by in the tenant. Whom its Slack workspaces have as a guest, and none
    of them as a member, is not one of the tenant's own: such a one reads what names them."""
    guest = guest_principal(address)
    as_guest = ShardQuery(tenant_id, shard_type_ids=("c_user",), principals=frozenset({guest}))
    if not (await store.query(as_guest, limit=1)).items:
        return principals
    async for user in _users_of(store, tenant_id, address.lower(), system="slack"):
        if guest not in user.acl.principals and user.structured_data.get("isActive"):
            return principals
    return principals - {TENANT_PRINCIPAL}


async def _users_of(
    store: ShardStore, tenant_id: str, address: str, *, system: str | None = None
) -> AsyncIterator[Shard]:
    """The users who have the address, which is in small letters."""
    cursor: str | None = None
    while True:
        query = ShardQuery(tenant_id, shard_type_ids=("c_user",), system=system)
        page = await store.query(query, limit=500, cursor=cursor)
        for user in page.items:
            email = user.structured_data.get("email")
            if isinstance(email, str) and email.lower() == address:
                yield user
        if page.cursor is None:
            return
        cursor = page.cursor
