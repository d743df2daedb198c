"""The state of the pipeline, as `GET status` and `shardline status` tell it."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic.alias_generators import to_camel

from ingestion.first_load import HistoryNotes, remaining_seconds
from messaging.times import from_text, to_text
from shards.store import ShardQuery

if TYPE_CHECKING:
    from composition import Services

STATE_TYPE = "integration.state"
STATES_AT_ONCE = 200


async def pipeline_status(services: "Services") -> dict[str, Any]:
    """Queues, stages, connections and their lag, parked messages, what each tenant has, and what the store charges."""
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
                "atLeast": sorted(to_camel(name) for name in depth.at_least),
            }
            for name, depth in depths.items()
        },
        "stagesBehind": {stage.value: count for stage, count in (await services.store.stages_behind()).items()},
        "parked": dict(await services.store.parked_counts()),
        "connections": await _connections(services, now),
        "tenants": tenants,
        "requestUnits": await _request_units(services),
    }


async def _request_units(services: "Services") -> dict[str, list[dict[str, Any]]]:
    """What the store charged each function by operation, by day (UTC), newest first."""
    if services.charge_book is None:
        return {}
    return {
        of_day.day: [
            {
                "function": charge.function,
                "operation": charge.operation,
                "requests": charge.requests,
                "requestUnits": round(charge.request_units, 2),
                "throttled": charge.throttled,
            }
            for charge in of_day.charges
        ]
        for of_day in await services.charge_book.charges_by_day()
    }


async def _connections(services: "Services", now: datetime) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    states: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for connection in await services.connections.all():
        tenant = connection.tenant_id
        if tenant not in states:
            states[tenant] = await _states(services, tenant)
        known = states[tenant].get(connection.connection_id, [])
        synced = max((state.get("lastSyncAt") or "" for state in known), default="") or None
        errors = sorted({state["errorMessage"] for state in known if state.get("errorMessage")})
        listed.append(
            {
                "tenantId": tenant,
                "connectionId": connection.connection_id,
                "system": connection.system,
                "instance": connection.instance,
                "state": connection.status,
                "error": connection.error_message or "; ".join(errors) or None,
                "lastSyncAt": synced,
                "lagSeconds": round((now - from_text(synced)).total_seconds()) if synced else None,
                "firstLoad": _first_load(known),
                "cursors": {
                    state["metadata"]["objectType"]: state.get("cursor")
                    for state in known
                    if "objectType" in (state.get("metadata") or {})
                },
            }
        )
    return listed


def _first_load(states: list[dict[str, Any]]) -> dict[str, Any] | None:
    """How far the first load is, what is left of it, and what it waits for; None where none was asked for."""
    told = [state["metadata"] for state in states if "beganAt" in (state.get("metadata") or {})]
    if not told:
        return None
    notes = msgspec.convert(max(told, key=lambda notes: str(notes["beganAt"])), HistoryNotes)
    left = remaining_seconds(notes)
    return {
        "beganAt": notes.began_at,
        "finishedAt": notes.finished_at,
        "records": notes.records,
        "total": notes.total,
        "estimated": notes.estimated,
        "secondsLeft": None if left is None else round(left),
        "waitingFor": notes.waiting_for,
    }


async def _states(services: "Services", tenant_id: str) -> dict[str, list[dict[str, Any]]]:
    """What each connection of the tenant remembers, by connection id."""
    found: dict[str, list[dict[str, Any]]] = {}
    cursor: str | None = None
    while True:
        query = ShardQuery(tenant_id, shard_type_ids=(STATE_TYPE,))
        page = await services.store.query(query, limit=STATES_AT_ONCE, cursor=cursor)
        for shard in page.items:
            data = shard.structured_data
            found.setdefault(str(data.get("integrationId")), []).append(data)
        cursor = page.cursor
        if cursor is None:
            return found
