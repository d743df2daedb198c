"""The state of the pipeline, as `GET status` and `shardline status` tell it."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from messaging.times import from_text, to_text
from shards.model import Shard
from shards.store import ShardQuery

if TYPE_CHECKING:
    from composition import Services

STATE_TYPE = "integration.state"


async def pipeline_status(services: "Services") -> dict[str, Any]:
    """Queues, stages, connections and their lag, parked messages, and what each tenant has."""
    now = services.clock()
    depths = await services.bus.depths()
    tenants: dict[str, Any] = {}
    for tenant in await services.store.tenants():
        counts = await services.store.counts(tenant)
        tenants[tenant] = {
            "shards": counts.shards,
            "deleted": counts.deleted,
            "links": counts.links,
            "linksPending": counts.links_pending,
            "chunks": counts.chunks,
            "vectors": counts.vectors,
        }
    return {
        "at": to_text(now),
        "queues": {
            name: {
                "active": depth.active,
                "locked": depth.locked,
                "scheduled": depth.scheduled,
                "deadLettered": depth.dead_lettered,
                "oldest": to_text(depth.oldest_enqueued_at) if depth.oldest_enqueued_at else None,
            }
            for name, depth in depths.items()
        },
        "stagesBehind": {stage.value: count for stage, count in (await services.store.stages_behind()).items()},
        "parked": dict(await services.store.parked_counts()),
        "connections": await _connections(services, now),
        "tenants": tenants,
    }


async def _connections(services: "Services", now: datetime) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    for connection in await services.connections.all():
        states = await _states(services, connection.tenant_id, connection.connection_id)
        synced = max((state.structured_data.get("lastSyncAt") or "" for state in states), default="") or None
        errors = [state.structured_data["errorMessage"] for state in states if "errorMessage" in state.structured_data]
        listed.append(
            {
                "tenantId": connection.tenant_id,
                "connectionId": connection.connection_id,
                "system": connection.system,
                "instance": connection.instance,
                "state": connection.status,
                "error": connection.error_message or "; ".join(errors) or None,
                "lastSyncAt": synced,
                "lagSeconds": round((now - from_text(synced)).total_seconds()) if synced else None,
                "cursors": {
                    str(state.structured_data.get("integrationId")): state.structured_data.get("cursor")
                    for state in states
                },
            }
        )
    return listed


async def _states(services: "Services", tenant_id: str, connection_id: str) -> list[Shard]:
    page = await services.store.query(
        ShardQuery(tenant_id, shard_type_ids=(STATE_TYPE,), connection_id=connection_id), limit=200
    )
    return page.items
