"""The Drive's things as the API's resources, as one user gets them."""

from datetime import datetime
from typing import Any

from ingestion.gdrive.drive_resources import (
    ROLES,
    Permission,
    binary_facts,
    my_drive_root_id,
    permission_id,
    time_text,
    user_resource,
    web_view_link,
)
from local.gdrive.change_log import Entry
from local.gdrive.drive import Drive
from local.gdrive.exports import EXPORT_FORMATS, export_links
from local.gdrive.items import DriveRecord, Item

_WRITER = ROLES.index("writer")


def may_write(role: str | None) -> bool:
    """Whether a role lets one change and share a file."""
    return role is not None and ROLES.index(role) >= _WRITER


class FileView:
    """A file as *user* sees it: its resource, and what a query asks of it."""

    def __init__(self, drive: Drive, item: Item, user: str) -> None:
        self._drive = drive
        self.item = item
        self._user = user

    def resource(self) -> dict[str, Any]:
        """The whole File resource."""
        drive, item, user = self._drive, self.item, self._user
        role = drive.role(user, item)
        permissions = drive.permissions_of(item)
        trashed = drive.in_trash(item)
        made: dict[str, Any] = {
            "kind": "drive#file",
            "id": item.file_id,
            "name": item.name,
            "mimeType": item.mime_type,
            "starred": False,
            "trashed": trashed,
            "explicitlyTrashed": item.trashed,
            "spaces": ["drive"],
            "version": str(item.version),
            "webViewLink": web_view_link(item.file_id, item.mime_type),
            "iconLink": f"https://drive-thirdparty.googleusercontent.com/16/type/{item.mime_type}",
            "hasThumbnail": False,
            "thumbnailVersion": "0",
            "viewedByMe": False,
            "createdTime": time_text(item.created),
            "modifiedTime": time_text(item.modified),
            "modifiedByMe": item.editor == user,
            "isAppAuthorized": True,
            "copyRequiresWriterPermission": item.copy_locked,
            "viewersCanCopyContent": not item.copy_locked,
            "writersCanShare": True,
            "permissionIds": [permission["id"] for permission in permissions],
            "capabilities": _capabilities(item, role),
            "quotaBytesUsed": "0",
            "linkShareMetadata": {"securityUpdateEligible": False, "securityUpdateEnabled": True},
            "inheritedPermissionsDisabled": False,
        }
        if item.description is not None:
            made["description"] = item.description
        if item.editor is not None:
            made["lastModifyingUser"] = self._person(item.editor)
        if item.parent is not None and drive.role(user, drive.items[item.parent]) is not None:
            made["parents"] = [item.parent]
        if item.drive_id is not None:
            made |= {"driveId": item.drive_id, "teamDriveId": item.drive_id, "hasAugmentedPermissions": bool(item.own)}
            if item.trashed_at is not None:
                made |= {"trashedTime": time_text(item.trashed_at), "trashingUser": self._person(drive.admin)}
        else:
            made |= self._ownership(permissions, role)
        return made | self._content()

    def _ownership(self, permissions: tuple[Permission, ...], role: str | None) -> dict[str, Any]:
        item, user = self.item, self._user
        owner = item.owner or self._drive.admin
        made: dict[str, Any] = {
            "owners": [self._person(owner)],
            "ownedByMe": owner == user,
            "shared": len(permissions) > 1,
        }
        if self._drive.is_shared_with(user, item):
            given = item.shared_at.get(permission_id("user", user), item.created)
            made |= {"sharedWithMeTime": time_text(given), "sharingUser": self._person(owner)}
        if may_write(role):
            made["permissions"] = list(permissions)
        return made

    def _content(self) -> dict[str, Any]:
        item = self.item
        if item.is_shortcut:
            return {"shortcutDetails": {"targetId": item.target, "targetMimeType": item.target_mime_type}}
        if item.content is None:
            return {}
        made: dict[str, Any] = {"size": str(item.content.size), "quotaBytesUsed": str(item.content.size)}
        if item.is_native:
            links = export_links(item)
            return made | ({"exportLinks": links} if links else {})
        revision = "0B" + item.content.sums["sha256Checksum"][:38]
        link = f"https://drive.google.com/uc?id={item.file_id}&export=download"
        return made | {
            **item.content.sums,
            **binary_facts(item.name),
            "headRevisionId": revision,
            "webContentLink": link,
        }

    def _person(self, address: str) -> dict[str, Any]:
        return {**user_resource(address), "me": address == self._user}

    # What a query asks of it

    def text(self, term: str) -> str:
        """See :class:`local.gdrive.search.Searchable`."""
        item = self.item
        if term == "fullText":
            content = item.content
            readable = content is not None and content.mime_type.startswith("text/")
            inside = content.read().decode("utf-8", "replace") if content is not None and readable else ""
            return "\n".join((item.name, item.description or "", inside))
        if term == "visibility":
            kinds = {permission["type"] for permission in self._drive.permissions_of(item)}
            return "anyoneWithLink" if "anyone" in kinds else "domainCanFind" if "domain" in kinds else "limited"
        return {"name": item.name, "mimeType": item.mime_type, "shortcutDetails.targetId": item.target or ""}[term]

    def moment(self, term: str) -> datetime | None:
        """See :class:`local.gdrive.search.Searchable`."""
        return {"modifiedTime": self.item.modified, "createdTime": self.item.created}.get(term)

    def flag(self, term: str) -> bool:
        """See :class:`local.gdrive.search.Searchable`."""
        if term == "trashed":
            return self._drive.in_trash(self.item)
        return term == "sharedWithMe" and self._drive.is_shared_with(self._user, self.item)

    def holds(self, collection: str, value: str) -> bool:
        """See :class:`local.gdrive.search.Searchable`."""
        item = self.item
        if collection == "parents":
            return item.parent == (my_drive_root_id(self._user) if value == "root" else value)
        address = self._user if value == "me" else value.lower()
        if collection == "owners":
            return item.owner == address
        least = _WRITER if collection == "writers" else 0
        return any(
            permission.get("emailAddress") == address and ROLES.index(permission["role"]) >= least
            for permission in self._drive.permissions_of(item)
        )


def _capabilities(item: Item, role: str | None) -> dict[str, bool]:
    edits, in_drive = may_write(role), item.drive_id is not None
    manages = role in {"owner", "organizer", "fileOrganizer"}
    reads = edits or not item.copy_locked
    return {
        "canAddChildren": edits and item.is_folder,
        "canChangeCopyRequiresWriterPermission": edits,
        "canComment": role not in {"reader", None},
        "canCopy": reads and not item.is_folder,
        "canDelete": role in {"owner", "organizer"},
        "canDownload": reads and not item.is_folder and not item.is_shortcut,
        "canEdit": edits,
        "canListChildren": item.is_folder,
        "canModifyContent": edits,
        "canMoveItemIntoTeamDrive": role == "owner",
        "canMoveItemOutOfDrive": manages,
        "canMoveItemWithinDrive": edits,
        "canReadDrive": in_drive,
        "canReadRevisions": not item.is_folder,
        "canRemoveChildren": edits and item.is_folder,
        "canRename": edits,
        "canShare": edits,
        "canTrash": manages or (edits and not in_drive),
        "canUntrash": manages,
    }


def drive_resource(record: DriveRecord, user: str, role: str | None) -> dict[str, Any]:
    """A shared drive."""
    edits = may_write(role)
    return {
        "kind": "drive#drive",
        "id": record.drive_id,
        "name": record.name,
        "colorRgb": "#0f9d58",
        "createdTime": time_text(record.created),
        "hidden": user in record.hidden_for,
        "capabilities": {
            "canAddChildren": edits,
            "canDownload": True,
            "canEdit": edits,
            "canListChildren": True,
            "canManageMembers": role == "organizer",
            "canReadRevisions": True,
            "canRenameDrive": role == "organizer",
            "canShare": edits,
        },
        "restrictions": {
            "adminManagedRestrictions": False,
            "copyRequiresWriterPermission": False,
            "domainUsersOnly": False,
            "driveMembersOnly": False,
        },
    }


def change_resource(drive: Drive, entry: Entry, user: str, *, with_file: bool) -> dict[str, Any]:
    """An entry of a change log; *with_file* also where the file has only left this log and *user* still sees it."""
    made: dict[str, Any] = {
        "kind": "drive#change",
        "type": entry.kind,
        "changeType": entry.kind,
        "time": time_text(entry.time),
        "removed": entry.removed,
    }
    if entry.kind == "drive":
        made |= {"driveId": entry.entry_id, "teamDriveId": entry.entry_id}
        record = drive.shared_drives.get(entry.entry_id)
        if record is not None and not entry.removed:
            made["drive"] = drive_resource(record, user, drive.drive_role(user, entry.entry_id))
        return made
    made["fileId"] = entry.entry_id
    item = drive.items.get(entry.entry_id)
    if item is not None and (with_file or not entry.removed):
        made["file"] = FileView(drive, item, user).resource()
    return made


def about_resource(user: str) -> dict[str, Any]:
    """Who asks, and what there is for them."""
    return {
        "kind": "drive#about",
        "user": {**user_resource(user), "me": True},
        "storageQuota": {"limit": "32212254720", "usage": "0", "usageInDrive": "0", "usageInDriveTrash": "0"},
        "exportFormats": {kind: list(formats) for kind, formats in EXPORT_FORMATS.items()},
        "importFormats": {},
        "maxImportSizes": {},
        "maxUploadSize": "5242880000000",
        "appInstalled": True,
        "canCreateDrives": False,
        "canCreateTeamDrives": False,
        "folderColorPalette": ["#ac725e"],
    }
