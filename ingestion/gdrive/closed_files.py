"""Files that stay closed since nobody could say who reads them: told of in a line now and then, not one a file."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from connections.gdrive_connection import DriveConnection
from messaging.times import Clock

log = logging.getLogger(__name__)

TOLD_EVERY = timedelta(minutes=10)


@dataclass(slots=True)
class _Noted:
    count: int = 0
    example: str = ""
    told_at: datetime | None = None


class ClosedFiles:
    """What a process has met of them since it last said so, by connection."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._noted: dict[tuple[str, str], _Noted] = {}

    def note(self, connection: DriveConnection, file_id: str, why: str) -> None:
        """A file that stays closed, or is closed; *why* says in words what nobody could be asked."""
        log.debug("connection %s: the file %s: %s", connection.connection_id, file_id, why)
        noted = self._noted.setdefault((connection.tenant_id, connection.connection_id), _Noted())
        noted.count += 1
        noted.example = f"{file_id}: {why}"

    def tell(self, connection: DriveConnection) -> None:
        """Log how many those were, unless that was done a short while ago: then the next line counts them."""
        noted = self._noted.get((connection.tenant_id, connection.connection_id))
        now = self._clock()
        if noted is None or not noted.count or (noted.told_at is not None and now < noted.told_at + TOLD_EVERY):
            return
        log.warning(
            "connection %s: files read that stay closed: %d; the last is %s",
            connection.connection_id,
            noted.count,
            noted.example,
        )
        self._noted[connection.tenant_id, connection.connection_id] = _Noted(told_at=now)
