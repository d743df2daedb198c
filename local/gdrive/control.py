"""The control route: how a program on this machine changes the Drive and its manners while the simulator runs.

All under ``/_control``, JSON both ways, and only for callers that name the simulator by a loopback address; a refusal
is ``{"error": …}`` with status 400, 403 or 404. Times are ISO 8601; durations are seconds. A file is named by ``id`` or
by ``path``: the names from the top of a My Drive, or a shared drive's name and the names in it.

``GET /_control``
    ``{tenantId, domain, customerId, admin, users, serviceAccount, now, calls, logins, files, sharedDrives}``:
    how many files, and the names of the drives by id
``GET /_control/files``
    ``{files: [{id, path, mimeType, owner, driveId, trashed, version}]}``
``GET /_control/calls``, ``DELETE /_control/calls``
    ``{total, paths: {"GET /drive/v3/…": n}, users: {address: n}}``; forget them
``POST /_control/files``
    One change, or a list of them; answers ``{ids: […]}``. ``{operation, id | path, …}`` with operation

    * ``create`` ``{name, parent?, owner?, mimeType?, contentType?, content? | contentBase64?}``, ``createFolder``
      ``{name, parent?, owner?}``, ``createShortcut`` ``{id | path (of the target), name?, parent?, owner?}``;
      parent is an id or a path
    * ``upload`` ``{content | contentBase64, contentType?}``, ``rename`` ``{name}``, ``describe`` ``{description}``
    * ``move`` ``{parent}``: into a folder, or a shared drive by its id
    * ``trash``, ``untrash``, ``delete`` (for good)
    * ``share`` ``{permission: {type, role, emailAddress | domain}}``, ``unshare`` ``{principal}``: a permission's id,
      an address, a domain, or ``anyone``
    * ``flag`` ``{abusive?, copyLocked?}``
``POST /_control/drives``
    ``{operation, id?, …}`` with operation ``create`` ``{name, permissions?}``, ``rename`` ``{name}``, ``addMember``
    ``{permission}``, ``removeMember`` ``{principal}``, ``hide`` and ``show`` ``{user}``, ``delete``
``POST /_control/users``
    ``{operation: add | suspend | restore, user}``, or ``{operation: group, group, members}``
``POST /_control/delegation``
    ``{revoke: true}``, or ``{scopes: […]}``: what the administrator lets the service account do for users
``POST /_control/tokens/expire``
    ``{what?: access | pages | changes}``: access tokens end; page tokens of files.list are lost; those of changes are
``POST /_control/clock``
    ``{freeze: time}``, ``{advance: seconds}`` or ``{run: true}``; ``{skew: seconds}`` is how far the token endpoint's
    clock is ahead
``POST /_control/faults``, ``DELETE /_control/faults``
    Arm ``{kind, skip?, times?, delay?, path?, headers?, status?, body?}``, kinds in
    :data:`local.gdrive.faults.KINDS`; disarm all
``POST /_control/settings``
    ``{pageCap?, emptyPages?, repeatedEntries?, lag?, childEntries?, driveItemsInUserLogs?, incompleteSearch?,
    exportLimit?}``, see :class:`local.gdrive.drive.Manners`
``POST /_control/push``
    ``{deliverTo?, retrySeconds?}``: where notifications for other addresses than this machine's go, path kept
``GET /_control/push``
    ``{channels: [{id, address, user, log, expiration}], deliveries: [{id, state, number, tries, status}]}``
"""

import base64
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from local.gdrive.drive import Drive, DriveError
from local.gdrive.items import Item
from local.gdrive.rest import RestApi
from local.simulator_control import Handler, SimulatorControl, do, each, refuse_unknown


class ControlRoute(SimulatorControl):
    """Answers calls under ``/_control``."""

    refusals = (DriveError,)
    clock_takes = "freeze, advance, run or skew"

    def __init__(self, api: RestApi) -> None:
        super().__init__(api.drive.lock, api.drive.clock, api.faults)
        self._api = api
        self._drive = api.drive

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """What can be changed and asked, see the module."""
        return {
            ("GET", ""): lambda _: self._state(),
            ("GET", "/files"): lambda _: {"files": [self._listed(item) for item in self._files()]},
            ("GET", "/calls"): lambda _: self._calls(),
            ("DELETE", "/calls"): lambda _: do(self._api.calls.clear),
            ("POST", "/files"): lambda given: {"ids": [change_file(self._drive, change) for change in each(given)]},
            ("POST", "/drives"): lambda given: {"ids": [_change_drive(self._drive, change) for change in each(given)]},
            ("POST", "/users"): self._change_user,
            ("POST", "/delegation"): self._change_delegation,
            ("POST", "/tokens/expire"): self._expire,
            ("POST", "/settings"): self._set_manners,
            ("POST", "/push"): self._set_push,
            ("GET", "/push"): lambda _: self._push(),
        }

    def _files(self) -> list[Item]:
        return [item for item in self._drive.items.values() if not item.is_root]

    def _state(self) -> dict[str, object]:
        drive = self._drive
        return {
            "tenantId": drive.tenant_id,
            "domain": drive.domain,
            "customerId": drive.customer_id,
            "admin": drive.admin,
            "users": drive.users,
            "serviceAccount": self._api.login.client_email,
            "now": drive.clock().isoformat(),
            "calls": len(self._api.calls),
            "logins": self._api.login.logins,
            "files": len(self._files()),
            "sharedDrives": {record.drive_id: record.name for record in drive.shared_drives.values()},
        }

    def _listed(self, item: Item) -> dict[str, object]:
        return {
            "id": item.file_id,
            "path": self._drive.path_of(item),
            "mimeType": item.mime_type,
            "owner": item.owner,
            "driveId": item.drive_id,
            "trashed": self._drive.in_trash(item),
            "version": item.version,
        }

    def _calls(self) -> dict[str, object]:
        calls = self._api.calls
        return {
            "total": len(calls),
            "paths": Counter(f"{call.method} {call.path}" for call in calls),
            "users": Counter(call.user for call in calls if call.user is not None),
        }

    def _change_user(self, given: Any) -> dict[str, object]:
        operation = given["operation"]
        if operation == "group":
            self._drive.set_group(given["group"], given["members"])
            return {"ok": True}
        makers = {"add": self._drive.add_user, "suspend": self._drive.suspend, "restore": self._drive.restore}
        if operation not in makers:
            raise ValueError(f"there is no operation {operation}")
        makers[operation](given["user"])
        return {"ok": True}

    def _change_delegation(self, given: Any) -> dict[str, object]:
        if given.get("revoke"):
            self._api.login.revoke_delegation()
        else:
            self._api.login.grant_delegation([str(scope) for scope in given["scopes"]])
        return {"scopes": sorted(self._api.login.delegated)}

    def _expire(self, given: Any) -> dict[str, object]:
        what = given.get("what", "access")
        makers = {
            "access": self._api.login.expire_tokens,
            "pages": self._api.listing.lose_tokens,
            "changes": self._drive.lose_change_tokens,
        }
        if what not in makers:
            raise ValueError(f"there are no tokens of {what}")
        return do(makers[what])

    def _set_clock(self, given: Any) -> Mapping[str, object]:
        if "skew" in given:
            self._api.login.skew = timedelta(seconds=given["skew"])
            told: Mapping[str, object] = {"now": self._drive.clock().isoformat()}
        else:
            told = super()._set_clock(given)
        self._drive.settle()
        return told

    def _set_manners(self, given: Any) -> dict[str, object]:
        manners = self._drive.manners
        numbers = {"pageCap": "page_cap", "emptyPages": "empty_pages", "repeatedEntries": "repeated_entries"} | {
            "exportLimit": "export_limit"
        }
        switches = {"childEntries": "child_entries", "driveItemsInUserLogs": "drive_items_in_user_logs"} | {
            "incompleteSearch": "incomplete_search"
        }
        refuse_unknown(given, numbers.keys() | switches.keys() | {"lag"})
        if not 0 <= int(given.get("emptyPages", 0)) <= 15 or int(given.get("pageCap", 1)) < 1:
            raise ValueError("emptyPages is 0 to 15, pageCap 1 or more")
        for name, value in given.items():
            if name in numbers:
                setattr(manners, numbers[name], int(value))
            elif name in switches:
                setattr(manners, switches[name], bool(value))
            else:
                manners.lag = timedelta(seconds=value)
        return {"ok": True}

    def _set_push(self, given: Any) -> dict[str, object]:
        channels = self._api.channels
        if "deliverTo" in given:
            channels.lead_to(given["deliverTo"])
        channels.retry_seconds = float(given.get("retrySeconds", channels.retry_seconds))
        return {"deliverTo": channels.deliver_to, "retrySeconds": channels.retry_seconds}

    def _push(self) -> dict[str, object]:
        channels = self._api.channels
        return {
            "channels": [
                {
                    "id": channel.channel_id,
                    "address": channel.address,
                    "user": channel.user,
                    "log": channel.log,
                    "expiration": channel.ends.isoformat(),
                }
                for channel in channels.open_channels.values()
            ],
            "deliveries": [
                {
                    "id": delivery.channel_id,
                    "state": delivery.state,
                    "number": delivery.number,
                    "tries": delivery.tries,
                    "status": delivery.status,
                }
                for delivery in channels.deliveries
            ],
        }


def change_file(drive: Drive, change: dict[str, Any]) -> str:
    """Make one change of a file; its id.

    Raises:
        DriveError, KeyError, ValueError: it can't be made.
    """
    operation = change["operation"]
    place = (
        {"parent": _named(drive, change["parent"]), "owner": change.get("owner")}
        if change.get("parent")
        else {"owner": change.get("owner")}
    )
    if operation == "create":
        kinds = {"mime_type": change.get("mimeType"), "content_type": change.get("contentType")}
        return drive.create_file(change["name"], _content(change), **place, **kinds)
    if operation == "createFolder":
        return drive.create_folder(change["name"], **place)
    file_id = drive.at(change["path"]).file_id if "id" not in change else str(change["id"])
    if operation == "createShortcut":
        return drive.create_shortcut(file_id, name=change.get("name"), **place)
    makers: dict[str, Callable[[], object]] = {
        "upload": lambda: drive.upload(file_id, _content(change), change.get("contentType")),
        "rename": lambda: drive.rename(file_id, change["name"]),
        "describe": lambda: drive.describe(file_id, change["description"]),
        "move": lambda: drive.move(file_id, _named(drive, change["parent"])),
        "trash": lambda: drive.trash(file_id),
        "untrash": lambda: drive.untrash(file_id),
        "delete": lambda: drive.delete(file_id),
        "share": lambda: drive.share(file_id, change["permission"]),
        "unshare": lambda: drive.unshare(file_id, change["principal"]),
        "flag": lambda: drive.flag(file_id, abusive=change.get("abusive"), copy_locked=change.get("copyLocked")),
    }
    if operation not in makers:
        raise ValueError(f"there is no operation {operation}")
    makers[operation]()
    return file_id


def _change_drive(drive: Drive, change: dict[str, Any]) -> str:
    operation = change["operation"]
    if operation == "create":
        return drive.create_drive(change["name"], change.get("permissions", []))
    drive_id = str(change["id"])
    makers: dict[str, Callable[[], object]] = {
        "rename": lambda: drive.rename_drive(drive_id, change["name"]),
        "addMember": lambda: drive.add_member(drive_id, change["permission"]),
        "removeMember": lambda: drive.remove_member(drive_id, change["principal"]),
        "hide": lambda: drive.hide_drive(drive_id, change["user"]),
        "show": lambda: drive.hide_drive(drive_id, change["user"], hidden=False),
        "delete": lambda: drive.delete_drive(drive_id),
    }
    if operation not in makers:
        raise ValueError(f"there is no operation {operation}")
    makers[operation]()
    return drive_id


def _named(drive: Drive, name: str) -> str:
    """The id of a folder that is given by its id or its path."""
    return name if name in drive.items else drive.at(name).file_id


def _content(change: Mapping[str, Any]) -> bytes:
    if "contentBase64" in change:
        return base64.b64decode(change["contentBase64"], validate=True)
    return str(change.get("content", "")).encode()
