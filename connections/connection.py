"""A connection: one tenant's way to one instance of a source. What only one vendor needs is in that vendor's module."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from shards.identity import SHARDLINE_SYSTEM, shard_id

CONNECTION_TYPE = "integration.connection"

ConnectionStatus = Literal["active", "paused", "failed", "disconnected"]

REFERENCE_PATTERN = r"^secret:[^/\s]+/[^/\s]+$"
CONNECTION_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

Reference = Annotated[str, Meta(pattern=REFERENCE_PATTERN)]
"""``secret:<tenant>/<name>``, see :mod:`connections.secrets`."""
Share = Annotated[float, Meta(ge=0, le=1)]


class InvalidConnectionError(ValueError):
    """What is given or stored is no connection; the message names the field."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How often the source is asked: *poll_seconds* for changes, *sweep_hours* for records that are gone."""

    poll_seconds: Annotated[int, Meta(ge=1)] = 60
    sweep_hours: Annotated[float, Meta(gt=0)] = 24


class Connection(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One tenant's way to one instance of a source: what all sources share.

    Attributes:
        system: the source's name, by which its own kind of connection is found.
        instance: the instance's own id (the 18-character org id, the team id, the customer id), empty until the first
            login.
        base_url: where people open the instance's records, empty until the first login.
        default_currency: ISO 4217 code for records that name no currency.
        error_message: what is wrong and what to do, while *status* is ``failed``.
    """

    vendor: ClassVar[str] = ""
    """The source's name as people write it."""

    connection_id: Annotated[str, Meta(pattern=CONNECTION_ID_PATTERN)]
    tenant_id: Annotated[str, Meta(min_length=1)]
    system: str
    name: str
    instance: str = ""
    base_url: str = ""
    default_currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$")] | None = None
    schedule: Schedule = Schedule()
    status: ConnectionStatus = "active"
    error_message: str | None = None
    created_at: str = ""

    @property
    def shard_id(self) -> str:
        """The id of the connection's shard."""
        return connection_shard_id(self.tenant_id, self.connection_id)

    @property
    def selection(self) -> tuple[Any, ...]:
        """What decides which records are read: where it is changed, the first load is asked for anew."""
        return ()

    @property
    def what_is_read(self) -> str:
        """The same for people, in the vendor's words."""
        return "all"


def connection_shard_id(tenant_id: str, connection_id: str) -> str:
    """The id of the shard of a connection."""
    return shard_id(tenant_id, SHARDLINE_SYSTEM, "", CONNECTION_TYPE, connection_id)
