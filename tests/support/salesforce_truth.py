"""What has to be stored of an org: read off the simulator's own records, by nothing that the product does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from local.salesforce.org import Org
from local.salesforce.schema import Field, ObjectTable, Record, empty_table

CURRENCY = "EUR"

_NAMES: dict[str, dict[str, str]] = {
    "Account": {
        "Name": "name",
        "Industry": "industry",
        "AnnualRevenue": "annualRevenue",
        "NumberOfEmployees": "numberOfEmployees",
        "Description": "description",
        "ParentId": "parentId",
        "OwnerId": "ownerId",
        "CreatedDate": "createdDate",
    },
    "Contact": {
        "Name": "name",
        "FirstName": "firstName",
        "LastName": "lastName",
        "Email": "email",
        "Title": "title",
        "HasOptedOutOfEmail": "hasOptedOutOfEmail",
        "AccountId": "accountId",
        "ReportsToId": "reportsToId",
        "OwnerId": "ownerId",
        "CreatedDate": "createdDate",
    },
    "Opportunity": {
        "Name": "name",
        "StageName": "stageName",
        "Amount": "amount",
        "CloseDate": "closeDate",
        "IsClosed": "isClosed",
        "IsWon": "isWon",
        "AccountId": "accountId",
        "ContactId": "contactId",
        "OwnerId": "ownerId",
        "CreatedDate": "createdDate",
    },
    "User": {
        "Name": "name",
        "FirstName": "firstName",
        "LastName": "lastName",
        "Email": "email",
        "Title": "title",
        "IsActive": "isActive",
        "ManagerId": "managerId",
        "CreatedDate": "createdDate",
    },
    "Invoice__c": {"Name": "name", "OwnerId": "ownerId", "CreatedDate": "createdDate"},
    "Visit__c": {"Name": "name", "OwnerId": "ownerId", "CreatedDate": "createdDate"},
}
"""Salesforce's fields by what they are stored as; custom ones keep their names."""

_CUSTOM: dict[str, tuple[Field, ...]] = {
    "Account": (Field("Region__c", "string"), Field("Score__c", "double", calculated=True)),
    "Contact": (Field("Level__c", "picklist"),),
    "Opportunity": (Field("Total__c", "currency", calculated=True),),
    "User": (),
    "Invoice__c": (Field("Account__c", "reference", "Account"), Field("Sum__c", "currency")),
    "Visit__c": (Field("Contact__c", "reference", "Contact"), Field("Notes__c", "textarea")),
}

_LINKS: dict[str, dict[str, tuple[str, str]]] = {
    "Account": {"ParentId": ("child_of", "Account"), "OwnerId": ("has_owner", "User")},
    "Contact": {
        "AccountId": ("contact_for", "Account"),
        "ReportsToId": ("child_of", "Contact"),
        "OwnerId": ("has_owner", "User"),
    },
    "Opportunity": {
        "AccountId": ("opportunity_for", "Account"),
        "ContactId": ("references", "Contact"),
        "OwnerId": ("has_owner", "User"),
    },
    "User": {"ManagerId": ("child_of", "User")},
    "Invoice__c": {"Account__c": ("references", "Account"), "OwnerId": ("has_owner", "User")},
    "Visit__c": {"Contact__c": ("references", "Contact"), "OwnerId": ("has_owner", "User")},
}

OBJECTS = tuple(_NAMES)
_SYSTEM_FIELDS = ("Id", "IsDeleted", "MasterRecordId", "CreatedDate", "LastModifiedDate", "SystemModstamp")
_ALWAYS_READ = {"Id", "IsDeleted", "MasterRecordId", "CreatedDate", "SystemModstamp"}


def tables() -> dict[str, ObjectTable]:
    """Empty tables of the org's objects, with the fields alone whose ways are known here."""
    made = {}
    for name, names in _NAMES.items():
        table = empty_table(name, _CUSTOM[name])
        kept = {*_SYSTEM_FIELDS, *names, *(one.name for one in _CUSTOM[name])}
        table.fields = {one: table.fields[one] for one in table.fields if one in kept}
        made[name] = table
    return made


@dataclass(frozen=True, slots=True)
class Expected:
    """A record as it has to be stored. *links* are (relationship, object, id); *merged_into* is an id."""

    live: bool
    version: str
    data: dict[str, Any] = field(default_factory=dict)
    links: set[tuple[str, str, str]] = field(default_factory=set)
    last_activity: str | None = None
    merged_into: str | None = None


def expected(org: Org, object_name: str, record: Record, wanted: Iterable[str]) -> Expected:
    """What *record* has to be stored as, by a connection that reads the fields *wanted* (none named: all)."""
    version = stored_time(str(record["SystemModstamp"]))
    if record.get("IsDeleted"):
        master = record.get("MasterRecordId")
        return Expected(False, version, merged_into=str(master) if master else None)
    hidden = org.hidden_fields.get(object_name, set())
    read = {one.name for one in org.tables[object_name].fields.values() if one.name not in hidden}
    if limit := set(wanted):
        read &= limit | _ALWAYS_READ
    shown = {name: value for name, value in record.items() if name in read and value is not None}
    data: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for name, value in shown.items():
        if name in _NAMES[object_name]:
            data[_NAMES[object_name][name]] = stored_time(str(value)) if name == "CreatedDate" else value
        elif name.endswith("__c"):
            custom[name] = value
    if custom:
        data["customFields"] = custom
    if object_name == "Opportunity":
        data |= {"currency": CURRENCY, "stage": "_".join(str(shown["StageName"]).lower().replace("/", " ").split())}
        data["status"] = "won" if shown["IsWon"] else "lost" if shown["IsClosed"] else "open"
    if object_name == "Account" and "annualRevenue" in data:
        data["currency"] = CURRENCY
    links = {
        (relation, target, str(shown[name]))
        for name, (relation, target) in _LINKS[object_name].items()
        if name in shown and not (target == object_name and shown[name] == record["Id"])
    }
    modified = shown.get("LastModifiedDate")
    activity = max(stored_time(str(one)) for one in (modified, shown["CreatedDate"]) if one)
    return Expected(True, version, data, links, activity)


def stored_time(text: str) -> str:
    """A REST time as it is stored."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def told_apart(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The fields in which structured data is not as it has to be."""
    told = []
    for name in sorted(held.keys() | wanted.keys()):
        mine, theirs = held.get(name), wanted.get(name)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            told += [f"{name}.{one}" for one in told_apart(mine, theirs)]
        elif (type(mine) is bool) != (type(theirs) is bool) or _plain(mine) != _plain(theirs):
            told.append(f"{name}: {mine!r} is {theirs!r}")
    return told


def _plain(value: Any) -> Any:
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value
