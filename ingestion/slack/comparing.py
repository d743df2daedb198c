"""What a listing tells that is not stored yet: what is the same is not sent, so that comparing costs nothing."""

from collections.abc import Mapping, Sequence

from messaging.contracts import IngestionEvent
from processors.mapping import MappingError, map_record
from processors.mapping.record import Mapped
from shards.identity import shard_id
from shards.model import Shard
from shards.ordering import version_key
from shards.store import ShardStore


async def not_stored(events: Sequence[IngestionEvent], store: ShardStore) -> list[IngestionEvent]:
    """Those of *events*, of whole records of one tenant, that would change what is stored.

    Raises:
        StoreUnavailableError: the store is away.
    """
    if not events:
        return []
    tenant_id = events[0].tenant_id
    ids = {id(event): _shard_id(event) for event in events}
    stored: Mapping[str, Shard] = await store.get_many(tenant_id, list(dict.fromkeys(ids.values())))
    return [event for event in events if _changes(event, stored.get(ids[id(event)]))]


def _shard_id(event: IngestionEvent) -> str:
    return shard_id(event.tenant_id, event.source, event.instance or "", event.object_type or "", event.source_id)


def _changes(event: IngestionEvent, stored: Shard | None) -> bool:
    if stored is None:
        return True
    try:
        mapped = map_record(event.source, event.object_type, event.record, event.event_type, event.source_id)
    except MappingError:
        return True  # the chain parks it, where people see why
    if not stored.is_live:
        # What was deleted is listed again, or it was asked for before that: the versions tell.
        known = max((one.source_version for one in stored.external_relationships), key=version_key, default="")
        return version_key(event.source_version or "") >= version_key(known)
    return not _is_same(mapped, stored)


def _is_same(mapped: Mapped, stored: Shard) -> bool:
    if mapped.structured_data != stored.structured_data:
        return False
    if mapped.acl.inherited:
        return stored.acl.inherited and stored.acl.scope == mapped.acl.scope
    return mapped.acl == stored.acl
