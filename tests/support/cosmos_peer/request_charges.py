"""A model of request charges. It is a model: the service's own figures depend on what it does not publish.

What is published and kept to here: a point read of 1 KB is 1 RU, of 100 KB 10 RU; writing 1 KB without an index is
about 5.5 RU; a replace costs twice the index work of an insert; a query starts at about 2.3 RU; only what is indexed is
paid for when writing; vectors whose path is not excluded from the index are paid for number by number. What is between
those points is linear; the prices of an index term, a vector's dimension and a word are the peer's assumptions, chosen
so that a 4 KB item with 1,536 dimensions lands between 30 and 60 RU, as users measure.
"""

from typing import Any

from cosmos_peer import full_text
from cosmos_peer.container_definitions import ContainerDefinition
from cosmos_peer.json_values import at_path
from cosmos_peer.partitions import Item
from cosmos_peer.query_execution import Page

KB = 1024
METADATA = 2.0
READ_MISS = 1.0
WRITE_BASE, WRITE_PER_KB = 5.05, 0.45
DELETE_BASE = 5.0
PER_TERM = 0.12
PER_DIMENSION = {"flat": 0.008, "quantizedFlat": 0.015, "diskANN": 0.02}
PER_WORD = 0.02
QUERY_BASE, QUERY_PER_KB, QUERY_PER_ROW = 2.3, 0.03, 0.02
VECTOR_QUERY, TEXT_QUERY = 8.0, 3.0


def read_charge(size: int) -> float:
    """A point read of an item of so many bytes."""
    return 1.0 + max(size / KB - 1, 0) / 11


def write_charge(item: Item | None, before: Item | None, definition: ContainerDefinition) -> float:
    """A create, replace, upsert, patch (*item*) or delete (*before* alone)."""
    if item is None:
        assert before is not None
        return DELETE_BASE + _index_charge(before, definition)
    charge = WRITE_BASE + WRITE_PER_KB * item.size / KB + _index_charge(item, definition)
    return charge + (_index_charge(before, definition) if before is not None else 0.0)


def _index_charge(item: Item, definition: ContainerDefinition) -> float:
    indexing = definition.indexing
    charge = PER_TERM * _terms(item.body, (), definition)
    for path, kind in indexing.vectors.items():
        vector = at_path(item.body, path)
        if type(vector) is list:
            charge += PER_DIMENSION[kind] * len(vector)
    for path in indexing.texts:
        text = at_path(item.body, path)
        if type(text) is str:
            charge += PER_WORD * len(set(full_text.words(text)))
    return charge


def _terms(value: Any, path: tuple[str, ...], definition: ContainerDefinition) -> int:
    if type(value) is dict:
        return sum(
            _terms(member, (*path, name), definition)
            for name, member in value.items()
            if path or not name.startswith("_")
        )
    if type(value) is list:
        inner = (*path, "[]")
        if value and type(value[0]) not in (dict, list):
            return len(value) if definition.indexing.indexes(inner) else 0
        return sum(_terms(element, inner, definition) for element in value)
    return int(definition.indexing.indexes(path))


def query_charge(page: Page, *, scanning: bool, scored: float) -> float:
    """One page: what was read of the items (all in the scope where an index can't serve), and *scored* on top."""
    read = page.scanned_bytes if scanning else page.matched_bytes
    return QUERY_BASE + scored + QUERY_PER_KB * read / KB + QUERY_PER_ROW * len(page.rows)


def feed_charge(size: int, items: int) -> float:
    """A page of the change feed or of a feed of items."""
    return 1.0 + size / KB / 11 + 0.05 * items
