"""The items of a container in its physical partitions: where each lives, and in what order they changed."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from cosmos_peer.partition_keys import WHOLE, EpkRange, KeyValue

ItemKey = tuple[bytes, str]
"""A partition key's binary form and an id: what makes an item the one it is."""


@dataclass(slots=True, eq=False)
class Item:
    """One stored item. *body* is what queries see, *data* the same as bytes; *number* orders items by creation."""

    key: KeyValue
    id: str
    number: int
    rid: str
    body: dict[str, Any]
    data: bytes
    etag: str
    written_at: int
    expires_at: float | None
    size: int
    lsn: int = 0

    @property
    def place(self) -> ItemKey:
        """What it is found by."""
        return self.key.data, self.id


@dataclass(slots=True)
class Partition:
    """A physical partition: a range of effective keys, and its log of changes.

    *changes* holds (lsn, item) in order; an entry whose item has moved on to a later lsn, or is gone, is void.
    """

    id: str
    range: EpkRange
    parents: tuple[str, ...] = ()
    lsn: int = 0
    items: dict[ItemKey, Item] = field(default_factory=dict)
    logical: dict[bytes, dict[str, Item]] = field(default_factory=dict)
    changes: list[tuple[int, Item]] = field(default_factory=list)

    def get(self, place: ItemKey) -> Item | None:
        """The item, expired or not."""
        return self.items.get(place)

    def put(self, item: Item) -> None:
        """Write an item as of the partition's present lsn."""
        item.lsn = self.lsn
        self.items[item.place] = item
        self.logical.setdefault(item.key.data, {})[item.id] = item
        self.changes.append((self.lsn, item))

    def compact(self) -> None:
        """Drop void entries of the log where they are most of it; not within a transaction, which may be undone."""
        if len(self.changes) > 1024 and len(self.changes) > 4 * len(self.items):
            self.changes = [change for change in self.changes if self._stands(*change)]

    def restore(self, item: Item) -> None:
        """Bring back an item as it was, with its lsn; items stay in the order of their creation."""
        removed = item.place not in self.items
        self.items[item.place] = item
        self.logical.setdefault(item.key.data, {})[item.id] = item
        if removed:
            self.items = dict(sorted(self.items.items(), key=lambda entry: entry[1].number))
            self.logical[item.key.data] = dict(
                sorted(self.logical[item.key.data].items(), key=lambda entry: entry[1].number)
            )

    def remove(self, item: Item) -> None:
        """Forget an item."""
        del self.items[item.place]
        siblings = self.logical[item.key.data]
        del siblings[item.id]
        if not siblings:
            del self.logical[item.key.data]

    def changed_after(self, lsn: int) -> Iterator[Item]:
        """The newest state of what changed after *lsn*, in order."""
        start = bisect_right(self.changes, lsn, key=lambda change: change[0])
        for position in range(start, len(self.changes)):
            change = self.changes[position]
            if self._stands(*change):
                yield change[1]

    def _stands(self, lsn: int, item: Item) -> bool:
        return item.lsn == lsn and self.items.get(item.place) is item


def even_partitions(count: int) -> list[Partition]:
    """*count* partitions of equal width; hashed keys start with two bits 0, so the last one ends at 3F…."""
    bounds = [f"{(1 << 126) * number // count - 1:032X}" for number in range(1, count)]
    edges = [WHOLE.low, *bounds, WHOLE.high]
    return [Partition(str(n), EpkRange(low, high)) for n, (low, high) in enumerate(pairwise(edges))]


def halves(partition: Partition, at: str, ids: tuple[str, str]) -> list[Partition]:
    """What a partition becomes when it splits at the effective key *at*: both go on from its lsn."""
    made = []
    for identity, low, high in ((ids[0], partition.range.low, at), (ids[1], at, partition.range.high)):
        child = Partition(identity, EpkRange(low, high), (*partition.parents, partition.id), partition.lsn)
        for item in partition.items.values():
            if child.range.holds(item.key.epk):
                child.items[item.place] = item
                child.logical.setdefault(item.key.data, {})[item.id] = item
        child.changes = [change for change in partition.changes if child.range.holds(change[1].key.epk)]
        made.append(child)
    return made
