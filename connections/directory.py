"""Which connections a verified sender may belong to, across all tenants: by instance, or by the connection's own id."""

import asyncio
import logging
import time
from collections.abc import Callable

from connections.connection import Connection
from connections.registry import ConnectionRegistry
from shards.store import StoreUnavailableError

log = logging.getLogger(__name__)

KEPT_SECONDS = 30.0
"""The oldest that the list of all connections may be; a push can't wait for the store each time."""

SOONEST_SECONDS, LATEST_SECONDS = 2.0, 25.0
READING_SHARE = 0.01
"""While pushes come, the list is read anew beside them this often, so that none waits for it and a tenant that connects
what others have connected is soon found: as often as takes a hundredth of the time, within these bounds."""

ASKED_AGAIN_SECONDS = 5.0
"""How soon a list that lacks what was asked for is read anew: nobody may make the store busy with invented ids."""


class ConnectionDirectory:
    """The connections that are not disconnected, of all tenants, kept for a while.

    All calls raise ``StoreUnavailableError`` when the store is away and nothing is kept.
    """

    def __init__(self, registry: ConnectionRegistry, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._monotonic = monotonic
        self._read_at: float | None = None
        self._refresh_after = SOONEST_SECONDS
        self._refreshing: asyncio.Task[None] | None = None
        self._connections: list[Connection] = []
        self._turn = asyncio.Lock()

    async def of_instance(self, system: str, instance: str) -> list[Connection]:
        """The connections to *instance*: of several tenants, it may be."""
        return await self._found(lambda one: one.system == system and one.instance == instance != "")

    async def named(self, system: str, connection_id: str) -> list[Connection]:
        """The connections of this id: each tenant may have one."""
        return await self._found(lambda one: one.system == system and one.connection_id == connection_id)

    async def of_system(self, system: str) -> list[Connection]:
        """All connections of *system*."""
        return await self._found(lambda one: one.system == system)

    async def _found(self, wanted: Callable[[Connection], bool]) -> list[Connection]:
        if not self._is_fresh(self._refresh_after):
            if self._is_fresh(min(2 * self._refresh_after, KEPT_SECONDS)):
                self._refresh()
            else:
                await self._read_unless_fresh(self._refresh_after)
        found = self._among(wanted)
        if not found and not self._is_fresh(ASKED_AGAIN_SECONDS):
            await self._read_unless_fresh(ASKED_AGAIN_SECONDS)
            found = self._among(wanted)
        return found

    def _refresh(self) -> None:
        """Have the list read anew beside what goes on."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._read_beside())

    async def _read_beside(self) -> None:
        try:
            await self._read_unless_fresh(self._refresh_after)
        except Exception as error:  # noqa: BLE001 - nobody waits for it; what lasts fails the read that a push waits for
            log.warning("the connections could not be read anew: %s", error)

    async def _read_unless_fresh(self, seconds: float) -> None:
        async with self._turn:
            if not self._is_fresh(seconds):
                await self._read()

    async def _read(self) -> None:
        began = self._monotonic()
        try:
            self._connections = await self._registry.all()
        except StoreUnavailableError as error:
            if self._read_at is None:
                raise
            # What is pushed can be queued while the store is away; who may push is as it was.
            log.warning("the connections can't be read, and are taken as they were: %s", error)
        self._read_at = self._monotonic()
        self._refresh_after = min(max((self._read_at - began) / READING_SHARE, SOONEST_SECONDS), LATEST_SECONDS)

    def _among(self, wanted: Callable[[Connection], bool]) -> list[Connection]:
        return [one for one in self._connections if one.status != "disconnected" and wanted(one)]

    def _is_fresh(self, seconds: float) -> bool:
        return self._read_at is not None and self._monotonic() < self._read_at + seconds
