"""files.list: which files a query finds, in what order, and the pages of it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from local.gdrive.drive import Drive
from local.gdrive.errors import DriveApiError, drive_not_found, file_not_found, invalid_value
from local.gdrive.http import Call
from local.gdrive.items import Item
from local.gdrive.resources import FileView
from local.gdrive.search import parse_query

TOKEN_LIFETIME: Final = timedelta(hours=3)
_CORPORA: Final = ("user", "domain", "drive", "allDrives")
_BOUND: Final = ("q", "orderBy", "corpora", "driveId", "spaces", "includeItemsFromAllDrives", "includeTeamDriveItems")

_SORT_KEYS: Final[dict[str, Callable[[Item], Any]]] = {
    "createdTime": lambda item: item.created,
    "folder": lambda item: not item.is_folder,
    "modifiedByMeTime": lambda item: item.modified,
    "modifiedTime": lambda item: item.modified,
    "name": lambda item: item.name.lower(),
    "name_natural": lambda item: item.name.lower(),
    "quotaBytesUsed": lambda item: item.content.size if item.content else 0,
    "recency": lambda item: item.modified,
    "sharedWithMeTime": lambda item: item.created,
    "starred": lambda item: 0,  # noqa: ARG005 - nobody stars anything here
    "viewedByMeTime": lambda item: item.created,
}


@dataclass(slots=True)
class _Walk:
    user: str
    bound: tuple[str, ...]
    found: list[str]
    at: int
    began: datetime
    empty_pages: int


class Listing:
    """The walks through query results that are under way. A page token is good for its own query and user."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._walks: dict[str, _Walk] = {}

    def lose_tokens(self) -> None:
        """Let every page token be unknown."""
        self._walks.clear()

    def page(self, call: Call, user: str) -> tuple[list[Item], str | None, bool]:
        """The files of a page, the token of the next one, and whether the search is incomplete.

        Raises:
            DriveApiError: a parameter is wrong.
        """
        size = min(call.number("pageSize", 100, 1000), self._drive.manners.page_cap)
        with_drives = check_drive_parameters(call)
        corpora = call.text("corpora") or "user"
        if corpora not in _CORPORA:
            raise invalid_value("corpora")
        bound = tuple(call.params.get(name, "") for name in _BOUND)
        token = call.text("pageToken")
        if token is None:
            found = [item.file_id for item in self._find(call, user, corpora, with_drives=with_drives)]
            empty_pages = self._drive.manners.empty_pages
            walk = _Walk(user, bound, found, 0, self._drive.clock(), empty_pages)
        else:
            known = self._walks.get(token)
            if known is None or known.user != user or known.bound != bound:
                raise invalid_value("pageToken")
            if self._drive.clock() - known.began > TOKEN_LIFETIME:
                raise invalid_value("pageToken")
            walk = known
        incomplete = corpora == "allDrives" and self._drive.manners.incomplete_search
        if walk.empty_pages:
            kept = _Walk(user, bound, walk.found, walk.at, walk.began, walk.empty_pages - 1)
            return [], self._keep(kept), incomplete
        end = walk.at + size
        items = [self._drive.items[name] for name in walk.found[walk.at : end] if name in self._drive.items]
        if end >= len(walk.found):
            return items, None, incomplete
        kept = _Walk(user, bound, walk.found, end, walk.began, self._drive.manners.empty_pages)
        return items, self._keep(kept), incomplete

    def _keep(self, walk: _Walk) -> str:
        token = "~!!~AI9FV7" + secrets.token_urlsafe(48)
        self._walks[token] = walk
        return token

    def _find(self, call: Call, user: str, corpora: str, *, with_drives: bool) -> list[Item]:
        drive_id = call.text("driveId") or call.text("teamDriveId")
        if (drive_id is not None) != (corpora == "drive"):
            message = "The driveId parameter must be specified if and only if corpora is set to drive."
            raise invalid_value("driveId", message)
        if corpora in {"drive", "allDrives"} and not (with_drives and call.all_drives):
            message = "The supportsAllDrives and includeItemsFromAllDrives parameters are required for this corpora."
            raise invalid_value("corpora", message)
        if drive_id is not None and self._drive.drive_role(user, drive_id) is None:
            raise drive_not_found(drive_id)
        condition, folders = parse_query(call.params.get("q", ""))
        for folder in folders:
            item = self._drive.items.get(folder)
            if folder != "root" and (item is None or self._drive.role(user, item) is None):
                raise file_not_found(folder)
        spaces = call.text("spaces") or "drive"
        if spaces not in {"drive", "appDataFolder", "photos"}:
            raise invalid_value("spaces")
        found = [
            item
            for item in self._drive.items.values()
            if spaces == "drive"
            and not item.is_root
            and (item.drive_id is None or with_drives)
            and (drive_id is None or item.drive_id == drive_id)
            and self._drive.role(user, item, by_link=False) is not None
            and condition(FileView(self._drive, item, user))
        ]
        return _ordered(found, call.text("orderBy"))


def check_drive_parameters(call: Call) -> bool:
    """Whether items of shared drives are asked for.

    Raises:
        DriveApiError: 403 supportsTeamDrivesRequired: they are, by a caller that does not know of shared drives.
    """
    wanted = call.flag("includeItemsFromAllDrives") or call.flag("includeTeamDriveItems")
    if wanted and not call.all_drives:
        message = "The includeItemsFromAllDrives parameter requires supportsAllDrives."
        place = ("includeItemsFromAllDrives", "parameter")
        raise DriveApiError(403, "supportsTeamDrivesRequired", message, location=place)
    return wanted


def _ordered(found: list[Item], order: str | None) -> list[Item]:
    if order is None:
        return sorted(found, key=lambda item: item.modified, reverse=True)
    for key in reversed(order.split(",")):  # a stable sort by the last key first
        name, _, direction = key.strip().partition(" ")
        if name not in _SORT_KEYS or direction.strip() not in {"", "desc"}:
            raise invalid_value("orderBy")
        found = sorted(found, key=_SORT_KEYS[name], reverse=direction.strip() == "desc")
    return found
