"""The state of the pipeline, as `GET status` and `shardline status` tell it."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic.alias_generators import to_camel

from connections.connection import Connection
from connections.lease import Lease
from connections.state import STATE_TYPE, state_shard_id
from ingestion.connection_memory import connection_key
from ingestion.history_memory import HistoryNotes, history_key, is_history, records_per_second, remaining_seconds
from ingestion.purge import PurgeNotes, purge_key
from messaging.times import from_text, to_text
from shards.model import Shard
from shards.store import ShardQuery

if TYPE_CHECKING:
    from composition import Services

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
    """A row for each connection, though it, or what is remembered of it, can't be read."""
    readable, unreadable = await services.connections.listed()
    states: dict[str, list[Shard]] = {}
    rows: list[dict[str, Any]] = []
    for connection in readable:
        tenant = connection.tenant_id
        if tenant not in states:
            states[tenant] = await _states(services, tenant)
        rows.append(_row(connection, states[tenant], now))
    rows += [
        {
            "tenantId": one.tenant_id,
            "connectionId": one.connection_id,
            "system": one.system,
            "instance": "",
            "state": "invalid",
            "error": f"{one.problem}; connect it again",
            "lastSyncAt": None,
            "lagSeconds": None,
            "firstLoad": None,
            "purge": None,
            "underWay": None,
            "cursors": {},
        }
        for one in unreadable
    ]
    return sorted(rows, key=lambda row: (row["tenantId"], row["connectionId"]))


def _row(connection: Connection, states: list[Shard], now: datetime) -> dict[str, Any]:
    """The row of a connection, whose states are among *states*."""
    remembered = {
        state.id: state.structured_data
        for state in states
        if state.structured_data.get("integrationId") == connection.connection_id
    }
    purging = remembered.pop(_state_id(connection, purge_key(connection)), {})
    own_load = _state_id(connection, history_key(connection))
    loads = {key: state for key, state in remembered.items() if is_history(state)}
    of_work = [state for key, state in remembered.items() if key not in loads]
    errors = {str(state["errorMessage"]) for state in of_work if state.get("errorMessage")}
    # What one log or object met stands in the connection's own, too.
    errors = {one for one in errors if not any(one in other for other in errors - {one})}
    under_way = {str(text) for state in of_work if (text := _metadata(state).get("underWay"))}
    synced = remembered.get(_state_id(connection, connection_key(connection)), {}).get("lastSyncAt")
    told: dict[str, Any] = {"firstLoad": None, "purge": None}
    try:
        told["firstLoad"] = _first_load(
            [(_metadata(state), key == own_load or _is_held(state, now)) for key, state in loads.items()]
        )
        told["purge"] = _purge(_metadata(purging))
    except msgspec.ValidationError as error:
        errors.add(f"what is remembered of its loads is of another version: {error}")
    if connection.status == "disconnected":
        # What it met last asks for nothing any more.
        errors = set()
    if told["firstLoad"] and connection.status != "active":
        told["firstLoad"]["secondsLeft"] = None
    return {
        "tenantId": connection.tenant_id,
        "connectionId": connection.connection_id,
        "system": connection.system,
        "instance": connection.instance,
        "state": connection.status,
        "error": connection.error_message or "; ".join(sorted(errors)) or None,
        "lastSyncAt": synced,
        "lagSeconds": round((now - from_text(synced)).total_seconds()) if synced else None,
        **told,
        "underWay": "; ".join(sorted(under_way)) or None,
        "cursors": {
            _metadata(state)["objectType"]: state.get("cursor") for state in of_work if "objectType" in _metadata(state)
        },
    }


def _state_id(connection: Connection, key: str) -> str:
    return state_shard_id(connection.tenant_id, key)


def _metadata(state: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = state.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _is_held(state: Mapping[str, Any], now: datetime) -> bool:
    """Whether somebody drives the load."""
    return bool(state.get("lease")) and msgspec.convert(state["lease"], Lease).holds(now)


def _first_load(loads: list[tuple[Mapping[str, Any], bool]]) -> dict[str, Any] | None:
    """How far the first load is, what is left of it, and what it waits for; None where none was asked for.

    *loads* are notes, and whether somebody goes on with them. Where exports are loaded too: of those that go on and are
    not finished the newest is told, else the newest that is finished. One that nobody goes on with, as of an export
    that is broken, is told last, and not at all where nothing of it was loaded.
    """
    ranked: list[tuple[int, HistoryNotes]] = []
    for load, goes_on in loads:
        notes = msgspec.convert(load, HistoryNotes)
        if notes.finished_at or goes_on or notes.records:
            ranked.append((1 if notes.finished_at else 2 if goes_on else 0, notes))
    if not ranked:
        return None
    _, notes = max(ranked, key=lambda one: (one[0], one[1].asked_at or ""))
    left, rate = remaining_seconds(notes), records_per_second(notes)
    return {
        "askedAt": notes.asked_at,
        "beganAt": notes.began_at,
        "finishedAt": notes.finished_at,
        "records": notes.records,
        "total": notes.total,
        "estimated": notes.estimated,
        "recordsPerSecond": None if rate is None else round(rate, 2),
        "secondsLeft": None if left is None else round(left),
        "waitingFor": notes.waiting_for or (None if notes.began_at else "its turn"),
    }


def _purge(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """How far the taking away of what the connection brought is; None where it was not asked for."""
    notes = msgspec.convert(metadata, PurgeNotes)
    if notes.began_at is None:
        return None
    return {
        "beganAt": notes.began_at,
        "finishedAt": notes.finished_at,
        "records": notes.records,
        "waitingFor": notes.waiting_for,
    }


async def _states(services: "Services", tenant_id: str) -> list[Shard]:
    """What is remembered of all connections of the tenant."""
    found: list[Shard] = []
    cursor: str | None = None
    while True:
        query = ShardQuery(tenant_id, shard_type_ids=(STATE_TYPE,))
        page = await services.store.query(query, limit=STATES_AT_ONCE, cursor=cursor)
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found
