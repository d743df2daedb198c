"""A folder tree on disk as files of a Google Drive: each file and folder in the shape of a Drive v3 File resource.

``gdrive.json`` in the folder (optional, itself no file of the Drive) says what a disk can't hold::

    {"files": {"relative/path": {"id", "name", "mimeType", "createdTime", "modifiedTime", "owner", "permissions":
                                 [Drive permissions], "description", "shortcutTarget": "relative/path", "trashed"}},
     "sharedDrives": [{"id", "name", "path", "permissions"}],
     "groups": {"address": ["member address", …]}}

* Links are left out, and so is what a system leaves in folders: names that begin with a dot, Thumbs.db, desktop.ini.
* A file of a native type (``application/vnd.google-apps.document`` …) is on disk as text, Markdown, CSV, HTML or an
  Office file; its bytes are what an export gives. Its name is the file's without the ending.
* What is missing is made, always the same way: ids from the path, times from path and content.
* In My Drive a file's permissions include what its folders' give; in a shared drive those of its members, too.
* The version is 1 for all, so that a tree that was read before and has changed since replaces what was read.
"""

import hashlib
import json
import logging
import os
import re
import unicodedata
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

logger = logging.getLogger(__name__)

FOLDER: Final = "application/vnd.google-apps.folder"
SHORTCUT: Final = "application/vnd.google-apps.shortcut"
NATIVE_PREFIX: Final = "application/vnd.google-apps."
SETTINGS_FILE: Final = "gdrive.json"
ROLES: Final = ("reader", "commenter", "writer", "fileOrganizer", "organizer", "owner")
"""From the least to the most that one may do."""

Permission = dict[str, Any]
"""A Drive v3 Permission resource."""

_TYPES = ("user", "group", "domain", "anyone")
_ID = re.compile(r"[A-Za-z0-9_-]{10,128}")
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_LEFT_OUT = frozenset({"thumbs.db", "desktop.ini"})
_FIRST_TIME = datetime(2024, 1, 1, tzinfo=UTC)
_FILE_KEYS = frozenset(
    {"id", "name", "mimeType", "createdTime", "modifiedTime", "owner", "permissions"}
    | {"description", "shortcutTarget", "trashed"}
)
_BLOCK = 1 << 20
# The standard library's table differs from machine to machine.
_MIME_TYPES: Final[Mapping[str, str]] = {
    "txt": "text/plain",
    "text": "text/plain",
    "log": "text/plain",
    "md": "text/markdown",
    "markdown": "text/markdown",
    "html": "text/html",
    "htm": "text/html",
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "json": "application/json",
    "xml": "text/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "rtf": "application/rtf",
    "pdf": "application/pdf",
    "doc": "application/msword",
    "xls": "application/vnd.ms-excel",
    "ppt": "application/vnd.ms-powerpoint",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "odt": "application/vnd.oasis.opendocument.text",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "epub": "application/epub+zip",
    "zip": "application/zip",
    "eml": "message/rfc822",
    "ics": "text/calendar",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "svg": "image/svg+xml",
    "webp": "image/webp",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
}


class FolderTreeError(Exception):
    """A folder tree that can't be read. The message is one line: the place and the remedy."""


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file, folder or shortcut of the tree.

    *resource* is the File resource as its owner (in a shared drive: a member) gets it with ``fields=*``, as far as a
    disk tells. *own_permissions* are those given to this very item; *permissions* all that count for it, as
    permissions.list gives them.
    """

    path: str
    """Relative to the tree, with ``/``."""
    resource: Mapping[str, Any]
    own_permissions: tuple[Permission, ...]
    permissions: tuple[Permission, ...]
    location: Path | None = None
    """Where the bytes are; None for folders and shortcuts."""
    content_type: str = ""
    """What the bytes are; differs from the resource's mimeType for native types."""

    @property
    def file_id(self) -> str:
        """The Drive file id."""
        return str(self.resource["id"])

    def open(self) -> BinaryIO:
        """The bytes, to be closed by the caller.

        Raises:
            FolderTreeError: there are none, or they can't be read.
        """
        if self.location is None:
            raise FolderTreeError(f"{self.path}: a folder or shortcut has no bytes")
        return _open(self.location, self.path)


@dataclass(frozen=True, slots=True)
class SharedDrive:
    """A shared drive; its id is the id of its root folder, which stands in the tree as *path*."""

    drive_id: str
    name: str
    path: str
    created_time: str
    permissions: tuple[Permission, ...]
    """Its members."""


@dataclass(frozen=True, slots=True)
class FolderTree:
    """What a folder tree holds; folders come before what is in them."""

    files: tuple[TreeFile, ...]
    shared_drives: tuple[SharedDrive, ...]
    groups: Mapping[str, tuple[str, ...]]
    """Members by the group's address, all in lower case; a member may be a group."""
    domain: str
    owner: str
    """Whose the files are that name no owner."""


def read_folder_tree(folder: Path, *, domain: str, owner: str | None = None) -> FolderTree:
    """The tree under *folder*. *owner* (``admin@`` the *domain*) has the files that name no owner.

    Raises:
        FolderTreeError: the folder is missing, or something in it can't be read.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise FolderTreeError(f"{folder}: no such folder; give the path of a folder tree")
    return _Reader(folder, domain.lower(), (owner or f"admin@{domain}").lower()).read()


def customer_id(domain: str) -> str:
    """The Google customer id of a domain that names none, ``C0`` and eight letters or digits."""
    number = int.from_bytes(_digest("customer", domain.lower()), "big")
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
    number = int.from_bytes(_digest("permission", f"{kind}\0{principal.lower()}")[:9], "big") % 10**19
    return f"{number:020d}" + ("k" if kind == "domain" else "")


def complete_permission(given: Mapping[str, Any], domain: str = "") -> Permission:
    """A Permission resource with what the vendor adds: kind, id, display name, lower-case address.

    Raises:
        FolderTreeError: it is no permission.
    """
    kind, role = given.get("type"), given.get("role")
    if kind not in _TYPES:
        raise FolderTreeError(f"permission type {kind!r}; write one of {', '.join(_TYPES)}")
    if role not in ROLES:
        raise FolderTreeError(f"permission role {role!r}; write one of {', '.join(ROLES)}")
    ends = given.get("expirationTime")
    if ends is not None and (not isinstance(ends, str) or _TIME.fullmatch(ends) is None):
        raise FolderTreeError(f"permission expirationTime {ends!r}; write it like 2026-03-12T07:29:10.356Z")
    made: Permission = {"kind": "drive#permission", **given}
    principal = ""
    if kind in {"user", "group"} and not given.get("deleted"):
        address = given.get("emailAddress")
        if not isinstance(address, str) or _ADDRESS.fullmatch(address) is None:
            raise FolderTreeError(f"permission of a {kind} with emailAddress {address!r}; write its e-mail address")
        made["emailAddress"] = principal = address.lower()
        made.setdefault("displayName", address.partition("@")[0])
        made.setdefault("deleted", False)
        made.setdefault("pendingOwner", False)
    elif kind == "domain":
        name = given.get("domain", domain)
        if not isinstance(name, str) or not name:
            raise FolderTreeError("permission of a domain without domain; write its name")
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


def mime_type_of(name: str) -> str:
    """The MIME type of a file by the ending of its name."""
    return _MIME_TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


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
        NATIVE_PREFIX + "document": f"https://docs.google.com/document/d/{file_id}/edit?usp=drivesdk",
        NATIVE_PREFIX + "spreadsheet": f"https://docs.google.com/spreadsheets/d/{file_id}/edit?usp=drivesdk",
        NATIVE_PREFIX + "presentation": f"https://docs.google.com/presentation/d/{file_id}/edit?usp=drivesdk",
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


@dataclass(slots=True)
class _Above:
    """What a folder hands down."""

    folder_id: str | None
    owner: str
    drive_id: str | None = None
    permissions: tuple[Permission, ...] = ()
    trashed: bool = False


@dataclass(slots=True)
class _Entry:
    path: str
    key: str
    given: dict[str, Any]
    location: Path | None
    is_folder: bool
    file_id: str = ""
    mime_type: str = ""
    content_type: str = ""


@dataclass(slots=True)
class _Reader:
    folder: Path
    domain: str
    owner: str
    settings: dict[str, Any] = field(default_factory=dict)
    drives: dict[str, SharedDrive] = field(default_factory=dict)

    def read(self) -> FolderTree:
        self.settings = self._read_settings()
        given = self._files()
        for drive in self._shared_drives():
            self.drives[_key(drive.path)] = drive
        entries = list(self._walk(given))
        on_disk = {entry.key for entry in entries}
        for path, facts in given.items():
            if _key(path) not in on_disk:
                if "shortcutTarget" not in facts:
                    raise _wrong(path, "there is no such file; correct or drop the entry")
                entries.append(_Entry(path.strip("/"), _key(path), facts, None, is_folder=False))
        for key, drive in self.drives.items():
            if not any(entry.key == key and entry.is_folder for entry in entries):
                raise FolderTreeError(
                    f"{SETTINGS_FILE}: sharedDrives: there is no folder {drive.path!r}; correct or drop the entry"
                )
        self._name(entries)
        return FolderTree(
            tuple(self._build(entries)), tuple(self.drives.values()), self._groups(), self.domain, self.owner
        )

    def _read_settings(self) -> dict[str, Any]:
        path = self.folder / SETTINGS_FILE
        if path.is_symlink():
            logger.warning("%s is a link and was left out", path)
            return {}
        if not path.exists():
            return {}
        try:
            with _open(path, SETTINGS_FILE) as file:
                settings = json.loads(file.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise FolderTreeError(f"{SETTINGS_FILE}: {error}; write one JSON object in UTF-8") from error
        if not isinstance(settings, dict):
            raise FolderTreeError(f"{SETTINGS_FILE}: not a JSON object; write {{}} where there is nothing to say")
        return settings

    def _files(self) -> dict[str, dict[str, Any]]:
        files = self.settings.get("files", {})
        if not isinstance(files, dict):
            raise FolderTreeError(f'{SETTINGS_FILE}: "files" is no JSON object; write {{"relative/path": {{…}}}}')
        for path, given in files.items():
            if not isinstance(given, dict):
                raise _wrong(path, "not a JSON object; write {} where there is nothing to say")
            unknown = given.keys() - _FILE_KEYS
            if unknown:
                raise _wrong(path, f"{min(unknown)!r} says nothing here; the keys are {', '.join(sorted(_FILE_KEYS))}")
        return files

    def _shared_drives(self) -> Iterator[SharedDrive]:
        drives = self.settings.get("sharedDrives", [])
        if not isinstance(drives, list) or not all(isinstance(drive, dict) for drive in drives):
            raise FolderTreeError(f'{SETTINGS_FILE}: "sharedDrives" is no list of objects; write [{{"name", "path"}}]')
        for drive in drives:
            path = drive.get("path")
            if not isinstance(path, str) or not path.strip("/"):
                raise FolderTreeError(f"{SETTINGS_FILE}: sharedDrives: path {path!r}; write the folder of the drive")
            path = path.strip("/")
            name = _text(drive, "name", path.rpartition("/")[2], f"sharedDrives: {path!r}")
            drive_id = _text(drive, "id", shared_drive_id(name, path), f"sharedDrives: {path!r}")
            if _ID.fullmatch(drive_id) is None:
                raise FolderTreeError(f"{SETTINGS_FILE}: sharedDrives: {path!r}: id {drive_id!r} is no Drive id")
            members = self._permissions(drive.get("permissions", []), f"sharedDrives: {path!r}")
            if not members:
                members = (complete_permission({"type": "user", "role": "organizer", "emailAddress": self.owner}),)
            created = time_text(_made_time("drive", drive_id))
            yield SharedDrive(drive_id, name, path, created, members)

    def _groups(self) -> dict[str, tuple[str, ...]]:
        groups = self.settings.get("groups", {})
        if not isinstance(groups, dict):
            raise FolderTreeError(f'{SETTINGS_FILE}: "groups" is no JSON object; write {{"address": ["member", …]}}')
        found = {}
        for address, members in groups.items():
            if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
                raise FolderTreeError(f'{SETTINGS_FILE}: groups: {address!r}: no list of addresses; write ["member"]')
            found[address.lower()] = tuple(member.lower() for member in members)
        return found

    def _permissions(self, given: Any, place: str) -> tuple[Permission, ...]:
        if not isinstance(given, list) or not all(isinstance(permission, dict) for permission in given):
            raise FolderTreeError(f"{SETTINGS_FILE}: {place}: permissions is no list of objects; write [{{…}}]")
        try:
            return tuple(complete_permission(permission, self.domain) for permission in given)
        except FolderTreeError as error:
            raise FolderTreeError(f"{SETTINGS_FILE}: {place}: {error}") from error

    def _walk(self, given: Mapping[str, dict[str, Any]]) -> Iterator[_Entry]:
        """Folders before what is in them, names in order."""
        facts = {_key(path): said for path, said in given.items()}
        waiting = [(self.folder, "")]
        while waiting:
            folder, above = waiting.pop()
            try:
                found = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                raise FolderTreeError(f"{above or folder}: {error.strerror}; make the folder readable") from error
            inner = []
            for entry in found:
                path = f"{above}/{entry.name}" if above else entry.name
                if entry.name.startswith(".") or entry.name.lower() in _LEFT_OUT or path == SETTINGS_FILE:
                    continue
                try:
                    path.encode()
                except UnicodeEncodeError as error:
                    raise FolderTreeError(f"{path!r}: the name is not UTF-8; rename the file") from error
                is_folder = entry.is_dir(follow_symlinks=False)
                if not is_folder and not entry.is_file(follow_symlinks=False):
                    logger.warning("%s is a link or no plain file and was left out", entry.path)
                    continue
                location = None if is_folder else Path(entry.path)
                yield _Entry(path, _key(path), facts.get(_key(path), {}), location, is_folder)
                if is_folder:
                    inner.append((Path(entry.path), path))
            waiting.extend(reversed(inner))

    def _name(self, entries: Sequence[_Entry]) -> None:
        """Give each entry its id and types."""
        seen = {drive.drive_id: drive.path for drive in self.drives.values()}
        for entry in entries:
            if entry.key in self.drives:
                entry.file_id, entry.mime_type = self.drives[entry.key].drive_id, FOLDER
                continue
            if entry.is_folder:
                entry.mime_type = FOLDER
            elif "shortcutTarget" in entry.given:
                entry.mime_type, entry.location = SHORTCUT, None
            else:
                entry.content_type = mime_type_of(entry.path)
                entry.mime_type = _text(entry.given, "mimeType", entry.content_type, f"files: {entry.path!r}")
                if entry.mime_type in {FOLDER, SHORTCUT}:
                    raise _wrong(entry.path, f"a file on disk can't be {entry.mime_type}; correct the mimeType")
            made = _made_id(entry.key, is_native=entry.mime_type.startswith(NATIVE_PREFIX) and not entry.is_folder)
            entry.file_id = _text(entry.given, "id", made, f"files: {entry.path!r}")
            if _ID.fullmatch(entry.file_id) is None:
                raise _wrong(entry.path, f"id {entry.file_id!r} is no Drive id; write 10 or more letters, digits, - _")
            if entry.file_id in seen:
                raise _wrong(entry.path, f"id {entry.file_id!r} is that of {seen[entry.file_id]!r}, too; change one")
            seen[entry.file_id] = entry.path

    def _build(self, entries: Sequence[_Entry]) -> Iterator[TreeFile]:
        by_key = {entry.key: entry for entry in entries}
        above_of = {"": _Above(None, self.owner)}
        # A shortcut that is not on disk stands at the end of the list, after its folder.
        for entry in entries:
            parent = above_of.get(entry.key.rpartition("/")[0])
            if parent is None:
                raise _wrong(entry.path, "its folder does not exist; correct or drop the entry")
            drive = self.drives.get(entry.key)
            if drive is not None:
                members = member_permissions(drive.permissions, drive.drive_id)
                above_of[entry.key] = _Above(drive.drive_id, self.owner, drive.drive_id, members)
                continue
            file = self._file(entry, parent, by_key)
            if entry.is_folder:
                owner = file.resource["owners"][0]["emailAddress"] if "owners" in file.resource else parent.owner
                above_of[entry.key] = _Above(
                    entry.file_id, owner, parent.drive_id, file.permissions, bool(file.resource["trashed"])
                )
            yield file

    def _file(self, entry: _Entry, parent: _Above, by_key: Mapping[str, _Entry]) -> TreeFile:
        given, path = entry.given, entry.path
        in_drive = parent.drive_id is not None
        owner = _text(given, "owner", parent.owner, f"files: {path!r}").lower()
        own = self._permissions(given.get("permissions", []), f"files: {path!r}")
        if not in_drive:
            if "owner" not in given:
                owner = next((str(p["emailAddress"]) for p in own if p["role"] == "owner"), owner)
            mine = owner_permission(owner)
            own = (mine, *(p for p in own if p["id"] != mine["id"] and p["role"] != "owner"))
        elif any(permission["role"] == "owner" for permission in own):
            raise _wrong(path, "role owner in a shared drive; its files have no owner, write another role")
        effective = effective_permissions(own, parent.permissions, parent.folder_id, in_shared_drive=in_drive)
        size, sums = 0, {"sha256Checksum": ""}
        if entry.location is not None:
            with _open(entry.location, path) as file:
                size, sums = checksums(file)
        created, modified = self._times(entry, sums["sha256Checksum"])
        is_native = entry.mime_type.startswith(NATIVE_PREFIX)
        name = path.rpartition("/")[2]
        if is_native and not entry.is_folder and entry.mime_type != SHORTCUT:
            name = name.rpartition(".")[0] or name
        name = _text(given, "name", name, f"files: {path!r}")
        trashed = given.get("trashed", False)
        if not isinstance(trashed, bool):
            raise _wrong(path, f"trashed {trashed!r}; write true or false")
        resource: dict[str, Any] = {
            "kind": "drive#file",
            "id": entry.file_id,
            "name": name,
            "mimeType": entry.mime_type,
            "createdTime": created,
            "modifiedTime": modified,
            "parents": [parent.folder_id or my_drive_root_id(owner)],
            "spaces": ["drive"],
            "starred": False,
            "trashed": trashed or parent.trashed,
            "explicitlyTrashed": trashed,
            "version": "1",
            "webViewLink": web_view_link(entry.file_id, entry.mime_type),
            "permissionIds": [permission["id"] for permission in effective],
        }
        if "description" in given:
            resource["description"] = _text(given, "description", "", f"files: {path!r}")
        if in_drive:
            resource["driveId"] = parent.drive_id
        else:
            resource["owners"] = [{**user_resource(owner), "me": True}]
            resource["ownedByMe"] = True
            resource["shared"] = len(effective) > 1
            resource["permissions"] = list(effective)
        if entry.location is not None:
            resource["size"] = str(size)
            if not is_native:
                resource |= {**sums, **binary_facts(name), "headRevisionId": _made_id(sums["md5Checksum"])}
        if entry.mime_type == SHORTCUT:
            resource["shortcutDetails"] = self._target(entry, by_key)
        return TreeFile(path, resource, own, effective, entry.location, entry.content_type)

    def _times(self, entry: _Entry, content: str) -> tuple[str, str]:
        created, modified = (_time(entry, name) for name in ("createdTime", "modifiedTime"))
        if created is None and modified is None:
            created = _made_time("created", entry.key)
            modified = (
                created
                + timedelta(hours=1)
                + (_made_time("modified", content) - _FIRST_TIME if content else timedelta())
            )
        first = created or modified or _FIRST_TIME
        return time_text(first), time_text(modified or first)

    def _target(self, entry: _Entry, by_key: Mapping[str, _Entry]) -> dict[str, str]:
        target = entry.given["shortcutTarget"]
        found = by_key.get(_key(target)) if isinstance(target, str) else None
        if found is None:
            raise _wrong(entry.path, f"shortcutTarget {target!r} does not exist; write the path of a file of the tree")
        return {"targetId": found.file_id, "targetMimeType": found.mime_type}


def _wrong(path: str, said: str) -> FolderTreeError:
    return FolderTreeError(f"{SETTINGS_FILE}: files: {path!r}: {said}")


def _text(given: Mapping[str, Any], name: str, otherwise: str, place: str) -> str:
    value = given.get(name, otherwise)
    if not isinstance(value, str):
        raise FolderTreeError(f"{SETTINGS_FILE}: {place}: {name} {value!r}; write a text")
    return value


def _time(entry: _Entry, name: str) -> datetime | None:
    value = entry.given.get(name)
    if value is None:
        return None
    try:
        if not isinstance(value, str) or _TIME.fullmatch(value) is None:
            raise ValueError
        return datetime.fromisoformat(value)
    except ValueError:
        raise _wrong(entry.path, f"{name} {value!r} is no time; write it like 2026-03-12T07:29:10.356Z") from None


def _key(path: str) -> str:
    """A path however its accents are written: file systems differ."""
    return unicodedata.normalize("NFC", path.strip("/"))


def _open(path: Path, name: str) -> BinaryIO:
    try:
        # O_NOFOLLOW: the file can't become a link between the check of its kind and here.
        return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb")
    except OSError as error:
        raise FolderTreeError(f"{name}: {error.strerror}; make the file readable") from error


def _digest(kind: str, text: str) -> bytes:
    return hashlib.sha256(f"{kind}\0{text}".encode()).digest()


def _made_id(text: str, *, is_native: bool = False) -> str:
    """An id as Drive makes them: 44 characters for a native type, 33 else."""
    digest = _digest("file", text) + _digest("more", text)[:1]
    return "1" + urlsafe_b64encode(digest).decode()[: 43 if is_native else 32]


def _root_id(kind: str, text: str) -> str:
    return "0A" + urlsafe_b64encode(_digest(kind, text)).decode()[:11] + "Uk9PVA"


def _made_time(kind: str, text: str) -> datetime:
    """A moment of 2024."""
    return _FIRST_TIME + timedelta(milliseconds=int.from_bytes(_digest(kind, text)[:6], "big") % (365 * 86_400_000))
