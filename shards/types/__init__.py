"""Shard types as code: which there are, what their structured data holds, what they link to, what search reads.

Each has a page in ``docs/shards/core-types/``.
"""

from collections.abc import Mapping
from typing import Any

from shards.model import Shard
from shards.types import conversations, crm, integration, people, projects, records, storage
from shards.types.definition import (
    NAME_MAX_CHARACTERS,
    SALESFORCE_KEY_PREFIXES,
    Chunking,
    InvalidStructuredDataError,
    KeyPrefix,
    Link,
    LinkTarget,
    RelationshipType,
    ShardType,
    StructuredData,
    fitting_name,
    structured_data_of,
)
from shards.types.text import TextPart

SHARD_TYPES: Mapping[str, ShardType] = {
    kind.id: kind
    for kind in (
        crm.ACCOUNT,
        crm.CONTACT,
        crm.OPPORTUNITY,
        people.USER,
        storage.FOLDER,
        storage.FILE,
        conversations.CHANNEL,
        conversations.MESSAGE,
        projects.PROJECT,
        integration.STATE,
        integration.CONNECTION,
    )
}
"""The core types by id."""


class UnknownShardTypeError(KeyError):
    """An id that is neither a core type's nor has the form of an open type's."""

    def __init__(self, shard_type_id: str) -> None:
        super().__init__(shard_type_id)
        self.shard_type_id = shard_type_id

    def __str__(self) -> str:
        return f"there is no shard type {self.shard_type_id[:120]!r}"


def shard_type(shard_type_id: str) -> ShardType:
    """The type of that id: a core type, or the open type of an object without one (``c_invoice``).

    Raises:
        UnknownShardTypeError: there is none.
    """
    kind = SHARD_TYPES.get(shard_type_id)
    if kind is not None:
        return kind
    if records.is_open_id(shard_type_id):
        return records.open_type(shard_type_id)
    raise UnknownShardTypeError(shard_type_id)


def open_type_id(object_name: str) -> str:
    """The id of the type for records of *object_name*, an object without a core type."""
    return records.open_type_id(object_name, SHARD_TYPES)


def validate(shard_type_id: str, structured_data: Mapping[str, Any]) -> None:
    """Check that *structured_data* fits its type.

    Raises:
        InvalidStructuredDataError: it does not; the message names the type and the field.
        UnknownShardTypeError: there is no such type.
    """
    shard_type(shard_type_id).validate(structured_data)


def typed(shard: Shard) -> StructuredData:
    """The structured data of *shard* as the struct of its type.

    Raises:
        InvalidStructuredDataError: the shard is a tombstone, which has no data, or its data does not fit.
        UnknownShardTypeError: there is no such type.
    """
    return shard_type(shard.shard_type_id).convert(shard.structured_data)


__all__ = [
    "NAME_MAX_CHARACTERS",
    "SALESFORCE_KEY_PREFIXES",
    "SHARD_TYPES",
    "Chunking",
    "InvalidStructuredDataError",
    "KeyPrefix",
    "Link",
    "LinkTarget",
    "RelationshipType",
    "ShardType",
    "StructuredData",
    "TextPart",
    "UnknownShardTypeError",
    "fitting_name",
    "open_type_id",
    "shard_type",
    "structured_data_of",
    "typed",
    "validate",
]
