"""Which fields of an object are asked for: all that its describe shows, or the configured ones among them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from ingestion.salesforce.errors import ObjectError

NOT_SELECTED_TYPES: Final = frozenset({"base64", "address", "location"})
"""Bytes, and compounds whose parts are fields of their own."""

VIEWERS_OWN: Final = frozenset({"LastViewedDate", "LastReferencedDate"})
"""They say when the login itself looked at the record, and move without SystemModstamp."""

KEY_FIELDS: Final = ("Id", "SystemModstamp")
ALWAYS: Final = ("IsDeleted", "MasterRecordId", "CreatedDate")
"""Asked for wherever the object has them, whatever is configured: deletion, merging, creation."""


class FieldList(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The fields to ask for, the keys first, and when the describe was read.

    *configured* are those that the connection named then, none: it wanted all; None: nobody noted it. *absent* are
    configured fields that the describe does not show, and fields that a query refused although it does.
    *kinds* are the fields' types in the describe's words; *calculated* are formulas and roll-ups, whose values change
    without a stamp.
    """

    names: tuple[str, ...]
    described_at: str
    configured: tuple[str, ...] | None = None
    absent: tuple[str, ...] = ()
    kinds: dict[str, str] = {}
    calculated: tuple[str, ...] = ()


class SchemaChange(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A field that was made, took another type, or vanished (deleted, or hidden from the user); *at*: first seen so."""

    at: str
    field: str
    change: Literal["new", "retyped", "vanished"]
    kind: str = ""
    was: str = ""

    def __str__(self) -> str:
        told = {"new": f"is new ({self.kind})", "retyped": f"was {self.was}, is {self.kind}", "vanished": "is gone"}
        return f"field {self.field} {told[self.change]}"


def choose(
    describe: Mapping[str, Any], configured: Sequence[str], *, described_at: str, refused: Sequence[str] = ()
) -> FieldList:
    """The fields to ask for, by the object's *describe*, without those that queries have *refused*.

    Raises:
        ObjectError: the object can't be polled.
    """
    name = str(describe.get("name"))
    if not isinstance(describe.get("fields"), list):
        raise ObjectError(f"{name}: its describe lists no fields")
    described = {
        str(field["name"]): field
        for field in describe.get("fields", ())
        if field.get("type") not in NOT_SELECTED_TYPES and not field.get("deprecatedAndHidden")
    }
    if describe.get("queryable") is False or any(key not in described for key in KEY_FIELDS):
        raise ObjectError(f"{name}: it can't be polled, because it can't be queried or has no SystemModstamp")
    wanted = [*ALWAYS, *configured] if configured else [field for field in described if field not in VIEWERS_OWN]
    names = [*KEY_FIELDS]
    for field in wanted:
        if field in described and field not in names and field not in refused:
            names.append(field)
    absent = tuple(field for field in configured if field not in names)
    return FieldList(
        names=tuple(names),
        described_at=described_at,
        configured=tuple(configured),
        absent=(*absent, *(field for field in refused if field not in absent)),
        kinds={field: str(described[field].get("type")) for field in names},
        calculated=tuple(field for field in names if described[field].get("calculated")),
    )


def schema_changes(before: FieldList, after: FieldList) -> list[SchemaChange]:
    """What is otherwise in *after*. Nothing is told of a list that was kept without types."""
    if not before.kinds:
        return []
    at = after.described_at
    changes = [
        SchemaChange(at=at, field=field, change="vanished", was=before.kinds.get(field, ""))
        for field in before.names
        if field not in after.kinds
    ]
    for field, kind in after.kinds.items():
        was = before.kinds.get(field)
        if was is None:
            changes.append(SchemaChange(at=at, field=field, change="new", kind=kind))
        elif was != kind:
            changes.append(SchemaChange(at=at, field=field, change="retyped", kind=kind, was=was))
    return changes
