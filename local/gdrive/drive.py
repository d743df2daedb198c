"""The Drives of one Google domain: what they hold, who sees it, every way it changes, and the logs of the changes.

A change of a file makes one entry in each log that the file belongs to before or after it: its owner's, those of the
users it is shared with, its shared drive's. Where it has left a log, the entry says removed. Sharing, moving or
trashing a folder makes an entry for the folder alone; what is in it changes with it and says nothing, unless
``child_entries``.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingestion.gdrive.drive_resources import (
    ROLES,
    Permission,
    ResourceError,
    complete_permission,
    customer_id,
    effective_permissions,
    member_permissions,
    my_drive_root_id,
    owner_permission,
    shared_drive_id,
)
from ingestion.gdrive.folder_tree import FolderTree, TreeFile
from ingestion.gdrive.mime_types import FOLDER, NATIVE, SHORTCUT, mime_type_of
from local.gdrive.change_log import ChangeLog, Entry, seeded
from local.gdrive.ids import new_file_id
from local.gdrive.items import Content, DriveRecord, Item, content_of
from local.simulator_clock import SimulatorClock

_BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)
EXPORT_LIMIT = 10 * 1024 * 1024
"""Bytes that files.export gives at most, as documented."""


class DriveError(Exception):
    """A change that the Drive refuses: an unknown file, user or drive, or a place that can't be."""


@dataclass(slots=True)
class Manners:
    """How the Drive answers; may be set at any time.

    *page_cap* makes pages shorter than asked for; *empty_pages* (0 to 15) go before each page; *repeated_entries* are
    given again before new changes; *lag* is the time until a change shows in the logs; *child_entries* logs what is in
    a folder with the folder; *drive_items_in_user_logs* logs what is in a shared drive in its members' logs, too.
    """

    page_cap: int = 1000
    empty_pages: int = 0
    repeated_entries: int = 0
    lag: timedelta = timedelta()
    child_entries: bool = False
    drive_items_in_user_logs: bool = False
    incomplete_search: bool = False
    export_limit: int = EXPORT_LIMIT


@dataclass(frozen=True, slots=True)
class _Pending:
    due: datetime
    item_id: str
    before: frozenset[str]


class Drive:
    """The Drives of *domain*. All methods want :attr:`lock` held where more than one thread is at work."""

    def __init__(
        self, domain: str, *, customer: str | None = None, tenant_id: str = "sandbox", admin: str | None = None
    ) -> None:
        self.domain = domain.lower()
        self.customer_id = customer or customer_id(domain)
        self.tenant_id = tenant_id
        self.admin = (admin or f"admin@{domain}").lower()
        self.lock = threading.RLock()
        self.clock = SimulatorClock()
        self.manners = Manners()
        self.items: dict[str, Item] = {}
        self.shared_drives: dict[str, DriveRecord] = {}
        self.groups: dict[str, tuple[str, ...]] = {}
        self.suspended: set[str] = set()
        self.on_entry: Callable[[str], None] = _ignore
        """Called with the name of each log that has got an entry."""
        self._users: set[str] = set()
        self._logs: dict[str, ChangeLog] = {}
        self._pending: list[_Pending] = []
        self._seeds = 0
        # Later than any number of an earlier run, so that a token kept from then is still one of this log.
        self._base = self._sequence = int(self.clock().timestamp())
        self._effective: dict[str, tuple[Permission, ...]] = {}
        self._principals: dict[str, frozenset[str]] = {}
        self._add_user(self.admin)

    # What there is

    @property
    def users(self) -> tuple[str, ...]:
        """The addresses of the domain's users."""
        return tuple(sorted(self._users))

    def item(self, file_id: str) -> Item:
        """The file of that id.

        Raises:
            DriveError: there is none.
        """
        found = self.items.get(file_id)
        if found is None:
            raise DriveError(f"there is no file {file_id}")
        return found

    def at(self, path: str) -> Item:
        """The one file at *path*, names from the top of a My Drive or, behind a shared drive's name, of that drive.

        A shared drive's name alone is its root folder.

        Raises:
            DriveError: there is none, or more than one.
        """
        wanted = path.strip("/")
        found = [item for item in self.items.values() if not item.is_root and self.path_of(item) == wanted]
        found += [self.items[record.drive_id] for record in self.shared_drives.values() if record.name == wanted]
        if len(found) != 1:
            raise DriveError(f"there are {len(found)} files at {path}; name one by its id")
        return found[0]

    def path_of(self, item: Item) -> str:
        """The names from the top down to *item*, without the name of a My Drive."""
        names = [item.name]
        while item.parent is not None:
            item = self.items[item.parent]
            if item.is_root and item.drive_id is not None:
                names.append(self.shared_drives[item.drive_id].name)
            elif not item.is_root:
                names.append(item.name)
        return "/".join(reversed(names))

    def root_of(self, user: str) -> Item:
        """The top of the My Drive of *user*, who may be of another domain."""
        root_id = my_drive_root_id(user)
        if root_id not in self.items:
            mine = owner_permission(user)
            self.items[root_id] = Item(
                root_id, "My Drive", FOLDER, _BEGINNING, _BEGINNING, None, user, own={mine["id"]: mine}
            )
        return self.items[root_id]

    def children(self, file_id: str) -> list[Item]:
        """What is directly in a folder."""
        return [item for item in self.items.values() if item.parent == file_id]

    def descendants(self, file_id: str) -> list[Item]:
        """What is in a folder, at any depth."""
        inside: dict[str, list[Item]] = {}
        for item in self.items.values():
            if item.parent is not None:
                inside.setdefault(item.parent, []).append(item)
        found, waiting = [], [file_id]
        while waiting:
            below = inside.get(waiting.pop(), [])
            found.extend(below)
            waiting.extend(item.file_id for item in below)
        return found

    def in_trash(self, item: Item) -> bool:
        """Whether it or a folder above it was put into the bin."""
        above: Item | None = item
        while above is not None:
            if above.trashed:
                return True
            above = self.items.get(above.parent) if above.parent else None
        return False

    # Who sees what

    def permissions_of(self, item: Item) -> tuple[Permission, ...]:
        """All that count for *item*, inherited ones included."""
        known = self._effective.get(item.file_id)
        if known is None:
            above: tuple[Permission, ...] = ()
            if item.parent is not None:
                parent = self.items[item.parent]
                if not parent.is_root or parent.drive_id is not None:
                    above = self.permissions_of(parent)
            if item.is_root and item.drive_id is not None:
                members = self.shared_drives[item.drive_id].members.values()
                known = member_permissions(tuple(members), item.drive_id)
            else:
                known = effective_permissions(
                    tuple(item.own.values()), above, item.parent, in_shared_drive=item.drive_id is not None
                )
            self._effective[item.file_id] = known
        return known

    def role(self, user: str, item: Item, *, by_link: bool = True) -> str | None:
        """The most that *user* may do with *item*; None: not even see it. *by_link*: knowing its id."""
        return self._role(user, self.permissions_of(item), by_link=by_link)

    def drive_role(self, user: str, drive_id: str) -> str | None:
        """The role of *user* in a shared drive; None: no member."""
        drive = self.shared_drives.get(drive_id)
        return None if drive is None else self._role(user, tuple(drive.members.values()), by_link=False)

    def is_shared_with(self, user: str, item: Item) -> bool:
        """Whether somebody else has shared this very item with *user* or a group of theirs."""
        principals = self._principals_of(user)
        return item.owner != user and any(
            permission["type"] in {"user", "group"} and _principal(permission) in principals
            for permission in item.own.values()
        )

    def _role(self, user: str, permissions: Sequence[Permission], *, by_link: bool) -> str | None:
        principals, now = self._principals_of(user), self.clock()
        best = -1
        for permission in permissions:
            if permission["type"] == "anyone":
                if not by_link:
                    continue
            elif permission.get("deleted") or _principal(permission) not in principals:
                continue
            ends = permission.get("expirationTime")
            if ends is None or datetime.fromisoformat(ends) > now:
                best = max(best, ROLES.index(permission["role"]))
        return ROLES[best] if best >= 0 else None

    def _principals_of(self, user: str) -> frozenset[str]:
        known = self._principals.get(user)
        if known is None:
            found = {f"user:{user}", f"domain:{user.partition('@')[2]}"}
            members, grown = {user}, True
            while grown:  # a group may be a member of a group
                wider = {group for group, inside in self.groups.items() if members & set(inside)} - members
                members |= wider
                grown = bool(wider)
            found |= {f"group:{group}" for group in members - {user}}
            known = self._principals[user] = frozenset(found)
        return known

    # The logs

    def log(self, name: str) -> ChangeLog:
        """The log of a user or a shared drive. It begins, when first asked for, with what there is."""
        found = self._logs.get(name)
        if found is None:
            entries = [
                Entry("file", item.file_id, item.sequence, item.changed or item.modified, removed=False)
                for item in self.items.values()
                if self._is_in_log(name, item)
            ]
            found = self._logs[name] = seeded(name, self._base, entries)
        return found

    def settle(self) -> None:
        """Let changes whose lag is over show in the logs."""
        now = self.clock()
        while self._pending and self._pending[0].due <= now:
            due = self._pending.pop(0)
            item = self.items.get(due.item_id)
            after = frozenset(self._logs_of(item)) if item is not None else frozenset()
            sequence = self._tick()
            if item is not None:
                item.sequence, item.changed = sequence, now
            for name in sorted(due.before | after):
                self.log(name).put(Entry("file", due.item_id, sequence, now, removed=name not in after))
                self.on_entry(name)

    @property
    def lags(self) -> bool:
        """Whether changes wait for their lag to pass."""
        return bool(self._pending)

    def _is_in_log(self, name: str, item: Item) -> bool:
        if item.is_root:
            return False
        if name in self.shared_drives:
            return item.drive_id == name
        if item.drive_id is None:
            return self.role(name, item, by_link=False) is not None
        if self.manners.drive_items_in_user_logs and self.drive_role(name, item.drive_id) is not None:
            return True
        given = [p for p in self.permissions_of(item) if p["permissionDetails"][0]["permissionType"] == "file"]
        return self._role(name, given, by_link=False) is not None

    def _logs_of(self, item: Item) -> set[str]:
        return {name for name in self._logs if self._is_in_log(name, item)}

    def _tick(self) -> int:
        self._sequence += 1
        return self._sequence

    @contextmanager
    def _changing(self, items: Iterable[Item]) -> Iterator[None]:
        """Log what happens to *items* inside the context."""
        before = {item.file_id: frozenset(self._logs_of(item)) for item in items}
        yield
        self._forget()
        due = self.clock() + self.manners.lag
        for file_id, logs in before.items():
            item = self.items.get(file_id)
            if item is not None:
                item.version = max(item.version + 1, self._tick())
            self._pending.append(_Pending(due, file_id, logs))
        self._pending.sort(key=lambda pending: pending.due)
        self.settle()

    def _with_children(self, item: Item) -> list[Item]:
        return [item, *self.descendants(item.file_id)] if self.manners.child_entries else [item]

    def _log_drive(self, drive_id: str, users: Iterable[str], *, removed_for: Iterable[str] = ()) -> None:
        """Log a change of a shared drive itself: in its own log and in those of its members."""
        sequence, now, gone = self._tick(), self.clock(), set(removed_for)
        for name in (drive_id, *sorted({*users} | gone)):
            if name in self._logs or name == drive_id:
                self.log(name).put(Entry("drive", drive_id, sequence, now, removed=name in gone))
                self.on_entry(name)

    def _forget(self) -> None:
        self._effective.clear()
        self._principals.clear()

    # Changes of files

    def create_folder(self, name: str, *, parent: str | None = None, owner: str | None = None) -> str:
        """A new folder; its id. Without *parent* it stands at the top of the owner's My Drive."""
        return self._create(name, FOLDER, parent=parent, owner=owner)

    def create_file(
        self,
        name: str,
        data: bytes | str = b"",
        *,
        parent: str | None = None,
        owner: str | None = None,
        mime_type: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """A new file; its id. For a native *mime_type* the *data* is what exports give, of *content_type*."""
        held = data.encode() if isinstance(data, str) else data
        kind = mime_type or mime_type_of(name)
        shown = content_type or ("text/plain" if kind.startswith(NATIVE) else kind)
        return self._create(name, kind, content_of(held, shown), parent=parent, owner=owner)

    def create_shortcut(
        self, target: str, *, name: str | None = None, parent: str | None = None, owner: str | None = None
    ) -> str:
        """A shortcut to *target*; its id."""
        to = self.item(target)
        return self._create(name or to.name, SHORTCUT, parent=parent, owner=owner, target=to)

    def _create(
        self,
        name: str,
        mime_type: str,
        content: Content | None = None,
        *,
        parent: str | None,
        owner: str | None,
        target: Item | None = None,
    ) -> str:
        folder = self.item(parent) if parent is not None else None
        if folder is not None and not folder.is_folder:
            raise DriveError(f"{folder.file_id} is no folder")
        drive_id = folder.drive_id if folder is not None else None
        mine: str | None = None
        if drive_id is None:
            mine = (owner or (folder.owner if folder is not None else None) or self.admin).lower()
            self._add_user(mine)
        now = self.clock()
        item = Item(
            file_id=new_file_id(is_native=mime_type.startswith(NATIVE) and mime_type != FOLDER),
            name=name,
            mime_type=mime_type,
            created=now,
            modified=now,
            parent=(folder or self.root_of(mine or self.admin)).file_id,
            owner=mine,
            drive_id=drive_id,
            content=content,
            editor=owner or mine,
        )
        if target is not None:
            item.target, item.target_mime_type = target.file_id, target.mime_type
        if mine is not None:
            permission = owner_permission(mine)
            item.own[permission["id"]] = permission
        with self._changing([item]):
            self.items[item.file_id] = item
        return item.file_id

    def upload(self, file_id: str, data: bytes | str, content_type: str | None = None) -> None:
        """New bytes for a file, or, of a native type, new text."""
        item = self.item(file_id)
        if item.content is None:
            raise DriveError(f"{file_id} is a folder or shortcut and has no bytes")
        held = data.encode() if isinstance(data, str) else data
        with self._changing([item]):
            item.content = content_of(held, content_type or item.content.mime_type)
            item.modified = self.clock()

    def rename(self, file_id: str, name: str) -> None:
        """A new name; modifiedTime stays."""
        item = self.item(file_id)
        with self._changing([item]):
            item.name = name

    def describe(self, file_id: str, description: str) -> None:
        """A new description; modifiedTime stays."""
        item = self.item(file_id)
        with self._changing([item]):
            item.description = description

    def move(self, file_id: str, parent: str) -> None:
        """Into another folder, or into or out of a shared drive (by the id of its root). modifiedTime stays.

        Raises:
            DriveError: *parent* is no folder, or lies in the moved folder itself.
        """
        item, folder = self.item(file_id), self.item(parent)
        inside = self.descendants(file_id)
        if not folder.is_folder or folder is item or folder in inside or item.is_root:
            raise DriveError(f"{file_id} can't be moved into {parent}")
        changes_drive = folder.drive_id != item.drive_id
        # Another corpus: each file leaves one log and enters another.
        with self._changing([item, *inside] if changes_drive else self._with_children(item)):
            item.parent = folder.file_id
            if changes_drive:
                for moved in (item, *inside):
                    self._change_drive(moved, folder.drive_id, folder.owner or self.admin)

    def _change_drive(self, item: Item, drive_id: str | None, owner: str) -> None:
        item.drive_id = drive_id
        if drive_id is not None:
            item.own = {key: given for key, given in item.own.items() if given["role"] != "owner"}
            item.owner = None
        else:
            item.owner = owner
            mine = owner_permission(owner)
            item.own[mine["id"]] = mine

    def trash(self, file_id: str) -> None:
        """Into the bin; what is in a folder is in the bin with it."""
        self._set_trashed(file_id, trashed=True)

    def untrash(self, file_id: str) -> None:
        """Out of the bin."""
        self._set_trashed(file_id, trashed=False)

    def _set_trashed(self, file_id: str, *, trashed: bool) -> None:
        item = self.item(file_id)
        with self._changing(self._with_children(item)):
            item.trashed = trashed
            item.trashed_at = self.clock() if trashed else None

    def delete(self, file_id: str) -> None:
        """For good, with all that is in it."""
        item = self.item(file_id)
        if item.is_root:
            raise DriveError(f"{file_id} is the top of a Drive")
        gone = [item, *self.descendants(file_id)]
        with self._changing(gone):
            for each in gone:
                del self.items[each.file_id]

    def share(self, file_id: str, permission: Mapping[str, object]) -> str:
        """Give a permission (``{"type": "user", "role": "reader", "emailAddress": …}``); its id.

        Raises:
            DriveError: it is no permission.
        """
        item = self.item(file_id)
        made = self._permission(permission)
        with self._changing(self._with_children(item)):
            item.own[made["id"]] = made
            item.shared_at[made["id"]] = self.clock()
        return str(made["id"])

    def unshare(self, file_id: str, principal: str) -> None:
        """Take a permission away: by its id, an address, a domain, or ``anyone``.

        Raises:
            DriveError: this very item has no such permission.
        """
        item = self.item(file_id)
        found = _named(item.own, principal)
        if found is None or found["role"] == "owner":
            raise DriveError(f"{file_id} itself is not shared with {principal}")
        with self._changing(self._with_children(item)):
            del item.own[found["id"]]

    def transfer(self, file_id: str, owner: str) -> None:
        """Give a file or folder to another user, in the place where it is; the owner before may still write.

        Raises:
            DriveError: it is in a shared drive, or the top of a Drive.
        """
        item, new = self.item(file_id), owner.lower()
        if item.owner is None or item.is_root:
            raise DriveError(f"{file_id} has no owner who could be another")
        before = complete_permission({"type": "user", "role": "writer", "emailAddress": item.owner})
        mine = owner_permission(new)
        self._add_user(new)
        with self._changing([item]):
            item.own[before["id"]] = before
            item.own[mine["id"]] = mine
            item.owner = new

    def flag(self, file_id: str, *, abusive: bool | None = None, copy_locked: bool | None = None) -> None:
        """Say that a file is malware, or that its readers may not download it."""
        item = self.item(file_id)
        with self._changing([item]):
            item.abusive = item.abusive if abusive is None else abusive
            item.copy_locked = item.copy_locked if copy_locked is None else copy_locked

    # Changes of shared drives, users and groups

    def create_drive(self, name: str, members: Sequence[Mapping[str, object]] = (), drive_id: str | None = None) -> str:
        """A new shared drive; its id. Without *members* the administrator organizes it."""
        given = members or [{"type": "user", "role": "organizer", "emailAddress": self.admin}]
        made_id = drive_id or shared_drive_id(name, f"{self._tick()}")
        self._add_drive(made_id, name, [self._permission(member) for member in given], self.clock())
        self._log_drive(made_id, self._members(made_id))
        return made_id

    def rename_drive(self, drive_id: str, name: str) -> None:
        """A new name for a shared drive."""
        self._drive(drive_id).name = name
        self._log_drive(drive_id, self._members(drive_id))

    def add_member(self, drive_id: str, permission: Mapping[str, object]) -> str:
        """Let somebody into a shared drive, or change their role; the permission's id."""
        made = self._permission(permission)
        self._drive(drive_id).members[made["id"]] = made
        self._forget()
        self._log_drive(drive_id, self._members(drive_id))
        return str(made["id"])

    def remove_member(self, drive_id: str, principal: str) -> None:
        """Take somebody out of a shared drive, by permission id or address; their log says that it is removed."""
        drive = self._drive(drive_id)
        found = _named(drive.members, principal)
        if found is None:
            raise DriveError(f"{principal} is no member of {drive_id}")
        before = self._members(drive_id)
        del drive.members[found["id"]]
        self._forget()
        after = self._members(drive_id)
        self._log_drive(drive_id, after, removed_for=before - after)

    def hide_drive(self, drive_id: str, user: str, *, hidden: bool = True) -> None:
        """Hide a shared drive from a member's own view, or show it again; access stays."""
        drive = self._drive(drive_id)
        if hidden:
            drive.hidden_for.add(user.lower())
        else:
            drive.hidden_for.discard(user.lower())
        self._log_drive(drive_id, [user.lower()])

    def delete_drive(self, drive_id: str) -> None:
        """Delete a shared drive with all that is in it."""
        self._drive(drive_id)
        members = self._members(drive_id)
        gone = [item for item in self.items.values() if item.drive_id == drive_id]
        with self._changing(gone):
            for item in gone:
                del self.items[item.file_id]
        self._log_drive(drive_id, [], removed_for=members)
        del self.shared_drives[drive_id], self._logs[drive_id]
        self._forget()

    def suspend(self, user: str) -> None:
        """Suspend a user: no token for them, and those given mean nothing."""
        self.suspended.add(self._known(user))

    def restore(self, user: str) -> None:
        """End a user's suspension."""
        self.suspended.discard(self._known(user))

    def add_user(self, user: str) -> None:
        """A new user of the domain, with a My Drive."""
        self._add_user(user.lower())

    def set_group(self, group: str, members: Sequence[str]) -> None:
        """Who is in a group; an empty list ends it. What is shared with the group changes in the members' logs."""
        # With any group, for this one may be a member of another.
        shared = [item for item in self.items.values() if any(p["type"] == "group" for p in item.own.values())]
        before = {item.file_id: frozenset(self._logs_of(item)) for item in shared}
        members_before = {drive_id: self._members(drive_id) for drive_id in self.shared_drives}
        self.groups[group.lower()] = tuple(member.lower() for member in members)
        for member in members:
            self._add_user(member.lower())
        self._forget()
        for file_id, logs in before.items():
            if self._logs_of(self.items[file_id]) != logs:
                self._pending.append(_Pending(self.clock() + self.manners.lag, file_id, logs))
        for drive_id, known in members_before.items():
            after = self._members(drive_id)
            if known != after:
                self._log_drive(drive_id, after, removed_for=known - after)
        self.settle()

    def lose_change_tokens(self) -> None:
        """Let all change tokens given so far be unknown."""
        for log in self._logs.values():
            log.lose_tokens()

    # What it begins with

    def load(self, tree: FolderTree) -> None:
        """Take in a folder tree."""
        self.groups.update(tree.groups)
        for members in tree.groups.values():
            for member in members:
                self._add_user(member)
        self._add_user(tree.owner)
        for shared in tree.shared_drives:
            created = datetime.fromisoformat(shared.created_time)
            self._add_drive(shared.drive_id, shared.name, shared.permissions, created)
        for file in tree.files:
            self._load_file(file)
        self._forget()

    def _load_file(self, file: TreeFile) -> None:
        resource = file.resource
        content = None
        if file.location is not None:
            sums = {
                name: resource[name] for name in ("md5Checksum", "sha1Checksum", "sha256Checksum") if name in resource
            }
            content = Content(file.content_type, int(resource["size"]), sums, source=file)
        owner = resource["owners"][0]["emailAddress"] if "owners" in resource else None
        details = resource.get("shortcutDetails", {})
        created = datetime.fromisoformat(resource["createdTime"])
        self._seeds += 1
        item = Item(
            file_id=file.file_id,
            name=resource["name"],
            mime_type=resource["mimeType"],
            created=created,
            modified=datetime.fromisoformat(resource["modifiedTime"]),
            parent=resource["parents"][0],
            owner=owner,
            drive_id=resource.get("driveId"),
            content=content,
            own={permission["id"]: permission for permission in file.own_permissions},
            description=resource.get("description"),
            target=details.get("targetId"),
            target_mime_type=details.get("targetMimeType", ""),
            trashed=resource["explicitlyTrashed"],
            trashed_at=created if resource["explicitlyTrashed"] else None,
            version=int(resource["version"]),
            sequence=self._seeds,
            editor=owner,
        )
        self.items[item.file_id] = item
        if owner is not None:
            self._add_user(owner)
            self.root_of(owner)
        for permission in file.own_permissions:
            if permission["type"] == "user" and "emailAddress" in permission:
                self._add_user(permission["emailAddress"])

    def _add_drive(self, drive_id: str, name: str, members: Sequence[Permission], created: datetime) -> None:
        if drive_id in self.items:
            raise DriveError(f"there is a file or drive {drive_id} already")
        self.shared_drives[drive_id] = DriveRecord(
            drive_id, name, created, {member["id"]: member for member in members}
        )
        # A drive's root folder is called so whatever the drive's name is.
        self.items[drive_id] = Item(drive_id, "Drive", FOLDER, created, created, None, None, drive_id)
        for member in members:
            if member["type"] == "user" and "emailAddress" in member:
                self._add_user(member["emailAddress"])
        self._forget()

    def _add_user(self, user: str) -> None:
        if user in self.groups or user.partition("@")[2] != self.domain:
            return
        self._users.add(user)
        self.root_of(user)

    def _known(self, user: str) -> str:
        if user.lower() not in self._users:
            raise DriveError(f"there is no user {user}")
        return user.lower()

    def _drive(self, drive_id: str) -> DriveRecord:
        found = self.shared_drives.get(drive_id)
        if found is None:
            raise DriveError(f"there is no shared drive {drive_id}")
        return found

    def _members(self, drive_id: str) -> set[str]:
        return {user for user in self._users if self.drive_role(user, drive_id) is not None}

    def _permission(self, given: Mapping[str, object]) -> Permission:
        try:
            made = complete_permission(given, self.domain)
        except ResourceError as error:
            raise DriveError(str(error)) from error
        if made["type"] == "user" and "emailAddress" in made:
            self._add_user(made["emailAddress"])
        return made


def _ignore(log: str) -> None:  # noqa: ARG001 - what is told of an entry where nobody listens
    return


def _principal(permission: Permission) -> str:
    return f"{permission['type']}:{permission.get('emailAddress') or permission.get('domain') or ''}"


def _named(permissions: Mapping[str, Permission], principal: str) -> Permission | None:
    wanted = principal.lower()
    for given in permissions.values():
        if wanted in {given["id"].lower(), given.get("emailAddress"), given.get("domain"), given["type"]}:
            return given
    return None
