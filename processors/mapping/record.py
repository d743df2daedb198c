"""What a mapping makes of a vendor's record, and how it says that it can't."""

from typing import Any

import msgspec

from shards.model import Acl, UnstructuredData

UNKNOWN_SOURCE = "unknown-source"
UNKNOWN_OBJECT_TYPE = "unknown-object-type"
INVALID_RECORD = "invalid-record"


class MappingError(Exception):
    """A record that can't be mapped. *reason* is a stable word, *detail* names what was wrong and where."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Mapped(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor's record as a shard needs it.

    *external_id* is in its canonical form. Of a deleted record *structured_data* is empty, whatever the payload still
    said, so that every report of one deletion is the same; *merged_into_external_id* is the record that took its place.
    *unstructured_data* names the text of a file. Times are texts in UTC with milliseconds; *source_version* is empty
    when the payload tells none.
    """

    shard_type_id: str
    object_type: str
    external_id: str
    structured_data: dict[str, Any]
    unstructured_data: UnstructuredData | None = None
    acl: Acl
    external_url: str | None = None
    last_activity_at: str | None = None
    created_at: str | None = None
    deleted: bool = False
    merged_into_external_id: str | None = None
    source_version: str = ""
