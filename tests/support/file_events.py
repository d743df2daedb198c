"""Events about files whose text is in the blob store."""

from typing import Any

from chain_rig import TENANT, Rig, moment

from messaging.contracts import EventType, IngestionEvent
from shards.blobs import BlobMissingError
from shards.file_text import put_text
from shards.identity import shard_id
from shards.types import TextPart

CUSTOMER = "C0customer"
ANN = "user:ann@acme.example"


def file(
    version: int,
    ref: str | None = None,
    *,
    file_id: str = "F1",
    name: str = "Term sheet.pdf",
    acl: list[str] | None = None,
    event_type: EventType = "update",
    **fields: Any,
) -> IngestionEvent:
    """The event of a reading of a file; *ref* names its text."""
    found = {"path": f"/Deals/{name}", "acl": [ANN] if acl is None else acl, "content": {"ref": ref}}
    payload = {"id": file_id, "name": name, "mimeType": "application/pdf", "version": str(version), "shardline": found}
    return IngestionEvent(
        tenant_id=TENANT,
        source="gdrive",
        source_id=file_id,
        event_type=event_type,
        observed_at=moment(version),
        read_at=moment(version),
        payload=payload | fields,
        event_id=f"{version}.{ref}.{acl}.{name}",
        instance=CUSTOMER,
        object_type="file",
        source_version=str(version),
    )


async def kept(rig: Rig, version: int, *texts: str, file_id: str = "F1") -> str:
    """The reference of a text of one page a text, put into the blob store."""
    parts = [TextPart(f"Part {page}", text, page) for page, text in enumerate(texts, 1)]
    return await put_text(rig.services.blobs, TENANT, file_id, str(version), parts, instance=CUSTOMER)


def id_of(file_id: str = "F1") -> str:
    """The shard id of a file."""
    return shard_id(TENANT, "gdrive", CUSTOMER, "file", file_id)


async def is_there(rig: Rig, reference: str) -> bool:
    """Whether the blob store has something under *reference*."""
    try:
        await rig.services.blobs.get(TENANT, reference)
    except BlobMissingError:
        return False
    return True
