"""The Drive's HTTP face: Drive v3, the token endpoint, batches and export links."""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import Response

from local.gdrive.auth import DIRECTORY_SCOPES, Caller, Credentials, Login, TokenRefusedError, require_drive_scope
from local.gdrive.batch import BATCH_PATH, answer_batch
from local.gdrive.drive import Drive
from local.gdrive.errors import DriveApiError, drive_not_found, file_not_found, invalid_value, required
from local.gdrive.exports import EXPORT_PATHS, export, mime_type_of_format
from local.gdrive.faults import KINDS
from local.gdrive.http import Answer, Call, json_answer
from local.gdrive.items import Item
from local.gdrive.listing import Listing, check_drive_parameters
from local.gdrive.masks import Selection, parse_mask, select
from local.gdrive.push import Channels
from local.gdrive.resources import FileView, about_resource, change_resource, drive_resource, may_write
from local.simulator_faults import Fault, Faults

API = "/drive/v3"
_KEPT_CALLS = 100_000
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_FILE_DEFAULT = "kind,id,name,mimeType"
_DRIVE_DEFAULT = "kind,id,name"
_DEFAULTS: Final[Mapping[str, str]] = {
    "File": _FILE_DEFAULT,
    "Drive": _DRIVE_DEFAULT,
    "FileList": f"kind,nextPageToken,incompleteSearch,files({_FILE_DEFAULT},driveId,teamDriveId)",
    "DriveList": f"kind,nextPageToken,drives({_DRIVE_DEFAULT})",
    "PermissionList": "kind,nextPageToken,permissions(kind,id,type,role)",
    "ChangeList": "kind,nextPageToken,newStartPageToken,changes(kind,type,changeType,time,removed,fileId,driveId,"
    f"teamDriveId,file({_FILE_DEFAULT},driveId,teamDriveId),drive({_DRIVE_DEFAULT}))",
    "StartPageToken": "*",
    "Channel": "*",
}
"""What is answered without a mask."""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call that came in; *user* is whom its token is for, None where it had none."""

    method: str
    path: str
    params: Mapping[str, str]
    user: str | None
    status: int


class RestApi:
    """Answers calls to the Drives of one domain."""

    def __init__(self, drive: Drive, credentials: Credentials, public_key: str | None = None) -> None:
        self.drive = drive
        self.login = Login(
            public_key or credentials.public_key,
            credentials.client_email,
            domain=drive.domain,
            users=lambda: drive.users,
            suspended=lambda: drive.suspended,
            clock=drive.clock,
        )
        self.faults = Faults(KINDS)
        self.listing = Listing(drive)
        self.channels = Channels(drive)
        self.calls: deque[CallRecord] = deque(maxlen=_KEPT_CALLS)

    async def __call__(self, request: Request) -> Response:
        """Answer any call but the control route's."""
        call = Call(
            request.method,
            request.url.path,
            dict(request.query_params),
            {name.lower(): value for name, value in request.headers.items()},
            await request.body(),
        )
        fault = self.faults.strike(call.path)
        if fault is not None and fault.delay:
            await asyncio.sleep(fault.delay)
        answer = self.answer(call, fault)
        headers = {**answer.headers, "Content-Type": answer.content_type}
        return Response(
            answer.body, answer.status, {**headers, "Date": format_datetime(self.drive.clock(), usegmt=True)}
        )

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        """The answer to *call*, or what *fault* makes of it."""
        if fault is not None and fault.status is not None:
            answer = Answer(fault.status, fault.body.encode(), fault.content_type, dict(fault.headers))
        else:
            with self.drive.lock:
                self.drive.settle()
                answer = self._answer(call)
        self.calls.append(CallRecord(call.method, call.path, call.params, call.user, answer.status))
        return answer

    def _answer(self, call: Call) -> Answer:
        if call.path == "/token":
            return self._token(call)
        try:
            if call.path == BATCH_PATH:
                return answer_batch(call, self._part)
            return self._routed(call)
        except DriveApiError as error:
            answer = json_answer(error.body(), error.status)
            if error.status == 401:
                answer.headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/"'
            return answer

    def _part(self, call: Call) -> Answer:
        """A part of a batch: a call of its own, with faults of its own."""
        return self.answer(call, self.faults.strike(call.path))

    def _token(self, call: Call) -> Answer:
        form = dict(parse_qsl(call.body.decode("utf-8", "replace")))
        try:
            if call.method != "POST":
                raise TokenRefusedError("invalid_request", "Request must be POST.")
            return json_answer(self.login.token(form))
        except TokenRefusedError as error:
            return json_answer(error.body, error.status)

    def _routed(self, call: Call) -> Answer:
        caller = self.login.caller(call.headers.get("authorization"))
        call.user = caller.user
        if call.path in EXPORT_PATHS:
            return self._export_link(call, caller)
        parts = [unquote(part) for part in call.path.strip("/").split("/")]
        if parts == ["admin", "directory", "v1", "customers", "my_customer"]:
            return self._customer(call, caller)
        if parts[:2] != ["drive", "v3"]:
            return Answer(404, b"Not Found", "text/html; charset=UTF-8")
        require_drive_scope(caller)
        if call.text("alt") not in {None, "json", "media"}:
            raise invalid_value("alt")
        reads = call.method in {"GET", "HEAD"}
        if not reads and parts[2:] not in [["changes", "watch"], ["channels", "stop"]]:
            message = "Insufficient Permission: this simulator's Drives are changed by its control route alone."
            raise DriveApiError(403, "insufficientPermissions", message)
        return self._resource(parts[2:], call, caller)

    def _resource(self, parts: list[str], call: Call, caller: Caller) -> Answer:
        user = caller.user
        handlers: dict[str, Callable[[Call, str], Answer]] = {
            "about": self._about,
            "changes": self._changes,
            "changes/startPageToken": self._start_page_token,
            "changes/watch": self._watch,
            "channels/stop": self._stop,
            "files": self._files,
            "drives": self._drives,
        }
        handler = handlers.get("/".join(parts))
        if handler is not None:
            return handler(call, user)
        match parts:
            case ["files", file_id]:
                return self._file(call, caller, file_id)
            case ["files", file_id, "export"]:
                return self._export(call, caller, file_id)
            case ["files", file_id, "permissions"]:
                return self._permissions(call, user, file_id)
            case ["drives", drive_id]:
                return self._shared_drive(call, user, drive_id)
        return Answer(404, b"Not Found", "text/html; charset=UTF-8")

    # About, drives, the customer

    def _about(self, call: Call, user: str) -> Answer:
        if call.text("fields") is None:
            message = "The 'fields' parameter is required for this method."
            raise DriveApiError(400, "required", message, location=("fields", "parameter"))
        return _masked(call, "About", about_resource(user))

    def _drives(self, call: Call, user: str) -> Answer:
        size = call.number("pageSize", 10, 100)
        found = sorted(
            drive_id
            for drive_id in self.drive.shared_drives
            if self._is_domain_admin(call, user) or self.drive.drive_role(user, drive_id) is not None
        )
        start = _place(call.text("pageToken"), found)
        shown = [
            drive_resource(self.drive.shared_drives[drive_id], user, self.drive.drive_role(user, drive_id))
            for drive_id in found[start : start + size]
        ]
        answer: dict[str, Any] = {"kind": "drive#driveList", "drives": shown}
        if start + size < len(found):
            answer["nextPageToken"] = f"~!!~{found[start + size]}"
        return _masked(call, "DriveList", answer)

    def _shared_drive(self, call: Call, user: str, drive_id: str) -> Answer:
        record, role = self.drive.shared_drives.get(drive_id), self.drive.drive_role(user, drive_id)
        if record is None or (role is None and not self._is_domain_admin(call, user)):
            raise drive_not_found(drive_id)
        return _masked(call, "Drive", drive_resource(record, user, role))

    def _is_domain_admin(self, call: Call, user: str) -> bool:
        """Whether the call asks as the domain's administrator.

        Raises:
            DriveApiError: 403: it does, and the user is none.
        """
        asked = call.flag("useDomainAdminAccess")
        if asked and user != self.drive.admin:
            message = "The user does not have sufficient permissions for this file."
            raise DriveApiError(403, "insufficientFilePermissions", message)
        return asked

    def _customer(self, call: Call, caller: Caller) -> Answer:
        """The Directory API's customer, where its id is told to an administrator."""
        if call.method != "GET" or caller.user != self.drive.admin or not caller.scopes & set(DIRECTORY_SCOPES):
            raise DriveApiError(403, "forbidden", "Not Authorized to access this resource/api")
        customer = {
            "kind": "admin#directory#customer",
            "id": self.drive.customer_id,
            "customerDomain": self.drive.domain,
        }
        return json_answer(customer)

    # Changes

    def _log_name(self, call: Call, user: str) -> str:
        drive_id = call.text("driveId") or call.text("teamDriveId")
        if drive_id is None:
            return user
        if not call.all_drives:
            message = "The driveId parameter requires supportsAllDrives."
            place = ("driveId", "parameter")
            raise DriveApiError(403, "supportsTeamDrivesRequired", message, location=place)
        if self.drive.drive_role(user, drive_id) is None:
            raise drive_not_found(drive_id)
        return drive_id

    def _start_page_token(self, call: Call, user: str) -> Answer:
        log = self.drive.log(self._log_name(call, user))
        token = {"kind": "drive#startPageToken", "startPageToken": log.token(log.next_sequence)}
        return _masked(call, "StartPageToken", token)

    def _changes(self, call: Call, user: str) -> Answer:
        token = call.text("pageToken")
        if token is None:
            raise required("pageToken")
        log = self.drive.log(self._log_name(call, user))
        with_drives = check_drive_parameters(call)
        manners = self.drive.manners
        size = min(call.number("pageSize", 100, 1000), manners.page_cap)
        sequence, empty_pages = log.read_token(token)
        # At least one new entry a page, or a walk would never end.
        found = log.since(sequence, min(manners.repeated_entries, size - 1))
        answer: dict[str, Any] = {"kind": "drive#changeList", "changes": []}
        if not found:
            answer["newStartPageToken"] = token
        elif empty_pages < manners.empty_pages:
            answer["nextPageToken"] = log.token(sequence, empty_pages + 1)
        else:
            for entry in found[:size]:
                if entry.removed and not call.flag("includeRemoved", otherwise=True):
                    continue
                item = self.drive.items.get(entry.entry_id)
                if log.name == user and not with_drives and (entry.kind == "drive" or (item and item.drive_id)):
                    # Out of My Drive is out of what the caller can see.
                    if entry.kind == "file" and entry.removed:
                        answer["changes"].append(change_resource(self.drive, entry, user, with_file=False))
                    continue
                if call.flag("restrictToMyDrive") and item is not None and item.owner != user and not entry.removed:
                    continue
                still_seen = item is not None and self.drive.role(user, item) is not None
                with_file = call.flag("includeCorpusRemovals") and still_seen
                answer["changes"].append(change_resource(self.drive, entry, user, with_file=with_file))
            if len(found) > size:
                answer["nextPageToken"] = log.token(found[size].sequence)
            else:
                answer["newStartPageToken"] = log.token(log.next_sequence)
        return _masked(call, "ChangeList", answer)

    def _watch(self, call: Call, user: str) -> Answer:
        token = call.text("pageToken")
        if token is None:
            raise required("pageToken")
        log = self.drive.log(self._log_name(call, user))
        log.read_token(token)
        channel = self.channels.open(call.json(), user, log.name, token)
        return _masked(call, "Channel", channel)

    def _stop(self, call: Call, user: str) -> Answer:
        self.channels.close(call.json(), user)
        return Answer(204, b"", "text/html")

    # Files

    def _files(self, call: Call, user: str) -> Answer:
        items, token, incomplete = self.listing.page(call, user)
        mask = _mask(call, "FileList")
        answer: dict[str, Any] = {
            "kind": "drive#fileList",
            "incompleteSearch": incomplete,
            "files": [FileView(self.drive, item, user).resource() for item in items],
        }
        if token is not None:
            answer["nextPageToken"] = token
        return json_answer(select(answer, mask))

    def _visible(self, call: Call, user: str, file_id: str) -> Item:
        item = self.drive.root_of(user) if file_id == "root" else self.drive.items.get(file_id)
        if item is None or (item.drive_id is not None and not call.all_drives):
            raise file_not_found(file_id)
        if self.drive.role(user, item) is None:
            raise file_not_found(file_id)
        return item

    def _file(self, call: Call, caller: Caller, file_id: str) -> Answer:
        item = self._visible(call, caller.user, file_id)
        if call.text("alt") == "media":
            require_drive_scope(caller, content=True)
            return self._media(call, caller.user, item)
        return _masked(call, "File", FileView(self.drive, item, caller.user).resource())

    def _media(self, call: Call, user: str, item: Item) -> Answer:
        if item.is_native or item.content is None:
            message = "Only files with binary content can be downloaded. Use Export with Docs Editors files."
            raise DriveApiError(403, "fileNotDownloadable", message, location=("alt", "parameter"))
        if item.abusive and not call.flag("acknowledgeAbuse"):
            message = "This file has been identified as malware or spam and cannot be downloaded."
            raise DriveApiError(403, "cannotDownloadAbusiveFile", message)
        self._check_copy_lock(user, item)
        return _ranged(item.content.read(), item.mime_type, call.headers.get("range"))

    def _check_copy_lock(self, user: str, item: Item) -> None:
        if item.copy_locked and not may_write(self.drive.role(user, item)):
            raise DriveApiError(403, "cannotDownloadFile", "This file cannot be downloaded by the user.")

    def _export(self, call: Call, caller: Caller, file_id: str) -> Answer:
        require_drive_scope(caller, content=True)
        # files.export takes no supportsAllDrives: files of shared drives are exported all the same.
        item = self._visible(_with(call, supportsAllDrives="true"), caller.user, file_id)
        mime_type = call.text("mimeType")
        if mime_type is None:
            raise required("mimeType")
        self._check_copy_lock(caller.user, item)
        made = export(item, mime_type)
        if len(made) > self.drive.manners.export_limit:
            raise DriveApiError(403, "exportSizeLimitExceeded", "This file is too large to be exported.")
        return Answer(200, made, mime_type, {"Content-Disposition": "attachment"})

    def _export_link(self, call: Call, caller: Caller) -> Answer:
        require_drive_scope(caller, content=True)
        item = self._visible(_with(call, supportsAllDrives="true"), caller.user, call.params.get("id", ""))
        self._check_copy_lock(caller.user, item)
        mime_type = mime_type_of_format(item, call.params.get("exportFormat", ""))
        return _ranged(export(item, mime_type), mime_type, call.headers.get("range"))

    def _permissions(self, call: Call, user: str, file_id: str) -> Answer:
        as_admin = self._is_domain_admin(call, user)
        if as_admin and file_id in self.drive.shared_drives:
            item = self.drive.items[file_id]
        else:
            item = self._visible(call, user, file_id)
            if not may_write(self.drive.role(user, item)):
                message = "The user does not have sufficient permissions for this file."
                raise DriveApiError(403, "insufficientFilePermissions", message)
        found = list(self.drive.permissions_of(item))
        size = min(call.number("pageSize", 100, 100), self.drive.manners.page_cap)
        ids = [str(permission["id"]) for permission in found]
        start = _place(call.text("pageToken"), ids)
        answer: dict[str, Any] = {"kind": "drive#permissionList", "permissions": found[start : start + size]}
        if start + size < len(found):
            answer["nextPageToken"] = f"~!!~{ids[start + size]}"
        return _masked(call, "PermissionList", answer)


def _mask(call: Call, schema: str) -> Selection:
    return parse_mask(call.text("fields") or _DEFAULTS[schema], schema)


def _masked(call: Call, schema: str, value: dict[str, Any]) -> Answer:
    return json_answer(select(value, parse_mask(call.text("fields") or _DEFAULTS[schema], schema)))


def _with(call: Call, **params: str) -> Call:
    return replace(call, params={**call.params, **params})


def _place(token: str | None, names: list[str]) -> int:
    """Where in *names* the page of *token* begins."""
    if token is None:
        return 0
    try:
        return names.index(token.removeprefix("~!!~"))
    except ValueError:
        raise invalid_value("pageToken") from None


def _ranged(data: bytes, mime_type: str, asked: str | None) -> Answer:
    """*data*, or the range of it that is *asked* for; several ranges at once are answered with all of it."""
    match = _RANGE.fullmatch(asked.strip()) if asked is not None else None
    if match is None or match[1] == match[2] == "":
        return Answer(200, data, mime_type, {"Accept-Ranges": "bytes"})
    if match[1]:
        first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
    else:
        first, last = max(0, len(data) - int(match[2])), len(data) - 1
    if first >= len(data) or last < first:
        error = DriveApiError(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
        answer = json_answer(error.body(), 416)
        answer.headers["Content-Range"] = f"bytes */{len(data)}"
        return answer
    place = {"Content-Range": f"bytes {first}-{last}/{len(data)}", "Accept-Ranges": "bytes"}
    return Answer(206, data[first : last + 1], mime_type, place)
