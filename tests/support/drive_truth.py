"""What a connection has to have stored of simulated Drives, by Drive's own rules and without the product's code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unicodedata import normalize

from local.gdrive.drive import Drive
from local.gdrive.items import Item

_WRITERS = ("writer", "fileOrganizer", "organizer", "owner")

CLOSED: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Truth:
    """What may be stored of a file: what Drive leaves open has several values.

    *live* None: it may be stored or not. *places* are paths with the parent folder's id, by who may have read it.
    """

    live: bool | None
    places: frozenset[tuple[str, str | None]] = frozenset()
    readers: frozenset[tuple[str, ...]] = frozenset()
    text: str | None = None
    """What a file's text is; None where that is open, or it has none."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a connection reads, and as whom."""

    subjects: tuple[str, ...]
    folders: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    shared_drives: bool = True

    def asks_for(self, ids: set[str], drive_id: str | None) -> bool:
        """Whether what stands below folders of these *ids* is read."""
        if drive_id is not None and not self.shared_drives:
            return False
        return (not self.folders or not ids.isdisjoint(self.folders)) and ids.isdisjoint(self.left_out)


def truth_of(drive: Drive, item: Item, wanted: Wanted) -> Truth:
    """What is to be stored of *item*."""
    seeing = [user for user in wanted.subjects if drive.role(user, item, by_link=False) is not None]
    linked = [user for user in wanted.subjects if drive.role(user, item) is not None]
    if drive.in_trash(item) or not linked:
        return Truth(live=False)
    views = {user: _view(drive, item, user) for user in (seeing or linked)}
    whole = [view for view in views.values() if view.whole]
    ids = {item.file_id, *(above.file_id for above in _above(drive, item)), item.drive_id or ""}
    live: bool | None = wanted.asks_for(ids, item.drive_id)
    if not whole and (wanted.folders or wanted.left_out):
        live = None
    if not seeing and live:
        # A link opens it for whoever knows its id; whether it is found depends on what was known before.
        live = None
    return Truth(
        live,
        places=_places(drive, item, wanted, {user: _view(drive, item, user) for user in linked}),
        readers=_readers(drive, item, wanted),
        text=_text(drive, item, seeing),
    )


def truth_of_all(drive: Drive, item: Item, wanted: Sequence[Wanted]) -> Truth:
    """What is to be stored of *item* by several connections: what one of them wants, as one of them reads it."""
    truths = [truth_of(drive, item, one) for one in wanted]
    told = [truth for truth in truths if truth.live is not False] or truths
    live = True if any(truth.live for truth in told) else told[0].live
    readers = frozenset[tuple[str, ...]]().union(*(truth.readers for truth in told))
    # Whom it is closed to who can't say who reads it, it is open to by whoever can.
    sure = [truth.readers for truth in told if truth.live and CLOSED not in truth.readers]
    texts = [truth.text for truth in told]
    return Truth(
        live,
        places=frozenset[tuple[str, str | None]]().union(*(truth.places for truth in told)),
        readers=sure[0] if sure else readers,
        text=texts[0] if len(set(texts)) == 1 else None,
    )


@dataclass(frozen=True, slots=True)
class _View:
    path: str
    parent: str | None
    whole: bool


def _above(drive: Drive, item: Item) -> Iterator[Item]:
    while item.parent is not None:
        item = drive.items[item.parent]
        yield item


def _view(drive: Drive, item: Item, user: str) -> _View:
    """Where *user* sees *item*: Drive names no folder that they may not open."""
    names, whole = [item.name], False
    if item.is_root:
        return _View("/" + _shown(drive.shared_drives[item.file_id].name), None, whole=True)
    for above in _above(drive, item):
        if drive.role(user, above) is None:
            break
        if above.is_root:
            whole = above.drive_id is not None or above.owner == user
            if above.drive_id is not None:
                names.append(drive.shared_drives[above.drive_id].name)
            break
        names.append(above.name)
    parent = item.parent if item.parent and drive.role(user, drive.items[item.parent]) is not None else None
    return _View("/" + "/".join(_shown(name) for name in reversed(names)), parent, whole)


def _shown(name: str) -> str:
    return normalize("NFC", name).replace("/", "\N{DIVISION SLASH}")


def _places(drive: Drive, item: Item, wanted: Wanted, views: dict[str, _View]) -> frozenset[tuple[str, str | None]]:
    """As its owner sees it, or a member of its shared drive.

    Where those are no users of the connection, or do not see the folders that decide if it is wanted, it stands as
    anybody may have seen it: nobody tells that a folder above came into somebody's view by a link, or went.
    """
    chosen = [view for user, view in views.items() if user == item.owner]
    if item.drive_id is not None:
        chosen = [view for user, view in views.items() if drive.drive_role(user, item.drive_id) is not None]
    if chosen and (any(view.whole for view in chosen) or not (wanted.folders or wanted.left_out)):
        return frozenset((view.path, view.parent) for view in chosen)
    names = [item.name, *(above.name for above in _above(drive, item) if not above.is_root)]
    if item.drive_id is not None:
        names.append(drive.shared_drives[item.drive_id].name)
    paths = ["/" + "/".join(_shown(name) for name in names[end::-1]) for end in range(len(names))]
    return frozenset((path, parent) for path in paths for parent in (None, item.parent))


def _readers(drive: Drive, item: Item, wanted: Wanted) -> frozenset[tuple[str, ...]]:
    """Who finds it by search; nobody, where none of the users may say who."""
    told = tuple(sorted(_principals(drive.permissions_of(item), drive.clock())))
    if any(drive.role(user, item, by_link=False) in _WRITERS for user in wanted.subjects):
        return frozenset({told})
    if any(drive.role(user, item) in _WRITERS for user in wanted.subjects):
        return frozenset({told, CLOSED})
    return frozenset({CLOSED})


def _principals(permissions: Sequence[dict[str, Any]], now: datetime) -> set[str]:
    found = set()
    for given in permissions:
        ends = given.get("expirationTime")
        if given.get("deleted") or (ends is not None and datetime.fromisoformat(ends) <= now):
            continue
        if given["type"] in ("user", "group"):
            found.add(f"{given['type']}:{given['emailAddress']}")
        elif given.get("allowFileDiscovery"):
            found.add("anyone" if given["type"] == "anyone" else f"domain:{given['domain']}")
    return found


def _text(drive: Drive, item: Item, seeing: Sequence[str]) -> str | None:
    if item.content is None or item.abusive or not (item.mime_type.startswith("text/") or item.is_native):
        return None
    if item.copy_locked and not any(drive.role(user, item) in _WRITERS for user in seeing):
        return None
    return item.content.read().decode()
