"""Other connections of the same domain: what one of them does not want, can't see any more, or can't say who reads,
another may."""

from collections.abc import Sequence
from datetime import timedelta

from connections.gdrive_connection import DriveConnection
from connections.registry import ConnectionRegistry
from ingestion.gdrive.events import relationship_of
from ingestion.gdrive.read_requests import LOOKED_AGAIN, ReadNotes, read_requests
from messaging.contracts import SourceWork
from messaging.times import from_text, to_text
from shards.model import Shard

NEIGHBOURS_LOOK_AFTER = timedelta(minutes=1)


async def neighbours_of(connection: DriveConnection, registry: ConnectionRegistry) -> list[DriveConnection]:
    """The other active connections of the domain of *connection*."""
    known, _ = await registry.listed(connection.tenant_id)
    return [
        one
        for one in known
        if isinstance(one, DriveConnection)
        and one.connection_id != connection.connection_id
        and one.status == "active"
        and one.instance == connection.instance != ""
    ]


def is_of_one_of(neighbours: list[DriveConnection], connection: DriveConnection, stored: Shard) -> bool:
    """Whether a file is stored as one of *neighbours* has read it: it is not for *connection* to take away."""
    relationship = relationship_of(connection, stored)
    return relationship is not None and relationship.connection_id in {one.connection_id for one in neighbours}


def ask_elsewhere(
    neighbours: Sequence[DriveConnection], file_ids: Sequence[str], read_at: str, *, because: str
) -> list[SourceWork]:
    """Requests to *neighbours* to read files that were read here at *read_at*, once that is stored."""
    notes = ReadNotes(after_gone=LOOKED_AGAIN, elsewhere=True)
    due_at = to_text(from_text(read_at) + NEIGHBOURS_LOOK_AFTER)
    wanted = [(file_id, read_at) for file_id in file_ids]
    return [work for one in neighbours for work in read_requests(one, wanted, notes, due_at=due_at, because=because)]
