"""The random life of Drives and of the app that reads them: people at work, Google on good and bad days, workers that
end in the middle."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import msgspec
from chain_rig import CHAIN_QUEUES
from drive_comparison import DriveComparison
from drive_living_rig import ANN, CAROL, PEOPLE, LivingDrives, Reading
from drive_people import TEAM, DrivePeople
from drive_rig import NearExtractor
from source_rig import TENANT, KilledError
from working_rig import LANES

from connections.connection import Schedule
from connections.gdrive_connection import DriveConnection, GoogleAuth
from ingestion.asking import ask_for_history, ask_for_sweep
from ingestion.webhooks import PushRequest
from messaging.queues import SOURCE_WORK
from messaging.times import to_text

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

Event = Callable[[Random], Awaitable[str | None]]


class DriveLife:
    """One connection or two over the Drives of three users; *dice* choose how they are set up.

    Lives of an even number have no sweeps: the change logs alone tell what has happened.
    """

    def __init__(self, folder: Path, number: int) -> None:
        dice = Random(number)
        self.rig = LivingDrives(folder, sweeps=number % 2 == 1)
        self.drive = self.rig.drive
        self.people = DrivePeople(self.rig)
        self._pushes: list[PushRequest] = []
        self.rig.readings.append(self._reading("drive", dice))
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
            self.people.begin(dice)
            for _ in range(4):
                self.people.change(dice)
            if dice.random() < 0.5:
                self.drive.create_drive("Deals", [self.people.member(dice) for _ in range(2)])
            if dice.random() < 0.3:
                self.rig.readings.append(self._reading("other", dice))
            for reading in self.rig.readings:
                chosen = self._chosen(dice) if dice.random() < 0.3 else ((), ())
                if all(self._is_seen(folder, reading) for folder in (*chosen[0], *chosen[1])):
                    reading.choice = chosen
        self._is_loaded = dice.random() < 0.6
        self._stay_away = dice.random() < 0.5
        """Whether users whom nobody may read as stay so until the first part of the life is looked at."""

    async def begin(self) -> None:
        """Connect, which asks for the first load; that is done at once, or among what happens then."""
        for reading in self.rig.readings:
            await self._connect(reading)
        if self._is_loaded:
            await self.rig.settle()
            # Later than any clock is off, or a folder's change would pass for one during the load.
            await self._go_on(1300)

    async def _connect(self, reading: Reading) -> None:
        hours = 24.0 if self.rig.sweeps else NEVER
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
        return dice.choice(self.rig.readings)

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
            told = self.people.change(dice)
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
        user = dice.choice(self.rig.subjects)
        with self.drive.lock:
            if user in self.drive.suspended:
                self.drive.restore(user)
                return f"{user} is back"
            if self._can_be_spared(user):
                self.drive.suspend(user)
                return f"{user} is suspended"
        return "nobody is suspended"

    async def _delegation_is_revoked(self, dice: Random) -> str:
        user, login = dice.choice(self.rig.subjects), self.rig.simulator.api.login
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
        away = {*self.rig.away, user}
        return all(set(reading.subjects) - away for reading in self.rig.readings)

    async def _tokens_are_lost(self, dice: Random) -> str:
        if not self.rig.sweeps:
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
        if not self.rig.sweeps:
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
        told = f"{[self.rig.name_of(one) for one in folders]} without {[self.rig.name_of(one) for one in left_out]}"
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
        if set(chosen) - self.rig.away:
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

    def _chosen(self, dice: Random) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Folders wanted, and those left out."""
        folders = [item.file_id for item in self.people.items(folders=True)] + list(self.drive.shared_drives)
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
        if self.rig.sweeps:
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
        return await DriveComparison(self.rig).differences()
