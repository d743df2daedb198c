"""The one JSON codec: bus, stores and fingerprint all read and write through it.

Numbers with a fraction are read as :class:`~decimal.Decimal` and written back digit by digit, so money never
passes through a binary float.
"""

import gc
import re
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any, TypeVar

import msgspec

MAX_NUMBER_DIGITS = 15
"""Significant digits that every JSON reader keeps (an IEEE 754 double holds any decimal of 15 digits)."""

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Normalizing under the default context would round to 28 digits."""

LARGEST_EXPONENT = 308
"""The decimal exponent of the largest IEEE 754 double."""

MOST_HOLDERS = 100_000
"""Lists and objects that a body of others may have: brackets, counted in its texts, too."""

_encoder = msgspec.json.Encoder(decimal_format="number")
_canonical_encoder = msgspec.json.Encoder(decimal_format="number", order="sorted")
_decoder = msgspec.json.Decoder(float_hook=Decimal)

DecodeError = msgspec.DecodeError
"""The bytes are no JSON."""
ValidationError = msgspec.ValidationError
"""The bytes are JSON, but not of the kind asked for; the message names the field."""

_SURROGATES = re.compile(
    rb"(?<!\\)(\\++)u[dD](?:[89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|[c-fC-F][0-9a-fA-F]{2})"
)
"""A surrogate, or two that are a character, behind all its backslashes: an even number of them is text."""

T = TypeVar("T")


def encode(value: object) -> bytes:
    """JSON as UTF-8 bytes. Structs, dataclasses, Decimal and datetime are understood."""
    return _encoder.encode(value)


def decode(data: bytes | str) -> Any:
    """The JSON value in *data*. Half of a character, as vendors leave it where they cut a text, is U+FFFD.

    Raises:
        DecodeError: *data* is no JSON, or none that can be held: nested too deep, a number beyond what Decimal takes.
    """
    # A collection amid what is nested too deep would run the finalizers of others where the stack is at its end.
    collecting = gc.isenabled()
    gc.disable()
    try:
        try:
            return _decoder.decode(data)
        except DecodeError:
            mended = _without_halves(data)
            if mended is None:
                raise
            return _decoder.decode(mended)
    except (RecursionError, UnicodeDecodeError, ArithmeticError) as error:
        raise DecodeError(f"{type(error).__name__}: {error}") from None
    finally:
        if collecting:
            gc.enable()


def _without_halves(data: bytes | str) -> bytes | None:
    """*data* with U+FFFD for each escaped surrogate that stands alone; None where there is none."""
    raw = data.encode(errors="replace") if isinstance(data, str) else data
    mended = _SURROGATES.sub(_mended, raw)
    return None if mended == raw else mended


def _mended(found: re.Match[bytes]) -> bytes:
    is_escape, low = len(found[1]) % 2 == 1, found[2]
    if is_escape:
        return found[0] if low else found[1] + b"ufffd"
    return found[0][: -len(low)] + b"\\ufffd" if low else found[0]


def decode_shallow(data: bytes, deepest: int) -> Any:
    """The JSON value in *data*, as strangers send it: what just about can be read could not be written again, which
    takes more of the stack, and a list of no items, of three bytes, takes 64 of memory.

    Raises:
        DecodeError: *data* is no JSON, or has lists and objects in more than *deepest* levels, or more of them than
            :data:`MOST_HOLDERS`, which is told before anything is read.
    """
    opened = data.count(b"[") + data.count(b"{")
    if opened > MOST_HOLDERS:
        raise DecodeError(f"it has more than {MOST_HOLDERS} lists and objects")
    value = decode(data)
    # What has no more brackets can't be deeper, and that is seen without a look at each value.
    if opened > deepest and _is_deeper(value, deepest):
        raise DecodeError(f"it is nested in more than {deepest} levels")
    return value


def _is_deeper(value: object, levels: int) -> bool:
    layer = [value]
    for _ in range(levels + 1):
        holders = [one.values() if isinstance(one, dict) else one for one in layer if isinstance(one, dict | list)]
        if not holders:
            return False
        layer = [inner for one in holders for inner in one]
    return True


def decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """A decoder of JSON that must be a *kind* (a struct or dataclass); make it once and keep it."""
    return msgspec.json.Decoder(kind, float_hook=Decimal)


def canonical(value: object) -> bytes:
    """JSON with sorted keys: equal values give equal bytes, whatever order they were built in."""
    return _canonical_encoder.encode(value)


def plain_number(value: Decimal | float) -> int | Decimal:
    """The number in the one form that is stored: whole numbers as int, others as a Decimal without trailing zeros.

    Raises:
        ValueError: *value* is infinite or not a number, which JSON can't carry, or beyond what other readers can.
    """
    number = value if isinstance(value, Decimal) else Decimal(repr(value))
    # Written out, the int of 1e999999999 would fill the memory.
    if not number.is_finite() or abs(number.adjusted()) > LARGEST_EXPONENT:
        raise ValueError(f"{value} can't be written as a JSON number")
    if number == number.to_integral_value():
        return int(number)
    return number.normalize(_EXACT)
