"""What folders were like when they were last read, also while that is still on its way to the store.

What a folder's change means for what is in it depends on how it was before; a comparison with the store alone would
miss a change that is taken back before the first has been stored.
"""

from datetime import timedelta
from hashlib import blake2b

import msgspec

from connections.gdrive_connection import DriveConnection
from connections.state import StateMovedError
from ingestion.errors import TransientError
from ingestion.gdrive.events import relationship_of
from ingestion.gdrive.memory import FolderNotes, FoldersMemory, KnownFolder, folders_key, new_folders_memory
from ingestion.source import SourcePorts
from messaging.times import from_text
from shards.model import Shard

PARTS = 256
LARGEST_PART = 512 * 1024
"""Characters of paths and readers that a part holds, well below what a store takes as one item: the latest stay."""
KEPT = timedelta(hours=12)
"""How long an event may be on its way; what was read before is in the store."""


async def known_folder(
    connection: DriveConnection, folder_id: str, stored: Shard | None, ports: SourcePorts
) -> KnownFolder | None:
    """The folder as it was read last; None when it never was."""
    saved = await ports.states.load(connection.tenant_id, _key(connection, folder_id), new_folders_memory(connection))
    lately = saved.value.metadata.folders.get(folder_id)
    relationship = relationship_of(connection, stored) if stored is not None else None
    if stored is None or relationship is None or (lately is not None and lately.read_at >= relationship.read_at):
        return lately
    return KnownFolder(
        read_at=relationship.read_at,
        there=stored.is_live,
        path=str(stored.structured_data.get("path") or ""),
        principals=stored.acl.principals,
    )


async def keep_folder(connection: DriveConnection, folder_id: str, folder: KnownFolder, ports: SourcePorts) -> None:
    """Remember how a folder was read, unless it was read later than that.

    Raises:
        TransientError: others keep writing.
    """

    def kept(memory: FoldersMemory) -> FoldersMemory:
        oldest = ports.clock() - KEPT
        folders = {name: known for name, known in memory.metadata.folders.items() if from_text(known.read_at) > oldest}
        standing = folders.get(folder_id)
        if standing is not None and standing.read_at > folder.read_at:
            return memory
        folders[folder_id] = folder
        return msgspec.structs.replace(memory, metadata=FolderNotes(folders=_fitting(folders)))

    try:
        await ports.states.change(
            connection.tenant_id, _key(connection, folder_id), new_folders_memory(connection), kept
        )
    except StateMovedError:
        raise TransientError("many folders are read at once", timedelta(seconds=1)) from None


def _fitting(folders: dict[str, KnownFolder]) -> dict[str, KnownFolder]:
    """As many of *folders* as a part holds, those that were read last; one at least."""
    kept: dict[str, KnownFolder] = {}
    length = 0
    for name, known in sorted(folders.items(), key=lambda pair: pair[1].read_at, reverse=True):
        length += len(name) + len(known.path) + sum(map(len, known.principals)) + 100
        if kept and length > LARGEST_PART:
            break
        kept[name] = known
    return kept


def _key(connection: DriveConnection, folder_id: str) -> str:
    part = blake2b(folder_id.encode(), digest_size=1).digest()[0] % PARTS
    return folders_key(connection, f"{part:02x}")
