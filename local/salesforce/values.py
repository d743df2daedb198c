"""Field values: what the wire carries for each field type, read from texts and from Python values."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal

from local.salesforce import ids
from local.salesforce.schema import NUMBER_TYPES, Field, Value

_TRUE = frozenset({"true", "1", "yes"})
_FALSE = frozenset({"false", "0", "no", ""})
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DATETIME = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})?")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\$?\d{1,3}(,\d{3})+(\.\d*)?")

LONGEST_SHORT_TEXT = 255
"""Characters of a text field; longer ones are text areas, which SOQL can't filter by."""


def datetime_text(moment: datetime) -> str:
    """*moment* as the REST API writes it, ``2026-05-06T11:56:44.000+0000``: in UTC, to the second.

    The order of these texts is the order of the times.
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def read_datetime(text: str) -> str:
    """The date-time in *text* in REST form: ISO 8601 with ``T`` or a space; without a zone it is UTC; no time is 00:00.

    Raises:
        ValueError: *text* is none of these.
    """
    if _DATE.fullmatch(text) is None and _DATETIME.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no date-time")
    moment = datetime.fromisoformat(text[:10] + text[10:].replace(" ", "T", 1).replace(" ", ""))
    return datetime_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def read_number(text: str) -> Decimal:
    """The number in *text*, digit by digit; thousands commas and a dollar sign are let pass.

    Raises:
        ValueError: *text* is no number.
    """
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    text = text.replace("$", "", 1)
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no number")
    return Decimal(text)


def from_text(field: Field, text: str) -> Value:
    """The value that *text*, a cell of an export, gives *field*. Empty is null, but false for a checkbox.

    Ids and references are taken as they are.

    Raises:
        ValueError: *text* is no value of the field's type.
    """
    kind = field.type
    if kind == "boolean":
        return _read_boolean(text)
    if not text:
        return None
    if kind in NUMBER_TYPES:
        number = read_number(text.strip())
        return _whole(number) if kind == "int" else number
    if kind == "date":
        return read_datetime(text.strip())[:10]
    if kind == "datetime":
        return read_datetime(text.strip())
    return text


def _read_boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _whole(number: Decimal) -> int:
    if number != number.to_integral_value():
        raise ValueError(f"{number} is no whole number")
    return int(number)


def from_python(field: Field, value: object) -> Value:
    """The value that *value*, handed over by a program, gives *field*.

    Date-times and dates may be Python's own; a float is taken digit by digit as Python prints it.

    Raises:
        ValueError: *value* is no value of the field's type.
    """
    if isinstance(value, datetime):
        value = datetime_text(value) if field.type == "datetime" else value.astimezone(UTC).date().isoformat()
    elif isinstance(value, date):
        value = value.isoformat()
    if value is None:
        return False if field.type == "boolean" else None
    if isinstance(value, bool):
        if field.type != "boolean":
            raise ValueError(f"{field.name} is no checkbox")
        return value
    if isinstance(value, int | float | Decimal):
        if field.type not in NUMBER_TYPES:
            raise ValueError(f"{field.name} is no number")
        number = value if isinstance(value, Decimal) else Decimal(str(value))
        return _whole(number) if field.type == "int" else number
    if isinstance(value, str):
        if field.type in {"id", "reference"} and value:
            id18 = ids.to_18(value)
            if id18 is None:
                raise ValueError(f"{value!r} is no record id")
            return id18
        return from_text(field, value)
    raise ValueError(f"{field.name} can't hold a {type(value).__name__}")


def infer_type(texts: Iterable[str]) -> str:
    """The field type that all of *texts*, the cells of a column nobody declared, are values of.

    Digits with a leading zero, or more than 15 before the point, are text: they are a code, not an amount.
    """
    kinds = {_kind_of(text) for text in texts if text}
    if len(kinds) == 1:
        return kinds.pop()
    return "textarea" if "textarea" in kinds else "string"


def _kind_of(text: str) -> str:
    if len(text) > LONGEST_SHORT_TEXT:
        return "textarea"
    if text.lower() in {"true", "false"}:
        return "boolean"
    if _is_datetime(text):
        return "date" if _DATE.fullmatch(text) else "datetime"
    digits = text.lstrip("+-").split(".")[0]
    if _NUMBER.fullmatch(text) and "e" not in text.lower() and not text.startswith("+"):
        is_amount = len(digits) <= 15 and (digits == "0" or not digits.startswith("0"))
        return "double" if is_amount else "string"
    if len(text) == 18 and ids.to_18(text) is not None:
        return "reference"
    return "string"


def _is_datetime(text: str) -> bool:
    try:
        read_datetime(text)
    except ValueError:
        return False
    return True
