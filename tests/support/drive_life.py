"""The random life of Drives and of the app that reads them: people at work, Google on good and bad days, workers that
end in the middle."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import msgspec
from chain_rig import CHAIN_QUEUES
from drive_rig import DOCUMENT, NearExtractor, given
from drive_source_rig import DOMAIN, IMAGE, USER, DriveSourceRig
from drive_truth import Truth, Wanted, truth_of_all
from source_rig import TENANT, KilledError
from working_rig import LANES

from connections.connection import Connection, Schedule
from connections.gdrive_connection import DriveConnection, GoogleAuth
from ingestion.asking import ask_for_history, ask_for_sweep
from ingestion.connection_memory import ConnectionMemory, memory_of
from ingestion.gdrive.drive_resources import my_drive_root_id, time_text
from ingestion.webhooks import PushRequest
from local.gdrive.drive import DriveError
from local.gdrive.items import Item
from messaging.queues import SOURCE_WORK
from messaging.times import to_text
from shards.identity import shard_id
from shards.model import Shard

ANN, BOB, CAROL = USER, f"bob@{DOMAIN}", f"carol@{DOMAIN}"
EVE = "eve@elsewhere.example"
TEAM, CREW = f"team@{DOMAIN}", f"crew@{DOMAIN}"
PEOPLE = (ANN, BOB, CAROL)
NAMES = ("Plan", "Notes a/b", "Re\u0301sume\u0301", "Budget", "x.txt")
MOST_ITEMS = 16
PASSING = (
    "unavailable",
    "backend-error",
    "bad-gateway-html",
    "no-json",
    "user-rate-limit",
    "too-many-requests",
    "token-unavailable",
)
LOST_TOKENS = ("lost-page-token", "gone-page-token", "unknown-page-token")
NEVER = 24 * 365.0
"""Hours between the sweeps of a life that has to do without."""

T = TypeVar("T")

Change = Callable[[Random], str | None]
Event = Callable[[Random], Awaitable[str | None]]


class LivingRig(DriveSourceRig):
    """The rig of the source contract, with texts that are read in this process, and maybe several connections."""

    def _watch(self) -> None:
        super()._watch()
        vars(self.services)["extractor"] = NearExtractor()

    async def connection(self, tenant_id: str = TENANT) -> DriveConnection:
        return await self.named("drive", tenant_id)

    async def named(self, connection_id: str, tenant_id: str = TENANT) -> DriveConnection:
        """A connection as it is stored."""
        found = await self.services.connections.get(tenant_id, connection_id)
        assert isinstance(found, DriveConnection)
        return found


@dataclass
class Reading:
    """What one connection is to read, and as whom; *choice* are the folders wanted and those left out."""

    connection_id: str
    subjects: tuple[str, ...]
    choice: tuple[tuple[str, ...], tuple[str, ...]]
    all_drives: bool

    def wanted(self, away: Collection[str] = ()) -> Wanted:
        """As the truth is told by, without users who are *away*."""
        return Wanted(tuple(one for one in self.subjects if one not in away), *self.choice, self.all_drives)


class DriveLife:
    """One connection or two over the Drives of three users; *dice* choose how they are set up.

    Lives of an even number have no sweeps: the change logs alone tell what has happened.
    """

    def __init__(self, folder: Path, number: int) -> None:
        dice = Random(number)
        self.rig = LivingRig(folder)
        self.drive = self.rig.drive
        self._sweeps = number % 2 == 1
        self._pushes: list[PushRequest] = []
        self._readings = [self._reading("drive", dice)]
        with self.drive.lock:
            for user in PEOPLE:
                self.drive.add_user(user)
            self.drive.set_group(TEAM, [ANN, CAROL])
            manners = self.drive.manners
            manners.page_cap = dice.choice((2, 3, 1000))
            manners.empty_pages = dice.choice((0, 0, 1))
            manners.repeated_entries = dice.choice((0, 0, 3))
            manners.child_entries = dice.random() < 0.2
            manners.drive_items_in_user_logs = dice.random() < 0.3
            manners.lag = timedelta(seconds=dice.choice((0, 0, 0, 20, 90)))
            manners.export_limit = dice.choice((12, 10_000))
            self._company(dice)
            for _ in range(4):
                self._change(dice)
            if dice.random() < 0.5:
                self.drive.create_drive("Deals", [self._member(dice) for _ in range(2)])
            if dice.random() < 0.3:
                self._readings.append(self._reading("other", dice))
            for reading in self._readings:
                chosen = self._chosen(dice) if dice.random() < 0.3 else ((), ())
                if all(self._is_seen(folder, reading) for folder in (*chosen[0], *chosen[1])):
                    reading.choice = chosen
        self._is_loaded = dice.random() < 0.6
        self._stay_away = dice.random() < 0.5
        """Whether users whom nobody may read as stay so until the first part of the life is looked at."""

    async def begin(self) -> None:
        """Connect, which asks for the first load; that is done at once, or among what happens then."""
        for reading in self._readings:
            await self._connect(reading)
        if self._is_loaded:
            await self.rig.settle()
            # Later than any clock is off, or a folder's change would pass for one during the load.
            await self._go_on(1300)

    async def _connect(self, reading: Reading) -> None:
        hours = 24.0 if self._sweeps else NEVER
        folders, left_out = reading.choice
        auth = self.rig.new_connection(TENANT)
        assert isinstance(auth, DriveConnection)
        await self.rig.connect(
            connection_id=reading.connection_id,
            instance=self.drive.customer_id,
            auth=GoogleAuth(service_account=auth.auth.service_account, subjects=reading.subjects),
            folders=folders,
            left_out=left_out,
            shared_drives=reading.all_drives,
            page_size=3,
            schedule=Schedule(poll_seconds=60, sweep_hours=hours),
        )
        await ask_for_history([await self.rig.named(reading.connection_id)], self.rig.services.ingestion)

    def _reading(self, connection_id: str, dice: Random) -> Reading:
        subjects = tuple(dice.sample(PEOPLE, dice.choice((1, 2, 2, 2, 3))))
        return Reading(connection_id, subjects, ((), ()), all_drives=dice.random() < 0.9)

    def _one_reading(self, dice: Random) -> Reading:
        return dice.choice(self._readings)

    @property
    def _subjects(self) -> tuple[str, ...]:
        """All users who are read as."""
        return tuple(dict.fromkeys(subject for reading in self._readings for subject in reading.subjects))

    @property
    def _away(self) -> set[str]:
        """Users whom nobody may read as now."""
        return self.drive.suspended | self.rig.simulator.api.login.refused

    async def close(self) -> None:
        """Stop the simulator and give back the files."""
        await self.rig.close()

    # A step

    async def step(self, dice: Random) -> str:
        """See :class:`random_life.Life`."""
        events: list[tuple[int, Event]] = [
            (50, self._people_do),
            (12, self._time_passes),
            (14, self._app_works),
            (5, self._chain_works),
            (3, self._chain_overtakes),
            (6, self._push_comes),
            (4, self._google_fails),
            (2, self._google_recovers),
            (2, self._worker_dies),
            (2, self._two_work),
            (2, self._user_is_suspended),
            (2, self._delegation_is_revoked),
            (1, self._tokens_are_lost),
            (1, self._first_load_is_asked_for),
            (1, self._sweep_is_asked_for),
            (2, self._selection_changes),
            (2, self._subjects_change),
        ]
        while True:
            [chosen] = dice.choices([event for _, event in events], [weight for weight, _ in events])
            if told := await chosen(dice):
                return f"{to_text(self.rig.now)} {told}"

    async def _people_do(self, dice: Random) -> str | None:
        with self.drive.lock:
            told = self._change(dice)
        self.rig._moved = True
        self._pushes += await self.rig.pushes()
        return told

    async def _time_passes(self, dice: Random) -> str:
        seconds = dice.choice((0.001, 1, 5, 30, 61, 61, 61, 200, 700, 4000, 30_000, 90_000))
        self.rig.wait(seconds)
        await self._alive(self.rig.tick())
        return f"{seconds} seconds pass"

    async def _app_works(self, dice: Random) -> str:
        most = dice.choice((1, 1, 2, 5, 100))
        done = await self._alive(self.rig.work(most=most))
        return f"{done} pieces of source work"

    async def _chain_works(self, dice: Random) -> str:
        queue = dice.choice(CHAIN_QUEUES)
        done = await self._alive(self.rig.step(queue, max_messages=dice.choice((1, 3, 200))))
        return f"{done} messages of {queue}"

    async def _chain_overtakes(self, dice: Random) -> str:
        held = []
        for queue in LANES:
            held += [(queue, message) for message in await self.rig.receive(queue, max_messages=20)]
        dice.shuffle(held)
        for queue, message in held:
            await self.rig.call(queue, [message])
            await self.rig.bus.complete([message])
        return f"{len(held)} events, in another order"

    async def _push_comes(self, dice: Random) -> str | None:
        if not self._pushes:
            return None
        push = dice.choice(self._pushes)
        kept = dice.random() < 0.3
        if not kept:
            self._pushes.remove(push)
        answer = await self._alive(self.rig.take_push(push))
        return f"a notification comes{' and will come again' if kept else ''}: {answer and answer.status}"

    async def _google_fails(self, dice: Random) -> str:
        kind = dice.choice(PASSING)
        more: dict[str, Any] = {}
        if kind == "too-many-requests":
            more["headers"] = {"Retry-After": str(dice.choice((1, 30, 400)))}
        times, skip = dice.choice((1, 3, 4, 9, 30)), dice.choice((0, 0, 1, 4))
        self.rig.simulator.api.faults.add(kind, times=times, skip=skip, **more)
        return f"Google answers {times} calls with {kind}, after {skip}"

    async def _google_recovers(self, dice: Random) -> str:
        self.rig.end_faults()
        return "Google answers as ever"

    async def _worker_dies(self, dice: Random) -> str:
        writes = dice.randrange(8)
        self.rig.die_before_write(writes)
        if dice.random() < 0.3:
            done = await self._alive(self.rig.step(dice.choice(CHAIN_QUEUES)))
        else:
            done = await self._alive(self.rig.work(most=dice.choice((1, 4, 100))))
        if done is not None:
            self.rig.process.writes_left = None
            return f"a worker ends after {done} pieces of work"
        return f"a worker dies before write {writes}"

    async def _two_work(self, dice: Random) -> str:
        other = self.rig.another_worker()
        vars(other)["extractor"] = NearExtractor()
        first = await self.rig.work(most=dice.choice((1, 3)))
        second = await self.rig.work(other, most=3)
        for source in other.sources.values():
            source.close()
        await other.close()
        return f"two workers do {first} and {second} pieces of work"

    async def _user_is_suspended(self, dice: Random) -> str:
        user = dice.choice(self._subjects)
        with self.drive.lock:
            if user in self.drive.suspended:
                self.drive.restore(user)
                return f"{user} is back"
            if self._can_be_spared(user):
                self.drive.suspend(user)
                return f"{user} is suspended"
        return "nobody is suspended"

    async def _delegation_is_revoked(self, dice: Random) -> str:
        user, login = dice.choice(self._subjects), self.rig.simulator.api.login
        with self.drive.lock:
            if user in login.refused:
                login.grant_for(user)
                return f"the delegation for {user} is given back"
            if self._can_be_spared(user):
                login.revoke_for(user)
                return f"the delegation for {user} is revoked"
        return "no delegation is revoked"

    def _can_be_spared(self, user: str) -> bool:
        """Whether each connection has another user to read as: one that has none stops until somebody resumes it."""
        away = {*self._away, user}
        return all(set(reading.subjects) - away for reading in self._readings)

    async def _tokens_are_lost(self, dice: Random) -> str:
        if not self._sweeps:
            # What is on its way while all is listed anew is looked for by a sweep.
            await self.rig.drain(*LANES)
        if dice.random() < 0.5:
            with self.drive.lock:
                self.drive.lose_change_tokens()
            return "all change tokens are lost"
        kind = dice.choice(LOST_TOKENS)
        self.rig.simulator.api.faults.add(kind)
        self.rig.simulator.api.listing.lose_tokens()
        return f"a token is lost: {kind}, and those of listings"

    async def _first_load_is_asked_for(self, dice: Random) -> str:
        anew = dice.random() < 0.5
        name = self._one_reading(dice).connection_id
        await ask_for_history([await self.rig.named(name)], self.rig.services.ingestion, anew=anew)
        return f"the first load of {name} is asked for{' anew' if anew else ''}"

    async def _sweep_is_asked_for(self, dice: Random) -> str | None:
        if not self._sweeps:
            return None
        name = self._one_reading(dice).connection_id
        await ask_for_sweep([await self.rig.named(name)], self.rig.services.ingestion)
        return f"a sweep of {name} is asked for"

    async def _selection_changes(self, dice: Random) -> str:
        reading = self._one_reading(dice)
        reading.choice = ((), ()) if dice.random() < 0.4 else self._chosen(dice)
        if dice.random() < 0.3:
            self._change_subjects(reading, dice)
        await self._save(reading)
        folders, left_out = reading.choice
        told = f"{[self._name(one) for one in folders]} without {[self._name(one) for one in left_out]}"
        return f"wanted by {reading.connection_id} are {told}, as {reading.subjects}"

    async def _subjects_change(self, dice: Random) -> str:
        reading = self._one_reading(dice)
        self._change_subjects(reading, dice)
        await self._save(reading)
        return f"{reading.connection_id} reads as {reading.subjects}"

    def _change_subjects(self, reading: Reading, dice: Random) -> None:
        """One more, one less, or another choice; but never only such as are away."""
        others = [one for one in PEOPLE if one not in reading.subjects]
        ways = [
            (*reading.subjects, *others[:1]),
            tuple(one for one in reading.subjects if one != dice.choice(reading.subjects)),
            tuple(dice.sample(PEOPLE, dice.choice((1, 2, 3)))),
        ]
        chosen = dice.choice(ways)
        if set(chosen) - self._away:
            reading.subjects = chosen

    async def _save(self, reading: Reading) -> None:
        connection = await self.rig.named(reading.connection_id)
        folders, left_out = reading.choice
        auth = GoogleAuth(service_account=connection.auth.service_account, subjects=reading.subjects)
        changed = msgspec.structs.replace(connection, folders=folders, left_out=left_out, auth=auth)
        await self.rig.services.connections.save(changed)
        await self.rig.services.states.drop_errors(TENANT, reading.connection_id)

    async def _alive(self, work: Awaitable[T]) -> T | None:
        """What came of *work*; None when the worker died in it, and another has taken its place."""
        try:
            return await work
        except KilledError:
            await self.rig.start_again()
            return None

    # What people do; each under the Drive's lock

    def _change(self, dice: Random) -> str | None:
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

    def _company(self, dice: Random) -> None:
        """A shared folder in a folder, and files in both."""
        owner = dice.choice(self._subjects)
        outer = self.drive.create_folder("Here", owner=owner)
        inner = self.drive.create_folder("Inner", parent=outer)
        shared = dice.choice((outer, inner))
        self.drive.share(shared, self._permission(dice, self.drive.item(shared)))
        for folder in (outer, inner):
            self.drive.create_file("note.txt", self._words(dice), parent=folder)

    def _items(self, *, folders: bool = False) -> list[Item]:
        found = [item for item in self.drive.items.values() if not item.is_root]
        return [item for item in found if item.is_folder] if folders else found

    def _one(self, dice: Random, *, folders: bool = False) -> Item:
        found = self._items(folders=folders)
        if not found:
            raise DriveError("there is nothing yet")
        return dice.choice(found)

    def _place(self, dice: Random) -> str:
        """A folder, a shared drive, or the top of a user's own."""
        tops = [*self.drive.shared_drives, *(my_drive_root_id(user) for user in PEOPLE)]
        folders = [item.file_id for item in self._items(folders=True)]
        return dice.choice(folders) if folders and dice.random() < 0.6 else dice.choice(tops)

    def _name(self, file_id: str) -> str:
        item = self.drive.items.get(file_id)
        return f"{self.drive.path_of(item)} ({file_id[-4:]})" if item is not None else file_id

    def _is_full(self) -> bool:
        return len(self._items()) >= MOST_ITEMS

    def _create_file(self, dice: Random) -> str | None:
        if self._is_full():
            return None
        place, kind = self._place(dice), dice.choice((IMAGE, IMAGE, "text/plain", DOCUMENT))
        owner = None if self.drive.items[place].drive_id else dice.choice((self.drive.items[place].owner, *PEOPLE))
        made = self.drive.create_file(dice.choice(NAMES), self._words(dice), parent=place, owner=owner, mime_type=kind)
        return f"{owner} makes {self._name(made)}, {kind}"

    def _words(self, dice: Random) -> str:
        return " ".join(dice.choice(("alpha", "beta", "gamma")) for _ in range(dice.choice((1, 2, 5))))

    def _create_folder(self, dice: Random) -> str | None:
        if self._is_full():
            return None
        place = self._place(dice)
        owner = None if self.drive.items[place].drive_id else dice.choice((self.drive.items[place].owner, *PEOPLE))
        return f"{owner} makes the folder {self._name(self.drive.create_folder('F', parent=place, owner=owner))}"

    def _create_shortcut(self, dice: Random) -> str | None:
        if self._is_full():
            return None
        target, place = self._one(dice), self._place(dice)
        if target.is_shortcut:
            return None
        made = self.drive.create_shortcut(target.file_id, parent=place)
        return f"a shortcut {self._name(made)} to {self._name(target.file_id)}"

    def _upload(self, dice: Random) -> str:
        item = dice.choice([item for item in self._items() if item.content is not None] or [self._one(dice)])
        # No two edits of one moment are read one by one.
        self.rig.wait(0.001)
        self.drive.upload(item.file_id, self._words(dice))
        return f"other content in {self._name(item.file_id)}"

    def _rename(self, dice: Random) -> str:
        item = self._one(dice)
        before = self._name(item.file_id)
        self.drive.rename(item.file_id, dice.choice(NAMES))
        return f"{before} is called {item.name}"

    def _describe(self, dice: Random) -> str:
        item = self._one(dice)
        self.drive.describe(item.file_id, self._words(dice))
        return f"{self._name(item.file_id)} is described"

    def _move(self, dice: Random) -> str:
        item = self._one(dice, folders=dice.random() < 0.6)
        before = self._name(item.file_id)
        self.drive.move(item.file_id, self._place(dice))
        return f"{before} moves to {self._name(item.file_id)} of {item.owner or item.drive_id}"

    def _trash(self, dice: Random) -> str:
        item = self._one(dice, folders=dice.random() < 0.4)
        self.drive.trash(item.file_id)
        return f"{self._name(item.file_id)} goes into the bin"

    def _untrash(self, dice: Random) -> str | None:
        binned = [item for item in self._items() if item.trashed]
        if not binned:
            return None
        item = dice.choice(binned)
        self.drive.untrash(item.file_id)
        return f"{self._name(item.file_id)} comes out of the bin"

    def _delete(self, dice: Random) -> str:
        item = self._one(dice)
        told = self._name(item.file_id)
        self.drive.delete(item.file_id)
        return f"{told} is deleted for good"

    def _permission(self, dice: Random, item: Item) -> dict[str, Any]:
        role = dice.choice(("reader", "commenter", "writer"))
        # Nobody tells of a link's end who never was to find the file: that takes a sweep.
        kinds = ("user", "user", "user", "user", "group", "domain", *(("anyone",) if self._sweeps else ()))
        kind = dice.choice(kinds)
        more: dict[str, Any] = {}
        who = {"user": dice.choice((*PEOPLE, EVE)), "group": dice.choice((TEAM, CREW)), "domain": DOMAIN}.get(kind, "")
        if kind in ("domain", "anyone"):
            more["allowFileDiscovery"] = dice.random() < 0.5
        elif (self._sweeps or self._is_told_by_all(item)) and dice.random() < 0.25:
            # No log tells of its end, and where nobody may say who reads a file, it is not known before it comes.
            more["expirationTime"] = time_text(
                self.drive.clock() + timedelta(seconds=dice.choice((30, 300, 5000, 40_000)))
            )
        return given(kind, who, role, **more)

    def _is_told_by_all(self, item: Item) -> bool:
        return all(item.owner in reading.subjects for reading in self._readings)

    def _share(self, dice: Random) -> str | None:
        item = self._one(dice, folders=dice.random() < 0.7)
        permission = self._permission(dice, item)
        if item.owner is not None and permission.get("emailAddress") == item.owner:
            return None
        self.drive.share(item.file_id, permission)
        return f"{self._name(item.file_id)} is shared: {permission}"

    def _unshare(self, dice: Random) -> str | None:
        shared = [item for item in self._items() if any(own["role"] != "owner" for own in item.own.values())]
        if not shared:
            return None
        item = dice.choice(shared)
        taken = dice.choice([own for own in item.own.values() if own["role"] != "owner"])
        self.drive.unshare(item.file_id, taken["id"])
        return f"{self._name(item.file_id)} is not shared with {taken.get('emailAddress') or taken['id']} any more"

    def _transfer(self, dice: Random) -> str | None:
        owned = [item for item in self._items() if item.owner is not None]
        if not owned:
            return None
        item, user = dice.choice(owned), dice.choice(PEOPLE)
        if item.owner == user:
            return None
        self.drive.transfer(item.file_id, user)
        return f"{self._name(item.file_id)} is given to {user}"

    def _flag(self, dice: Random) -> str:
        item = self._one(dice)
        abusive, locked = dice.random() < 0.3, dice.random() < 0.4
        self.drive.flag(item.file_id, abusive=abusive, copy_locked=locked)
        return f"{self._name(item.file_id)} is flagged: abusive {abusive}, locked {locked}"

    def _group_changes(self, dice: Random) -> str:
        group, members = dice.choice((TEAM, CREW)), dice.sample(PEOPLE, dice.randrange(3))
        self.drive.set_group(group, members)
        return f"in {group} are {members}"

    def _member(self, dice: Random) -> dict[str, Any]:
        kind, who = dice.choice((("user", ANN), ("user", BOB), ("user", CAROL), ("group", TEAM)))
        return given(kind, who, dice.choice(("reader", "writer", "fileOrganizer", "organizer")))

    def _drive_changes(self, dice: Random) -> str | None:
        if not self.drive.shared_drives or (len(self.drive.shared_drives) < 2 and dice.random() < 0.2):
            members = [self._member(dice)]
            made = self.drive.create_drive(dice.choice(("Deals", "Legal")), members)
            return f"the shared drive {made} is made, with {members}"
        drive_id = dice.choice(sorted(self.drive.shared_drives))
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
        self.drive.rename_drive(drive_id, name)
        return f"the shared drive {drive_id} is called {name}"

    def _member_comes(self, dice: Random, drive_id: str) -> str:
        member = self._member(dice)
        self.drive.add_member(drive_id, member)
        return f"a member of {drive_id}: {member}"

    def _member_goes(self, dice: Random, drive_id: str) -> str | None:
        members = list(self.drive.shared_drives[drive_id].members.values())
        if not members:
            return None
        one = dice.choice(members)
        self.drive.remove_member(drive_id, one["id"])
        return f"{one['emailAddress']} is no member of {drive_id} any more"

    def _drive_is_hidden(self, dice: Random, drive_id: str) -> str:
        user = dice.choice(PEOPLE)
        self.drive.hide_drive(drive_id, user, hidden=dice.random() < 0.5)
        return f"{user} hides {drive_id}, or shows it"

    def _drive_goes(self, dice: Random, drive_id: str) -> str | None:
        if dice.random() < 0.7:
            return None
        self.drive.delete_drive(drive_id)
        return f"the shared drive {drive_id} is deleted"

    def _chosen(self, dice: Random) -> tuple[tuple[str, ...], tuple[str, ...]]:
        folders = [item.file_id for item in self._items(folders=True)] + list(self.drive.shared_drives)
        if not folders:
            return (), ()
        named = tuple(dice.sample(folders, min(len(folders), dice.choice((0, 1, 2)))))
        left_out = tuple(dice.sample(folders, min(len(folders), dice.choice((0, 0, 1)))))
        return named, left_out

    def _is_seen(self, file_id: str, reading: Reading) -> bool:
        item = self.drive.items[file_id]
        return any(self.drive.role(user, item) is not None for user in reading.subjects)

    # In the end

    def _restore_all(self) -> None:
        with self.drive.lock:
            for user in list(self.drive.suspended):
                self.drive.restore(user)
            for user in list(self.rig.simulator.api.login.refused):
                self.rig.simulator.api.login.grant_for(user)

    async def settle(self) -> None:
        """See :class:`random_life.Life`."""
        rig = self.rig
        rig.end_faults()
        if not self._stay_away:
            self._restore_all()
        self._stay_away = False
        rig.process.writes_left = None
        for seconds in (3, 61, 61, 120, 400, 61, 700, 1300, 3700, 3700, 7 * 3600, 7 * 3600, 61, 400, 1000):
            await self._go_on(seconds)
        if self._sweeps:
            for seconds in (25 * 3600, 61, 700, 25 * 3600, 700):
                await self._go_on(seconds)
        for _ in range(40):
            depths = await rig.bus.depths()
            if not any(depths[queue].scheduled for queue in (SOURCE_WORK, *LANES)):
                break
            await self._go_on(6 * 3600)
        await rig.drain()

    async def _go_on(self, seconds: float) -> None:
        self.rig.wait(seconds)
        await self.rig.tick()
        await self.rig.settle(within=timedelta(seconds=10))

    async def differences(self) -> list[str]:
        """See :class:`random_life.Life`."""
        live = {shard.external_relationships[0].external_id: shard for shard in await self.rig.live()}
        found: list[str] = []
        for reading in self._readings:
            found += await self._of_the_app(await self.rig.named(reading.connection_id))
        connection = await self.rig.connection()
        with self.drive.lock:
            items = {
                item.file_id: (item, truth)
                for item in self.drive.items.values()
                if (not item.is_root or item.drive_id is not None) and (truth := self._truth(item)) is not None
            }
        # What is gone may be what those who are away still see.
        for file_id in live.keys() - self.drive.items.keys() if not self._away else ():
            found.append(f"{file_id} is gone, and stored: {live[file_id].structured_data.get('path')}")
        for file_id, (item, truth) in items.items():
            shard = live.get(file_id)
            if shard is None and truth.live:
                found.append(f"{self._name(file_id)} of {item.owner or item.drive_id} is not stored")
            elif shard is not None and truth.live is False:
                if not self._is_told(item):
                    continue
                found.append(f"{self._name(file_id)} is stored, for {shard.acl.principals}, and not to be")
            elif shard is not None:
                wrong = [*self._of_shard(connection, item, truth, shard), *await self._of_text(item, truth, shard)]
                found += [f"{self._name(file_id)}: {one}" for one in wrong]
        return found

    def _is_told(self, item: Item) -> bool:
        """Whether what happens to the folders above is told of *item*: Drive tells of the folder alone, and what is in
        it is found by where it is stored, which is where its owner sees it. What they do not see takes a sweep."""
        while not self._sweeps and item.parent is not None:
            above = self.drive.items[item.parent]
            if item.owner in self._subjects and self.drive.role(str(item.owner), above) is None:
                return False
            item = above
        return True

    def _truth(self, item: Item) -> Truth | None:
        """What is to be stored of *item*; None where nobody may be asked of those who find it."""
        away = self._away
        whole = truth_of_all(self.drive, item, [reading.wanted() for reading in self._readings])
        if not away:
            return whole
        asked = truth_of_all(self.drive, item, [reading.wanted(away) for reading in self._readings])
        left = [user for user in self._subjects if user not in away]
        finds = any(self.drive.role(user, item, by_link=False) is not None for user in left)
        if self.drive.in_trash(item) or not finds:
            return None
        # It stays as it was read before, until something is told of it.
        live = asked.live if asked.live == whole.live else None
        return Truth(live, asked.places | whole.places, asked.readers | whole.readers, asked.text)

    async def _of_the_app(self, connection: Connection) -> list[str]:
        found = [f"parked: {one.reason} {one.detail}" for one in await self.rig.parked()]
        depths = await self.rig.bus.depths()
        for queue, depth in depths.items():
            left = depth.active + depth.locked + depth.scheduled + depth.dead_lettered
            if left:
                found.append(f"{left} messages left in {queue}")
        if self._away:
            return found
        memory = await self._memory(connection)
        if connection.status != "active" or memory.last_sync_status != "success":
            found.append(f"the connection is {connection.status}: {memory.last_sync_status} {memory.error_message}")
        for state in await self.rig.states():
            told = state.structured_data
            left = "Shared drive not found" in str(told.get("errorMessage"))
            if told.get("errorMessage") and told.get("lastSyncStatus") in ("failed", "partial") and not left:
                found.append(f"{told.get('name')}: {told.get('lastSyncStatus')} {told.get('errorMessage')}")
        return found

    async def _memory(self, connection: Connection) -> ConnectionMemory:
        return (await memory_of(connection, self.rig.services.states)).value

    def _of_shard(self, connection: Connection, item: Item, truth: Truth, shard: Shard) -> list[str]:
        data = shard.structured_data
        parent = "parentExternalId" if item.is_folder else "parentFolderExternalId"
        of_root = item.is_root and item.drive_id is not None
        expected: dict[str, Any] = {
            "name": self.drive.shared_drives[item.file_id].name if of_root else item.name,
            "owner": item.owner,
            "driveId": item.drive_id,
            "description": item.description,
            "externalId": item.file_id,
            "createdDate": time_text(item.created),
        }
        if not item.is_folder:
            content = item.content
            expected |= {
                "mimeType": item.mime_type,
                "lastModified": time_text(item.modified),
                "size": content.size if content is not None else None,
                "checksum": content.sums["md5Checksum"] if content is not None and not item.is_native else None,
            }
            field = "shortcutTargetFolderExternalId" if item.target_mime_type.endswith("folder") else None
            expected[field or "shortcutTargetExternalId"] = item.target
        found = [
            f"{name} is {data.get(name)!r}, not {value!r}"
            for name, value in expected.items()
            if data.get(name) != value
        ]
        place = (str(data.get("path")), data.get(parent))
        if place not in truth.places and not self._away:
            # Nobody tells of the folders above who is away.
            found.append(f"stands at {place}, not at {sorted(truth.places, key=str)}")
        if shard.acl.principals not in truth.readers and self._is_told(item):
            found.append(f"is read by {shard.acl.principals}, not by {sorted(truth.readers)}")
        relationship = shard.external_relationships[0]
        if relationship.source_version != str(item.version):
            found.append(f"is of version {relationship.source_version}, not {item.version}")
        if shard.acl.principals and self._sweeps and not self._away:
            # A role that is another on a folder is told below it by sweeps.
            told = {(one["id"], one["role"]) for one in data.get("permissions", [])}
            held = {(one["id"], one["role"]) for one in self.drive.permissions_of(item)}
            if told != held:
                found.append(f"has the permissions {sorted(told)}, not {sorted(held)}")
        targets = {
            ("child_of" if item.is_folder else "belongs_to"): data.get(parent),
            "references": item.target,
        }
        links = {link.relationship_type: link.target_shard_id for link in shard.internal_relationships}
        linked = {
            kind: shard_id(TENANT, "gdrive", connection.instance, "file", target)
            for kind, target in targets.items()
            if target
        }
        if links != linked:
            found.append(f"has the links {links}, not {linked}")
        return found

    async def _of_text(self, item: Item, truth: Truth, shard: Shard) -> list[str]:
        if item.is_folder:
            return []
        chunks = await self.rig.store.chunks(TENANT, shard.id)
        found = []
        if any(chunk.acl_scope != shard.acl.scope for chunk in chunks):
            found.append("has chunks that others may read")
        text = "\n".join(chunk.text for chunk in chunks)
        if truth.text is not None and truth.text not in text:
            found.append(f"has the text {text!r}, not {truth.text!r} ({shard.structured_data.get('contentStatus')})")
        return found
