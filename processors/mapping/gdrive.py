"""Google Drive's files and folders as shards.

The payload is Drive's File resource as it was read, and under ``shardline`` what the reader found out beside it: the
path, who may read it, and where its text is kept. Drive has one resource for files, folders and shortcuts: what the
media type calls a folder is one, everything else is a file.
"""

import re
from collections.abc import Mapping
from typing import Any

from messaging.contracts import EventType
from processors.mapping.fields import Fields
from processors.mapping.record import INVALID_RECORD, UNKNOWN_OBJECT_TYPE, Mapped, MappingError
from processors.mapping.values import read_boolean, read_integer, read_json, read_moment, read_text
from shards.blobs import KEPT
from shards.model import ANYONE_PRINCIPAL, Acl, UnstructuredData
from shards.types import fitting_name, shard_type

FILE_OBJECT = "file"
"""The object type of whatever is in Drive."""
FOLDER_MIME_TYPE = "application/vnd.google-apps.folder"
CLOSED = Acl.of()
"""Nobody may read it: the acl of what is deleted, and of what nobody could say who may."""

_FILE_ID = re.compile(r"[A-Za-z0-9_-]{1,200}\Z")
_VERSION = re.compile(r"[0-9]{1,30}\Z")
_PRINCIPAL = re.compile(r"(?:user|group|domain):[^\s:]+\Z")
_WEB = re.compile(r"https://\S+\Z")

_LEFT_OUT = frozenset(
    {
        # Told otherwise in the shard.
        "id", "kind", "name", "parents", "owners", "permissions", "shortcutDetails", "shardline", "version",
        "headRevisionId", "createdTime", "modifiedTime", "teamDriveId", "fileExtension", "fullFileExtension",
        "sha1Checksum", "sha256Checksum",
        # Of the trash, in which what is not deleted is not.
        "trashed", "explicitlyTrashed", "trashedTime", "trashingUser",
        # Of whoever asks, not of the file.
        "capabilities", "isAppAuthorized", "modifiedByMe", "modifiedByMeTime", "ownedByMe", "permissionIds", "shared",
        "sharedWithMeTime", "sharingUser", "spaces", "starred", "viewedByMe", "viewedByMeTime", "resourceKey",
        # Moves without a change of meaning, or holds addresses that end within hours.
        "contentHints", "exportLinks", "hasThumbnail", "iconLink", "lastModifyingUser", "linkShareMetadata",
        "quotaBytesUsed", "thumbnailLink", "thumbnailVersion",
    }
)  # fmt: skip

_PERMISSION_FIELDS = (
    "id", "type", "role", "emailAddress", "domain", "displayName", "allowFileDiscovery", "expirationTime", "deleted",
    "pendingOwner", "view", "inheritedPermissionsDisabled", "permissionDetails",
)  # fmt: skip


def map_record(
    object_type: str | None,
    payload: Mapping[str, Any],
    event_type: EventType,
    source_id: str | None,
    default_currency: str | None,  # noqa: ARG001 - Drive knows no money
) -> Mapped:
    """A file, folder or shortcut, or for a delete at least its id, as its shard needs it. What is trashed is deleted.

    Raises:
        MappingError: ``unknown-object-type`` or ``invalid-record``.
    """
    if object_type not in (None, FILE_OBJECT):
        raise MappingError(
            UNKNOWN_OBJECT_TYPE, f"{object_type[:80]!r} is no object type of Drive, which has file alone"
        )
    external_id = _file_id(payload, source_id)
    fields = Fields(f"file {external_id}", payload)
    folder = fields.text("mimeType") == FOLDER_MIME_TYPE
    shard_type_id = "c_folder" if folder else "c_file"
    found = fields.inner("shardline")
    deleted = event_type == "delete" or bool(fields.read("trashed", read_boolean))
    created = fields.read("createdTime", read_moment)
    modified = fields.read("modifiedTime", read_moment)
    url = fields.text("webViewLink")
    content = found.inner("content")
    return Mapped(
        shard_type_id=shard_type_id,
        object_type=FILE_OBJECT,
        external_id=external_id,
        structured_data={} if deleted else _structured_data(external_id, shard_type_id, fields, found, content),
        unstructured_data=None if deleted or folder else _text(content),
        acl=CLOSED if deleted else _acl(found),
        external_url=url if url and _WEB.match(url) else None,
        last_activity_at=max(modified or "", created or "") or None,
        created_at=created,
        deleted=deleted,
        source_version=fields.read("version", _read_version) or "",
    )


def _file_id(payload: Mapping[str, Any], source_id: str | None) -> str:
    kind = payload.get("kind", "drive#file")
    if kind != "drive#file":
        raise MappingError(INVALID_RECORD, f"the payload is a {str(kind)[:40]}, not a file: send the file itself")
    value = payload.get("id") or source_id
    if not isinstance(value, str) or not _FILE_ID.match(value):
        raise MappingError(INVALID_RECORD, f"{str(value)[:60]!r} is no id of a file in Drive")
    return value


def _read_version(value: Any) -> str:
    text = value if isinstance(value, str) else str(read_integer(value))
    if not _VERSION.match(text):
        raise ValueError(f"{text[:40]!r} is no version, which is a whole number")
    return str(int(text))


def _structured_data(
    external_id: str, shard_type_id: str, fields: Fields, found: Fields, content: Fields
) -> dict[str, Any]:
    file = shard_type_id == "c_file"
    name = fields.text("name")
    parents = fields.fields.get("parents")
    if parents is not None and not (isinstance(parents, list) and all(isinstance(parent, str) for parent in parents)):
        raise fields.wrong("parents", "is no list of ids")
    owners = fields.objects("owners")
    data: dict[str, Any] = {
        "name": (fitting_name(name) if name else "") or shard_type(shard_type_id).stand_in_name,
        "provider": "gdrive",
        "externalId": external_id,
        "path": found.text("path"),
        "parentFolderExternalId" if file else "parentExternalId": parents[0] if parents else None,
        "owner": next((address.lower() for owner in owners if (address := _text_of(owner, "emailAddress"))), None),
        "description": fields.text("description"),
        "driveId": fields.text("driveId"),
        "webUrl": fields.text("webViewLink"),
        "createdDate": fields.read("createdTime", read_moment),
        "lastModified": fields.read("modifiedTime", read_moment),
        "permissions": _permissions(fields),
    }
    named = {"description", "driveId", "webViewLink", "mimeType"}
    if file:
        named |= {"size", "md5Checksum", "webContentLink"}
        data |= {
            "mimeType": fields.text("mimeType"),
            "size": fields.read("size", read_integer),
            "checksum": fields.text("md5Checksum"),
            "downloadUrl": fields.text("webContentLink"),
            "contentStatus": _status(content),
            "contentProblem": content.text("problem"),
            "contentVersion": content.text("version"),
            "contentTruncated": content.read("truncated", read_boolean) or None,
        }
        _add_shortcut(fields, data)
    else:
        del data["lastModified"]
    exact: dict[str, str] = {}
    custom = _custom_fields(fields, named, exact)
    data |= {"customFields": custom, "exactNumbers": exact}
    return {name: value for name, value in data.items() if value not in (None, {}, [])}


def _text_of(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return read_text(value) if isinstance(value, str) else None


def _add_shortcut(fields: Fields, data: dict[str, Any]) -> None:
    details = fields.inner("shortcutDetails").fields
    target = _text_of(details, "targetId")
    if target and _FILE_ID.match(target):
        folder = details.get("targetMimeType") == FOLDER_MIME_TYPE
        data["shortcutTargetFolderExternalId" if folder else "shortcutTargetExternalId"] = target


def _permissions(fields: Fields) -> list[dict[str, Any]]:
    """Who may open it, as Drive says, in an order of its own: Drive lists them now so, now so."""
    kept = []
    for permission in fields.objects("permissions"):
        told = {name: permission[name] for name in _PERMISSION_FIELDS if permission.get(name) not in (None, False)}
        try:
            kept.append(read_json(told, {}, "permissions") or {})
        except ValueError as error:
            raise fields.wrong("permissions", error) from None
    return sorted(filter(None, kept), key=lambda permission: (str(permission.get("id")), str(permission)))


def _custom_fields(fields: Fields, named: set[str], exact: dict[str, str]) -> dict[str, Any]:
    custom = {}
    for name, value in fields.fields.items():
        if name in _LEFT_OUT or name in named or value is None:
            continue
        if "\x00" in name:
            raise fields.wrong(name, "the name has a NUL in it")
        stored = fields.custom(name, exact)
        if stored is not None:
            custom[name] = stored
    return custom


def _acl(found: Fields) -> Acl:
    """Who may read it; nobody, as long as that is not known."""
    principals = found.fields.get("acl")
    if principals is None:
        return CLOSED
    if not isinstance(principals, list):
        raise found.wrong("acl", "is no list of principals")
    for principal in principals:
        if not isinstance(principal, str) or not (principal == ANYONE_PRINCIPAL or _PRINCIPAL.match(principal)):
            raise found.wrong("acl", f"{str(principal)[:80]!r} is none of user:…, group:…, domain:… and anyone")
    return Acl.of(*(principal.lower() for principal in principals))


def _status(content: Fields) -> str | None:
    status = content.fields.get("status")
    if status is not None and status not in ("extracted", "none", "failed"):
        raise content.wrong("status", f"{str(status)[:40]!r} is none of extracted, none and failed")
    return status


def _text(content: Fields) -> UnstructuredData | None:
    reference = content.text("ref")
    if reference is None:
        return None
    if not reference.startswith(f"{KEPT}/"):
        raise content.wrong("ref", f"{reference[:200]} is no text that stays: it must be under {KEPT}/")
    return UnstructuredData(content_ref=reference)
