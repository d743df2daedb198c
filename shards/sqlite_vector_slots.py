"""The slots that vectors stand in: given to another chunk when they are free, never removed.

So slot n of a space is row n of its matrix file (:mod:`shards.vector_matrix`), and noting which slots have changed is
all that the file needs to catch up.
"""

from collections.abc import Sequence

import apsw

from shards.sqlite_rows import json_text, one_row
from shards.sqlite_schema import SLOT_BITS


def space_of(connection: apsw.Connection, tenant: int, model: str, dimensions: int) -> int:
    """The space of the tenant's vectors of one model and length, made when there is none."""
    key = (tenant, model, dimensions)
    find = "SELECT space FROM spaces WHERE tenant = ? AND model = ? AND dimensions = ?"
    space = connection.execute(find, key).get
    if space is None:
        connection.execute("INSERT INTO spaces (tenant, model, dimensions) VALUES (?, ?, ?)", key)
        space = connection.execute(find, key).get
    return int(space)


def slots_for(connection: apsw.Connection, space: int, wanted: int) -> tuple[list[int], list[int]]:
    """Slots for *wanted* vectors: freed ones first, then new ones at the end."""
    first, last = space << SLOT_BITS, ((space + 1) << SLOT_BITS) - 1
    reused = [
        slot
        for (slot,) in connection.execute(
            "SELECT id FROM vectors WHERE chunk IS NULL AND id BETWEEN ? AND ? LIMIT ?", (first, last, wanted)
        )
    ]
    [newest] = one_row(connection, "SELECT max(id) FROM vectors WHERE id BETWEEN ? AND ?", (first, last))
    start = first if newest is None else newest + 1
    return reused, list(range(start, start + wanted - len(reused)))


def free_slots(connection: apsw.Connection, vectors: Sequence[int]) -> None:
    """Empty slots, whose chunks have no vector any more."""
    if vectors:
        connection.execute(
            "UPDATE vectors SET chunk = NULL, vector = NULL WHERE id IN (SELECT value FROM json_each(?))",
            (json_text(list(vectors)),),
        )
        note_changes(connection, vectors)


def note_changes(connection: apsw.Connection, vectors: Sequence[int]) -> None:
    """Have the matrix files take over these slots below the newest: a vector, a chunk or its scope is another now."""
    if vectors:
        connection.execute(
            "INSERT INTO vector_changes (vector) SELECT value FROM json_each(?)", (json_text(list(vectors)),)
        )
