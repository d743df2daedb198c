"""An object's records with the two orders that polls walk them in, and their JSON."""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter

from local.salesforce.schema import ADDRESS_PARTS, Field, ObjectTable, Record, Value
from messaging.codec import encode

StampKey = tuple[str, str]
"""(SystemModstamp, Id): the order of a keyset cursor."""

_KEPT_SELECTIONS = 2


class Table:
    """The records of one object that are committed, deleted ones in the recycle bin included."""

    def __init__(self, source: ObjectTable) -> None:
        self.name = source.name
        self.key_prefix = source.key_prefix
        self.fields: dict[str, Field] = dict(source.fields)
        self.records: dict[str, Record] = {}
        self.by_stamp: list[StampKey] = []
        self.by_id: list[str] = []
        # JSON of records by (API version, selected fields), then by id: a page asked for again is only joined.
        self._encoded: OrderedDict[tuple[str, tuple[str, ...]], dict[str, bytes]] = OrderedDict()
        self.replace_all(source.records)

    def field(self, name: str) -> Field | None:
        """The field called *name*, whatever its case."""
        field = self.fields.get(name)
        if field is not None:
            return field
        lower = name.lower()
        return next((field for known, field in self.fields.items() if known.lower() == lower), None)

    def empty_record(self) -> Record:
        """A record with every field at its default."""
        return {
            name: False if field.type == "boolean" else None
            for name, field in self.fields.items()
            if not field.compound
        }

    def add_field(self, field: Field) -> None:
        """Add *field*; every record has it at its default."""
        self.fields[field.name] = field
        default = False if field.type == "boolean" else None
        self.replace_all([{**record, field.name: default} for record in self.records.values()])

    def replace_all(self, records: Iterable[Record]) -> None:
        """Hold *records* and no others. Each has an Id and a SystemModstamp."""
        self.records = {str(record["Id"]): record for record in records}
        self.by_stamp = sorted(_stamp_key(record) for record in self.records.values())
        self.by_id = sorted(self.records)
        self._encoded.clear()

    def put(self, record: Record) -> None:
        """Hold *record* in the place of the one with its Id."""
        record_id = str(record["Id"])
        before = self.records.get(record_id)
        if before is None:
            insort(self.by_id, record_id)
        else:
            _drop(self.by_stamp, _stamp_key(before))
        insort(self.by_stamp, _stamp_key(record))
        self.records[record_id] = record
        self._forget(record_id)

    def remove(self, record_id: str) -> None:
        """Forget the record.

        Raises:
            KeyError: there is none.
        """
        record = self.records.pop(record_id)
        _drop(self.by_stamp, _stamp_key(record))
        _drop(self.by_id, record_id)
        self._forget(record_id)

    def encode(self, records: Sequence[Record], names: tuple[str, ...], version: str) -> list[bytes]:
        """The JSON of each of *records*, with its attributes and the fields called *names* in their order."""
        known = self._encoded.setdefault((version, names), {})
        self._encoded.move_to_end((version, names))
        while len(self._encoded) > _KEPT_SELECTIONS:
            self._encoded.popitem(last=False)
        compound = [field for name in names if (field := self.fields[name]).compound]
        url = f"/services/data/v{version}/sobjects/{self.name}/"
        values_of = _values_of(names, all_stored=not compound)
        answer = []
        for record in records:
            record_id: str = record["Id"]  # type: ignore[assignment]  # every record has a text as its Id
            data = known.get(record_id)
            current = self.records.get(record_id) is record
            if data is None or not current:
                attributes = {"type": self.name, "url": url + record_id}
                shown: dict[str, object] = {
                    "attributes": attributes,
                    **dict(zip(names, values_of(record), strict=True)),
                }
                for field in compound:
                    shown[field.name] = _address(record, field.address_prefix or "")
                data = encode(shown)
                if current:
                    known[record_id] = data
            answer.append(data)
        return answer

    def _forget(self, record_id: str) -> None:
        for encoded in self._encoded.values():
            encoded.pop(record_id, None)


def _values_of(names: tuple[str, ...], *, all_stored: bool) -> Callable[[Record], tuple[Value, ...]]:
    if all_stored and len(names) > 1:  # with one name alone, itemgetter gives no tuple
        return itemgetter(*names)
    return lambda record: tuple(record.get(name) for name in names)


def _stamp_key(record: Record) -> StampKey:
    return str(record["SystemModstamp"]), str(record["Id"])


def _drop(keys: list[StampKey] | list[str], key: StampKey | str) -> None:
    place = bisect_left(keys, key)
    del keys[place]


def _address(record: Record, prefix: str) -> dict[str, Value] | None:
    parts = {part[0].lower() + part[1:]: record.get(prefix + part) for part in ADDRESS_PARTS}
    return parts if any(value is not None for value in parts.values()) else None
