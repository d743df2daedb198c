"""The account: databases, containers, their resource ids and physical partitions."""

import base64
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from cosmos_peer.answers import RefusedError, bad_request
from cosmos_peer.clock import MovableClock
from cosmos_peer.container_definitions import (
    ContainerDefinition,
    container_definition,
    replaced_definition,
    resource_id,
)
from cosmos_peer.partition_keys import EpkRange, KeyValue
from cosmos_peer.partitions import Item, Partition, even_partitions, halves

PARTITION_KEY_RANGE_GONE = 1002
READ_SESSION_NOT_AVAILABLE = 1002
OWNER_NOT_FOUND = 1003


def encoded_rid(data: bytes) -> str:
    """A resource id as text: base64 in which no slash can be."""
    return base64.b64encode(data).decode().replace("/", "-")


def not_found(what: str, *, substatus: int = 0) -> RefusedError:
    """A 404."""
    return RefusedError(404, f"Entity with the specified id does not exist in the system: {what}.", substatus=substatus)


def conflict(what: str) -> RefusedError:
    """A 409."""
    return RefusedError(409, f"Entity with the specified id already exists in the system: {what}.")


@dataclass(slots=True, eq=False)
class Container:
    """One container with what is in it."""

    definition: ContainerDefinition
    rid_data: bytes
    rid: str
    self_link: str
    path: str
    written_at: int
    etag: str
    partitions: list[Partition]
    clock: MovableClock
    gone: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    offer: int | None = None

    @property
    def id(self) -> str:
        """Its name."""
        return str(self.definition.document["id"])

    def document(self) -> dict[str, Any]:
        """What reading it answers."""
        return {
            **self.definition.document,
            "_rid": self.rid,
            "_ts": self.written_at,
            "_self": self.self_link,
            "_etag": self.etag,
            "_docs": "docs/",
            "_sprocs": "sprocs/",
            "_triggers": "triggers/",
            "_udfs": "udfs/",
            "_conflicts": "conflicts/",
        }

    def partition_of(self, epk: str) -> Partition:
        """The partition where an effective key lives."""
        return next(partition for partition in self.partitions if partition.range.holds(epk))

    def partition(self, identity: str) -> Partition:
        """The partition of that id.

        Raises:
            RefusedError: 410/1002, it has split.
        """
        for partition in self.partitions:
            if partition.id == identity:
                return partition
        if identity in self.gone:
            message = f"The requested resource is no longer available at the server: partition key range {identity}."
            raise RefusedError(410, message, substatus=PARTITION_KEY_RANGE_GONE)
        raise bad_request(f"The partition key range {identity} is invalid.")

    def overlapping(self, ranges: Sequence[EpkRange]) -> list[Partition]:
        """The partitions that share a key with one of the ranges, in order."""
        return [
            partition for partition in self.partitions if any(partition.range.overlaps(wanted) for wanted in ranges)
        ]

    def split(self, at: str) -> None:
        """Split the partition that holds the effective key *at*, there."""
        partition = self.partition_of(at)
        if partition.range.low == at:
            raise ValueError(f"a partition starts at {at} already")
        first = 1 + max(int(known) for known in {*self.gone, *(p.id for p in self.partitions)})
        position = self.partitions.index(partition)
        self.partitions[position : position + 1] = halves(partition, at, (str(first), str(first + 1)))
        self.gone.add(partition.id)

    def live(self, item: Item | None) -> Item | None:
        """The item unless its time is over; then it is forgotten."""
        if item is None or item.expires_at is None or item.expires_at > self.clock.now():
            return item
        self.partition_of(item.key.epk).remove(item)
        return None

    def find(self, key: KeyValue, identity: str) -> Item | None:
        """The item of that partition key and id."""
        return self.live(self.partition_of(key.epk).get((key.data, identity)))

    def every_item(self) -> Iterator[Item]:
        """All items whose time is not over."""
        return self.live_items(item for partition in self.partitions for item in partition.items.values())

    def live_items(self, items: Iterable[Item]) -> Iterator[Item]:
        """Those of the items whose time is not over."""
        now = self.clock.now()
        return (item for item in items if item.expires_at is None or item.expires_at > now)


@dataclass(slots=True, eq=False)
class Database:
    """One database."""

    id: str
    rid_data: bytes
    rid: str
    self_link: str
    written_at: int
    etag: str
    containers: dict[str, Container] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """What reading it answers."""
        return {
            "id": self.id,
            "_rid": self.rid,
            "_self": self.self_link,
            "_etag": self.etag,
            "_colls": "colls/",
            "_users": "users/",
            "_ts": self.written_at,
        }


class Account:
    """Everything an account has. Names and resource ids both lead to a resource, as in the service."""

    def __init__(self, clock: MovableClock, *, partitions: int) -> None:
        self.clock = clock
        self.databases: dict[str, Database] = {}
        self._partitions = partitions
        self._numbers = count(1)
        self._etags = count(1)

    def next_etag(self) -> str:
        """An etag that no resource has had, in its quotation marks."""
        number = next(self._etags)
        return f'"{number & 0xFFFFFFFF:08x}-0000-0d00-0000-{int(self.clock.now()) & 0xFFFFFFFFFFFF:012x}"'

    def create_database(self, document: dict[str, Any]) -> Database:
        """Make a database.

        Raises:
            RefusedError: 400, 409.
        """
        identity = resource_id(document, 255)
        if identity in self.databases:
            raise conflict(identity)
        rid_data = struct.pack(">I", 0x40000000 | next(self._numbers))
        rid = encoded_rid(rid_data)
        made = Database(identity, rid_data, rid, f"dbs/{rid}/", int(self.clock.now()), self.next_etag())
        self.databases[identity] = made
        return made

    def database(self, identity: str) -> Database:
        """The database of that name or resource id.

        Raises:
            RefusedError: 404.
        """
        found = self.databases.get(identity) or next((d for d in self.databases.values() if d.rid == identity), None)
        if found is None:
            raise not_found(identity)
        return found

    def delete_database(self, database: Database) -> None:
        """Forget a database with all in it."""
        del self.databases[database.id]

    def create_container(self, database: Database, document: dict[str, Any]) -> Container:
        """Make a container.

        Raises:
            RefusedError: 400, 409.
        """
        definition = container_definition(document)
        identity = definition.document["id"]
        if identity in database.containers:
            raise conflict(identity)
        rid_data = database.rid_data + struct.pack(">I", 0x80000000 | next(self._numbers))
        rid = encoded_rid(rid_data)
        made = Container(
            definition=definition,
            rid_data=rid_data,
            rid=rid,
            self_link=f"{database.self_link}colls/{rid}/",
            path=f"dbs/{database.id}/colls/{identity}",
            written_at=int(self.clock.now()),
            etag=self.next_etag(),
            partitions=even_partitions(self._partitions),
            clock=self.clock,
        )
        database.containers[identity] = made
        return made

    def replace_container(self, container: Container, document: dict[str, Any]) -> None:
        """Change what of a container's definition can change.

        Raises:
            RefusedError: 400.
        """
        container.definition = replaced_definition(container.definition, document)
        container.etag = self.next_etag()
        container.written_at = int(self.clock.now())

    def container(self, database: str, identity: str) -> Container:
        """The container of that name or resource id.

        Raises:
            RefusedError: 404/1003 where the database is missing, 404 where the container is.
        """
        try:
            owner = self.database(database)
        except RefusedError as error:
            raise not_found(database, substatus=OWNER_NOT_FOUND) from error
        found = owner.containers.get(identity) or next(
            (c for c in owner.containers.values() if c.rid == identity), None
        )
        if found is None:
            raise not_found(identity)
        return found
