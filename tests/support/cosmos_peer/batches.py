"""Transactional batches: up to 100 operations on one partition key, all or none."""

from typing import Any

from cosmos_peer.accounts import Account, Container
from cosmos_peer.answers import RefusedError, bad_request
from cosmos_peer.items import Condition, ItemWriter, Operation, Outcome, Verb
from cosmos_peer.partition_keys import KeyValue
from cosmos_peer.partitions import Item
from cosmos_peer.request_charges import read_charge, write_charge

MAX_OPERATIONS = 100
_VERBS: dict[str, Verb] = {
    "Create": "Create",
    "Upsert": "Upsert",
    "Replace": "Replace",
    "Delete": "Delete",
    "Patch": "Patch",
    "Read": "Read",
}


class BatchResult:
    """What became of a batch: *status* 200, or 207 when it was refused; one result an operation."""

    def __init__(self, status: int, results: list[dict[str, Any]], charge: float) -> None:
        self.status = status
        self.results = results
        self.charge = charge


def run_batch(account: Account, container: Container, key: KeyValue, entries: Any, *, minimal: bool) -> BatchResult:
    """Apply the operations, or none of them.

    Raises:
        RefusedError: 400, this is no batch.
    """
    if not isinstance(entries, list) or not entries:
        raise bad_request("A batch is an array of operations.")
    if len(entries) > MAX_OPERATIONS:
        raise bad_request(f"Batch request has more operations than what is supported: {len(entries)}.")
    operations = [_operation(entry) for entry in entries]
    writer = ItemWriter(account, container, key)
    partition = writer.partition
    touched: dict[str, Item | None] = {}
    lsn, changes = partition.lsn, len(partition.changes)
    partition.lsn += 1
    results: list[dict[str, Any]] = []
    charge = 0.0
    for number, operation in enumerate(operations):
        identity = operation.id or (operation.body.get("id") if isinstance(operation.body, dict) else None)
        if isinstance(identity, str) and identity not in touched:
            touched[identity] = partition.get((key.data, identity))
        try:
            outcome = writer.apply(operation, same_transaction=True)
        except RefusedError as refusal:
            _undo(writer, key, touched, lsn, changes)
            failed = refused_batch(len(operations), number, refusal.status)
            failed.charge += charge
            return failed
        cost = _charge(outcome, container)
        charge += cost
        results.append(_result(outcome, cost, minimal=minimal and operation.verb != "Read"))
    if all(operation.verb == "Read" for operation in operations):
        partition.lsn = lsn
    return BatchResult(200, results, charge)


def refused_batch(operations: int, number: int, status: int) -> BatchResult:
    """What becomes of a batch whose operation *number* is refused: the others depend on it."""
    results: list[dict[str, Any]] = [{"statusCode": 424, "requestCharge": 0} for _ in range(operations)]
    results[number] = {"statusCode": status, "requestCharge": 1}
    return BatchResult(207, results, 1.0)


def first_conditional(entries: Any) -> int | None:
    """The first operation of a batch that carries an etag."""
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict) and entry.get("ifMatch") is not None:
            return number
    return None


def _operation(entry: Any) -> Operation:
    verb = _VERBS.get(str(entry.get("operationType"))) if isinstance(entry, dict) else None
    if verb is None:
        raise bad_request(f"The operation {entry!r:.200} of a batch is invalid.")
    unknown = entry.keys() - {"operationType", "id", "resourceBody", "ifMatch", "ifNoneMatch"}
    if unknown:
        raise bad_request(f"Unknown properties of an operation of a batch: {sorted(unknown)}.")
    if verb in ("Replace", "Delete", "Patch", "Read") and not isinstance(entry.get("id"), str):
        raise bad_request(f"The {verb} of a batch has no id.")
    condition = Condition(entry.get("ifMatch"), entry.get("ifNoneMatch"))
    return Operation(verb, entry.get("id"), entry.get("resourceBody"), condition)


def _undo(writer: ItemWriter, key: KeyValue, touched: dict[str, Item | None], lsn: int, changes: int) -> None:
    partition = writer.partition
    del partition.changes[changes:]
    partition.lsn = lsn
    for identity, before in touched.items():
        now = partition.get((key.data, identity))
        if now is before:
            continue
        if before is not None:
            partition.restore(before)
        elif now is not None:
            partition.remove(now)


def _charge(outcome: Outcome, container: Container) -> float:
    if outcome.item is not None and outcome.status in (200, 304) and outcome.before is None:
        return read_charge(outcome.item.size)
    return write_charge(outcome.item, outcome.before, container.definition)


def _result(outcome: Outcome, charge: float, *, minimal: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"statusCode": outcome.status, "requestCharge": round(charge, 2)}
    if outcome.item is not None:
        result["eTag"] = outcome.item.etag
        if not minimal:
            result["resourceBody"] = outcome.item.body
    return result
