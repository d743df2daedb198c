"""Who may read a channel and all that is in it, changed where the records stand: no vendor is asked for them again.

A membership is one write of the channel's scope. This is for the rest: a channel that turns private or public, and one
that can't be seen any more, which is closed, since nobody can say who may still read it.
"""

from dataclasses import dataclass

import msgspec

from connections.state import StateMovedError
from ingestion.slack.events import ts_of
from messaging.bus import MessageBus
from messaging.contracts import ShardEmission
from messaging.queues import SHARD_EMISSION
from messaging.times import Clock, from_text, to_milliseconds, to_text
from shards.model import Acl, Shard, content_fingerprint
from shards.ordering import version_key
from shards.store import ShardStore, ShardWrite

PAGE = 200
WRITE_TRIES = 5


@dataclass(frozen=True, slots=True)
class ResharingPorts:
    """What it reaches the world through."""

    store: ShardStore
    bus: MessageBus
    clock: Clock


async def close_channel(tenant_id: str, channel_shard_id: str, scope: str, ports: ResharingPorts) -> int:
    """Let nobody read the channel, nor what is in it; how many shards were written.

    Raises:
        StateMovedError: others keep writing them; ask again.
    """
    shard = await ports.store.get(tenant_id, channel_shard_id)
    if shard is None or not shard.is_live:
        return 0
    written = await reshare_messages(tenant_id, channel_shard_id, Acl(scope, (), inherited=True), ports)
    # A channel's version is when it was read: what was read before, and is still on its way, must not open it again.
    version = ts_of(ports.clock())
    return written + await _reshare(tenant_id, [channel_shard_id], Acl(scope, ()), ports, version)


async def reshare_messages(tenant_id: str, channel_shard_id: str, acl: Acl, ports: ResharingPorts) -> int:
    """Give every message of the channel *acl*; how many had another.

    Raises:
        StateMovedError: others keep writing them; ask again.
    """
    cursor: str | None = None
    written = 0
    while True:
        page = await ports.store.incoming(tenant_id, channel_shard_id, limit=PAGE, cursor=cursor)
        ids = [link.source_shard_id for link in page.items if link.link.relationship_type == "message_in_channel"]
        written += await _reshare(tenant_id, ids, acl, ports)
        cursor = page.cursor
        if cursor is None:
            return written


async def _reshare(tenant_id: str, ids: list[str], acl: Acl, ports: ResharingPorts, version: str | None = None) -> int:
    written = 0
    for _ in range(WRITE_TRIES):
        now = to_text(ports.clock())
        stored = await ports.store.get_many(tenant_id, ids) if ids else {}
        changed = [
            _with_acl(shard, acl, now, version) for shard in stored.values() if shard.is_live and not _has(shard, acl)
        ]
        if not changed:
            return written
        etags = await ports.store.write_many([ShardWrite(shard, shard.etag) for shard in changed])
        done = [shard for shard, etag in zip(changed, etags, strict=True) if etag is not None]
        written += len(done)
        if done:
            await ports.bus.send(SHARD_EMISSION, [_emission(shard).to_message(SHARD_EMISSION) for shard in done])
        ids = [shard.id for shard, etag in zip(changed, etags, strict=True) if etag is None]
        if not ids:
            return written
    raise StateMovedError(f"others keep writing {len(ids)} of the shards that are to be shared anew")


def _has(shard: Shard, acl: Acl) -> bool:
    """Whether the shard says what *acl* does; what it inherits is not its own to say."""
    if acl.inherited:
        return shard.acl.inherited and shard.acl.scope == acl.scope
    return shard.acl == acl


def _with_acl(shard: Shard, acl: Acl, now: str, version: str | None) -> Shard:
    fingerprint = content_fingerprint(
        shard.structured_data, shard.unstructured_data, acl, shard.status, shard.redirect_to
    )
    # This is a reading: what was read before, and is still on its way, must not share the shard as it was.
    sources = [
        msgspec.structs.replace(
            one,
            read_at=max(one.read_at, now),
            source_version=one.source_version if version is None else max(one.source_version, version, key=version_key),
        )
        for one in shard.external_relationships
    ]
    return msgspec.structs.replace(
        shard,
        acl=acl,
        fingerprint=fingerprint,
        revision=shard.revision + 1,
        updated_at=now,
        external_relationships=sources,
    )


def _emission(shard: Shard) -> ShardEmission:
    return ShardEmission(
        tenant_id=shard.tenant_id,
        shard_id=shard.id,
        shard_type_id=shard.shard_type_id,
        revision=shard.revision,
        change_type="update",
        generation=to_milliseconds(from_text(shard.created_at)),
        observed_at=shard.updated_at,
    )
