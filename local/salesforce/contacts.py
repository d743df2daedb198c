"""Contacts in any number, for measuring: about 950 bytes of JSON each, no two alike, a new second for each."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from local.company import Company, default_org_id
from local.salesforce.schema import Field, Record, empty_table
from local.salesforce.values import datetime_text

FIRST_STAMP = datetime(2025, 1, 1, tzinfo=UTC)
_ACCOUNTS, _OWNERS = 5000, 50
_TITLES = ("CEO", "CTO", "VP Sales", "Engineer")
_DEPARTMENTS = ("Sales", "Eng", "Ops")


def numbered_id(key_prefix: str, number: int) -> str:
    """The 18-character id of a running number. Ids have the order of their numbers."""
    return f"{key_prefix}{number:012d}AAA"  # digits have no capitals, so the checksum is always AAA


def contacts_company(rows: int, tenant_id: str = "bench") -> Company:
    """A company of *rows* contacts, the same ones every time; their accounts and owners are named but not there."""
    table = empty_table("Contact", [Field("NumberOfVisits__c", "double"), Field("Score__c", "double")])
    choice = random.Random(7)
    table.records = [_contact(number, choice) for number in range(rows)]
    # No other fields: whoever asks for all that the describe shows gets the row that is to be measured.
    table.fields = {name: table.fields[name] for name in _contact(0, random.Random(7))}
    names = ("Account", "Opportunity", "User")
    tables = {"Contact": table, **{name: empty_table(name) for name in names}}
    return Company(tenant_id, default_org_id(tenant_id), tables)


def _contact(number: int, choice: random.Random) -> Record:
    stamp = datetime_text(FIRST_STAMP + timedelta(seconds=number))
    return {
        "Id": numbered_id("003", number),
        "IsDeleted": False,
        "AccountId": numbered_id("001", number % _ACCOUNTS),
        "FirstName": f"First{number % 977}",
        "LastName": f"Last{number}",
        "Name": f"First{number % 977} Last{number}",
        "Email": f"user{number}@example.com",
        "Phone": f"+1-555-{number % 10000:04d}",
        "MobilePhone": None,
        "Title": choice.choice(_TITLES),
        "Department": choice.choice(_DEPARTMENTS),
        "MailingStreet": f"{number} Main St",
        "MailingCity": "Springfield",
        "MailingState": "IL",
        "MailingPostalCode": f"{number % 99999:05d}",
        "MailingCountry": "US",
        "LeadSource": "Web",
        "Description": "lorem ipsum dolor sit amet " * 6,
        "OwnerId": numbered_id("005", number % _OWNERS),
        "CreatedDate": stamp,
        "LastModifiedDate": stamp,
        "SystemModstamp": stamp,
        "HasOptedOutOfEmail": False,
        "NumberOfVisits__c": Decimal(number % 13),
        "Score__c": Decimal(choice.randrange(10001)) / 100,
    }
