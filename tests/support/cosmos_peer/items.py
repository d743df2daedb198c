"""Reading and writing single items: conditions, keys, sizes, times to live, patches.

Limits as documented: an item and a request have at most 2 MB, an id 1,023 bytes.
"""

import struct
from dataclasses import dataclass
from typing import Any, Literal

from cosmos_peer.accounts import Account, Container, conflict, encoded_rid, not_found
from cosmos_peer.answers import RefusedError, bad_request, undecided
from cosmos_peer.container_definitions import resource_id, ttl
from cosmos_peer.json_values import as_stored, encode
from cosmos_peer.partition_keys import KeyValue, key_mismatch
from cosmos_peer.partitions import Item, Partition
from cosmos_peer.patching import Patch, patched

MAX_BYTES = 2 * 1024 * 1024
MAX_ID_BYTES = 1023
SYSTEM_PROPERTIES = ("_rid", "_self", "_etag", "_attachments", "_ts")

Document = dict[str, Any]
Verb = Literal["Create", "Upsert", "Replace", "Delete", "Patch", "Read"]


@dataclass(frozen=True, slots=True)
class Condition:
    """What a request demands of an item's etag."""

    if_match: str | None = None
    if_none_match: str | None = None


ANY = Condition()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on one item: *body* is the item, or the patch."""

    verb: Verb
    id: str | None
    body: Any = None
    condition: Condition = ANY


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation did: *before* is what it replaced or deleted, *item* what stands now or was read."""

    status: int
    item: Item | None
    before: Item | None = None


class ItemWriter:
    """Applies operations to the items of one partition key; each write has the partition's next lsn or shares one."""

    def __init__(self, account: Account, container: Container, key: KeyValue) -> None:
        self._account = account
        self._container = container
        self._key = key
        self.partition: Partition = container.partition_of(key.epk)

    def apply(self, operation: Operation, *, same_transaction: bool = False) -> Outcome:
        """Do one operation.

        Raises:
            RefusedError: 400, 404, 409, 412, 413: nothing is changed.
        """
        match operation.verb:
            case "Read":
                return self._read(operation)
            case "Delete":
                found = self._required(operation)
                self._check(found, operation.condition)
                self._advance(same_transaction)
                self.partition.remove(found)
                return Outcome(204, None, found)
            case "Create":
                return self._create(operation, same_transaction)
            case "Upsert":
                return self._upsert(operation, same_transaction)
            case "Replace":
                found = self._required(operation)
                document = self._document(operation.body)
                if document["id"] != found.id:
                    raise bad_request(f"The id {document['id']!r} of the item is not {found.id!r}, which it replaces.")
                self._check(found, operation.condition)
                return self._write(document, found, 200, same_transaction)
            case "Patch":
                return self._patch(operation, same_transaction)

    def _read(self, operation: Operation) -> Outcome:
        found = self._required(operation)
        if operation.condition.if_none_match in (found.etag, "*"):
            return Outcome(304, found)
        return Outcome(200, found)

    def _create(self, operation: Operation, same_transaction: bool) -> Outcome:
        document = self._document(operation.body)
        if operation.condition.if_match is not None:
            raise undecided("If-Match on a create")
        if self._find(document["id"]) is not None:
            raise conflict(document["id"])
        return self._write(document, None, 201, same_transaction)

    def _upsert(self, operation: Operation, same_transaction: bool) -> Outcome:
        document = self._document(operation.body)
        found = self._find(document["id"])
        if operation.condition.if_none_match is not None:
            raise undecided("If-None-Match on an upsert")
        if found is None:
            if operation.condition.if_match is not None:
                raise undecided("If-Match on an upsert of an item that there is not")
            return self._write(document, None, 201, same_transaction)
        self._check(found, operation.condition)
        return self._write(document, found, 200, same_transaction)

    def _patch(self, operation: Operation, same_transaction: bool) -> Outcome:
        found = self._required(operation)
        self._check(found, operation.condition)
        patch = Patch.decoded(operation.body, self._container.definition)
        if not patch.applies_to(found):
            raise _precondition_failed()
        bare = {name: value for name, value in found.body.items() if name not in SYSTEM_PROPERTIES}
        return self._write(self._document(patched(bare, patch.operations)), found, 200, same_transaction)

    def _document(self, body: Any) -> Document:
        if not isinstance(body, dict):
            raise bad_request("The item is no JSON object.")
        document = {name: value for name, value in as_stored(body).items() if name not in SYSTEM_PROPERTIES}
        resource_id(document, MAX_ID_BYTES)
        if self._container.definition.key.of_item(document).data != self._key.data:
            raise key_mismatch()
        return document

    def _find(self, identity: str) -> Item | None:
        return self._container.live(self.partition.get((self._key.data, identity)))

    def _required(self, operation: Operation) -> Item:
        found = self._find(operation.id or "")
        if found is None:
            raise not_found(operation.id or "")
        return found

    @staticmethod
    def _check(found: Item, condition: Condition) -> None:
        if condition.if_match not in (None, "*", found.etag):
            raise _precondition_failed()
        if condition.if_none_match is not None:
            raise undecided("If-None-Match on a write")

    def _advance(self, same_transaction: bool) -> None:
        if not same_transaction:
            self.partition.compact()
            self.partition.lsn += 1

    def _write(self, document: Document, before: Item | None, status: int, same_transaction: bool) -> Outcome:
        # With 2 MB at most, the encoded item's own size is exact enough: it is the UTF-8 form without any blank.
        size = len(encode(document))
        if size > MAX_BYTES:
            raise too_large(size)
        expires_at = self._expiry(document)
        container = self._container
        if before is None:
            number = next(container.numbers)
            rid = encoded_rid(container.rid_data + struct.pack(">Q", number))
        else:
            number, rid = before.number, before.rid
        etag, now = self._account.next_etag(), int(container.clock.now())
        body = {
            **document,
            "_rid": rid,
            "_self": f"{container.self_link}docs/{rid}/",
            "_etag": etag,
            "_attachments": "attachments/",
            "_ts": now,
        }
        item = Item(self._key, document["id"], number, rid, body, encode(body), etag, now, expires_at, size)
        self._advance(same_transaction)
        self.partition.put(item)
        return Outcome(status, item, before)

    def _expiry(self, document: Document) -> float | None:
        own = ttl(document.get("ttl"), "ttl")
        default = self._container.definition.default_ttl
        if default is None:
            return None
        seconds = default if own is None else own
        return None if seconds == -1 else int(self._container.clock.now()) + seconds


def too_large(size: int) -> RefusedError:
    """A 413."""
    return RefusedError(413, f"Request size is too large: {size} bytes; at most {MAX_BYTES} are allowed.")


def _precondition_failed() -> RefusedError:
    return RefusedError(412, "Operation cannot be performed because one of the specified precondition is not met.")
