"""What a shard type declares: the shape of its structured data, its links, and the text that search reads."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from messaging.times import to_text
from shards.types.text import NO_TEXT, TextPart, TextTemplate

NAME_MAX_CHARACTERS = 500
"""The longest ``name`` a shard may have."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX_CHARACTERS)]
Number = Decimal
"""Money and every number that may have a fraction."""
Date = date
"""A day without a zone, stored as ``2026-12-31``."""
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment in UTC, stored as ``2026-12-31T09:30:00.000Z``."""
JsonObject = dict[str, Any]

RelationshipType = Literal[
    "opportunity_for",
    "contact_for",
    "child_of",
    "has_owner",
    "member_of",
    "message_in_channel",
    "replies_to",
    "belongs_to",
    "mentions",
    "references",
    "merged_into",
]

Chunking = Literal["own", "thread", "none"]
"""Who owns the chunks of a shard's text: the shard itself; the root of its thread, which also owns those of its
replies; nobody, since the text is not for searching and the shard does not go through the chain."""


class InvalidStructuredDataError(ValueError):
    """Structured data that does not fit its shard type. *field* is empty when the data is no object at all."""

    def __init__(self, shard_type_id: str, field: str, problem: str) -> None:
        super().__init__(f"{shard_type_id}.{field}: {problem}" if field else f"{shard_type_id}: {problem}")
        self.shard_type_id = shard_type_id
        self.field = field
        self.problem = problem


class StructuredData(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What the structured data of every shard has. A field that is None is not there."""

    name: Name
    custom_fields: JsonObject | None = None
    exact_numbers: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A field of the structured data that holds the id of another shard's record, and the link it stands for.

    *field* is a name in ``structuredData``; a dot leads into an object (``author.id``); a list of ids is as many links.
    *target_object_types* gives, for each system that fills the field, the target's object type in the vendor's own
    word, and *source_fields* what that system calls the field. With *holds_shard_id* the field holds the target's shard
    id itself. *instance_field* holds the target's instance where it is not the record's own.
    """

    field: str
    relationship_type: RelationshipType
    target_shard_type_id: str
    target_object_types: Mapping[str, str] = dataclass_field(default_factory=dict)
    source_fields: Mapping[str, str] = dataclass_field(default_factory=dict)
    holds_shard_id: bool = False
    instance_field: str | None = None


class LinkTarget(NamedTuple):
    """A link as one shard's data tells it: its target by *shard_id*, or by *object_type* and *external_id*.

    *instance* is the target's where it is not the record's own.
    """

    relationship_type: RelationshipType
    target_shard_type_id: str
    object_type: str | None
    external_id: str | None
    shard_id: str | None
    source_field: str
    instance: str | None = None


@dataclass(frozen=True, slots=True)
class KeyPrefix:
    """The object that a Salesforce id with a certain key prefix is of, and its shard type."""

    object_type: str
    shard_type_id: str


SALESFORCE_KEY_PREFIXES: Mapping[str, KeyPrefix] = {
    "001": KeyPrefix("Account", "c_account"),
    "003": KeyPrefix("Contact", "c_contact"),
    "005": KeyPrefix("User", "c_user"),
    "006": KeyPrefix("Opportunity", "c_opportunity"),
}
"""The key prefixes of the objects with a core type; they are the same in every org."""

_SALESFORCE_ID_18 = re.compile(r"[A-Za-z0-9]{15}[A-Z0-5]{3}\Z")
_PROBLEM = re.compile(r"(?P<what>.*?) - at `(?:key` in `)?\$\.?(?P<path>[^`]*)`\Z", re.DOTALL)
_MISSING_OR_UNKNOWN = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<field>[^`]*)`")


@dataclass(frozen=True, slots=True)
class ShardType:
    """One kind of shard.

    *text* makes the text for search out of the structured data; the shard's name is not in it, since every chunk
    begins with it. *open* types hold any fields beside their name.
    """

    id: str
    noun: str
    data: type[StructuredData]
    chunking: Chunking
    text: TextTemplate = NO_TEXT
    links: tuple[Link, ...] = ()
    open: bool = False

    @property
    def searchable(self) -> bool:
        """Whether shards of this type go through the chain and are found by search."""
        return self.chunking != "none"

    @property
    def stand_in_name(self) -> str:
        """The name of a record that has none: ``Unnamed opportunity``."""
        return f"Unnamed {self.noun}"

    def validate(self, structured_data: Mapping[str, Any]) -> None:
        """Check that *structured_data* fits this type.

        Raises:
            InvalidStructuredDataError: it does not; the message names the type and the field.
        """
        self.convert(structured_data)

    def convert(self, structured_data: Mapping[str, Any]) -> StructuredData:
        """*structured_data* as this type's struct; what an open type does not name is left out.

        Raises:
            InvalidStructuredDataError: it does not fit this type.
        """
        try:
            return msgspec.convert(structured_data, self.data)
        except msgspec.ValidationError as error:
            raise self._explain(str(error)) from None

    def _explain(self, message: str) -> InvalidStructuredDataError:
        located = _PROBLEM.match(message)
        what, path = (located["what"], located["path"]) if located else (message, "")
        named = _MISSING_OR_UNKNOWN.match(what)
        if named:
            path = f"{path}.{named['field']}" if path else named["field"]
            what = "is required" if named["what"] == "missing required" else "is no field of this type"
        return InvalidStructuredDataError(self.id, path, what)

    def text_parts(self, structured_data: Mapping[str, Any]) -> list[TextPart]:
        """The text for search beside the name, weightiest first; ids, addresses on the web and booleans never."""
        return self.text.parts(structured_data)

    def link_targets(self, system: str, structured_data: Mapping[str, Any]) -> list[LinkTarget]:
        """The links that *structured_data*, as it came from *system*, tells of.

        Beside the declared fields these are Salesforce's custom lookups: an 18-character id in ``customFields`` with
        the key prefix of an object that has a core type is a ``references``.
        """
        targets = []
        for link in self.links:
            values = _values_at(structured_data, link.field)
            if not values:
                continue
            source_field = link.source_fields.get(system, link.field)
            relation, target_type = link.relationship_type, link.target_shard_type_id
            if link.holds_shard_id:
                targets += [LinkTarget(relation, target_type, None, None, value, source_field) for value in values]
                continue
            object_type = link.target_object_types.get(system)
            if object_type is not None:
                instance = structured_data.get(link.instance_field) if link.instance_field else None
                targets += [
                    LinkTarget(relation, target_type, object_type, value, None, source_field, instance)
                    for value in values
                ]
        if system == "salesforce":
            custom_fields = structured_data.get("customFields")
            if custom_fields:
                targets.extend(_custom_lookups(custom_fields))
        return targets


def _values_at(structured_data: Mapping[str, Any], path: str) -> list[str]:
    value: Any = structured_data.get(path)
    if value is None and "." in path:
        value = structured_data
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str) and one]


def _custom_lookups(custom_fields: Mapping[str, Any]) -> list[LinkTarget]:
    found = []
    for name in sorted(custom_fields):
        value = custom_fields[name]
        if isinstance(value, str) and len(value) == 18 and _SALESFORCE_ID_18.match(value):
            prefix = SALESFORCE_KEY_PREFIXES.get(value[:3])
            if prefix:
                found.append(LinkTarget("references", prefix.shard_type_id, prefix.object_type, value, None, name))
    return found


def fitting_name(text: str) -> str:
    """*text* as a name: surrounding space gone; a longer one than 500 characters cut after a word, ending in ``…``.

    Empty when there is nothing but space in it.
    """
    text = text.strip()
    if len(text) <= NAME_MAX_CHARACTERS:
        return text
    head = text[: NAME_MAX_CHARACTERS - 1]
    space = head.rfind(" ", NAME_MAX_CHARACTERS - 60)
    return (head[:space] if space > 0 else head).rstrip() + "…"


def structured_data_of(data: StructuredData) -> dict[str, Any]:
    """*data* as it is stored: a JSON object in camelCase, days and moments as text, without what is None."""
    plain: dict[str, Any] = _stored(msgspec.to_builtins(data, builtin_types=(Decimal, datetime)))
    return plain


def _stored(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stored(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_stored(inner) for inner in value]
    return to_text(value) if isinstance(value, datetime) else value
