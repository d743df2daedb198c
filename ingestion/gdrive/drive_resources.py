"""Resources of the Drive API v3 for files that are not at Drive: permissions, users, ids, links and checksums.

The same given always makes the same.
"""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

from ingestion.gdrive.mime_types import FOLDER, NATIVE

ROLES: Final = ("reader", "commenter", "writer", "fileOrganizer", "organizer", "owner")
"""From the least to the most that one may do."""

Permission = dict[str, Any]
"""A Drive v3 Permission resource."""

_TYPES = ("user", "group", "domain", "anyone")
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
"""A time as Drive writes it."""
_BLOCK = 1 << 20


class ResourceError(Exception):
    """What is given is no such resource. The message says what to write."""


def customer_id(domain: str) -> str:
    """The Google customer id of a domain that names none, ``C0`` and eight letters or digits."""
    number = int.from_bytes(digest("customer", domain.lower()), "big")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    return "C0" + "".join(letters[number // 36**place % 36] for place in range(8))


def my_drive_root_id(address: str) -> str:
    """The id of the root folder of the My Drive of *address*."""
    return _root_id("root", address.lower())


def shared_drive_id(name: str, path: str) -> str:
    """The id of a shared drive that names none."""
    return _root_id("drive", f"{name}\0{path}")


def permission_id(kind: str, principal: str) -> str:
    """The permission id of a user, group or domain: the same wherever it is shared with."""
    if kind == "anyone":
        return "anyoneWithLink"
    number = int.from_bytes(digest("permission", f"{kind}\0{principal.lower()}")[:9], "big") % 10**19
    return f"{number:020d}" + ("k" if kind == "domain" else "")


def complete_permission(given: Mapping[str, Any], domain: str = "") -> Permission:
    """A Permission resource with what the vendor adds: kind, id, display name, lower-case address.

    Raises:
        ResourceError: it is no permission.
    """
    kind, role = given.get("type"), given.get("role")
    if kind not in _TYPES:
        raise ResourceError(f"permission type {kind!r}; write one of {', '.join(_TYPES)}")
    if role not in ROLES:
        raise ResourceError(f"permission role {role!r}; write one of {', '.join(ROLES)}")
    ends = given.get("expirationTime")
    if ends is not None and (not isinstance(ends, str) or TIME.fullmatch(ends) is None):
        raise ResourceError(f"permission expirationTime {ends!r}; write it like 2026-03-12T07:29:10.356Z")
    made: Permission = {"kind": "drive#permission", **given}
    principal = ""
    if kind in {"user", "group"} and not given.get("deleted"):
        address = given.get("emailAddress")
        if not isinstance(address, str) or _ADDRESS.fullmatch(address) is None:
            raise ResourceError(f"permission of a {kind} with emailAddress {address!r}; write its e-mail address")
        made["emailAddress"] = principal = address.lower()
        made.setdefault("displayName", address.partition("@")[0])
        made.setdefault("deleted", False)
        made.setdefault("pendingOwner", False)
    elif kind == "domain":
        name = given.get("domain", domain)
        if not isinstance(name, str) or not name:
            raise ResourceError("permission of a domain without domain; write its name")
        made["domain"] = principal = name.lower()
        made.setdefault("displayName", name)
    if kind in {"domain", "anyone"}:
        made.setdefault("allowFileDiscovery", kind == "domain")
    fallback = permission_id(str(kind), principal)
    if kind == "anyone" and made["allowFileDiscovery"]:
        fallback = "anyone"
    made.setdefault("id", fallback)
    return made


def owner_permission(address: str) -> Permission:
    """The permission that makes *address* the owner."""
    return complete_permission({"type": "user", "role": "owner", "emailAddress": address})


def effective_permissions(
    own: Sequence[Permission], above: Sequence[Permission], folder_id: str | None, *, in_shared_drive: bool
) -> tuple[Permission, ...]:
    """What counts for an item with *own* permissions in the folder *folder_id* where *above* count.

    One principal has one permission, with the highest role. The owner of a folder may write what others put into it.
    In a shared drive ``permissionDetails`` say what is inherited and from where.
    """
    found: dict[str, Permission] = {}
    for given in own:
        details = {"permissionType": "file", "role": given["role"], "inherited": False}
        found[given["id"]] = {**given, "permissionDetails": [details]} if in_shared_drive else dict(given)
    for given in above:
        inherited = {**given, "role": "writer"} if given["role"] == "owner" and not in_shared_drive else dict(given)
        if in_shared_drive:
            inherited["permissionDetails"] = [
                {"inheritedFrom": folder_id, **details, "inherited": True} for details in given["permissionDetails"]
            ]
        mine = found.get(inherited["id"])
        if mine is None:
            found[inherited["id"]] = inherited
            continue
        role = max(mine["role"], inherited["role"], key=ROLES.index)
        mine["role"] = role
        if in_shared_drive:
            mine["permissionDetails"] = [*mine["permissionDetails"], *inherited["permissionDetails"]]
    return tuple(found.values())


def member_permissions(members: Sequence[Permission], drive_id: str) -> tuple[Permission, ...]:
    """The permissions of a shared drive's root: its members, as everything in the drive inherits them."""
    return tuple(
        {
            **member,
            "permissionDetails": [
                {"permissionType": "member", "role": member["role"], "inherited": False, "inheritedFrom": drive_id}
            ],
        }
        for member in members
    )


def time_text(moment: datetime) -> str:
    """A time as Drive writes it: UTC with milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def binary_facts(name: str) -> dict[str, Any]:
    """What Drive says of a binary file by its name."""
    stem, dot, ending = name.rpartition(".")
    extension = ending if dot and stem else ""
    return {"originalFilename": name, "fileExtension": extension, "fullFileExtension": extension}


def checksums(file: BinaryIO) -> tuple[int, dict[str, str]]:
    """The size of what is left in *file*, and the three checksums that Drive tells."""
    sums = {
        "md5Checksum": hashlib.md5(usedforsecurity=False),
        "sha1Checksum": hashlib.sha1(usedforsecurity=False),
        "sha256Checksum": hashlib.sha256(),
    }
    size = 0
    while block := file.read(_BLOCK):
        size += len(block)
        for made in sums.values():
            made.update(block)
    return size, {name: made.hexdigest() for name, made in sums.items()}


def web_view_link(file_id: str, mime_type: str) -> str:
    """The address of the page that shows the file."""
    places = {
        FOLDER: f"https://drive.google.com/drive/folders/{file_id}",
        NATIVE + "document": f"https://docs.google.com/document/d/{file_id}/edit?usp=drivesdk",
        NATIVE + "spreadsheet": f"https://docs.google.com/spreadsheets/d/{file_id}/edit?usp=drivesdk",
        NATIVE + "presentation": f"https://docs.google.com/presentation/d/{file_id}/edit?usp=drivesdk",
    }
    return places.get(mime_type, f"https://drive.google.com/file/d/{file_id}/view?usp=drivesdk")


def user_resource(address: str) -> dict[str, Any]:
    """A Drive User resource."""
    name = address.partition("@")[0]
    return {
        "kind": "drive#user",
        "displayName": name,
        "permissionId": permission_id("user", address),
        "emailAddress": address,
    }


def made_id(text: str, *, is_native: bool = False) -> str:
    """An id as Drive makes them: 44 characters for a native type, 33 else."""
    made = digest("file", text) + digest("more", text)[:1]
    return "1" + urlsafe_b64encode(made).decode()[: 43 if is_native else 32]


def digest(kind: str, text: str) -> bytes:
    """32 bytes that stand for *text* among others of a *kind*."""
    return hashlib.sha256(f"{kind}\0{text}".encode()).digest()


def _root_id(kind: str, text: str) -> str:
    return "0A" + urlsafe_b64encode(digest(kind, text)).decode()[:11] + "Uk9PVA"
