"""What people, flows and administrators do in a Salesforce org, drawn by lot."""

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

from salesforce_living_org import LivingOrg
from salesforce_truth import OBJECTS

from local.salesforce.org import Org, OrgError
from local.salesforce.schema import Field

STAGES = ("Prospecting", "Negotiation/Review", "Closed Won", "Closed Lost")
HIDEABLE = {
    "Account": ("Industry", "AnnualRevenue", "Region__c", "Score__c", "ParentId"),
    "Contact": ("Title", "Email", "AccountId", "Level__c"),
    "Opportunity": ("Amount", "Total__c", "AccountId", "CloseDate"),
    "User": ("Email", "Title", "ManagerId"),
    "Invoice__c": ("Account__c", "Sum__c"),
    "Visit__c": ("Notes__c",),
}


class SalesforcePeople:
    """At work in the org that the present step is about; what they do waits for nothing."""

    def __init__(self, rig: LivingOrg) -> None:
        self._rig = rig
        self._number = 0

    @property
    def _org(self) -> Org:
        return self._rig.org

    def next_number(self) -> int:
        """A number that this life has not used yet."""
        self._number += 1
        return self._number

    def insert(self, name: str, values: dict[str, object]) -> str:
        """Make a record; its id."""
        record_id = self._org.create(name, values)
        self._rig.made[name].append(record_id)
        return record_id

    def ids(self, name: str, *, deleted: bool = False) -> list[str]:
        """Of the records of an object that are there, or in the bin."""
        records = self._org.tables[name].records.values()
        return [str(one["Id"]) for one in records if bool(one.get("IsDeleted")) == deleted]

    def _one(self, dice: Random, name: str) -> str | None:
        found = self.ids(name)
        return dice.choice(found) if found and dice.random() < 0.9 else None

    def word(self, dice: Random) -> str:
        """What somebody writes; now and then the same as before."""
        number = self.next_number()
        return dice.choice((f"Word {number}", f"<Ünï> & {number}", f'"{number}", said\nhe', "same"))

    def values(self, dice: Random, name: str) -> dict[str, object]:
        """What a new record of an object has in its fields."""
        word = self.word(dice)
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
        fields = self._org.tables[name].fields
        extra = [one for one in fields if one.startswith("Extra")]
        values |= {one: dice.choice((None, word)) for one in extra}
        return {key: value for key, value in values.items() if key in fields}

    def _money(self, dice: Random) -> Decimal | None:
        return dice.choice((None, Decimal(0), Decimal("1234567890.55"), Decimal(dice.randrange(9))))

    def _stage(self, dice: Random) -> dict[str, object]:
        stage = dice.choice(STAGES)
        return {"StageName": stage, "IsWon": stage == "Closed Won", "IsClosed": stage.startswith("Closed")}

    async def create(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        return f"{name} {self.insert(name, self.values(dice, name))}"

    def some(self, dice: Random) -> tuple[str, str]:
        """A record that is there, by its object and id."""
        name = dice.choice([one for one in OBJECTS if self.ids(one)])
        return name, dice.choice(self.ids(name))

    def _part(self, dice: Random, name: str) -> dict[str, object]:
        values = self.values(dice, name)
        if name == "Opportunity":
            return values
        return {key: values[key] for key in dice.sample(sorted(values), dice.randrange(1, len(values)))}

    async def change(self, dice: Random) -> str:
        name, record_id = self.some(dice)
        values = self._part(dice, name)
        self._org.update(name, record_id, values, stamps=dice.choice(("all", "all", "system")))
        return f"{name} {record_id} {values}"

    async def many_at_once(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        chosen = self.ids(name)
        word = self.word(dice)
        for record_id in chosen:
            self._org.update(name, record_id, {"Name": word})
        return f"{len(chosen)} {name}"

    async def re_parent(self, dice: Random) -> str:
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
        found = self.ids(name)
        if not found:
            return "none"
        record_id, to = dice.choice(found), self._one(dice, parent)
        self._org.update(name, record_id, {field: to})
        return f"{name} {record_id} to {to}"

    async def delete(self, dice: Random) -> str:
        name = dice.choice([one for one in OBJECTS if one != "User"])
        found = self.ids(name)
        if len(found) < 2:
            return "too few"
        record_id = dice.choice(found)
        self._org.delete(name, record_id)
        return f"{name} {record_id}"

    async def undelete(self, dice: Random) -> str:
        name = dice.choice([one for one in OBJECTS if one != "User"])
        alive = {one for other in OBJECTS for one in self.ids(other)}
        table = self._org.tables[name]
        found = [one for one in self.ids(name, deleted=True) if self._parent(table.records[one]) in {None, *alive}]
        if not found:
            return "none"
        record_id = dice.choice(found)
        self._org.undelete(name, record_id)
        return f"{name} {record_id}"

    def _parent(self, record: Any) -> str | None:
        parent = record.get("AccountId") or record.get("ParentId")
        return None if parent is None else str(parent)

    async def empty_bin(self, dice: Random) -> str:
        """Remove for good what lies in the bin, or some of it, and what went there with it."""
        every = dice.random() < 0.5
        bins = {name: self.ids(name, deleted=True) for name in OBJECTS if name != "User"}
        gone = {one for found in bins.values() for one in found if every or dice.random() < 0.3}
        told = []
        for name, found in bins.items():
            for record_id in found:
                table = self._org.tables[name].records
                # An object that is empty all at once is left to people.
                if len(table) > 1 and (record_id in gone or table[record_id].get("AccountId") in gone):
                    self._org.hard_delete(name, record_id)
                    told.append(record_id)
        return f"{told}"

    async def merge(self, dice: Random) -> str:
        name = dice.choice(("Account", "Contact"))
        found = self.ids(name)
        if len(found) < 3:
            return "too few"
        winner, *losers = dice.sample(found, dice.choice((2, 2, 3)))
        self._org.merge(name, winner, losers)
        if self._org.tables[name].records[winner].get("ParentId") == winner:
            self._org.update(name, winner, {"ParentId": None})
        return f"{name} {losers} into {winner}"

    async def change_user(self, dice: Random) -> str:
        user = dice.choice(self.ids("User"))
        values = dice.choice(({"IsActive": False}, {"IsActive": True}, {"Name": self.word(dice)}))
        self._org.update("User", user, values)
        return f"{user} {values}"

    async def rename_stage(self, dice: Random) -> str:
        number = self.next_number()
        renamed = dice.choice(STAGES[:2])
        to = f"Stage {number}/New"
        for record_id in self.ids("Opportunity"):
            if self._org.tables["Opportunity"].records[record_id]["StageName"] == renamed:
                self._org.update("Opportunity", record_id, {"StageName": to}, stamps="system")
        return f"{renamed} is {to}"

    async def drift(self, dice: Random) -> str:
        name, field = dice.choice((("Account", "Score__c"), ("Opportunity", "Total__c")))
        found = self.ids(name)
        for record_id in dice.sample(found, min(len(found), 3)):
            self._org.drift(name, record_id, {field: dice.randrange(100)})
        return name

    async def long_transaction(self, dice: Random) -> str:
        """Rows that are stamped now and seen later."""
        held_for = dice.choice((1, 30, 200, 590))
        transaction = self._org.begin(timedelta(seconds=held_for))
        told = []
        for _ in range(dice.randrange(1, 4)):
            if dice.random() < 0.5:
                name = dice.choice(OBJECTS)
                record_id = transaction.create(name, self._core(self.values(dice, name)))
                self._rig.made[name].append(record_id)
            else:
                name, record_id = self.some(dice)
                with suppress(OrgError):
                    transaction.update(name, record_id, {"Name": self.word(dice)})
            told.append(record_id)
        return f"{told} for {held_for} s"

    def _core(self, values: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in values.items() if not name.startswith("Extra")}

    # What administrators do

    async def hide_field(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        hidden = dice.choice(HIDEABLE[name])
        self._org.hide(name, [hidden])
        return f"{name}.{hidden}"

    async def show_fields(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        self._org.show(name)
        return name

    async def hide_object(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        self._org.hide(name)
        return name

    async def new_field(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        made = Field(f"Extra{self.next_number()}__c", "string")
        self._org.add_field(name, made)
        for record_id in self.ids(name)[:2]:
            self._org.update(name, record_id, {made.name: self.word(dice)})
        return f"{name}.{made.name}"

    async def remove_field(self, dice: Random) -> str:
        name = dice.choice(OBJECTS)
        extra = [one for one in self._org.tables[name].fields if one.startswith("Extra")]
        if not extra:
            return "none"
        gone = dice.choice(extra)
        self._org.remove_field(name, gone)
        return f"{name}.{gone}"
