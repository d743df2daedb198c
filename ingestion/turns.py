"""Turns at the door: what a connection is sent above its rate waits in the queue until then and delays only its own."""

from datetime import timedelta
from typing import Final

from connections.connection import Connection

BURST_SECONDS: Final = 30.0
"""A connection that was quiet may have what so many seconds allow taken at once."""


class Turns:
    """When each connection's turn comes. Each process keeps the rate for what it takes itself."""

    def __init__(self) -> None:
        self._free_at: dict[tuple[str, str], float] = {}

    def wait(self, connection: Connection, rate: float, now: float) -> timedelta:
        """How long the next piece of *connection*'s waits, in whole seconds, if *rate* may be taken a second.

        *now* is of a clock that only goes on.
        """
        key = (connection.tenant_id, connection.connection_id)
        free_at = max(self._free_at.get(key, 0.0), now) + 1 / rate
        self._free_at[key] = free_at
        return timedelta(seconds=max(0, int(free_at - now - max(BURST_SECONDS, 1 / rate))))
