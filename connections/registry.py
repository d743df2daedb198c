"""The connections of all tenants, kept as shards of the type ``integration.connection``."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import msgspec

from connections.connection import (
    CONNECTION_TYPE,
    Connection,
    ConnectionStatus,
    InvalidConnectionError,
    connection_shard_id,
)
from connections.stored_connection import connection_shard, stored_connection
from messaging.times import Clock, to_text, utc_now
from shards.model import Shard
from shards.store import ShardQuery, ShardStore, ShardWrite

log = logging.getLogger(__name__)

CACHE_SECONDS = 30.0
"""How long the answer to "which instance is this tenant's?" is kept: events without an instance ask it one by one."""

WRITE_TRIES = 5
PAGE = 200


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What a connection tells of its records: where people open them, and their currency where they name none."""

    base_url: str = ""
    default_currency: str | None = None


@dataclass(frozen=True, slots=True)
class UnreadableConnection:
    """A stored connection that this version can't read; *problem* says what is wrong with it."""

    tenant_id: str
    connection_id: str
    system: str
    problem: str


class ConnectionRegistry:
    """Reads and writes connections. All calls raise ``StoreUnavailableError`` when the store is away."""

    def __init__(
        self, store: ShardStore, *, clock: Clock = utc_now, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._facts: dict[tuple[str, str], tuple[float, SourceFacts]] = {}
        self._instances: dict[tuple[str, str], tuple[float, str]] = {}
        self._told: set[str] = set()
        """What the log has been told of connections that can't be read: they are looked for every few seconds."""

    async def get(self, tenant_id: str, connection_id: str) -> Connection | None:
        """The connection, None when the tenant has none of this id.

        Raises:
            InvalidConnectionError: what is stored is no connection of this version.
        """
        shard = await self._store.get(tenant_id, connection_shard_id(tenant_id, connection_id))
        return None if shard is None or not shard.is_live else stored_connection(shard)

    async def of_tenant(self, tenant_id: str, *, system: str | None = None) -> list[Connection]:
        """The tenant's connections that can be read, of one system or of all, by id."""
        connections, _ = await self.listed(tenant_id)
        return [connection for connection in connections if system in (None, connection.system)]

    async def all(self) -> list[Connection]:
        """The connections of every tenant. One that can't be read is logged, once, and left out: the others go on."""
        connections, unreadable = await self.listed()
        problems = {one.problem for one in unreadable}
        for problem in sorted(problems - self._told):
            log.error("%s", problem)
        self._told = problems
        return connections

    async def listed(self, tenant_id: str | None = None) -> tuple[list[Connection], list[UnreadableConnection]]:
        """The connections of a tenant or of all, and those that can't be read, each by tenant and id."""
        connections: list[Connection] = []
        unreadable: list[UnreadableConnection] = []
        for tenant in await self._store.tenants() if tenant_id is None else [tenant_id]:
            async for shard in self._shards(tenant):
                try:
                    connections.append(stored_connection(shard))
                except InvalidConnectionError as error:
                    unreadable.append(_unreadable(shard, error))
        connections.sort(key=lambda one: (one.tenant_id, one.connection_id))
        return connections, sorted(unreadable, key=lambda one: (one.tenant_id, one.connection_id))

    async def save(self, connection: Connection) -> Connection:
        """Write *connection*, new or over the one of its id, though that can't be read; the same again writes nothing.

        Raises:
            InvalidConnectionError: an instance was given, and the stored connection is of another one: what was read
                from there would be taken for this one's.
        """

        def put(standing: Connection | None) -> Connection:
            created_at = standing.created_at if standing else to_text(self._clock())
            instance = connection.instance
            if standing and standing.instance:
                if instance not in ("", standing.instance):
                    raise InvalidConnectionError(
                        f"connection {connection.connection_id} is of instance {standing.instance}, not {instance}: "
                        "make a new connection for another instance"
                    )
                instance = standing.instance
            base_url = connection.base_url or (standing.base_url if standing else "")
            return msgspec.structs.replace(connection, created_at=created_at, instance=instance, base_url=base_url)

        saved = await self._update(connection.tenant_id, connection.connection_id, put, instead=connection)
        if saved is None:
            raise AssertionError("a save always has something to write")
        return saved

    async def set_status(
        self,
        connection: Connection,
        status: ConnectionStatus,
        *,
        error_message: str | None = None,
        only_from: ConnectionStatus | None = None,
    ) -> Connection | None:
        """Set the connection's status, with what is wrong and what to do; None when it was removed meanwhile.

        With *only_from* the connection stays as it is when it has another status by now.
        """

        def change(standing: Connection | None) -> Connection | None:
            if standing is None or only_from not in (None, standing.status):
                return standing
            return msgspec.structs.replace(standing, status=status, error_message=error_message)

        return await self._update(connection.tenant_id, connection.connection_id, change)

    async def set_instance(self, connection: Connection, instance: str, base_url: str) -> Connection | None:
        """Record where a login leads: the instance, and where people open it; None when the connection was removed, or
        can't be read. One that is of another instance stays as it is: *connection* may be a description under test."""

        def change(standing: Connection | None) -> Connection | None:
            if standing is None or standing.instance not in ("", instance):
                return standing
            return msgspec.structs.replace(standing, instance=instance, base_url=base_url)

        try:
            return await self._update(connection.tenant_id, connection.connection_id, change)
        except InvalidConnectionError:
            return None

    async def facts(self, tenant_id: str, connection_id: str) -> SourceFacts:
        """What the connection tells of its records; nothing when the tenant has none of this id.

        The answer is kept for :data:`CACHE_SECONDS`.
        """
        key = (tenant_id, connection_id)
        now = self._monotonic()
        known = self._facts.get(key)
        if known and known[0] > now:
            return known[1]
        connection = await self.get(tenant_id, connection_id)
        facts = SourceFacts(connection.base_url, connection.default_currency) if connection else SourceFacts()
        self._facts[key] = (now + CACHE_SECONDS, facts)
        return facts

    async def resolve_instance(self, tenant_id: str, system: str) -> str | None:
        """The instance of the tenant's only connection of *system*; None when there is none or several.

        Two connections of one instance (another user's login, say) are one, and one that is disconnected is none. One
        that can't be read may be of another instance. The answer is kept for :data:`CACHE_SECONDS`.
        """
        key = (tenant_id, system)
        now = self._monotonic()
        known = self._instances.get(key)
        if known and known[0] > now:
            return known[1]
        connections, unreadable = await self.listed(tenant_id)
        instances = {one.instance for one in connections if one.system == system and one.status != "disconnected"}
        is_told = len(instances) == 1 and all(one.system != system for one in unreadable)
        answer = next(iter(instances)) or None if is_told else None
        if answer is not None:
            # That there is none is not kept: events parked for it are replayed as soon as someone has connected.
            self._instances[key] = (now + CACHE_SECONDS, answer)
        return answer

    async def _shards(self, tenant_id: str) -> AsyncIterator[Shard]:
        query = ShardQuery(tenant_id, shard_type_ids=(CONNECTION_TYPE,))
        cursor: str | None = None
        while True:
            page = await self._store.query(query, limit=PAGE, cursor=cursor)
            for shard in page.items:
                yield shard
            cursor = page.cursor
            if cursor is None:
                return

    async def _update(
        self,
        tenant_id: str,
        connection_id: str,
        change: Callable[[Connection | None], Connection | None],
        *,
        instead: Connection | None = None,
    ) -> Connection | None:
        """Write what *change* makes of the stored connection. Where that can't be read, it is *instead* but for its
        instance, which every version tells in the same place."""
        for _ in range(WRITE_TRIES):
            shard = await self._store.get(tenant_id, connection_shard_id(tenant_id, connection_id))
            standing: Connection | None = None
            is_readable = True
            try:
                standing = stored_connection(shard) if shard is not None and shard.is_live else None
            except InvalidConnectionError:
                if instead is None or shard is None:
                    raise
                is_readable = False
                told = shard.structured_data.get("instance")
                standing = msgspec.structs.replace(
                    instead, instance=told if isinstance(told, str) else "", created_at=shard.created_at, base_url=""
                )
            changed = change(standing)
            if changed is None or (changed == standing and is_readable):
                return changed
            written = connection_shard(changed, to_text(self._clock()), shard)
            [etag] = await self._store.write_many([ShardWrite(written, shard.etag if shard else None)])
            if etag is not None:
                self._instances.pop((tenant_id, changed.system), None)
                self._facts.pop((tenant_id, changed.connection_id), None)
                return changed
        raise ConnectionContendedError(
            f"connection {connection_id} of {tenant_id} is being changed by others; try again"
        )


def _unreadable(shard: Shard, error: InvalidConnectionError) -> UnreadableConnection:
    data = shard.structured_data
    settings = data.get("settings")
    named = settings.get("connectionId") if isinstance(settings, dict) else None
    return UnreadableConnection(shard.tenant_id, str(named or shard.id), str(data.get("system") or ""), str(error))


class ConnectionContendedError(Exception):
    """Others kept changing the connection while it was to be written."""
