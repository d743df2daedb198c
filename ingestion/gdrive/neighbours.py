"""Other connections of the same domain: what one of them does not want, or can't see any more, another may."""

from connections.gdrive_connection import DriveConnection
from connections.registry import ConnectionRegistry
from ingestion.gdrive.events import relationship_of
from shards.model import Shard


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
