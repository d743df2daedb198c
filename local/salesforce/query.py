"""What a SOQL query means for a table: names bound to fields, the condition as a function, and the rows it gives."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import ge, gt, le, lt
from typing import Any, NamedTuple

from local.salesforce import ids
from local.salesforce.errors import ApiError
from local.salesforce.schema import NUMBER_TYPES, TEXT_TYPES, Field, Record
from local.salesforce.soql import (
    And,
    Comparison,
    Condition,
    LiteralValue,
    Name,
    Not,
    Query,
    SortKey,
    like_pattern,
    located,
    malformed,
)
from local.salesforce.store import StampKey, Table
from local.salesforce.values import read_datetime

Predicate = Callable[[Record], bool]

_HIGH = "\x7f"  # sorts behind every character of a stamp or an id
_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
_ID_TYPES = frozenset({"id", "reference"})


class _Bounds(NamedTuple):
    """What a condition says about where its rows can stand; rows inside may still fail it. All ends are inclusive."""

    stamp_low: StampKey = ("", "")
    stamp_high: StampKey = (_HIGH, _HIGH)
    id_low: str = ""
    id_high: str = _HIGH
    ids: frozenset[str] | None = None

    def both(self, other: "_Bounds") -> "_Bounds":
        """Where rows that keep to both can stand."""
        low, high = max(self.stamp_low, other.stamp_low), min(self.stamp_high, other.stamp_high)
        id_low, id_high = max(self.id_low, other.id_low), min(self.id_high, other.id_high)
        if low[0] == high[0]:  # one stamp alone: the ids bound the order as well
            low, high = (low[0], max(low[1], id_low)), (high[0], min(high[1], id_high))
        if self.ids is None or other.ids is None:
            found = self.ids if other.ids is None else other.ids
        else:
            found = self.ids & other.ids
        return _Bounds(low, high, id_low, id_high, found)

    def either(self, other: "_Bounds") -> "_Bounds":
        """Where rows that keep to one of the two can stand."""
        return _Bounds(
            min(self.stamp_low, other.stamp_low),
            max(self.stamp_high, other.stamp_high),
            min(self.id_low, other.id_low),
            max(self.id_high, other.id_high),
            None if self.ids is None or other.ids is None else self.ids | other.ids,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """A query bound to its table, ready to run."""

    table: Table
    names: tuple[str, ...]
    counts: bool
    _matches: Predicate | None
    _bounds: _Bounds
    _order: tuple[tuple[Field, SortKey], ...]
    _limit: int | None
    _offset: int

    def run(self, *, include_deleted: bool) -> list[Record]:
        """The rows of the answer, in its order; without ORDER BY they come in no promised one."""
        candidates, ordered = self._candidates()
        wanted = None if self._limit is None else self._offset + self._limit
        rows: list[Record] = []
        records, matches = self.table.records, self._matches
        for record_id in candidates:
            if ordered and wanted is not None and len(rows) >= wanted:
                break
            record = records[record_id]
            if (include_deleted or not record.get("IsDeleted")) and (matches is None or matches(record)):
                rows.append(record)
        if not ordered:
            self._sort(rows)
        return rows[self._offset : wanted]

    def _candidates(self) -> tuple[Iterable[str], bool]:
        """Ids of the rows that can match, and whether they come in the order asked for."""
        table, bounds = self.table, self._bounds
        if bounds.ids is not None:
            return sorted(bounds.ids & table.records.keys()), not self._order
        names = [field.name for field, _ in self._order]
        directions = {key.descending for _, key in self._order}
        one_way = len(directions) <= 1
        low, high = bisect_left(table.by_stamp, bounds.stamp_low), bisect_right(table.by_stamp, bounds.stamp_high)
        by_stamp = one_way and names in (["SystemModstamp"], ["SystemModstamp", "Id"])
        if by_stamp or (names != ["Id"] and high - low < len(table.by_stamp)):
            backwards = by_stamp and True in directions
            places = range(high - 1, low - 1, -1) if backwards else range(low, high)
            return (table.by_stamp[place][1] for place in places), by_stamp or not names
        found = table.by_id[bisect_left(table.by_id, bounds.id_low) : bisect_right(table.by_id, bounds.id_high)]
        if names == ["Id"] and True in directions:
            found.reverse()
        return found, names in ([], ["Id"])

    def _sort(self, rows: list[Record]) -> None:
        for field, key in reversed(self._order):
            filled = [row for row in rows if row[field.name] is not None]
            filled.sort(key=_sort_value(field), reverse=key.descending)
            nulls = [row for row in rows if row[field.name] is None]
            rows[:] = filled + nulls if key.nulls_last else nulls + filled


def bind(query: Query, table: Table, hidden: Container[str] = frozenset()) -> Plan:
    """*query* bound to *table*; fields in *hidden* are not there for it.

    Raises:
        ApiError: 400 INVALID_FIELD or INVALID_QUERY_FILTER_OPERATOR, worded as the vendor does.
    """
    binder = _Binder(query, table, hidden)
    matches, bounds = (None, _Bounds()) if query.where is None else binder.condition(query.where)
    return Plan(
        table,
        binder.selected(),
        query.counts,
        matches,
        bounds,
        tuple((binder.filterable(key.field, "sorted"), key) for key in query.order_by),
        query.limit,
        query.offset,
    )


class _Binder:
    def __init__(self, query: Query, table: Table, hidden: Container[str]) -> None:
        self._query, self._table, self._hidden = query, table, hidden

    def selected(self) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for item in self._query.select:
            for name in self._group(item.text) or (self._field(item).name,):
                if name in names:
                    raise ApiError(400, "INVALID_FIELD", f"duplicate field selected: {name}")
                names[name] = None
        return tuple(names)

    def _group(self, text: str) -> Sequence[str]:
        visible = [field for field in self._table.fields.values() if field.name not in self._hidden]
        if text == "FIELDS(ALL)":
            return [field.name for field in visible]
        if text in {"FIELDS(CUSTOM)", "FIELDS(STANDARD)"}:
            return [field.name for field in visible if field.custom == (text == "FIELDS(CUSTOM)")]
        return ()

    def _field(self, name: Name) -> Field:
        field = self._table.field(name.text)
        if field is not None and field.name not in self._hidden:
            return field
        if "." in name.text:
            relationship = name.text.split(".", 1)[0]
            message = (
                f"Didn't understand relationship '{relationship}' in field path. If you are attempting to use a custom "
                "relationship, be sure to append the '__r' after the custom relationship name. Please reference your "
                "WSDL or the describe call for the appropriate names."
            )
        else:
            message = (
                f"No such column '{name.text}' on entity '{self._table.name}'. If you are attempting to use a custom "
                "field, be sure to append the '__c' after the custom field name. Please reference your WSDL or the "
                "describe call for the appropriate names."
            )
        raise ApiError(400, "INVALID_FIELD", located(self._query.text, name.position, message))

    def filterable(self, name: Name, verb: str) -> Field:
        field = self._field(name)
        if not field.filterable:
            message = f"field '{field.name}' can not be {verb} in a query call"
            raise ApiError(400, "INVALID_FIELD", located(self._query.text, name.position, message))
        return field

    def condition(self, condition: Condition) -> tuple[Predicate, _Bounds]:
        if isinstance(condition, Comparison):
            return self._comparison(condition)
        if isinstance(condition, Not):
            inner, _ = self.condition(condition.term)
            return (lambda record: not inner(record)), _Bounds()
        bound = [self.condition(term) for term in condition.terms]
        matches, bounds = bound[0]
        for other_matches, other_bounds in bound[1:]:
            if isinstance(condition, And):
                matches, bounds = _both(matches, other_matches), bounds.both(other_bounds)
            else:
                matches, bounds = _either(matches, other_matches), bounds.either(other_bounds)
        return matches, bounds

    def _comparison(self, comparison: Comparison) -> tuple[Predicate, _Bounds]:
        field = self.filterable(comparison.field, "filtered")
        operator = comparison.operator
        if operator == "LIKE":
            return self._like(field, comparison), _Bounds()
        values = [self._value(field, literal, comparison) for literal in comparison.values]
        if operator in _ORDERINGS and (field.type == "boolean" or values[0] is None):
            raise _invalid_operator(self._query, comparison)
        return _predicate(field, operator, values), _bounds(field, operator, values)

    def _like(self, field: Field, comparison: Comparison) -> Predicate:
        literal = comparison.values[0]
        if field.type not in TEXT_TYPES or literal.kind != "string":
            raise _invalid_operator(self._query, comparison)
        pattern, name = like_pattern(literal.raw), field.name
        return lambda record: record[name] is not None and pattern.fullmatch(str(record[name])) is not None

    def _value(self, field: Field, literal: LiteralValue, comparison: Comparison) -> Any:
        """The literal as the field compares it."""
        kind, value = literal.kind, literal.value
        if kind == "null" or (kind == "string" and not value and field.type != "boolean"):
            return None
        if kind == "string" and field.type in _ID_TYPES:
            id18 = ids.to_18(str(value))
            if id18 is None:
                message = located(self._query.text, comparison.field.position, f"invalid ID field: {value}")
                raise ApiError(400, "INVALID_QUERY_FILTER_OPERATOR", message)
            return id18
        if kind == "string" and field.type in TEXT_TYPES:
            return str(value).casefold()
        if kind == "number" and field.type in NUMBER_TYPES:
            return Decimal(value) if value is not None else None
        if kind == "boolean" and field.type == "boolean":
            return value
        if kind == field.type and kind in {"date", "datetime"}:
            try:
                text = read_datetime(str(value))
            except ValueError as error:
                raise malformed(str(error)) from error
            return text[:10] if kind == "date" else text
        quoted = field.type in TEXT_TYPES or field.type in _ID_TYPES
        type_name = {"datetime": "dateTime", "reference": "ID", "id": "ID"}.get(field.type, field.type)
        wanted = "string" if field.type in TEXT_TYPES else type_name
        message = (
            f"value of filter criterion for field '{field.name}' must be of type {wanted} "
            f"and should {'' if quoted else 'not '}be enclosed in quotes"
        )
        raise ApiError(400, "INVALID_FIELD", located(self._query.text, comparison.field.position, message))


def _both(first: Predicate, second: Predicate) -> Predicate:
    return lambda record: first(record) and second(record)


def _either(first: Predicate, second: Predicate) -> Predicate:
    return lambda record: first(record) or second(record)


def _comparable(field: Field) -> Callable[[Any], Any]:
    """How a stored value of *field* compares: texts without case, all else as it is."""
    return str.casefold if field.type in TEXT_TYPES else lambda value: value


def _sort_value(field: Field) -> Callable[[Record], Any]:
    name, of = field.name, _comparable(field)
    return lambda record: of(record[name])


def _predicate(field: Field, operator: str, values: list[Any]) -> Predicate:
    name, of = field.name, _comparable(field)
    first = values[0]
    if operator in _ORDERINGS:
        holds = _ORDERINGS[operator]
        if field.type not in TEXT_TYPES:
            return lambda record: (value := record[name]) is not None and holds(value, first)
        return lambda record: (value := record[name]) is not None and holds(of(value), first)
    if operator == "=" and first is not None and field.type not in TEXT_TYPES:
        return lambda record: bool(record[name] == first)
    wanted = frozenset(values)

    def is_in(record: Record) -> bool:
        value = record[name]
        return (value if value is None else of(value)) in wanted

    return is_in if operator in {"=", "IN"} else lambda record: not is_in(record)


def _bounds(field: Field, operator: str, values: list[Any]) -> _Bounds:
    first = values[0]
    if field.name == "Id":
        known = {
            "=": _Bounds(ids=frozenset(value for value in values if value is not None)),
            "IN": _Bounds(ids=frozenset(value for value in values if value is not None)),
            ">": _Bounds(id_low=first or ""),
            ">=": _Bounds(id_low=first or ""),
            "<": _Bounds(id_high=first or ""),
            "<=": _Bounds(id_high=first or ""),
        }
        return known.get(operator, _Bounds())
    if field.name == "SystemModstamp" and first is not None:
        known = {
            "=": _Bounds((first, ""), (first, _HIGH)),
            ">": _Bounds(stamp_low=(first, _HIGH)),
            ">=": _Bounds(stamp_low=(first, "")),
            "<": _Bounds(stamp_high=(first, "")),
            "<=": _Bounds(stamp_high=(first, _HIGH)),
        }
        return known.get(operator, _Bounds())
    return _Bounds()


def _invalid_operator(query: Query, comparison: Comparison) -> ApiError:
    message = located(query.text, comparison.field.position, "invalid operator on the field")
    return ApiError(400, "INVALID_QUERY_FILTER_OPERATOR", message)
