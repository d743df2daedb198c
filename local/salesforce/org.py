"""The org: its objects' records, every way they change, and what other users' transactions do to what is seen.

Each write stamps SystemModstamp from the org's clock, to the second, so ties come by themselves. A transaction stamps
its rows when they are written and shows them when it commits: that is how a row turns up behind a cursor.
"""

import threading
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Literal, Self

from local.company import Company, add_organization
from local.salesforce import ids
from local.salesforce.errors import ApiError, not_found
from local.salesforce.query import Plan, bind
from local.salesforce.schema import Field, Record, Value
from local.salesforce.soql import Query, located
from local.salesforce.stages import with_stage
from local.salesforce.store import Table
from local.salesforce.values import datetime_text, from_python
from local.simulator_clock import SimulatorClock

Stamps = Literal["all", "system", "none"]
"""What an update moves: LastModifiedDate and SystemModstamp, as a user's save does; SystemModstamp alone, as system
processes do; nothing, as a formula's new value does."""

ChangeKind = Literal["CREATE", "UPDATE", "DELETE", "UNDELETE"]
"""What change events call a change."""

DELETED_WINDOW = timedelta(days=15)
UPDATED_WINDOW = timedelta(days=30)
REPLICATION_ID_LIMIT = 600_000
"""Most ids that a deleted or updated listing answers with, as documented for getDeleted and getUpdated."""

_CASCADES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Account": (("Contact", "AccountId"), ("Opportunity", "AccountId")),
}
_MERGEABLE = frozenset({"Account", "Contact", "Lead"})


class OrgError(Exception):
    """A change that the org refuses: an unknown object, field or record, or a row that a transaction holds."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """An entry of the delete log."""

    record_id: str
    deleted_at: str


class Transaction:
    """Writes that no one else sees before :meth:`commit`; leaving the context commits, or rolls back on an error.

    The rows written are held meanwhile: other writers get :class:`OrgError` for them.
    """

    def __init__(self, org: "Org", commit_at: datetime | None) -> None:
        self._org = org
        self.began_at = org.clock()
        self.commit_at = commit_at
        self._writes: list[Callable[[], None]] = []
        self.held: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.commit()
        else:
            self.roll_back()

    def create(self, object_name: str, values: Mapping[str, object]) -> str:
        """Insert a record; its id."""
        record = self._org.new_record(object_name, values)
        self._add(object_name, str(record["Id"]), lambda: self._org.insert(object_name, record))
        return str(record["Id"])

    def update(self, object_name: str, record_id: str, values: Mapping[str, object]) -> None:
        """Change fields of a record, stamped now."""
        stamp = self._org.now_text()
        self._add(object_name, record_id, lambda: self._org.update(object_name, record_id, values, stamp=stamp))

    def delete(self, object_name: str, record_id: str) -> None:
        """Put a record into the recycle bin, stamped now."""
        stamp = self._org.now_text()
        self._add(object_name, record_id, lambda: self._org.delete(object_name, record_id, stamp=stamp))

    def _add(self, object_name: str, record_id: str, write: Callable[[], None]) -> None:
        self._org.check_free(object_name, record_id, self)
        self.held.add((object_name, record_id))
        self._writes.append(write)

    def commit(self) -> None:
        """Show the writes, with the stamps of when they were made."""
        self._org.close(self)
        with self._org.lock:
            for write in self._writes:
                write()

    def roll_back(self) -> None:
        """Forget the writes."""
        self._org.close(self)


class Org:
    """One org's data. Every method may be called from any thread."""

    def __init__(self, company: Company, clock: SimulatorClock | None = None) -> None:
        add_organization(company)
        self.org_id = company.org_id
        self.tenant_id = company.tenant_id
        self.clock = clock or SimulatorClock()
        self.lock = threading.RLock()
        self.tables = {name: Table(table) for name, table in company.tables.items()}
        self.hidden_objects: set[str] = set()
        self.hidden_fields: dict[str, set[str]] = {}
        self.replication_id_limit = REPLICATION_ID_LIMIT
        self._open: list[Transaction] = []
        self._deleted_with: dict[tuple[str, str], tuple[str, str]] = {}
        self._made = 0
        self.watchers: list[Callable[[ChangeKind, str, str], None]] = []
        """Called under the lock for each change that commits: its kind, the object and the record's id."""
        self.delete_log: dict[str, list[Deletion]] = {
            name: [
                Deletion(str(record["Id"]), str(record["SystemModstamp"]))
                for record in table.records.values()
                if record.get("IsDeleted")
            ]
            for name, table in self.tables.items()
        }

    # Writing

    def now_text(self) -> str:
        """The org's time as a stamp."""
        return datetime_text(self.clock())

    def begin(self, commit_in: timedelta | None = None) -> Transaction:
        """Begin a transaction; with *commit_in* it commits by itself when the org's clock has gone on that far."""
        transaction = Transaction(self, None if commit_in is None else self.clock() + commit_in)
        with self.lock:
            self._open.append(transaction)
        return transaction

    def close(self, transaction: Transaction) -> None:
        """Take *transaction* off the open ones.

        Raises:
            OrgError: it is not open any more.
        """
        with self.lock:
            if transaction not in self._open:
                raise OrgError("the transaction is closed")
            self._open.remove(transaction)

    def commit_due(self) -> None:
        """Commit the transactions whose time has come."""
        with self.lock:
            now = self.clock()
            for transaction in [one for one in self._open if one.commit_at is not None and one.commit_at <= now]:
                transaction.commit()

    def check_free(self, object_name: str, record_id: str, writer: Transaction | None = None) -> None:
        """Raise :class:`OrgError` when another transaction than *writer* holds the record."""
        if any((object_name, record_id) in other.held for other in self._open if other is not writer):
            raise OrgError(f"UNABLE_TO_LOCK_ROW: {object_name} {record_id} is held by an open transaction")

    def create(self, object_name: str, values: Mapping[str, object], *, stamp: datetime | str | None = None) -> str:
        """Insert a record and give its id. An ``Id`` in *values* is taken where it is free."""
        with self.lock:
            record = self.new_record(object_name, values, stamp=stamp)
            self.insert(object_name, record)
            return str(record["Id"])

    def new_record(
        self, object_name: str, values: Mapping[str, object], *, stamp: datetime | str | None = None
    ) -> Record:
        """The record that an insert of *values* gives, not yet inserted."""
        table = self._table(object_name)
        with self.lock:
            self._made += 1
            record = table.empty_record()
            record["Id"] = ids.made_id(table.key_prefix, object_name, f"new {self._made}")
            time = self._stamp_text(stamp)
            record.update(CreatedDate=time, LastModifiedDate=time, SystemModstamp=time)
            record.update(self._typed(table, _decided(table, values)))
            if "Name" in record and record["Name"] is None and "LastName" in record:
                record["Name"] = " ".join(str(part) for part in (record["FirstName"], record["LastName"]) if part)
            return record

    def insert(self, object_name: str, record: Record) -> None:
        """Insert a whole record.

        Raises:
            OrgError: its id is taken.
        """
        table = self._table(object_name)
        with self.lock:
            if record["Id"] in table.records:
                raise OrgError(f"there is a {object_name} {record['Id']} already")
            # The object may have got and lost fields while the transaction was open.
            table.put({name: record.get(name, default) for name, default in table.empty_record().items()})
            self._tell("CREATE", object_name, str(record["Id"]))

    def update(
        self,
        object_name: str,
        record_id: str,
        values: Mapping[str, object],
        *,
        stamps: Stamps = "all",
        stamp: datetime | str | None = None,
    ) -> None:
        """Change fields of a live record. *stamp* is when, now if not given."""
        with self.lock:
            table = self._table(object_name)
            record = self._live(table, record_id)
            saved = _decided(table, values) if stamps == "all" else values
            changed: Record = {**record, **self._typed(table, saved)}
            time = self._stamp_text(stamp)
            if stamps == "all":
                changed["LastModifiedDate"] = time
            if stamps != "none" and "SystemModstamp" not in values:
                changed["SystemModstamp"] = time
            table.put(changed)
            if stamps != "none":
                self._tell("UPDATE", object_name, str(record["Id"]))

    def drift(self, object_name: str, record_id: str, values: Mapping[str, object]) -> None:
        """Give formulas and roll-ups of a record other values: nobody saves it, so no stamp moves."""
        self.update(object_name, record_id, values, stamps="none")

    def remove_field(self, object_name: str, name: str) -> None:
        """Delete a custom field with all its values."""
        with self.lock:
            table = self._table(object_name)
            del table.fields[name]
            table.replace_all(
                [{key: value for key, value in record.items() if key != name} for record in table.records.values()]
            )

    def retype_field(self, object_name: str, field: Field) -> None:
        """Let a field be of another type; the values stay as they are."""
        with self.lock:
            table = self._table(object_name)
            table.fields[field.name] = field
            table.replace_all(list(table.records.values()))

    def delete(self, object_name: str, record_id: str, *, stamp: datetime | str | None = None) -> None:
        """Put a live record into the recycle bin, and an account's contacts and opportunities with it."""
        with self.lock:
            table = self._table(object_name)
            if "IsDeleted" not in table.fields:
                raise OrgError(f"a {object_name} can't be deleted")
            record = self._live(table, record_id)
            time = self._stamp_text(stamp)
            self._bin(table, record, time)
            for child_name, field in _CASCADES.get(object_name, ()):
                for child in list(self._table(child_name).records.values()):
                    if child[field] == record["Id"] and not child["IsDeleted"]:
                        self._bin(self._table(child_name), child, time)
                        self._deleted_with[child_name, str(child["Id"])] = (object_name, str(record["Id"]))

    def undelete(self, object_name: str, record_id: str) -> None:
        """Take a record out of the recycle bin, with what went there along with it. Its id stays.

        Raises:
            OrgError: it is not in the bin.
        """
        with self.lock:
            table = self._table(object_name)
            record = self._record(table, record_id)
            if not record["IsDeleted"]:
                raise OrgError(f"{object_name} {record_id} is not in the recycle bin")
            table.put({**record, "IsDeleted": False, "SystemModstamp": self.now_text()})
            self._tell("UNDELETE", object_name, str(record["Id"]))
            self._deleted_with.pop((object_name, str(record["Id"])), None)
            owner = (object_name, str(record["Id"]))
            for child_name, child_id in [child for child, parent in self._deleted_with.items() if parent == owner]:
                self.undelete(child_name, child_id)

    def hard_delete(self, object_name: str, record_id: str) -> None:
        """Remove a record for good, from wherever it is; only a listing of the ids shows that it is gone."""
        with self.lock:
            table = self._table(object_name)
            table.remove(str(self._record(table, record_id)["Id"]))

    def merge(self, object_name: str, winner_id: str, loser_ids: Iterable[str]) -> None:
        """Merge losers into a winner: they go to the bin with MasterRecordId, their children to the winner."""
        with self.lock:
            if object_name not in _MERGEABLE:
                raise OrgError(f"a {object_name} can't be merged; only {', '.join(sorted(_MERGEABLE))}")
            table = self._table(object_name)
            winner = self._live(table, winner_id)
            losers = [self._live(table, loser_id) for loser_id in loser_ids]
            if any(loser is winner for loser in losers):
                raise OrgError("a record can't be merged into itself")
            time = self.now_text()
            lost = {loser["Id"] for loser in losers}
            self._check_children_free(object_name, lost)
            for child_table in self.tables.values():
                fields = [
                    field.name
                    for field in child_table.fields.values()
                    if field.refers_to == object_name and field.name != "MasterRecordId"
                ]
                for child in list(child_table.records.values()):
                    moved: Record = {name: winner["Id"] for name in fields if child[name] in lost}
                    if moved:
                        child_table.put({**child, **moved, "LastModifiedDate": time, "SystemModstamp": time})
                        self._tell("UPDATE", child_table.name, str(child["Id"]))
            for loser in losers:
                self._bin(table, {**table.records[str(loser["Id"])], "MasterRecordId": winner["Id"]}, time)
            self.update(object_name, winner_id, {})

    def _check_children_free(self, object_name: str, lost: Container[Value]) -> None:
        for table in self.tables.values():
            fields = [field.name for field in table.fields.values() if field.refers_to == object_name]
            for child in table.records.values():
                if any(child[name] in lost for name in fields):
                    self.check_free(table.name, str(child["Id"]))

    def replace_records(self, object_name: str, records: Iterable[Record]) -> None:
        """Let the object hold exactly *records*, stamps and all, as if all else had never been."""
        with self.lock:
            self._table(object_name).replace_all(records)

    def add_field(self, object_name: str, field: Field) -> None:
        """Add a custom field; every record has it at its default."""
        with self.lock:
            self._table(object_name).add_field(field)

    def _bin(self, table: Table, record: Record, time: str) -> None:
        self.check_free(table.name, str(record["Id"]))
        table.put({**record, "IsDeleted": True, "SystemModstamp": time})
        self.delete_log.setdefault(table.name, []).append(Deletion(str(record["Id"]), time))
        self._tell("DELETE", table.name, str(record["Id"]))

    def _tell(self, kind: ChangeKind, object_name: str, record_id: str) -> None:
        for watcher in self.watchers:
            watcher(kind, object_name, record_id)

    def _stamp_text(self, stamp: datetime | str | None) -> str:
        if stamp is None:
            return self.now_text()
        return stamp if isinstance(stamp, str) else datetime_text(stamp)

    def _typed(self, table: Table, values: Mapping[str, object]) -> dict[str, Value]:
        typed = {}
        for name, value in values.items():
            field = table.field(name)
            if field is None or field.compound:
                raise OrgError(f"{table.name} has no field {name} that can be written")
            try:
                typed[field.name] = from_python(field, value)
            except ValueError as error:
                raise OrgError(f"{table.name}.{field.name}: {error}") from error
        return typed

    def _table(self, object_name: str) -> Table:
        table = self.tables.get(object_name)
        if table is None:
            raise OrgError(f"the org has no object {object_name}")
        return table

    def _record(self, table: Table, record_id: str) -> Record:
        record = table.records.get(ids.to_18(record_id) or record_id)
        if record is None:
            raise OrgError(f"there is no {table.name} {record_id}")
        self.check_free(table.name, str(record["Id"]))
        return record

    def _live(self, table: Table, record_id: str) -> Record:
        record = self._record(table, record_id)
        if record.get("IsDeleted"):
            raise OrgError(f"ENTITY_IS_DELETED: {table.name} {record_id} is in the recycle bin")
        return record

    # Reading, as the API does

    def hide(self, object_name: str, fields: Iterable[str] | None = None) -> None:
        """Take *fields*, or the whole object, from the API user's sight, as field-level security does."""
        with self.lock:
            if fields is None:
                self.hidden_objects.add(object_name)
            else:
                self.hidden_fields.setdefault(object_name, set()).update(fields)

    def show(self, object_name: str) -> None:
        """Let the API user see all of the object again."""
        with self.lock:
            self.hidden_objects.discard(object_name)
            self.hidden_fields.pop(object_name, None)

    def visible_table(self, object_name: str) -> Table | None:
        """The table of the object as the API user names it, whatever the case; ``None`` when there is none to see."""
        lower = object_name.lower()
        found = next((table for name, table in self.tables.items() if name.lower() == lower), None)
        return None if found is None or found.name in self.hidden_objects else found

    def visible_fields(self, table: Table) -> list[Field]:
        """The fields that the API user may see."""
        hidden = self.hidden_fields.get(table.name, set())
        return [field for field in table.fields.values() if field.name not in hidden]

    def plan(self, query: Query) -> Plan:
        """*query* bound to this org.

        Raises:
            ApiError: 400 INVALID_TYPE for the object, else as :func:`local.salesforce.query.bind` does.
        """
        table = self.visible_table(query.object.text)
        if table is None:
            message = (
                f"sObject type '{query.object.text}' is not supported. If you are attempting to use a custom object, "
                "be sure to append the '__c' after the entity name. Please reference your WSDL or the describe call "
                "for the appropriate names."
            )
            raise ApiError(400, "INVALID_TYPE", located(query.text, query.object.position, message))
        return bind(query, table, self.hidden_fields.get(table.name, frozenset()))

    def deleted(self, table: Table, start: datetime, end: datetime) -> dict[str, object]:
        """The answer of the ``deleted`` resource for a window.

        Raises:
            ApiError: 400 INVALID_REPLICATION_DATE for the window, EXCEEDED_ID_LIMIT for too many.
        """
        start, end = self._window(start, end, DELETED_WINDOW)
        low, high = datetime_text(start), datetime_text(end)
        found = [entry for entry in self.delete_log.get(table.name, []) if low <= entry.deleted_at < high]
        self._check_id_limit(len(found))
        return {
            "deletedRecords": [{"id": entry.record_id, "deletedDate": entry.deleted_at} for entry in found],
            "earliestDateAvailable": datetime_text(_minute(self.clock() - DELETED_WINDOW)),
            "latestDateCovered": datetime_text(self._covered(end)),
        }

    def updated(self, table: Table, start: datetime, end: datetime) -> dict[str, object]:
        """The answer of the ``updated`` resource for a window.

        Raises:
            ApiError: as for :meth:`deleted`.
        """
        start, end = self._window(start, end, UPDATED_WINDOW)
        low, high = datetime_text(start), datetime_text(end)
        found = [
            record_id
            for stamp, record_id in table.by_stamp
            if low <= stamp < high and not table.records[record_id].get("IsDeleted")
        ]
        self._check_id_limit(len(found))
        return {"ids": found, "latestDateCovered": datetime_text(self._covered(end))}

    def _window(self, start: datetime, end: datetime, longest: timedelta) -> tuple[datetime, datetime]:
        start, end = _minute(start), _minute(end)
        if start >= end:
            raise ApiError(
                400, "INVALID_REPLICATION_DATE", "endDate must be at least one minute greater than startDate"
            )
        if start < _minute(self.clock() - longest):
            raise ApiError(400, "INVALID_REPLICATION_DATE", "startDate before org replication enabled date")
        return start, end

    def _check_id_limit(self, found: int) -> None:
        if found > self.replication_id_limit:
            message = f"{found} ids in the window, more than {self.replication_id_limit}; ask for a shorter one"
            raise ApiError(400, "EXCEEDED_ID_LIMIT", message)

    def _covered(self, end: datetime) -> datetime:
        """How far the listing is complete: never beyond now, nor the start of a transaction that is still open."""
        return min([end, _minute(self.clock()), *(_minute(one.began_at) for one in self._open)])

    def record(self, table: Table, record_id: str) -> Record:
        """A live record by its 15- or 18-character id.

        Raises:
            ApiError: 404 NOT_FOUND, or ENTITY_IS_DELETED when it lies in the recycle bin.
        """
        id18 = ids.to_18(record_id)
        found = table.records.get(id18) if id18 else None
        if found is None:
            raise not_found()
        if found.get("IsDeleted"):
            raise ApiError(404, "ENTITY_IS_DELETED", "entity is deleted")
        return found


def _minute(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def _decided(table: Table, values: Mapping[str, object]) -> dict[str, object]:
    """The values of a save with those that follow from them, as far as the object has such fields."""
    followed = with_stage(table.name, values)
    return {name: value for name, value in followed.items() if name in values or table.field(name) is not None}
