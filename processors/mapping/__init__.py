"""From a vendor's whole record to what its shard needs: pure functions, one module a source."""

from collections.abc import Callable, Mapping
from typing import Any

from messaging.contracts import EventType
from processors.mapping import gdrive, salesforce, slack
from processors.mapping.record import INVALID_RECORD, UNKNOWN_OBJECT_TYPE, UNKNOWN_SOURCE, Mapped, MappingError

RecordMapping = Callable[[str | None, Mapping[str, Any], EventType, str | None, str | None], Mapped]
"""Takes object type, payload, event type, the event's own id of the record, and the default currency."""

MAPPINGS: Mapping[str, RecordMapping] = {
    "salesforce": salesforce.map_record,
    "gdrive": gdrive.map_record,
    "slack": slack.map_record,
}
"""The mapping of each source."""

DEFAULT_CURRENCY = "USD"
"""The currency of an org that names none and whose connection names none."""


def map_record(
    source: str,
    object_type: str | None,
    payload: Mapping[str, Any],
    event_type: EventType,
    source_id: str | None = None,
    *,
    default_currency: str | None = DEFAULT_CURRENCY,
) -> Mapped:
    """The record in *payload* as its shard needs it.

    *source_id* is the id the event names; it stands in where the payload holds none. *default_currency* is the
    connection's, for records of orgs with a single currency, which do not say which; None leaves it out.

    Raises:
        MappingError: ``unknown-source``, ``unknown-object-type`` or ``invalid-record``.
    """
    mapping = MAPPINGS.get(source)
    if mapping is None:
        raise MappingError(UNKNOWN_SOURCE, f"no mapping for source {source[:60]!r}; known: {', '.join(MAPPINGS)}")
    return mapping(object_type, payload, event_type, source_id, default_currency)


__all__ = [
    "DEFAULT_CURRENCY",
    "INVALID_RECORD",
    "MAPPINGS",
    "UNKNOWN_OBJECT_TYPE",
    "UNKNOWN_SOURCE",
    "Mapped",
    "MappingError",
    "map_record",
]
