"""What people do in their Drives, drawn by lot."""

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

from drive_living_rig import ANN, BOB, CAROL, PEOPLE, LivingDrives
from drive_rig import DOCUMENT, given
from drive_source_rig import DOMAIN, IMAGE

from ingestion.gdrive.drive_resources import my_drive_root_id, time_text
from local.gdrive.drive import DriveError
from local.gdrive.items import Item

EVE = "eve@elsewhere.example"
TEAM, CREW = f"team@{DOMAIN}", f"crew@{DOMAIN}"
NAMES = ("Plan", "Notes a/b", "Re\u0301sume\u0301", "Budget", "x.txt")
MOST_ITEMS = 16

Change = Callable[[Random], str | None]


class DrivePeople:
    """At work in the Drives of *rig*; whoever calls them holds the Drives' lock."""

    def __init__(self, rig: LivingDrives) -> None:
        self._rig = rig
        self._drive = rig.drive
        self._name = rig.name_of

    def begin(self, dice: Random) -> None:
        """Make a shared folder in a folder, and files in both."""
        owner = dice.choice(self._rig.subjects)
        outer = self._drive.create_folder("Here", owner=owner)
        inner = self._drive.create_folder("Inner", parent=outer)
        shared = dice.choice((outer, inner))
        self._drive.share(shared, self._permission(dice, self._drive.item(shared)))
        for folder in (outer, inner):
            self._drive.create_file("note.txt", self._words(dice), parent=folder)

    def change(self, dice: Random) -> str:
        """Have somebody do something; what it was."""
        changes: list[tuple[int, Change]] = [
            (5, self._create_file),
            (3, self._create_folder),
            (1, self._create_shortcut),
            (4, self._upload),
            (3, self._rename),
            (6, self._move),
            (3, self._trash),
            (4, self._untrash),
            (1, self._delete),
            (6, self._share),
            (5, self._unshare),
            (2, self._transfer),
            (1, self._flag),
            (1, self._describe),
            (1, self._group_changes),
            (3, self._drive_changes),
        ]
        while True:
            [chosen] = dice.choices([change for _, change in changes], [weight for weight, _ in changes])
            try:
                told = chosen(dice)
            except DriveError:
                continue  # Drive allows no such thing, a folder in itself
            if told:
                return told

    def items(self, *, folders: bool = False) -> list[Item]:
        """All there is, in the bin too, or the folders of it."""
        found = [item for item in self._drive.items.values() if not item.is_root]
        return [item for item in found if item.is_folder] if folders else found

    def _one(self, dice: Random, *, folders: bool = False) -> Item:
        found = self.items(folders=folders)
        if not found:
            raise DriveError("there is nothing yet")
        return dice.choice(found)

    def _place(self, dice: Random) -> str:
        """A folder, a shared drive, or the top of a user's own."""
        tops = [*self._drive.shared_drives, *(my_drive_root_id(user) for user in PEOPLE)]
        folders = [item.file_id for item in self.items(folders=True)]
        return dice.choice(folders) if folders and dice.random() < 0.6 else dice.choice(tops)

    def _is_full(self) -> bool:
        return len(self.items()) >= MOST_ITEMS

    def _create_file(self, dice: Random) -> str | None:
        if self._is_full():
            return None
        place, kind = self._place(dice), dice.choice((IMAGE, IMAGE, "text/plain", DOCUMENT))
        owner = None if self._drive.items[place].drive_id else dice.choice((self._drive.items[place].owner, *PEOPLE))
        made = self._drive.create_file(dice.choice(NAMES), self._words(dice), parent=place, owner=owner, mime_type=kind)
        return f"{owner} makes {self._name(made)}, {kind}"

    def _words(self, dice: Random) -> str:
        return " ".join(dice.choice(("alpha", "beta", "gamma")) for _ in range(dice.choice((1, 2, 5))))

    def _create_folder(self, dice: Random) -> str | None:
        if self._is_full():
            return None
        place = self._place(dice)
        owner = None if self._drive.items[place].drive_id else dice.choice((self._drive.items[place].owner, *PEOPLE))
        return f"{owner} makes the folder {self._name(self._drive.create_folder('F', parent=place, owner=owner))}"

    def _create_shortcut(self, dice: Random) -> str | None:
        if self._is_full():
            return None
        target, place = self._one(dice), self._place(dice)
        if target.is_shortcut:
            return None
        made = self._drive.create_shortcut(target.file_id, parent=place)
        return f"a shortcut {self._name(made)} to {self._name(target.file_id)}"

    def _upload(self, dice: Random) -> str:
        item = dice.choice([item for item in self.items() if item.content is not None] or [self._one(dice)])
        # No two edits of one moment are read one by one.
        self._rig.wait(0.001)
        self._drive.upload(item.file_id, self._words(dice))
        return f"other content in {self._name(item.file_id)}"

    def _rename(self, dice: Random) -> str:
        item = self._one(dice)
        before = self._name(item.file_id)
        self._drive.rename(item.file_id, dice.choice(NAMES))
        return f"{before} is called {item.name}"

    def _describe(self, dice: Random) -> str:
        item = self._one(dice)
        self._drive.describe(item.file_id, self._words(dice))
        return f"{self._name(item.file_id)} is described"

    def _move(self, dice: Random) -> str:
        item = self._one(dice, folders=dice.random() < 0.6)
        before = self._name(item.file_id)
        self._drive.move(item.file_id, self._place(dice))
        return f"{before} moves to {self._name(item.file_id)} of {item.owner or item.drive_id}"

    def _trash(self, dice: Random) -> str:
        item = self._one(dice, folders=dice.random() < 0.4)
        self._drive.trash(item.file_id)
        return f"{self._name(item.file_id)} goes into the bin"

    def _untrash(self, dice: Random) -> str | None:
        binned = [item for item in self.items() if item.trashed]
        if not binned:
            return None
        item = dice.choice(binned)
        self._drive.untrash(item.file_id)
        return f"{self._name(item.file_id)} comes out of the bin"

    def _delete(self, dice: Random) -> str:
        item = self._one(dice)
        told = self._name(item.file_id)
        self._drive.delete(item.file_id)
        return f"{told} is deleted for good"

    def _permission(self, dice: Random, item: Item) -> dict[str, Any]:
        role = dice.choice(("reader", "commenter", "writer"))
        # Nobody tells of a link's end who never was to find the file: that takes a sweep.
        kinds = ("user", "user", "user", "user", "group", "domain", *(("anyone",) if self._rig.sweeps else ()))
        kind = dice.choice(kinds)
        more: dict[str, Any] = {}
        who = {"user": dice.choice((*PEOPLE, EVE)), "group": dice.choice((TEAM, CREW)), "domain": DOMAIN}.get(kind, "")
        if kind in ("domain", "anyone"):
            more["allowFileDiscovery"] = dice.random() < 0.5
        elif (self._rig.sweeps or self._is_told_by_all(item)) and dice.random() < 0.25:
            # No log tells of its end, and where nobody may say who reads a file, it is not known before it comes.
            more["expirationTime"] = time_text(
                self._drive.clock() + timedelta(seconds=dice.choice((30, 300, 5000, 40_000)))
            )
        return given(kind, who, role, **more)

    def _is_told_by_all(self, item: Item) -> bool:
        return all(item.owner in reading.subjects for reading in self._rig.readings)

    def _share(self, dice: Random) -> str | None:
        item = self._one(dice, folders=dice.random() < 0.7)
        permission = self._permission(dice, item)
        if item.owner is not None and permission.get("emailAddress") == item.owner:
            return None
        self._drive.share(item.file_id, permission)
        return f"{self._name(item.file_id)} is shared: {permission}"

    def _unshare(self, dice: Random) -> str | None:
        shared = [item for item in self.items() if any(own["role"] != "owner" for own in item.own.values())]
        if not shared:
            return None
        item = dice.choice(shared)
        taken = dice.choice([own for own in item.own.values() if own["role"] != "owner"])
        self._drive.unshare(item.file_id, taken["id"])
        return f"{self._name(item.file_id)} is not shared with {taken.get('emailAddress') or taken['id']} any more"

    def _transfer(self, dice: Random) -> str | None:
        owned = [item for item in self.items() if item.owner is not None]
        if not owned:
            return None
        item, user = dice.choice(owned), dice.choice(PEOPLE)
        if item.owner == user:
            return None
        self._drive.transfer(item.file_id, user)
        return f"{self._name(item.file_id)} is given to {user}"

    def _flag(self, dice: Random) -> str:
        item = self._one(dice)
        abusive, locked = dice.random() < 0.3, dice.random() < 0.4
        self._drive.flag(item.file_id, abusive=abusive, copy_locked=locked)
        return f"{self._name(item.file_id)} is flagged: abusive {abusive}, locked {locked}"

    def _group_changes(self, dice: Random) -> str:
        group, members = dice.choice((TEAM, CREW)), dice.sample(PEOPLE, dice.randrange(3))
        self._drive.set_group(group, members)
        return f"in {group} are {members}"

    def member(self, dice: Random) -> dict[str, Any]:
        """The permission of somebody who comes into a shared drive."""
        kind, who = dice.choice((("user", ANN), ("user", BOB), ("user", CAROL), ("group", TEAM)))
        return given(kind, who, dice.choice(("reader", "writer", "fileOrganizer", "organizer")))

    def _drive_changes(self, dice: Random) -> str | None:
        if not self._drive.shared_drives or (len(self._drive.shared_drives) < 2 and dice.random() < 0.2):
            members = [self.member(dice)]
            made = self._drive.create_drive(dice.choice(("Deals", "Legal")), members)
            return f"the shared drive {made} is made, with {members}"
        drive_id = dice.choice(list(self._drive.shared_drives))
        ways = (
            self._drive_is_renamed,
            self._member_comes,
            self._member_comes,
            self._member_goes,
            self._drive_is_hidden,
        )
        return dice.choice((*ways, self._drive_goes))(dice, drive_id)

    def _drive_is_renamed(self, dice: Random, drive_id: str) -> str:
        name = dice.choice(("Deals", "Legal", "Old/New"))
        self._drive.rename_drive(drive_id, name)
        return f"the shared drive {drive_id} is called {name}"

    def _member_comes(self, dice: Random, drive_id: str) -> str:
        member = self.member(dice)
        self._drive.add_member(drive_id, member)
        return f"a member of {drive_id}: {member}"

    def _member_goes(self, dice: Random, drive_id: str) -> str | None:
        members = list(self._drive.shared_drives[drive_id].members.values())
        if not members:
            return None
        one = dice.choice(members)
        self._drive.remove_member(drive_id, one["id"])
        return f"{one['emailAddress']} is no member of {drive_id} any more"

    def _drive_is_hidden(self, dice: Random, drive_id: str) -> str:
        user = dice.choice(PEOPLE)
        self._drive.hide_drive(drive_id, user, hidden=dice.random() < 0.5)
        return f"{user} hides {drive_id}, or shows it"

    def _drive_goes(self, dice: Random, drive_id: str) -> str | None:
        if dice.random() < 0.7:
            return None
        self._drive.delete_drive(drive_id)
        return f"the shared drive {drive_id} is deleted"
