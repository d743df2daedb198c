"""Items as Cosmos DB keeps them, and what they are read back as.

All pass through the one codec, so a number is written as the shortest decimal that it is and read back as Decimal; the
SDK itself takes and gives floats, which hold any decimal of up to 15 digits. What the queries need beside the stored
shard stands apart from it, under ``derived``.
"""

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from messaging import codec
from shards.cosmos_containers import DIRECTORY
from shards.cosmos_words import MAX_NAME_WORDS, folded_words
from shards.model import Acl, Chunk, Shard, decode_shard, encode_shard
from shards.parked import ParkedMessage
from shards.request_charges import Charge
from shards.store import ChunkState, Progress, Stage, Vectors

Item = dict[str, Any]

_ILLEGAL = re.compile(r"[/\\?#\x00-\x1f\x7f-\x9f\ud800-\udfff]|^\s|\s$")
"""What no id has: four signs, control characters, halves of surrogate pairs, and space at its ends."""
MAX_ID_BYTES = 1023

_decode_chunk = codec.decoder(Chunk).decode
_decode_parked = codec.decoder(ParkedMessage).decode


def is_legal_id(identifier: str) -> bool:
    """Whether an item can have this id."""
    return not _ILLEGAL.search(identifier) and 0 < len(identifier.encode()) <= MAX_ID_BYTES


def checked_id(identifier: str) -> str:
    """*identifier*, when an item can have it.

    Raises:
        ValueError: it has a character that no item's id can have.
    """
    if not is_legal_id(identifier):
        raise ValueError(
            f"{identifier[:200]!r} can be no item's id: that has 1 to {MAX_ID_BYTES} bytes, no / \\ ? #, no control"
            " character, and no space at its ends"
        )
    return identifier


def checked_tenant(tenant_id: str) -> str:
    """*tenant_id*, when it is one.

    Raises:
        ValueError: it is empty.
    """
    if tenant_id == DIRECTORY:
        raise ValueError("a tenant has a name")
    return tenant_id


def hashed_id(kind: str, name: str) -> str:
    """A legal id for whatever *name*."""
    return f"{kind}_{blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def item_size(item: Mapping[str, Any]) -> int:
    """The bytes of the item as the service counts them: its JSON in UTF-8."""
    return len(codec.encode(item))


# Shards


def shard_item(shard: Shard, *, nonce: str, tombstone_seconds: int | None) -> Item:
    """The shard as it is kept. *nonce* marks this write; a tombstone ends after *tombstone_seconds*, if that is given.

    What was merged into another has to be found for ever: reads and links follow it.
    """
    item: Item = json.loads(encode_shard(shard))
    del item["_etag"]
    if shard.redirect_to is None:
        del item["redirectTo"]
    item["derived"] = _derived(shard) | {"nonce": nonce}
    if shard.status == "deleted" and shard.redirect_to is None and tombstone_seconds is not None:
        item["ttl"] = tombstone_seconds
    return item


def _derived(shard: Shard) -> Item:
    """What is asked for beside the shard: by position, and for live ones by links and name."""
    derived: Item = {
        "live": shard.is_live,
        "position": shard_position(shard),
        "links": len(shard.internal_relationships),
    }
    if shard.is_live:
        targets = {link.target_shard_id for link in shard.internal_relationships if link.status != "rejected"}
        derived["targets"] = sorted(targets)
        derived["words"] = folded_words(shard.name)[:MAX_NAME_WORDS]
        derived["nameLength"] = len(shard.name)
    return derived


def shard_position(shard: Shard) -> str:
    """The shard's place among the tenant's, oldest update first."""
    return f"{shard.updated_at} {shard.id}"


def stored_shard(item: Mapping[str, Any]) -> Shard:
    """The shard of an item."""
    return decode_shard(codec.encode(item))


# Scopes: who may read what carries their name


def scope_item(tenant_id: str, acl: Acl, asked_at: str) -> Item:
    """The principals of a scope, as a reading of *asked_at* says them."""
    return {
        "id": hashed_id("scope", acl.scope),
        "tenantId": tenant_id,
        "kind": "scope",
        "scope": acl.scope,
        "principals": list(acl.principals),
        "askedAt": asked_at,
    }


# Tenants


def tenant_item(tenant_id: str, *, has_shards: bool) -> Item:
    """The tenant in the directory."""
    return {
        "id": hashed_id("tenant", tenant_id),
        "tenantId": DIRECTORY,
        "kind": "tenant",
        "tenant": tenant_id,
        "hasShards": has_shards,
    }


# Charges

CHARGES_DAYS = 8
"""How long a process's charges of a day are kept, from the last time they were written."""


def charges_item(process: str, day: str, charges: Sequence[Charge]) -> Item:
    """What the functions that *process* ran were charged on a day (UTC)."""
    return {
        "id": f"charges_{day}_{process}",
        "tenantId": DIRECTORY,
        "kind": "charges",
        "day": day,
        "charges": [
            {
                "function": charge.function,
                "operation": charge.operation,
                "requests": charge.requests,
                "requestUnits": round(charge.request_units, 2),
                "throttled": charge.throttled,
            }
            for charge in charges
        ],
        "ttl": CHARGES_DAYS * 86_400,
    }


def stored_charges(item: Mapping[str, Any]) -> list[Charge]:
    """The charges of an item."""
    return [
        Charge(row["function"], row["operation"], row["requests"], row["requestUnits"], row["throttled"])
        for row in item["charges"]
    ]


# Progress

_LATER_STAGES = (Stage.ENRICHED, Stage.PREPARED, Stage.EMBEDDED)


def progress_item(progress: Progress) -> Item:
    """How far a shard's stages are; ``behind`` and ``behindSince`` only where one is behind."""
    item: Item = {
        "id": progress.shard_id,
        "tenantId": progress.tenant_id,
        "kind": "progress",
        "shardTypeId": progress.shard_type_id,
        "normalized": progress.normalized,
        "enriched": progress.enriched,
        "prepared": progress.prepared,
        "embedded": progress.embedded,
        "updatedAt": progress.updated_at,
    }
    behind = [stage.value for stage in _LATER_STAGES if item[stage.value] < progress.normalized]
    if behind:
        item["behind"] = behind
        item["behindSince"] = progress.updated_at
    return item


def stored_progress(item: Mapping[str, Any]) -> Progress:
    """The progress of an item."""
    return Progress(
        tenant_id=item["tenantId"],
        shard_id=item["id"],
        shard_type_id=item["shardTypeId"],
        normalized=item["normalized"],
        enriched=item["enriched"],
        prepared=item["prepared"],
        embedded=item["embedded"],
        updated_at=item["updatedAt"],
    )


# Chunks


def chunk_item(chunk: Chunk) -> Item:
    """The chunk as it is kept until it has a vector."""
    return {
        "id": chunk.id,
        "tenantId": chunk.tenant_id,
        "shardId": chunk.shard_id,
        "ordinal": chunk.ordinal,
        "hash": chunk.hash,
        "waiting": True,
        **chunk_text(chunk),
    }


def chunk_text(chunk: Chunk) -> Item:
    """What is written of a chunk whether its vector stays or not."""
    return {
        "shardTypeId": chunk.shard_type_id,
        "text": chunk.text,
        "aclScope": chunk.acl_scope,
        "updatedAt": chunk.updated_at,
        "place": json.loads(codec.encode(chunk.place)),
    }


def vector_fields(vector: Vectors, model: str) -> Item:
    """What a chunk has more once it has its vector."""
    return {
        "vector": decimals(vector),
        "model": model,
        "dimensions": len(vector),
        "waiting": False,
    }


def decimals(vector: Vectors) -> list[float]:
    """The numbers in eight digits, and in nine where it takes nine to be read back as the same float32."""
    exact = vector.astype(np.float32)
    written = [float(f"{number:.8g}") for number in exact.tolist()]
    for index in np.flatnonzero(np.array(written, dtype=np.float32) != exact):
        written[index] = float(f"{exact[index]:.9g}")
    return written


def stored_chunk(item: Mapping[str, Any], *, with_vector: bool = True) -> Chunk:
    """The chunk of an item, with its vector if that was read and is wanted."""
    numbers = item.get("vector") if with_vector else None
    chunk = _decode_chunk(codec.encode({key: value for key, value in item.items() if key != "vector"}))
    if numbers is not None:
        chunk.vector = np.array(numbers, dtype="<f4").tobytes()
    return chunk


def stored_chunk_state(row: Mapping[str, Any]) -> ChunkState:
    """What is known of a chunk."""
    return ChunkState(hash=row["hash"], acl_scope=row["aclScope"], has_vector=not row["waiting"])


# Parked messages


def parked_item(message: ParkedMessage) -> Item:
    """The parked message, with its place in the listing."""
    item: Item = msgspec.to_builtins(message)
    item["position"] = parked_position(message)
    return item


def parked_position(message: ParkedMessage) -> str:
    """The message's place among all, oldest first."""
    return f"{message.parked_at} {message.id} {message.tenant_id}"


def stored_parked(item: Mapping[str, Any]) -> ParkedMessage:
    """The parked message of an item."""
    return _decode_parked(codec.encode(item))
