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

import json
import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

from ingestion.gdrive.drive_resources import (
    TIME,
    Permission,
    ResourceError,
    binary_facts,
    checksums,
    complete_permission,
    digest,
    effective_permissions,
    made_id,
    member_permissions,
    my_drive_root_id,
    owner_permission,
    shared_drive_id,
    time_text,
    user_resource,
    web_view_link,
)
from ingestion.gdrive.mime_types import FOLDER, NATIVE, SHORTCUT, mime_type_of

logger = logging.getLogger(__name__)

SETTINGS_FILE: Final = "gdrive.json"
_ID = re.compile(r"[A-Za-z0-9_-]{10,128}")
_LEFT_OUT = frozenset({"thumbs.db", "desktop.ini"})
_FIRST_TIME = datetime(2024, 1, 1, tzinfo=UTC)
_FILE_KEYS = frozenset(
    {"id", "name", "mimeType", "createdTime", "modifiedTime", "owner", "permissions"}
    | {"description", "shortcutTarget", "trashed"}
)


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
        except ResourceError as error:
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
            made = made_id(entry.key, is_native=entry.mime_type.startswith(NATIVE) and not entry.is_folder)
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
        is_native = entry.mime_type.startswith(NATIVE)
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
                resource |= {**sums, **binary_facts(name), "headRevisionId": made_id(sums["md5Checksum"])}
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
        if not isinstance(value, str) or TIME.fullmatch(value) is None:
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


def _made_time(kind: str, text: str) -> datetime:
    """A moment of 2024."""
    return _FIRST_TIME + timedelta(milliseconds=int.from_bytes(digest(kind, text)[:6], "big") % (365 * 86_400_000))
