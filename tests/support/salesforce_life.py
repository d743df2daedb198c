"""A Salesforce org that lives: people, flows and bad days at the vendor, and what befalls the app that reads it."""

import asyncio
import csv
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any
from xml.sax.saxutils import escape

import msgspec
from chain_rig import CHAIN_QUEUES
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from salesforce_source_rig import ADDRESS_SECRET, SESSION, SalesforceSourceRig
from salesforce_truth import CURRENCY, OBJECTS, Expected, expected, tables, told_apart
from source_rig import TENANT, Key, KilledError, SourceRig
from starlette.types import Receive, Scope, Send

from connections.connection import Connection
from connections.salesforce_connection import PolledObject, SalesforceAuth, SalesforceConnection
from connections.state import STATE_TYPE
from ingestion import connecting
from ingestion.asking import ask_for_history, ask_for_sweep
from ingestion.first_load import FirstLoadPorts, load_pages, note_asked
from ingestion.history_memory import history_key, load_memory
from ingestion.salesforce.errors import ObjectError
from ingestion.salesforce.history import HistoryReader
from ingestion.salesforce.record_reads import RecordReads
from ingestion.salesforce.source import SalesforceSource
from ingestion.source import Checked
from ingestion.webhooks import PushRequest
from local.company import Company, default_org_id
from local.salesforce.ids import made_id
from local.salesforce.org import ChangeKind, Org, OrgError
from local.salesforce.schema import Field
from local.salesforce.server import SalesforceSimulator
from local.simulator_faults import Fault
from messaging import codec
from messaging.bus import QueueDepth
from messaging.queues import SOURCE_WORK
from shards.identity import shard_id
from shards.model import Shard
from shards.store import ShardQuery

MINUTE, HOUR, DAY = 60, 3600, 86_400
LONGEST_TRANSACTION = 600
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""A life goes the same way whenever it is tried."""
STAGES = ("Prospecting", "Negotiation/Review", "Closed Won", "Closed Lost")
FEW_FIELDS: dict[str, tuple[str, ...]] = {
    "Account": ("Name", "OwnerId", "Region__c", "ParentId"),
    "Opportunity": ("Name", "StageName", "IsClosed", "IsWon", "Amount", "Total__c", "AccountId"),
    "Contact": ("Name", "LastName", "AccountId", "Level__c"),
}
"""To what a connection may limit what it reads of an object."""
HIDEABLE = {
    "Account": ("Industry", "AnnualRevenue", "Region__c", "Score__c", "ParentId"),
    "Contact": ("Title", "Email", "AccountId", "Level__c"),
    "Opportunity": ("Amount", "Total__c", "AccountId", "CloseDate"),
    "User": ("Email", "Title", "ManagerId"),
    "Invoice__c": ("Account__c", "Sum__c"),
    "Visit__c": ("Notes__c",),
}
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
FOR_PEOPLE = frozenset({"object-unreadable", "unknown-object-type", "connection-not-active"})
"""Why a push may be parked here: its object was hidden, or its connection rested; docs/operate.md tells of both."""

KEPT_COLUMNS = ("Id", "Name", "LastName", "StageName", "IsClosed", "IsWon")
"""What an export has at least."""

Step = Callable[[Random], Coroutine[Any, Any, str]]
Change = tuple[ChangeKind, str, str]


@cache
def key_pair(number: int) -> tuple[str, str]:
    """A private key of a connected app, and the public one of its certificate, as PEM."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@dataclass
class Place:
    """An org as one connection reads it. Two connections of one org share all but their names and ways to log in."""

    connection_id: str
    by_jwt: bool
    org: Org
    simulator: SalesforceSimulator
    domain: str
    made: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in OBJECTS})
    changes: list[Change] = field(default_factory=list)
    sent: list[PushRequest] = field(default_factory=list)

    @property
    def secret(self) -> str:
        """The name of the secret that its connection logs in with."""
        return f"{self.domain}-{'key' if self.by_jwt else 'consumer'}"


class LivingOrg(SalesforceSourceRig):
    """An org of six objects whose clock never gives the same moment twice: no two readings are of one.

    *second* is where another connection of the tenant leads: nowhere, to the same org, or to one of its own.
    """

    def __init__(self, folder: Path, *, bulk_from: int, without: str, by_jwt: bool, second: str) -> None:
        self._bulk_from = bulk_from
        self._without = {"Visit__c", without}
        self._keys = 0
        self.org = Org(Company(TENANT, default_org_id(TENANT), tables()))
        self.simulator = SalesforceSimulator(self.org)
        self.places = [Place("sf", by_jwt, self.org, self.simulator, "acme.my")]
        if second == "same":
            [one] = self.places
            self.places.append(
                Place("sf2", not by_jwt, one.org, one.simulator, one.domain, one.made, one.changes, one.sent)
            )
        elif second == "other":
            self.places.append(self._other_place(not by_jwt))
        self._server = self.simulator.start()
        self._told = []
        self._notified = 0
        SourceRig.__init__(self, folder, salesforce_simulator=self.simulator.base_url)
        self.at = self.places[0]
        self.now = START
        self.set_vendor_clock(self.now)
        self._hurry()

    def _other_place(self, by_jwt: bool) -> Place:
        """Another org, behind the same server: who calls is told apart by the host that is asked for."""
        company = Company("other", default_org_id("other"), tables())
        org = Org(company, self.org.clock)
        simulator = SalesforceSimulator(org)
        here, there = self.simulator.app, simulator.app

        async def by_host(scope: Scope, receive: Receive, send: Send) -> None:
            asked = dict(scope["headers"]).get(b"x-forwarded-host", b"")
            await (there if asked.startswith(b"other.my") else here)(scope, receive, send)

        self.simulator.app = by_host  # type: ignore[assignment]  # any ASGI app will do
        return Place("sf2", by_jwt, org, simulator, "other.my")

    def go_to(self, place: Place) -> None:
        """Let what follows be about *place*."""
        self.at, self.org, self.simulator = place, place.org, place.simulator

    async def connection(self, tenant_id: str = TENANT) -> Connection:
        found = await self.services.connections.get(tenant_id, self.at.connection_id)
        assert found is not None
        return found

    def revoke_credentials(self) -> None:
        self.simulator.credentials.approved = False
        super().revoke_credentials()

    def restore_credentials(self) -> None:
        self.simulator.credentials.approved = True
        super().restore_credentials()

    def rotate_credentials(self) -> None:
        self._keys += 1
        for place in self.places:
            if place.simulator is self.simulator:
                self._new_secret(place)
        self.simulator.api.login.expire_sessions()

    def _new_secret(self, place: Place) -> str:
        """Let in a new secret or key for *place*, and put it where secrets are; its reference."""
        credentials = place.simulator.credentials
        if place.by_jwt:
            private, credentials.public_key = key_pair(self._keys % 2)
            return self.keep(place.secret, private)
        credentials.consumer_secret = f"consumer-secret-{place.domain}-{self._keys}"
        return self.keep(place.secret, credentials.consumer_secret)

    async def close(self) -> None:
        self.simulator = self._server
        await super().close()

    def _hurry(self) -> None:
        """Have few records pass for many, and nothing wait in the real time."""
        source = self.source
        assert isinstance(source, SalesforceSource)
        source._reads = RecordReads(source._ports, source._store, join_seconds=0)
        source._history = HistoryReader(source._ports, {}, bulk_from=self._bulk_from, pause_seconds=0)

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    async def start_again(self) -> None:
        await super().start_again()
        self._hurry()

    def new_connection(self, tenant_id: str) -> Connection:
        made = super().new_connection(tenant_id)
        place, credentials = self.at, self.simulator.credentials
        secret = self._new_secret(place)
        if place.by_jwt:
            # Without a token host of its own, a login leads to where everyone's begins.
            own = place.domain if place.domain != "acme.my" else None
            auth = SalesforceAuth(
                flow="jwt-bearer",
                instance_domain=own,
                username=credentials.username,
                consumer_key=credentials.consumer_key,
                private_key=secret,
            )
        else:
            auth = SalesforceAuth(
                flow="client-credentials",
                domain=place.domain,
                consumer_key=credentials.consumer_key,
                consumer_secret=secret,
            )
        objects = tuple(PolledObject(name=name) for name in OBJECTS if name not in self._without)
        return msgspec.structs.replace(
            made,
            connection_id=place.connection_id,
            name=place.connection_id,
            auth=auth,
            objects=objects,
            page_size=5,
            sweep_share=1.0,
            default_currency=CURRENCY,
        )


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
        self._number = 0
        self._folder = folder.parent / "exports"
        self._exports: list[Path] = []
        self._amid: list[tuple[int, Step, Random]] = []
        for org, simulator, changes in {
            id(one.org): (one.org, one.simulator, one.changes) for one in self.rig.places
        }.values():
            org.watchers.append(partial(_noticed, changes))
            faults = simulator.api.faults
            faults.strike = partial(self._called, faults.strike)  # type: ignore[method-assign]
        self._steps: list[tuple[Step, int]] = [
            (self._create, 10),
            (self._change, 12),
            (self._there_and_back, 5),
            (self._many_at_once, 2),
            (self._re_parent, 5),
            (self._delete, 6),
            (self._undelete, 4),
            (self._empty_bin, 3),
            (self._merge, 5),
            (self._change_user, 3),
            (self._rename_stage, 1),
            (self._drift, 3),
            (self._long_transaction, 4),
            (self._hide_field, 1),
            (self._show_fields, 1),
            (self._hide_object, 1),
            (self._new_field, 1),
            (self._remove_field, 1),
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
            (self._export, 2),
            (self._load_export, 4),
            (self._lose_jobs, 1),
            (self._change_connection, 2),
            (self._rest, 1),
        ]

    @property
    def org(self) -> Org:
        """The org that the present step is about."""
        return self.rig.org

    @property
    def _changes(self) -> list[Change]:
        return self.rig.at.changes

    @property
    def _made(self) -> dict[str, list[str]]:
        return self.rig.at.made

    async def begin(self) -> None:
        """Some people and accounts, and the connection to them; every other life begins with a first load."""
        known: list[Org] = []
        for place in self.rig.places:
            self.rig.go_to(place)
            if place.org not in known:
                self._people()
            known.append(place.org)
            await self._first_connection()
        self.rig.go_to(self.rig.places[0])

    def _people(self) -> None:
        for number in range(3):
            self._insert("User", {"LastName": f"U{number}", "Name": f"U{number}", "IsActive": True})
        for name in ("Account", "Contact", "Opportunity", "Invoice__c", "Visit__c"):
            for number in range(2 if self._number_of_life % 2 else 9):
                self._insert(name, self._values(Random(7 + number), name))

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

    # What people do

    def _insert(self, name: str, values: dict[str, object]) -> str:
        record_id = self.org.create(name, values)
        self._made[name].append(record_id)
        return record_id

    def _ids(self, name: str, *, deleted: bool = False) -> list[str]:
        records = self.org.tables[name].records.values()
        return [str(one["Id"]) for one in records if bool(one.get("IsDeleted")) == deleted]

    def _one(self, dice: Random, name: str) -> str | None:
        found = self._ids(name)
        return dice.choice(found) if found and dice.random() < 0.9 else None

    def _word(self, dice: Random) -> str:
        self._number += 1
        return dice.choice((f"Word {self._number}", f"<Ünï> & {self._number}", f'"{self._number}", said\nhe', "same"))

    def _values(self, dice: Random, name: str) -> dict[str, object]:
        word = self._word(dice)
        values: dict[str, object] = {"Name": word, "OwnerId": self._one(dice, "User")}
        match name:
            case "Account":
                values |= {"Industry": dice.choice((None, "Energy")), "AnnualRevenue": self._money(dice)}
                values |= {"NumberOfEmployees": dice.randrange(9), "Region__c": dice.choice((None, word))}
                values |= {"ParentId": self._one(dice, "Account"), "Score__c": dice.randrange(5)}
            case "Contact":
                values |= {"FirstName": "Ada", "LastName": word, "Name": f"Ada {word}", "Title": word}
                values |= {"AccountId": self._one(dice, "Account"), "Level__c": dice.choice((None, "high"))}
                values |= {"HasOptedOutOfEmail": dice.random() < 0.5, "ReportsToId": self._one(dice, "Contact")}
            case "Opportunity":
                values |= {**self._stage(dice), "Amount": self._money(dice), "Total__c": dice.randrange(5)}
                values |= {"AccountId": self._one(dice, "Account"), "ContactId": self._one(dice, "Contact")}
                values |= {"CloseDate": f"2026-03-{dice.randrange(10, 30)}"}
            case "User":
                values = {"LastName": word, "Name": word, "Email": f"u{self._number}@acme.example", "IsActive": True}
                values |= {"ManagerId": self._one(dice, "User")}
            case "Invoice__c":
                values |= {"Account__c": self._one(dice, "Account"), "Sum__c": self._money(dice)}
            case "Visit__c":
                values |= {"Contact__c": self._one(dice, "Contact"), "Notes__c": word}
        fields = self.org.tables[name].fields
        extra = [one for one in fields if one.startswith("Extra")]
        values |= {one: dice.choice((None, word)) for one in extra}
        return {key: value for key, value in values.items() if key in fields}

    def _money(self, dice: Random) -> Decimal | None:
        return dice.choice((None, Decimal(0), Decimal("1234567890.55"), Decimal(dice.randrange(9))))

    def _stage(self, dice: Random) -> dict[str, object]:
        stage = dice.choice(STAGES)
        return {"StageName": stage, "IsWon": stage == "Closed Won", "IsClosed": stage.startswith("Closed")}

    async def _create(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        return f"{name} {self._insert(name, self._values(dice, name))}"

    def _some(self, dice: Random) -> tuple[str, str]:
        name = dice.choice([one for one in OBJECTS if self._ids(one)])
        return name, dice.choice(self._ids(name))

    def _part(self, dice: Random, name: str) -> dict[str, object]:
        values = self._values(dice, name)
        if name == "Opportunity":
            return values
        return {key: values[key] for key in dice.sample(sorted(values), dice.randrange(1, len(values)))}

    async def _change(self, dice: Random) -> str:
        name, record_id = self._some(dice)
        values = self._part(dice, name)
        self.org.update(name, record_id, values, stamps=dice.choice(("all", "all", "system")))
        return f"{name} {record_id} {values}"

    async def _there_and_back(self, dice: Random) -> str:
        """A change and its opposite within a second, and a look in between."""
        name, record_id = self._some(dice)
        before = self.org.tables[name].records[record_id]
        self.org.update(name, record_id, {"Name": self._word(dice)})
        look = dice.choice((self._poll_now, self._push, self._normalize, None))
        if look is not None:
            told = await look(dice)
        else:
            told = str(await self.rig.take_push(self._message(dice, name, [record_id])))
            await self.rig.work()
        if record_id in self._ids(name):
            self.org.update(name, record_id, {"Name": before["Name"]})
        return f"{name} {record_id} {told}"

    async def _many_at_once(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        chosen = self._ids(name)
        word = self._word(dice)
        for record_id in chosen:
            self.org.update(name, record_id, {"Name": word})
        return f"{len(chosen)} {name}"

    async def _re_parent(self, dice: Random) -> str:
        name, field, parent = dice.choice(
            (
                ("Contact", "AccountId", "Account"),
                ("Opportunity", "AccountId", "Account"),
                ("Opportunity", "ContactId", "Contact"),
                ("Account", "ParentId", "Account"),
                ("Invoice__c", "Account__c", "Account"),
                ("Account", "OwnerId", "User"),
            )
        )
        found = self._ids(name)
        if not found:
            return "none"
        record_id, to = dice.choice(found), self._one(dice, parent)
        self.org.update(name, record_id, {field: to})
        return f"{name} {record_id} to {to}"

    async def _delete(self, dice: Random) -> str:
        name = dice.choice([one for one in OBJECTS if one != "User"])
        found = self._ids(name)
        if len(found) < 2:
            return "too few"
        record_id = dice.choice(found)
        self.org.delete(name, record_id)
        return f"{name} {record_id}"

    async def _undelete(self, dice: Random) -> str:
        name = dice.choice([one for one in OBJECTS if one != "User"])
        alive = {one for other in OBJECTS for one in self._ids(other)}
        table = self.org.tables[name]
        found = [one for one in self._ids(name, deleted=True) if self._parent(table.records[one]) in {None, *alive}]
        if not found:
            return "none"
        record_id = dice.choice(found)
        self.org.undelete(name, record_id)
        return f"{name} {record_id}"

    def _parent(self, record: Any) -> str | None:
        parent = record.get("AccountId") or record.get("ParentId")
        return None if parent is None else str(parent)

    async def _empty_bin(self, dice: Random) -> str:
        """Remove for good what lies in the bin, or some of it, and what went there with it."""
        every = dice.random() < 0.5
        bins = {name: self._ids(name, deleted=True) for name in OBJECTS if name != "User"}
        gone = {one for found in bins.values() for one in found if every or dice.random() < 0.3}
        told = []
        for name, found in bins.items():
            for record_id in found:
                table = self.org.tables[name].records
                # An object that is empty all at once is left to people.
                if len(table) > 1 and (record_id in gone or table[record_id].get("AccountId") in gone):
                    self.org.hard_delete(name, record_id)
                    told.append(record_id)
        return f"{told}"

    async def _merge(self, dice: Random) -> str:
        name = dice.choice(("Account", "Contact"))
        found = self._ids(name)
        if len(found) < 3:
            return "too few"
        winner, *losers = dice.sample(found, dice.choice((2, 2, 3)))
        self.org.merge(name, winner, losers)
        if self.org.tables[name].records[winner].get("ParentId") == winner:
            self.org.update(name, winner, {"ParentId": None})
        return f"{name} {losers} into {winner}"

    async def _change_user(self, dice: Random) -> str:
        user = dice.choice(self._ids("User"))
        values = dice.choice(({"IsActive": False}, {"IsActive": True}, {"Name": self._word(dice)}))
        self.org.update("User", user, values)
        return f"{user} {values}"

    async def _rename_stage(self, dice: Random) -> str:
        self._number += 1
        renamed = dice.choice(STAGES[:2])
        to = f"Stage {self._number}/New"
        for record_id in self._ids("Opportunity"):
            if self.org.tables["Opportunity"].records[record_id]["StageName"] == renamed:
                self.org.update("Opportunity", record_id, {"StageName": to}, stamps="system")
        return f"{renamed} is {to}"

    async def _drift(self, dice: Random) -> str:
        name, field = dice.choice((("Account", "Score__c"), ("Opportunity", "Total__c")))
        found = self._ids(name)
        for record_id in dice.sample(found, min(len(found), 3)):
            self.org.drift(name, record_id, {field: dice.randrange(100)})
        return name

    async def _long_transaction(self, dice: Random) -> str:
        """Rows that are stamped now and seen later."""
        held_for = dice.choice((1, 30, 200, 590))
        transaction = self.org.begin(timedelta(seconds=held_for))
        told = []
        for _ in range(dice.randrange(1, 4)):
            if dice.random() < 0.5:
                name = dice.choice(OBJECTS)
                record_id = transaction.create(name, self._core(self._values(dice, name)))
                self._made[name].append(record_id)
            else:
                name, record_id = self._some(dice)
                with suppress(OrgError):
                    transaction.update(name, record_id, {"Name": self._word(dice)})
            told.append(record_id)
        return f"{told} for {held_for} s"

    def _core(self, values: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in values.items() if not name.startswith("Extra")}

    # What administrators do

    async def _hide_field(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        hidden = dice.choice(HIDEABLE[name])
        self.org.hide(name, [hidden])
        return f"{name}.{hidden}"

    async def _show_fields(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        self.org.show(name)
        return name

    async def _hide_object(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        self.org.hide(name)
        return name

    async def _new_field(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        self._number += 1
        made = Field(f"Extra{self._number}__c", "string")
        self.org.add_field(name, made)
        for record_id in self._ids(name)[:2]:
            self.org.update(name, record_id, {made.name: self._word(dice)})
        return f"{name}.{made.name}"

    async def _remove_field(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        extra = [one for one in self.org.tables[name].fields if one.startswith("Extra")]
        if not extra:
            return "none"
        gone = dice.choice(extra)
        self.org.remove_field(name, gone)
        return f"{name}.{gone}"

    # What the org pushes

    async def _push(self, dice: Random) -> str:
        """Some of what has happened, the newest or the oldest of it; the rest is never told, or later."""
        if not self._changes:
            return "nothing"
        chosen = dice.sample(self._changes, min(len(self._changes), dice.choice((1, 1, 3, 100))))
        if dice.random() < 0.7:
            self._changes[:] = [one for one in self._changes if one not in chosen]
        make = dice.choice((self._messages, self._messages, self._callouts, self._events))
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

    def _messages(self, dice: Random, changes: list[Change]) -> list[PushRequest]:
        by_object: dict[str, list[str]] = {}
        for kind, name, record_id in changes:
            if kind != "DELETE" and record_id in self.org.tables[name].records:
                by_object.setdefault(name, []).append(record_id)
        return [self._message(dice, name, ids) for name, ids in by_object.items()]

    def _message(self, dice: Random, name: str, ids: list[str]) -> PushRequest:
        told = []
        for record_id in ids:
            self._number += 1
            value = escape(str(self.org.tables[name].records[record_id]["Name"]))
            values = f"<sf:Name>{value}</sf:Name>" if dice.random() < 0.5 else ""
            told.append(
                f"<Notification><Id>{made_id('04l', 'Notification', str(self._number))}</Id>"
                f'<sObject xsi:type="sf:{name}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">'
                f"<sf:Id>{record_id}</sf:Id>{values}</sObject></Notification>"
            )
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
            'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
            '<notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
            f"<OrganizationId>{self.org.org_id}</OrganizationId><ActionId>04k000000000001AAA</ActionId>"
            f"<SessionId>{SESSION}</SessionId>{''.join(told)}</notifications></soapenv:Body></soapenv:Envelope>"
        )
        return self._request("text/xml; charset=utf-8", body.encode())

    def _callouts(self, dice: Random, changes: list[Change]) -> list[PushRequest]:
        made = []
        by_object: dict[str, list[str]] = {}
        for _, name, record_id in changes:
            by_object.setdefault(name, []).append(dice.choice((record_id, record_id[:15])))
        for name, ids in by_object.items():
            bodies: tuple[Any, ...] = (
                {"orgId": self.org.org_id, "records": [{"attributes": {"type": name}, "Id": one} for one in ids]},
                {"ids": ids, "object": name},
                {"current": {name.lower(): {"Id": ids[0]}}, "previous": {name.lower(): {"Id": ids[0], "Name": "x"}}},
                [{"Id": one, "Name": "partial"} for one in ids],
            )
            made.append(self._request("application/json", codec.encode(dice.choice(bodies))))
        return made

    def _events(self, dice: Random, changes: list[Change]) -> list[PushRequest]:
        made = []
        for kind, name, record_id in changes:
            self._number += 1
            prefix = self.org.tables[name].key_prefix
            told: tuple[str, list[str]] = dice.choice(
                (
                    (kind, [record_id]),
                    (kind, [record_id]),
                    (f"GAP_{kind}", [record_id]),
                    ("GAP_OVERFLOW", ["000000000000000AAA"]),
                    ("UPDATE", [f"{prefix}*"]),
                    (kind, [one for _, of, one in changes if of == name]),
                )
            )
            header = {
                "entityName": name,
                "changeType": told[0],
                "recordIds": told[1],
                "transactionKey": f"{self._number:08x}-0000",
                "sequenceNumber": 1,
                "commitTimestamp": int(self.org.clock().timestamp() * 1000) - dice.choice((0, 5000, 3_600_000)),
            }
            event: dict[str, Any] = {"payload": {"ChangeEventHeader": header, "Name": "x"}}
            wrapped = {"source": f"aws.partner/salesforce.com/{self.org.org_id}/C", "detail": event}
            made.append(self._request("application/json", codec.encode(dice.choice((wrapped, {"data": event})))))
        return made

    def _request(self, kind: str, body: bytes) -> PushRequest:
        return PushRequest(
            {"content-type": kind}, body, {"connectionId": self.rig.at.connection_id, "secret": ADDRESS_SECRET}
        )

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
        steps = (self._change, self._create, self._delete, self._merge, self._re_parent, self._undelete)
        drawn = [(dice.randrange(12), dice.choice((*steps, self._empty_bin, self._many_at_once))) for _ in range(3)]
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
        loads = (self._load_history, self._load_export)
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

    async def _export(self, dice: Random) -> str:
        """An administrator exports objects with the Data Loader: all of what they see, or some columns of it."""
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir(parents=True)
        told = []
        for name in dice.sample(OBJECTS, dice.choice((1, 2, 6))):
            table = self.org.tables[name]
            dropped = {one for one in table.fields if one not in KEPT_COLUMNS and dice.random() < 0.2}
            columns = [one for one in table.fields if one not in dropped]
            all_too = "IsDeleted" in columns and dice.random() < 0.5
            rows = [one for one in table.records.values() if all_too or not one.get("IsDeleted")]
            with (folder / f"export_{name}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, quoting=csv.QUOTE_ALL)
                writer.writerow(one.upper() for one in columns)
                writer.writerows([_cell(row.get(one)) for one in columns] for row in rows)
            told.append(f"{len(rows)} {name} without {sorted(dropped)}")
        (folder / self.org.org_id).touch()
        self._exports.append(folder)
        return f"{folder.name} of {self.rig.at.connection_id}: {told}"

    async def _load_export(self, dice: Random) -> str:
        """Load an export, this one's or one of long ago, as ``shardline backfill --from`` does."""
        mine = [one for one in self._exports if (one / self.org.org_id).exists()]
        if not mine or dice.random() < 0.3:
            await self._export(dice)
            mine = self._exports[-1:]
        folder = dice.choice(mine)
        rig, connection = self.rig, await self._connection()
        if connection.status != "active":
            return f"the connection is {connection.status}"
        paths = [one for one in sorted(folder.glob("*.csv")) if connection.wants(one.stem.removeprefix("export_"))]
        ports = FirstLoadPorts(rig.services.bus, rig.services.states, rig.clock)
        key = f"{history_key(connection)}/{connecting.export_key(paths)}"
        try:
            pages = connecting.history_of_export(connection, paths, rig.services.ingestion)
            await note_asked(connection, ports, anew=dice.random() < 0.5, key=key)
            step = await load_pages(connection, pages, ports, deadline=rig.clock() + timedelta(seconds=20), key=key)
        except ObjectError as error:
            return f"{folder.name} refused: {error}"
        return f"{folder.name}: {step.notes.records} records, again in {step.again_in}"

    async def _hours_at_the_limit(self, dice: Random) -> str:
        """Other programs have used up the org's calls of the day; people go on, and so do flows."""
        self.rig.simulator.api.faults.add("request-limit", times=None)
        hours = dice.choice((1, 3, 8))
        told = []
        for _ in range(hours):
            with suppress(OrgError):
                told.append(await dice.choice((self._change, self._create, self._delete, self._merge))(dice))
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
        connection = await self._connection()
        is_alone = len(self._of_org()) == 1
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
            self.org.hidden_objects.clear()
        rig.wait(LONGEST_TRANSACTION)
        for place in rig.places:
            rig.go_to(place)
            self.org.commit_due()
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
            if not any(_holds(depth) for depth in (await rig.bus.depths()).values()):
                return
            rig.wait(10 * MINUTE)
            await rig.tick()
            await rig.settle()

    async def differences(self) -> list[str]:
        """See :class:`random_life.Life`."""
        depths = await self.rig.bus.depths()
        found = [f"{name} holds {depth}" for name, depth in depths.items() if _holds(depth)]
        parked = await self.rig.parked()
        found += [f"parked: {one.reason} {one.detail}" for one in parked if one.reason not in FOR_PEOPLE]
        for state in await self.rig._all(ShardQuery(TENANT, shard_type_ids=(STATE_TYPE,))):
            if error := state.structured_data.get("errorMessage"):
                found.append(f"{state.structured_data.get('name')}: {error}")
        for place in self.rig.places:
            self.rig.go_to(place)
            connection = await self._connection()
            if connection.status != "active":
                found.append(f"{connection.connection_id} is {connection.status}: {connection.error_message}")
            history = (await load_memory(connection, self.rig.services.states)).metadata
            if history.asked_at is not None and history.finished_at is None:
                found.append(f"the first load of {connection.connection_id} has not ended: {history}")
            found += [f"{connection.connection_id}: {one}" for one in await self._records()]
        return found

    def _of_org(self) -> list[Place]:
        """The places of the present org."""
        return [one for one in self.rig.places if one.org is self.org]

    async def _connection(self) -> SalesforceConnection:
        connection = await self.rig.connection()
        assert isinstance(connection, SalesforceConnection)
        return connection

    async def _wanted(self) -> dict[str, tuple[str, ...]]:
        """The fields of the objects that the org's connections read; none named: all."""
        wanted: dict[str, tuple[str, ...]] = {}
        here = self.rig.at
        for place in self._of_org():
            self.rig.go_to(place)
            wanted |= {one.name: one.fields for one in (await self._connection()).objects}
        self.rig.go_to(here)
        return wanted

    async def _records(self) -> list[str]:
        found: list[str] = []
        wanted = await self._wanted()
        truth: dict[tuple[str, str], Expected] = {}
        # What the connection does not read any more stays as it was when it did.
        for name, fields in wanted.items():
            records = self.org.tables[name].records
            truth |= {(name, one): expected(self.org, name, record, fields) for one, record in records.items()}
            truth |= {(name, one): Expected(False, "") for one in self._made[name] if one not in records}
        incoming: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for (name, record_id), one in truth.items():
            for relation, of, target in one.links:
                incoming.setdefault((of, self._merged(of, target)), set()).add(
                    (relation, self._shard_id(name, record_id))
                )
        for (name, record_id), one in truth.items():
            shard = await self.rig.store.get(TENANT, self._shard_id(name, record_id))
            told = self._compared(one, shard)
            if shard is not None:
                told += await self._text_compared(one, shard)
                if shard.redirect_to is None:
                    told += await self._incoming_compared(shard, incoming.get((name, record_id), set()), wanted)
            found += [f"{name} {record_id}: {one}" for one in told]
            if "User" not in wanted:
                for _, of, owner in one.links:
                    # Users who are not polled are only read once.
                    if of == "User" and (await self.rig.stored(Key(of, owner))) is None:
                        found.append(f"{name} {record_id}: its user {owner} is not stored")
        return found

    def _is_gone(self, name: str, record_id: str) -> bool:
        return record_id not in self.org.tables[name].records

    def _merged(self, name: str, record_id: str) -> str:
        """The record that it is by now: links to one that was merged lead on."""
        record = self.org.tables[name].records.get(record_id)
        while record is not None and record.get("IsDeleted") and record.get("MasterRecordId"):
            record_id = str(record["MasterRecordId"])
            record = self.org.tables[name].records.get(record_id)
        return record_id

    def _shard_id(self, name: str, record_id: str) -> str:
        return shard_id(TENANT, "salesforce", self.org.org_id, name, record_id)

    def _compared(self, wanted: Expected, shard: Shard | None) -> list[str]:
        if shard is None:
            return ["is not stored"] if wanted.live else []
        if shard.is_live != wanted.live:
            return [f"is stored as {shard.status}, version {shard.external_relationships[0].source_version}"]
        told = told_apart(shard.structured_data, wanted.data)
        if wanted.merged_into is not None or not wanted.live:
            return told + self._tombstone_compared(wanted, shard)
        links = {
            (one.relationship_type, one.target_shard_id)
            for one in shard.internal_relationships
            if one.method == "structured-field" and one.status == "active"
        }
        aims = {(relation, self._shard_id(of, target)) for relation, of, target in wanted.links}
        told += [f"a link too many: {one}" for one in links - aims] + [f"no link: {one}" for one in aims - links]
        [source] = shard.external_relationships
        if source.source_version != wanted.version:
            told.append(f"version {source.source_version} is {wanted.version}")
        if shard.last_activity_at != wanted.last_activity:
            told.append(f"last activity {shard.last_activity_at} is {wanted.last_activity}")
        if shard.acl.principals != ("tenant",) or shard.redirect_to is not None:
            told.append(f"acl {shard.acl}, redirect {shard.redirect_to}")
        if not str(source.external_url).endswith(f".salesforce.com/{source.external_id}"):
            told.append(f"its address is {source.external_url}")
        return told

    def _tombstone_compared(self, wanted: Expected, shard: Shard) -> list[str]:
        if not wanted.version:
            return []  # gone for good: whether it was merged before is told by nobody
        to = wanted.merged_into
        redirect = None if to is None else self._shard_id(shard.external_relationships[0].object_type, to)
        return [] if shard.redirect_to == redirect else [f"leads to {shard.redirect_to}, was merged into {to}"]

    async def _text_compared(self, wanted: Expected, shard: Shard) -> list[str]:
        chunks = await self.rig.store.chunks(TENANT, shard.id)
        if not wanted.live:
            return ["has text still"] if chunks else []
        name = " ".join(str(wanted.data["name"]).split())
        if not chunks or any(chunk.vector is None for chunk in chunks):
            return ["has no text, or no vector of it"]
        return [] if name in " ".join(chunks[0].text.split()) else [f"its text is {chunks[0].text!r}"]

    async def _incoming_compared(
        self, shard: Shard, wanted: set[tuple[str, str]], polled: dict[str, tuple[str, ...]]
    ) -> list[str]:
        page = await self.rig.store.incoming(TENANT, shard.id, limit=1000)
        types = {f"c_{name.lower()}" for name in polled if not name.endswith("__c")}
        # Into what a record was merged that is gone for good is told by nobody who has not seen it in the bin.
        gone = {self._shard_id(of, one) for of in OBJECTS for one in self._made[of] if self._is_gone(of, one)}
        held = {
            (one.link.relationship_type, one.source_shard_id)
            for one in page.items
            if one.link.method == "structured-field" and one.source_shard_type_id in types
            if one.link.target_shard_id == shard.id or one.link.target_shard_id not in gone
        }
        missing = wanted - {(one.link.relationship_type, one.source_shard_id) for one in page.items}
        return [f"not linked from {one}" for one in missing] + [f"linked from {one}" for one in held - wanted]


def _holds(depth: QueueDepth) -> bool:
    return bool(depth.active or depth.locked or depth.scheduled or depth.dead_lettered)


def _noticed(changes: list[Change], kind: ChangeKind, object_name: str, record_id: str) -> None:
    changes.append((kind, object_name, record_id))


def _cell(value: object) -> str:
    """A value as the Data Loader writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text.replace("+0000", "Z") if text.endswith(".000+0000") else text
