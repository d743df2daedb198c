"""Events about Drive's files: as they were read, closed until they are read again, or gone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from connections.gdrive_connection import DriveConnection
from ingestion.gdrive.mime_types import FOLDER
from messaging import codec
from messaging.contracts import IngestionEvent
from shards.identity import shard_id
from shards.model import ExternalRelationship, Shard

SYSTEM = "gdrive"
OBJECT_TYPE = "file"
CLOSED = None
"""Who may read a file of which nobody could say it."""


@dataclass(frozen=True, slots=True)
class Content:
    """Where a file's text is kept, and what became of reading it; *version* is that of the content alone."""

    status: Literal["extracted", "none", "failed"]
    version: str = ""
    ref: str | None = None
    problem: str | None = None
    truncated: bool = False

    def payload(self) -> dict[str, Any]:
        """As it stands in payloads."""
        return {
            "status": self.status,
            "version": self.version or None,
            "ref": self.ref,
            "problem": self.problem,
            "truncated": self.truncated,
        }


def instance_of(connection: DriveConnection) -> str:
    """The connection's instance: the customer id, or where nobody told it, the domain of its first user.

    Drive's API tells no customer id. A drive's id is never in its place: files move between drives.
    """
    if connection.instance:
        return connection.instance
    subjects = connection.auth.subjects
    return f"domain:{subjects[0].rpartition('@')[2].lower()}" if subjects else ""


def shard_of(connection: DriveConnection, file_id: str) -> str:
    """The id of the shard of a file."""
    return shard_id(connection.tenant_id, SYSTEM, instance_of(connection), OBJECT_TYPE, file_id)


def relationship_of(connection: DriveConnection, shard: Shard) -> ExternalRelationship | None:
    """The file that *shard* came from; None when it is of another instance or system."""
    instance = instance_of(connection)
    for relationship in shard.external_relationships:
        if relationship.system == SYSTEM and relationship.instance == instance:
            return relationship
    return None


def file_event(
    connection: DriveConnection,
    file: Mapping[str, Any],
    *,
    path: str,
    acl: Sequence[str] | None,
    content: Content | None,
    read_at: str,
    is_new: bool,
) -> IngestionEvent:
    """The event of a file as it was read."""
    payload = {name: value for name, value in file.items() if name != "exportLinks"}
    payload["shardline"] = {
        "path": path,
        "acl": None if acl is None else list(acl),
        "content": None if content is None else content.payload(),
    }
    return _event(
        connection,
        str(file["id"]),
        payload,
        version=str(file["version"]),
        read_at=read_at,
        event_type="create" if is_new else "update",
    )


def gone_event(connection: DriveConnection, file_id: str, version: str, *, read_at: str) -> IngestionEvent:
    """The event that a file is deleted, in the bin, or none that is to be read (any more)."""
    payload = {"id": file_id, "version": version}
    return _event(connection, file_id, payload, version=version, read_at=read_at, event_type="delete")


def closed_event(connection: DriveConnection, shard: Shard, *, read_at: str) -> IngestionEvent | None:
    """The event that closes a stored file until it is read again; None when it is none, or nobody may read it anyway.

    All else stays as it is stored, its version too.
    """
    relationship = relationship_of(connection, shard)
    if relationship is None or not shard.is_live or not shard.acl.principals:
        return None
    payload = stored_record(shard, relationship)
    version = relationship.source_version
    return _event(connection, relationship.external_id, payload, version=version, read_at=read_at, event_type="update")


def stored_record(shard: Shard, relationship: ExternalRelationship) -> dict[str, Any]:
    """The payload that a stored shard came from, as far as the shard tells, and closed."""
    data = dict(shard.structured_data)
    folder = shard.shard_type_id == "c_folder"
    parent = data.get("parentExternalId" if folder else "parentFolderExternalId")
    target = data.get("shortcutTargetExternalId")
    target_folder = data.get("shortcutTargetFolderExternalId")
    record: dict[str, Any] = {
        **data.get("customFields", {}),
        "id": relationship.external_id,
        "name": data.get("name"),
        "mimeType": FOLDER if folder else data.get("mimeType"),
        "version": relationship.source_version,
        "parents": [parent] if parent else None,
        "owners": [{"emailAddress": data["owner"]}] if data.get("owner") else None,
        "description": data.get("description"),
        "driveId": data.get("driveId"),
        "webViewLink": data.get("webUrl"),
        "webContentLink": data.get("downloadUrl"),
        "createdTime": data.get("createdDate"),
        "modifiedTime": shard.last_activity_at if folder else data.get("lastModified"),
        "permissions": data.get("permissions"),
        "size": data.get("size"),
        "md5Checksum": data.get("checksum"),
    }
    if target or target_folder:
        kind = FOLDER if target_folder else None
        record["shortcutDetails"] = {"targetId": target_folder or target, "targetMimeType": kind}
    content = content_of_shard(shard)
    record["shardline"] = {
        "path": data.get("path"),
        "acl": CLOSED,
        "content": None if content is None else content.payload(),
    }
    return {name: value for name, value in record.items() if value is not None}


def content_of_shard(shard: Shard | None) -> Content | None:
    """What is stored of a file's content; None when nothing is."""
    if shard is None or not shard.is_live:
        return None
    data = shard.structured_data
    status = data.get("contentStatus")
    if status not in ("extracted", "none", "failed"):
        return None
    ref = shard.unstructured_data.content_ref if shard.unstructured_data else None
    return Content(
        status=status,
        version=str(data.get("contentVersion") or ""),
        ref=ref,
        problem=data.get("contentProblem"),
        truncated=bool(data.get("contentTruncated")),
    )


def _event(
    connection: DriveConnection,
    file_id: str,
    payload: dict[str, Any],
    *,
    version: str,
    read_at: str,
    event_type: Literal["create", "update", "delete"],
) -> IngestionEvent:
    digest = blake2b(codec.canonical(payload), digest_size=8).hexdigest()
    return IngestionEvent(
        tenant_id=connection.tenant_id,
        source=SYSTEM,
        source_id=file_id,
        event_type=event_type,
        observed_at=read_at,
        payload=payload,
        # Closed, opened and closed again within minutes are three events, though two say the same.
        event_id=f"{version}.{event_type}.{digest}.{read_at}",
        connection_id=connection.connection_id,
        instance=instance_of(connection),
        object_type=OBJECT_TYPE,
        source_version=version,
        read_at=read_at,
    )
