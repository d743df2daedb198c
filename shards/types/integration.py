"""Shardline's own bookkeeping of its connections. It is not for readers: it never goes through the chain."""

from typing import Literal

import msgspec

from shards.types.definition import JsonObject, Moment, ShardType, StructuredData

SyncOutcome = Literal["pending", "success", "failed", "partial"]
"""How the last run ended; ``pending`` before the first has."""
ConnectionStatus = Literal["active", "paused", "failed", "disconnected"]


class Lease(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Which worker has the connection, and until when."""

    owner: str
    expires_at: Moment


class IntegrationStateData(StructuredData):
    """How far a connection has been read, and who is reading it now."""

    integration_id: str
    integration_type: str
    last_sync_status: SyncOutcome
    cursor: JsonObject | None = None
    last_sync_at: Moment | None = None
    next_sync_at: Moment | None = None
    error_message: str | None = None
    lease: Lease | None = None
    metadata: JsonObject | None = None


class IntegrationConnectionData(StructuredData):
    """One connection to one instance of a system. A secret is named, never held."""

    system: str
    status: ConnectionStatus
    instance: str | None = None
    base_url: str | None = None
    object_types: list[str] | None = None
    poll_interval_seconds: int | None = None
    default_currency: str | None = None
    secret_refs: dict[str, str] | None = None
    last_tested_at: Moment | None = None
    error_message: str | None = None
    settings: JsonObject | None = None
    metadata: JsonObject | None = None


STATE = ShardType(id="integration.state", noun="integration state", data=IntegrationStateData, chunking="none")
CONNECTION = ShardType(id="integration.connection", noun="connection", data=IntegrationConnectionData, chunking="none")
