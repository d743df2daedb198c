"""Where what is stored of Drives is not what they hold."""

from typing import Any

from drive_living_rig import LivingDrives
from drive_truth import Truth, truth_of_all
from source_rig import TENANT

from connections.connection import Connection
from ingestion.connection_memory import ConnectionMemory, memory_of
from ingestion.gdrive.drive_resources import time_text
from local.gdrive.items import Item
from shards.identity import shard_id
from shards.model import Shard


class DriveComparison:
    """Of all that the connections of *rig* read, file by file."""

    def __init__(self, rig: LivingDrives) -> None:
        self._rig = rig
        self._drive = rig.drive
        self._name = rig.name_of

    async def differences(self) -> list[str]:
        """Where what is stored is not what the Drives hold, or anything is left to do, a line each."""
        live = {shard.external_relationships[0].external_id: shard for shard in await self._rig.live()}
        found: list[str] = []
        for reading in self._rig.readings:
            found += await self._of_the_app(await self._rig.named(reading.connection_id))
        connection = await self._rig.connection()
        with self._drive.lock:
            items = {
                item.file_id: (item, truth)
                for item in self._drive.items.values()
                if (not item.is_root or item.drive_id is not None) and (truth := self._truth(item)) is not None
            }
        # What is gone may be what those who are away still see.
        for file_id in live.keys() - self._drive.items.keys() if not self._rig.away else ():
            found.append(f"{file_id} is gone, and stored: {live[file_id].structured_data.get('path')}")
        for file_id, (item, truth) in items.items():
            shard = live.get(file_id)
            if shard is None and truth.live:
                found.append(f"{self._name(file_id)} of {item.owner or item.drive_id} is not stored")
            elif shard is not None and truth.live is False:
                if not self._is_told(item):
                    continue
                found.append(f"{self._name(file_id)} is stored, for {shard.acl.principals}, and not to be")
            elif shard is not None:
                wrong = [*self._of_shard(connection, item, truth, shard), *await self._of_text(item, truth, shard)]
                found += [f"{self._name(file_id)}: {one}" for one in wrong]
        return found

    def _is_told(self, item: Item) -> bool:
        """Whether what happens to the folders above is told of *item*: Drive tells of the folder alone, and what is in
        it is found by where it is stored, which is where its owner sees it. What they do not see takes a sweep."""
        while not self._rig.sweeps and item.parent is not None:
            above = self._drive.items[item.parent]
            if item.owner in self._rig.subjects and self._drive.role(str(item.owner), above) is None:
                return False
            item = above
        return True

    def _truth(self, item: Item) -> Truth | None:
        """What is to be stored of *item*; None where nobody may be asked of those who find it."""
        away = self._rig.away
        whole = truth_of_all(self._drive, item, [reading.wanted() for reading in self._rig.readings])
        if not away:
            return whole
        asked = truth_of_all(self._drive, item, [reading.wanted(away) for reading in self._rig.readings])
        left = [user for user in self._rig.subjects if user not in away]
        finds = any(self._drive.role(user, item, by_link=False) is not None for user in left)
        if self._drive.in_trash(item) or not finds:
            return None
        # It stays as it was read before, until something is told of it.
        live = asked.live if asked.live == whole.live else None
        return Truth(live, asked.places | whole.places, asked.readers | whole.readers, asked.text)

    async def _of_the_app(self, connection: Connection) -> list[str]:
        found = [f"parked: {one.reason} {one.detail}" for one in await self._rig.parked()]
        depths = await self._rig.bus.depths()
        for queue, depth in depths.items():
            left = depth.active + depth.locked + depth.scheduled + depth.dead_lettered
            if left:
                found.append(f"{left} messages left in {queue}")
        if self._rig.away:
            return found
        memory = await self._memory(connection)
        if connection.status != "active" or memory.last_sync_status != "success":
            found.append(f"the connection is {connection.status}: {memory.last_sync_status} {memory.error_message}")
        for state in await self._rig.states():
            told = state.structured_data
            left = "Shared drive not found" in str(told.get("errorMessage"))
            if told.get("errorMessage") and told.get("lastSyncStatus") in ("failed", "partial") and not left:
                found.append(f"{told.get('name')}: {told.get('lastSyncStatus')} {told.get('errorMessage')}")
        return found

    async def _memory(self, connection: Connection) -> ConnectionMemory:
        return (await memory_of(connection, self._rig.services.states)).value

    def _of_shard(self, connection: Connection, item: Item, truth: Truth, shard: Shard) -> list[str]:
        data = shard.structured_data
        parent = "parentExternalId" if item.is_folder else "parentFolderExternalId"
        of_root = item.is_root and item.drive_id is not None
        expected: dict[str, Any] = {
            "name": self._drive.shared_drives[item.file_id].name if of_root else item.name,
            "owner": item.owner,
            "driveId": item.drive_id,
            "description": item.description,
            "externalId": item.file_id,
            "createdDate": time_text(item.created),
        }
        if not item.is_folder:
            content = item.content
            expected |= {
                "mimeType": item.mime_type,
                "lastModified": time_text(item.modified),
                "size": content.size if content is not None else None,
                "checksum": content.sums["md5Checksum"] if content is not None and not item.is_native else None,
            }
            field = "shortcutTargetFolderExternalId" if item.target_mime_type.endswith("folder") else None
            expected[field or "shortcutTargetExternalId"] = item.target
        found = [
            f"{name} is {data.get(name)!r}, not {value!r}"
            for name, value in expected.items()
            if data.get(name) != value
        ]
        place = (str(data.get("path")), data.get(parent))
        if place not in truth.places and not self._rig.away:
            # Nobody tells of the folders above who is away.
            found.append(f"stands at {place}, not at {sorted(truth.places, key=str)}")
        if shard.acl.principals not in truth.readers and self._is_told(item):
            found.append(f"is read by {shard.acl.principals}, not by {sorted(truth.readers)}")
        relationship = shard.external_relationships[0]
        if relationship.source_version != str(item.version):
            found.append(f"is of version {relationship.source_version}, not {item.version}")
        if shard.acl.principals and self._rig.sweeps and not self._rig.away:
            # A role that is another on a folder is told below it by sweeps.
            told = {(one["id"], one["role"]) for one in data.get("permissions", [])}
            held = {(one["id"], one["role"]) for one in self._drive.permissions_of(item)}
            if told != held:
                found.append(f"has the permissions {sorted(told)}, not {sorted(held)}")
        targets = {
            ("child_of" if item.is_folder else "belongs_to"): data.get(parent),
            "references": item.target,
        }
        links = {link.relationship_type: link.target_shard_id for link in shard.internal_relationships}
        linked = {
            kind: shard_id(TENANT, "gdrive", connection.instance, "file", target)
            for kind, target in targets.items()
            if target
        }
        if links != linked:
            found.append(f"has the links {links}, not {linked}")
        return found

    async def _of_text(self, item: Item, truth: Truth, shard: Shard) -> list[str]:
        if item.is_folder:
            return []
        chunks = await self._rig.store.chunks(TENANT, shard.id)
        found = []
        if any(chunk.acl_scope != shard.acl.scope for chunk in chunks):
            found.append("has chunks that others may read")
        text = "\n".join(chunk.text for chunk in chunks)
        if truth.text is not None and truth.text not in text:
            found.append(f"has the text {text!r}, not {truth.text!r} ({shard.structured_data.get('contentStatus')})")
        return found
