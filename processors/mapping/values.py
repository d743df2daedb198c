"""A vendor's single values in the one form that is stored. Each reader raises ValueError with what is wrong."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

from messaging import codec
from messaging.times import to_text
from shards.identity import salesforce_id

Reader = Callable[[Any], Any]
"""Takes a value that is not None; gives it as stored, or None when there is nothing in it."""

MAX_DEPTH = 32
"""How deep lists and objects of a custom field may lie in one another."""

_SAFE_INTEGER = 10**codec.MAX_NUMBER_DIGITS
_MAX_EXPONENT = 307
"""A larger power of ten is beyond what JSON readers hold in an IEEE 754 double."""
_WIDE = Context(prec=1000)
_NUMBER_TEXT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?\Z")
_STORED_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}(?:Z|\+00:?00)\Z")


def read_text(value: Any) -> str | None:
    """A text without NUL, which no store takes; a number as it is written. Nothing but space is nothing."""
    if value.__class__ is not str:
        value = _scalar_text(value)
    if "\x00" in value:
        value = value.replace("\x00", "")
    return value if value and not value.isspace() else None


def _scalar_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return str(read_number(value))
    raise ValueError(f"is {_kind(value)}, not a text")


def read_number(value: Any) -> int | Decimal | None:
    """A number digit by digit: whole ones as int, others as Decimal. Text that is a number counts as one."""
    number: Decimal
    kind = value.__class__
    if kind is int and -_SAFE_INTEGER < value < _SAFE_INTEGER:
        whole: int = value
        return whole
    if kind is Decimal:
        number = value
    elif kind is str:
        text = value.strip()
        if not text:
            return None
        if len(text) > 400 or not _NUMBER_TEXT.match(text):
            raise ValueError(f"{value[:40]!r} is no number")
        number = Decimal(text)
    elif kind is int:
        number = Decimal(value)
    elif kind is float:
        number = Decimal(repr(value))
    else:
        raise ValueError(f"is {_kind(value)}, not a number")
    if _is_short(number):
        return codec.plain_number(number)
    if not number.is_finite():
        raise ValueError("is not a finite number")
    digits = len(number.as_tuple().digits)
    if abs(number.adjusted()) > _MAX_EXPONENT or digits > _WIDE.prec:
        raise ValueError("is a number beyond what JSON readers hold")
    if number == number.to_integral_value():
        return int(number)
    return number.normalize(_WIDE)


def _is_short(number: Decimal) -> bool:
    """Whether *number* is finite and written in at most 15 digits without an exponent, as nearly all are."""
    text = str(number)
    return len(text) <= codec.MAX_NUMBER_DIGITS and text[-1].isdigit() and "E" not in text


def exact_text(number: int | Decimal) -> str | None:
    """The digits of a number that has more than 15 significant ones, None of any other."""
    if isinstance(number, int):
        if -_SAFE_INTEGER < number < _SAFE_INTEGER:
            return None
    elif _is_short(number):
        return None
    exact = Decimal(number).normalize(_WIDE)
    return f"{exact:f}" if len(exact.as_tuple().digits) > codec.MAX_NUMBER_DIGITS else None


def read_integer(value: Any) -> int | None:
    """A whole number."""
    number = read_number(value)
    if number is None or isinstance(number, int):
        return number
    raise ValueError(f"{number} is not a whole number")


def read_boolean(value: Any) -> bool | None:
    """True or false; also as the texts that exports write."""
    if value is True or value is False:
        return bool(value)
    if isinstance(value, str):
        text = value.strip().lower()
        if not text:
            return None
        if text in ("true", "false"):
            return text == "true"
        raise ValueError(f"{value[:40]!r} is neither true nor false")
    raise ValueError(f"is {_kind(value)}, not true or false")


def read_date(value: Any) -> str | None:
    """A day as ``2026-12-31``; of a moment, its day as written."""
    if not isinstance(value, str):
        raise ValueError(f"is {_kind(value)}, not a date")
    text = value.strip()
    if not text:
        return None
    day = text[:10]
    if len(text) > 10 and text[10] not in "T ":
        raise ValueError(f"{value[:40]!r} is no date")
    try:
        return date.fromisoformat(day).isoformat()
    except ValueError:
        raise ValueError(f"{value[:40]!r} is no date") from None


def read_moment(value: Any) -> str | None:
    """A moment as ``2026-12-31T09:30:00.000Z``. Without a zone it is UTC, as all that Salesforce keeps."""
    if not isinstance(value, str):
        raise ValueError(f"is {_kind(value)}, not a time")
    return _moment(value)


# A record's stamps often name one moment, as do those of records saved together.
@lru_cache(maxsize=4096)
def _moment(text: str) -> str | None:
    stripped = text.strip()
    if not stripped:
        return None
    try:
        moment = datetime.fromisoformat(stripped)
        if _STORED_MOMENT.match(stripped):
            return stripped[:23] + "Z"
        return to_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r} is no time") from None


# Owners, accounts and creators are the same few on many records.
@lru_cache(maxsize=16384)
def _canonical_id(text: str) -> str | None:
    stripped = text.strip()
    return salesforce_id(stripped) if stripped else None


def read_salesforce_id(value: Any) -> str | None:
    """A reference to a record by its 18-character id."""
    if not isinstance(value, str):
        raise ValueError(f"is {_kind(value)}, not an id")
    return _canonical_id(value)


@lru_cache(maxsize=4096)
def lower_snake(text: str) -> str:
    """``Negotiation/Review`` as ``negotiation_review``; a text with neither letter nor digit stays as it is."""
    return re.sub(r"[\W_]+", "_", text.lower()).strip("_") or text.strip()


def read_word(value: Any) -> str | None:
    """A picklist's value in lower_snake."""
    text = read_text(value)
    return lower_snake(text) if text else None


def read_words(value: Any) -> list[str] | None:
    """A multi-select picklist (``Champion;Decision Maker``) as its values in lower_snake."""
    text = read_text(value)
    if text is None:
        return None
    return [lower_snake(part) for part in text.split(";") if part.strip()] or None


def read_json(value: Any, exact: dict[str, str], path: str, depth: int = 0) -> Any:
    """Any JSON value as stored: numbers plain, texts without NUL, no nulls, nothing empty.

    Numbers of more than 15 significant digits are also put into *exact* under their path.
    """
    if value is None or value is True or value is False:
        return value
    kind = value.__class__
    if kind is str:
        return read_text(value)
    if kind is int or kind is Decimal or kind is float:
        number = read_number(value)
        text = exact_text(number) if number is not None else None
        if text is not None:
            exact[path] = text
        return number
    if depth >= MAX_DEPTH:
        raise ValueError(f"{path} lies more than {MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        return _read_object(value, exact, path, depth)
    if isinstance(value, list | tuple):
        items = (read_json(item, exact, f"{path}.{index}", depth + 1) for index, item in enumerate(value))
        return [item for item in items if item is not None] or None
    raise ValueError(f"{path} is {_kind(value)}, which JSON does not have")


def _read_object(value: Mapping[str, Any], exact: dict[str, str], path: str, depth: int) -> dict[str, Any] | None:
    found = {}
    for key, inner in value.items():
        if "\x00" in key:
            raise ValueError(f"a field of {path} has a NUL in its name")
        read = read_json(inner, exact, f"{path}.{key}", depth + 1)
        if read is not None:
            found[key] = read
    return found or None


_KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    Decimal: "a number",
    str: "a text",
    list: "a list",
    tuple: "a list",
    dict: "an object",
}


def _kind(value: Any) -> str:
    return _KINDS.get(value.__class__, f"a {value.__class__.__name__}")
