"""What is learnt of an object's fields, noted where polls go by it: a refresh reads the records that it changes.

Polls, reads by id and the history each describe an object when they have to. What only one of them has seen (a field
hidden for an hour) would else be missing from what it read for good.
"""

import logging

import msgspec

from connections.salesforce_connection import SalesforceConnection
from connections.state import StateStore
from ingestion.salesforce.fields import FieldList, schema_changes
from ingestion.salesforce.memory import ObjectMemory, ObjectNotes, new_object_memory, object_key

log = logging.getLogger(__name__)

KEPT_CHANGES = 50
"""Changes of an object's fields that are remembered, the newest."""


def noted(notes: ObjectNotes, fields: FieldList, name: str) -> ObjectNotes:
    """*notes* with *fields*, and what is otherwise in them; *name* tells whose they are in the log."""
    changes = [] if notes.fields is None else schema_changes(notes.fields, fields)
    notes = msgspec.structs.replace(notes, fields=fields)
    if not changes:
        return notes
    for change in changes:
        log.warning("%s: %s: %s", name, notes.object_type, change)
    refresh = notes.refresh
    changed = tuple(dict.fromkeys((*refresh.fields, *(change.field for change in changes))))
    return msgspec.structs.replace(
        notes,
        schema_changes=(*notes.schema_changes, *changes)[-KEPT_CHANGES:],
        # From the beginning: what was compared so far was compared without them.
        refresh=msgspec.structs.replace(refresh, fields=changed, wanted=True, after=None, began_at=None),
    )


def newest(stored: FieldList | None, kept: FieldList | None) -> FieldList | None:
    """The one of two lists that was described last."""
    if stored is None or kept is None:
        return stored or kept
    return max(kept, stored, key=lambda fields: fields.described_at)


async def note_learnt(
    connection: SalesforceConnection, states: StateStore, memory: ObjectMemory, learnt: FieldList | None
) -> None:
    """Note *learnt*, by which records have been read, if polls, of which *memory* is known, go by an older list that is
    otherwise, or by none yet: else the first poll would not know that it reads others than those have been read by.

    Raises:
        StateMovedError: the worker that polls the object was always faster; ask again.
    """
    object_type = memory.metadata.object_type
    is_polled = any(polled.name == object_type for polled in connection.objects)
    if learnt is None or not is_polled or not _is_news(memory.metadata, learnt):
        return

    def told(current: ObjectMemory) -> ObjectMemory:
        if not _is_news(current.metadata, learnt):
            return current
        name = f"connection {connection.connection_id}"
        return msgspec.structs.replace(current, metadata=noted(current.metadata, learnt, name))

    empty = new_object_memory(connection, object_type)
    await states.change(connection.tenant_id, object_key(connection, object_type), empty, told)


def _is_news(notes: ObjectNotes, learnt: FieldList) -> bool:
    before = notes.fields
    return before is None or (before.described_at < learnt.described_at and bool(schema_changes(before, learnt)))
