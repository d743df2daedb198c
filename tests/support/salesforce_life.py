"""The random life of Salesforce orgs and of the app that reads them: people, flows and bad days at the vendor, and what
befalls the app."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from chain_rig import CHAIN_QUEUES
from salesforce_comparison import SalesforceComparison
from salesforce_exports import SalesforceExports
from salesforce_living_org import Change, LivingOrg
from salesforce_people import SalesforcePeople
from salesforce_pushes import SalesforcePushes
from salesforce_truth import OBJECTS
from source_rig import TENANT, KilledError

from connections.salesforce_connection import PolledObject
from ingestion import connecting
from ingestion.asking import ask_for_history, ask_for_sweep
from ingestion.source import Checked
from ingestion.webhooks import PushRequest
from local.salesforce.org import ChangeKind, Org, OrgError
from local.simulator_faults import Fault
from messaging.queues import SOURCE_WORK

MINUTE, HOUR, DAY = 60, 3600, 86_400
LONGEST_TRANSACTION = 600
FEW_FIELDS: dict[str, tuple[str, ...]] = {
    "Account": ("Name", "OwnerId", "Region__c", "ParentId"),
    "Opportunity": ("Name", "StageName", "IsClosed", "IsWon", "Amount", "Total__c", "AccountId"),
    "Contact": ("Name", "LastName", "AccountId", "Level__c"),
}
"""To what a connection may limit what it reads of an object."""
FAULTS = (
    "unavailable-html",
    "server-error",
    "too-many-requests",
    "concurrent-limit",
    "query-timeout",
    "row-lock",
    "request-limit",
    "session-expired",
    "unauthorized-html",
    "unauthorized-object",
)

Step = Callable[[Random], Coroutine[Any, Any, str]]


class SalesforceLife:
    """See :class:`random_life.Life`."""

    def __init__(self, folder: Path, number: int) -> None:
        self._number_of_life = number
        self.rig = LivingOrg(
            folder,
            bulk_from=(4, 1000)[number // 2 % 2],
            without="User" if number % 5 == 1 else "",
            by_jwt=number % 2 == 1,
            second=("", "other", "same", "")[number // 2 % 4],
        )
        self.rig.skew_clock(timedelta(seconds=(0, 90, -90)[number % 3]))
        people = self._people = SalesforcePeople(self.rig)
        self._pushes = SalesforcePushes(self.rig, people.next_number)
        exports = self._exports = SalesforceExports(self.rig, folder.parent / "exports", people.next_number)
        self._amid: list[tuple[int, Step, Random]] = []
        for org, simulator, changes in {
            id(one.org): (one.org, one.simulator, one.changes) for one in self.rig.places
        }.values():
            org.watchers.append(partial(_noticed, changes))
            faults = simulator.api.faults
            faults.strike = partial(self._called, faults.strike)  # type: ignore[method-assign]
        self._steps: list[tuple[Step, int]] = [
            (people.create, 10),
            (people.change, 12),
            (self._there_and_back, 5),
            (people.many_at_once, 2),
            (people.re_parent, 5),
            (people.delete, 6),
            (people.undelete, 4),
            (people.empty_bin, 3),
            (people.merge, 5),
            (people.change_user, 3),
            (people.rename_stage, 1),
            (people.drift, 3),
            (people.long_transaction, 4),
            (people.hide_field, 1),
            (people.show_fields, 1),
            (people.hide_object, 1),
            (people.new_field, 1),
            (people.remove_field, 1),
            (self._push, 12),
            (self._push_again, 3),
            (self._pass_time, 9),
            (self._poll, 12),
            (self._amid_calls, 6),
            (self._work_a_little, 4),
            (self._normalize, 4),
            (self._half_a_chain, 3),
            (self._die, 4),
            (self._two_workers, 3),
            (self._sweep, 2),
            (self._load_history, 2),
            (self._bad_days, 4),
            (self._good_days, 3),
            (self._expire_session, 2),
            (self._rotate, 1),
            (self._use_up_calls, 1),
            (self._hours_at_the_limit, 1),
            (exports.export, 2),
            (exports.load_export, 4),
            (self._lose_jobs, 1),
            (self._change_connection, 2),
            (self._rest, 1),
        ]

    async def begin(self) -> None:
        """Some people and accounts, and the connection to them; every other life begins with a first load."""
        known: list[Org] = []
        for place in self.rig.places:
            self.rig.go_to(place)
            if place.org not in known:
                self._first_records()
            known.append(place.org)
            await self._first_connection()
        self.rig.go_to(self.rig.places[0])

    def _first_records(self) -> None:
        for number in range(3):
            self._people.insert("User", {"LastName": f"U{number}", "Name": f"U{number}", "IsActive": True})
        for name in ("Account", "Contact", "Opportunity", "Invoice__c", "Visit__c"):
            for number in range(2 if self._number_of_life % 2 else 9):
                self._people.insert(name, self._people.values(Random(7 + number), name))

    async def _first_connection(self) -> None:
        if self._number_of_life % 2:
            await self.rig.connect()
        else:
            await self._connect_and_load()

    async def _connect_and_load(self) -> None:
        """Connect; the load is at work before the first poll, and its process may die."""
        rig = self.rig
        made = rig.new_connection(TENANT)
        checked = await connecting.check(made, rig.services.ingestion)
        rig.wait(HOUR)
        await connecting.establish(made, checked, rig.services.ingestion, load=True)
        first_poll = await rig.receive(SOURCE_WORK, max_messages=1)
        rig.process.writes_left = (None, 9, 15, 30)[self._number_of_life // 2 % 4]
        try:
            await rig.work(most=1)
        except KilledError:
            await rig.start_again()
        rig.process.writes_left = None
        await rig.bus.abandon(first_poll)

    async def close(self) -> None:
        """Give back all."""
        await self.rig.close()

    async def step(self, dice: Random) -> str:
        """See :class:`random_life.Life`."""
        self.rig.go_to(dice.choice(self.rig.places))
        [chosen] = dice.choices([one for one, _ in self._steps], [weight for _, weight in self._steps])
        name = f"{self.rig.at.connection_id} {chosen.__name__.strip('_').replace('_', ' ')}"
        try:
            told = await chosen(dice)
        except OrgError as error:
            told = f"refused: {error}"
        except KilledError:
            await self.rig.start_again()
            told = "a process died"
        return f"{self.rig.now:%d %H:%M:%S.%f} {name}: {told}"

    # What the org pushes, and what is seen between a change and its opposite

    async def _push(self, dice: Random) -> str:
        """Some of what has happened, the newest or the oldest of it; the rest is never told, or later."""
        changes = self.rig.at.changes
        if not changes:
            return "nothing"
        chosen = dice.sample(changes, min(len(changes), dice.choice((1, 1, 3, 100))))
        if dice.random() < 0.7:
            changes[:] = [one for one in changes if one not in chosen]
        pushes = self._pushes
        make = dice.choice((pushes.messages, pushes.messages, pushes.callouts, pushes.events))
        requests = make(dice, chosen)
        sent = self.rig.at.sent
        sent[:] = [*sent, *requests][-20:]
        told = [await self._post(dice, one) for one in requests]
        return f"{make.__name__} {told} {[one[1:] for one in chosen][:6]}"

    async def _push_again(self, dice: Random) -> str:
        if not self.rig.at.sent:
            return "nothing"
        return str(await self._post(dice, dice.choice(self.rig.at.sent)))

    async def _post(self, dice: Random, request: PushRequest) -> int:
        answer = await self.rig.take_push(request)
        assert answer.status in {200, 202}, (answer, request)
        if dice.random() < 0.5:
            self.rig.wait(dice.choice((0, 1, 3)))
            await self.rig.work()
        return answer.status

    async def _there_and_back(self, dice: Random) -> str:
        """A change and its opposite within a second, and a look in between."""
        name, record_id = self._people.some(dice)
        before = self.rig.org.tables[name].records[record_id]
        self.rig.org.update(name, record_id, {"Name": self._people.word(dice)})
        look = dice.choice((self._poll_now, self._push, self._normalize, None))
        if look is not None:
            told = await look(dice)
        else:
            told = str(await self.rig.take_push(self._pushes.message(dice, name, [record_id])))
            await self.rig.work()
        if record_id in self._people.ids(name):
            self.rig.org.update(name, record_id, {"Name": before["Name"]})
        return f"{name} {record_id} {told}"

    # What the app does, and what befalls it

    async def _pass_time(self, dice: Random) -> str:
        seconds = dice.choice((0, 0, 1, 1, 2, 30, 5 * MINUTE, 11 * MINUTE, 2 * HOUR, DAY))
        self.rig.wait(seconds)
        return f"{seconds} s"

    async def _poll(self, dice: Random) -> str:
        self.rig.wait(dice.choice((0, 61, 61)))
        return await self._poll_now(dice)

    async def _poll_now(self, dice: Random) -> str:
        await self.rig.tick()
        if dice.random() < 0.5:
            await self.rig.work()
        else:
            await self.rig.settle()
        return "done"

    async def _amid_calls(self, dice: Random) -> str:
        """Have people change something while the app is in the middle of its calls."""
        people = self._people
        steps = (people.change, people.create, people.delete, people.merge, people.re_parent, people.undelete)
        drawn = [(dice.randrange(12), dice.choice((*steps, people.empty_bin, people.many_at_once))) for _ in range(3)]
        self._amid = [(skip, step, Random(dice.random())) for skip, step in drawn]
        doing = dice.choice((self._poll, self._poll, self._push, self._load_history, self._sweep, self._work_a_little))
        try:
            told = await doing(dice)
        finally:
            self._amid = []
        return f"{[(skip, step.__name__) for skip, step in drawn]} amid {doing.__name__}: {told}"

    def _called(self, strike: Callable[[str], Fault | None], path: str) -> Fault | None:
        due = [(step, dice) for skip, step, dice in self._amid if skip == 0]
        self._amid = [(skip - 1, step, dice) for skip, step, dice in self._amid if skip]
        for step, dice in due:
            self.rig.wait(dice.choice((0, 0, 1)))
            with suppress(OrgError, StopIteration):
                step(dice).send(None)  # it waits for nothing
        return strike(path)

    async def _work_a_little(self, dice: Random) -> str:
        return f"{await self.rig.work(most=dice.choice((1, 2)))} done"

    async def _normalize(self, dice: Random) -> str:
        if dice.random() < 0.5:
            await self.rig.normalize()
        else:
            await self.rig.drain()
        return "done"

    async def _half_a_chain(self, dice: Random) -> str:
        """Messages of a batch are worked on, and come again all the same."""
        queue = dice.choice(CHAIN_QUEUES)
        messages = await self.rig.receive(queue, max_messages=dice.choice((1, 5)))
        if messages:
            if dice.random() < 0.7:
                await self.rig.call(queue, messages)
            await self.rig.bus.abandon(messages)
        return f"{len(messages)} of {queue}"

    async def _die(self, dice: Random) -> str:
        if dice.random() < 0.3:
            self.rig.die_after_events()
        else:
            self.rig.die_before_write(dice.randrange(8))
        loads = (self._load_history, self._exports.load_export)
        doing = dice.choice((self._poll, self._poll, self._normalize, self._push, self._sweep, *loads))
        try:
            told = await doing(dice)
        except KilledError:
            await self.rig.start_again()
            if doing == self._load_history:
                await self._load_history(dice)  # whoever asked for it has had no answer
            return f"in {doing.__name__}"
        self.rig.process.dies_after_events, self.rig.process.writes_left = False, None
        return f"not: {told}"

    async def _two_workers(self, dice: Random) -> str:
        await self.rig.tick()
        other = self.rig.another_worker()
        try:
            done = await asyncio.gather(self.rig.work(), self.rig.work(other))
        finally:
            for source in other.sources.values():
                source.close()
            await other.close()
        return f"{done}"

    async def _sweep(self, dice: Random) -> str:
        await ask_for_sweep([await self.rig.connection()], self.rig.services.ingestion)
        await self.rig.work(most=dice.choice((1, 100)))
        return "asked"

    async def _load_history(self, dice: Random) -> str:
        anew = dice.random() < 0.5
        await ask_for_history([await self.rig.connection()], self.rig.services.ingestion, anew=anew)
        await self.rig.work(most=dice.choice((1, 1, 100)))
        return "anew" if anew else "asked"

    async def _hours_at_the_limit(self, dice: Random) -> str:
        """Other programs have used up the org's calls of the day; people go on, and so do flows."""
        self.rig.simulator.api.faults.add("request-limit", times=None)
        hours = dice.choice((1, 3, 8))
        people, told = self._people, []
        for _ in range(hours):
            with suppress(OrgError):
                told.append(await dice.choice((people.change, people.create, people.delete, people.merge))(dice))
            told.append(await self._push(dice))
            self.rig.wait(HOUR)
            await self.rig.tick()
            await self.rig.settle()
        self.rig.end_faults()
        return f"{hours} h: {told}"

    async def _rotate(self, dice: Random) -> str:
        self.rig.rotate_credentials()
        return "new"

    async def _bad_days(self, dice: Random) -> str:
        kind, times, skip = dice.choice(FAULTS), dice.choice((1, 3, 6, None)), dice.choice((0, 0, 2, 5))
        if dice.random() < 0.2:
            self.rig.simulator.api.page_cap = dice.choice((2, 3, 2000))
            return f"pages of {self.rig.simulator.api.page_cap}"
        if dice.random() < 0.1:
            times = dice.choice((1, 3, 5))
            self.rig.simulator.api.faults.add(Fault(414, "too long", "text/html", path="/query", times=times))
            return f"queries too long {times} times"
        path = dice.choice(("/services/data", "/query", "/jobs"))
        self.rig.simulator.api.faults.add(kind, times=times, skip=skip, path=path)
        return f"{kind} {times} times at {path} after {skip}"

    async def _good_days(self, dice: Random) -> str:
        self.rig.end_faults()
        return "again"

    async def _expire_session(self, dice: Random) -> str:
        self.rig.simulator.api.login.expire_sessions()
        return "all"

    async def _use_up_calls(self, dice: Random) -> str:
        left = dice.choice((0, 3, 20))
        api = self.rig.simulator.api
        api.daily_limit = dice.choice((1000, 100_000))
        api.use_calls(max(api.daily_limit - api.used_calls() - left, 0))
        return f"{left} left"

    async def _lose_jobs(self, dice: Random) -> str:
        bulk = self.rig.simulator.api.bulk
        if dice.random() < 0.5:
            bulk.lose_jobs()
            return "gone"
        bulk.failures.append("TXN_SECURITY: it failed")
        bulk.page_cap = dice.choice((1, 3))
        return "the next fails"

    async def _change_connection(self, dice: Random) -> str:
        """Other objects, or fewer fields of one."""
        connection = await self.rig.connection()
        is_alone = len(self.rig.places_of_org()) == 1
        # What only the other one has read of an object is swept by that one alone.
        names = [one for one in OBJECTS if dice.random() < (0.5 if one == "User" else 0.8) or not is_alone]
        names = names or ["Account"]
        # Two connections that read other fields of the same records would each have the others' taken away.
        limited = dice.choice((None, *FEW_FIELDS)) if is_alone else None
        objects = tuple(PolledObject(name=one, fields=FEW_FIELDS[one] if one == limited else ()) for one in names)
        changed = msgspec.structs.replace(connection, objects=objects)
        checked = Checked(connection.instance, connection.base_url, [])
        await connecting.establish(changed, checked, self.rig.services.ingestion, load=dice.random() < 0.3)
        return f"{[(one.name, len(one.fields)) for one in objects]}"

    async def _rest(self, dice: Random) -> str:
        """The connection is paused, or fails for good, and is mended at the latest when all settles."""
        if dice.random() < 0.5:
            await connecting.pause(await self.rig.connection(), self.rig.services.ingestion)
            return "paused"
        self.rig.revoke_credentials()
        return "locked out"

    # The end

    async def settle(self) -> None:
        """See :class:`random_life.Life`."""
        rig = self.rig
        for place in rig.places:
            rig.go_to(place)
            rig.end_faults()
            rig.restore_credentials()
            rig.simulator.api.daily_limit = 100_000
            rig.simulator.api.bulk.failures.clear()
            # A hidden object is left alone: what is stored of it stays. Hidden fields stay hidden.
            rig.org.hidden_objects.clear()
        rig.wait(LONGEST_TRANSACTION)
        for place in rig.places:
            rig.go_to(place)
            rig.org.commit_due()
            connection = await rig.connection()
            if connection.status != "active":
                await connecting.resume(connection, rig.services.ingestion)
        # A poll; the calls of a day and the describe; the sweep and its second look; the refresh, another sweep.
        for seconds in (61, 61, DAY + HOUR, 11 * MINUTE, 7 * DAY, 11 * MINUTE, 61):
            rig.wait(seconds)
            await rig.tick()
            await rig.settle()
        for _ in range(20):
            await rig.drain()
            if not await rig.held():
                return
            rig.wait(10 * MINUTE)
            await rig.tick()
            await rig.settle()

    async def differences(self) -> list[str]:
        """See :class:`random_life.Life`."""
        return await SalesforceComparison(self.rig).differences()


def _noticed(changes: list[Change], kind: ChangeKind, object_name: str, record_id: str) -> None:
    changes.append((kind, object_name, record_id))
