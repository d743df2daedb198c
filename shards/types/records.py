"""Records of objects that have no type of their own: custom objects, leads, cases and whatever else a source keeps.

Their shard type is named after the object, ``c_`` and its name in lower_snake, and is known by that form alone: every
process knows it without being told.
"""

import re
from collections.abc import Container
from functools import lru_cache

from shards.types.definition import Link, Moment, Number, ShardType, StructuredData
from shards.types.text import Fact, LongText, TextTemplate, as_money

_OPEN_ID = re.compile(r"c_[a-z0-9]+(?:_[a-z0-9]+)*\Z")
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
MAX_ID_CHARACTERS = 100


class RecordData(StructuredData, forbid_unknown_fields=False):
    """What a record of any object may have; only its name is asked for, and other fields may stand beside these."""

    description: str | None = None
    amount: Number | None = None
    currency: str | None = None
    owner_id: str | None = None
    owner_name: str | None = None
    account_id: str | None = None
    contact_id: str | None = None
    created_date: Moment | None = None
    created_by: str | None = None


def is_open_id(shard_type_id: str) -> bool:
    """Whether *shard_type_id* has the form of an open type's: ``c_invoice``, ``c_npsp_allocation``."""
    return len(shard_type_id) <= MAX_ID_CHARACTERS and _OPEN_ID.match(shard_type_id) is not None


def open_type_id(object_name: str, taken: Container[str]) -> str:
    """The id of the open type of an object: ``Invoice__c`` gives ``c_invoice``, ``OrderItem`` gives ``c_order_item``.

    A name that would fall on one of *taken*, the types with a form of their own, gets ``_record`` behind it
    (``Project__c``: ``c_project_record``): an open record must not pass for one of those.
    """
    name = object_name.removesuffix("__c")
    words = re.sub(r"[^a-z0-9]+", "_", _CAMEL_BOUNDARY.sub("_", name).lower()).strip("_") or "record"
    shard_type_id = f"c_{words}"[: MAX_ID_CHARACTERS - len("_record")].rstrip("_")
    return f"{shard_type_id}_record" if shard_type_id in taken else shard_type_id


@lru_cache(maxsize=1024)
def open_type(shard_type_id: str) -> ShardType:
    """The open type of that id."""
    return ShardType(
        id=shard_type_id,
        noun=shard_type_id.removeprefix("c_").replace("_", " "),
        data=RecordData,
        chunking="own",
        open=True,
        links=(
            Link("ownerId", "has_owner", "c_user", {"salesforce": "User"}, {"salesforce": "OwnerId"}),
            Link("accountId", "references", "c_account", {"salesforce": "Account"}, {"salesforce": "AccountId"}),
            Link("contactId", "references", "c_contact", {"salesforce": "Contact"}, {"salesforce": "ContactId"}),
        ),
        text=TextTemplate(
            facts=(Fact("amount", "Amount", as_money), Fact("ownerName", "Owner")),
            texts=(LongText("description", "Description"),),
        ),
    )
