"""JSON values as the service sees them: numbers are doubles, and a value may be undefined.

Undefined is no JSON value: it is what a path that leads nowhere gives, and what an operation on values of the wrong
types gives. It is left out of objects, arrays and results.
"""

import math
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from cosmos_peer.answers import bad_request

MAX_DEPTH = 128
"""How deep arrays and objects may be nested in an item (service limit)."""
_EXACT = 2**53


class Undefined:
    """The one undefined value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "undefined"

    def __bool__(self) -> bool:
        return False


UNDEFINED: Final = Undefined()

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def decode(data: bytes) -> Any:
    """The JSON value in *data*.

    Raises:
        RefusedError: 400, *data* is no JSON.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(
            f"The request payload is invalid. Ensure to provide a valid request payload: {error}"
        ) from error


def as_stored(value: Any, depth: int = 0) -> Any:
    """*value* as the service keeps it: every number a double, written as an integer where it is one.

    Raises:
        RefusedError: 400, nested too deep, or a number that no double is near to.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        if -_EXACT <= value <= _EXACT:
            return value
        try:
            return int(float(value))
        except OverflowError as error:
            raise bad_request(f"The number {value} is no double.") from error
    if kind is float:
        if not math.isfinite(value):
            raise bad_request(f"The number {value} is no JSON.")
        return int(value) if value.is_integer() and abs(value) <= _EXACT else value
    if depth >= MAX_DEPTH:
        raise bad_request(f"The item is nested deeper than {MAX_DEPTH} levels.")
    if kind is list:
        return [as_stored(item, depth + 1) for item in value]
    return {key: as_stored(item, depth + 1) for key, item in value.items()}


def type_rank(value: Any) -> int:
    """Where values of this type stand in an order of mixed types."""
    kind = type(value)
    if value is UNDEFINED:
        return 0
    if value is None:
        return 1
    if kind is bool:
        return 2
    if kind is int or kind is float:
        return 4
    if kind is str:
        return 5
    return 6 if kind is list else 7


class SortKey:
    """Orders values of any types: undefined, null, false, true, numbers, strings (by code point), arrays, objects."""

    __slots__ = ("rank", "value")

    def __init__(self, value: Any) -> None:
        self.rank = type_rank(value)
        self.value = value

    def __lt__(self, other: "SortKey") -> bool:
        if self.rank != other.rank:
            return self.rank < other.rank
        if self.rank in (0, 1):
            return False
        if self.rank >= 6:
            return canonical(self.value) < canonical(other.value)
        return bool(self.value < other.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SortKey) and not self < other and not other < self

    def __hash__(self) -> int:
        return hash((self.rank, canonical(self.value)))


class Reversed:
    """A sort key the other way round."""

    __slots__ = ("key",)

    def __init__(self, key: SortKey) -> None:
        self.key = key

    def __lt__(self, other: "Reversed") -> bool:
        return other.key < self.key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reversed) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def equal(left: Any, right: Any) -> bool:
    """Whether two defined values are the same: no conversion, ``true`` is not 1, key order does not matter."""
    kind = type(left)
    if kind is bool or type(right) is bool:
        return left is right
    if kind is list:
        return type(right) is list and len(left) == len(right) and all(map(equal, left, right))
    if kind is dict:
        return (
            type(right) is dict
            and left.keys() == right.keys()
            and all(equal(value, right[key]) for key, value in left.items())
        )
    return bool(left == right)


def canonical(value: Any) -> bytes:
    """Equal values, and only they, give the same bytes."""
    if value is UNDEFINED:
        return b""
    return _canonical_encoder.encode(_unified(value))


_canonical_encoder = msgspec.json.Encoder(order="deterministic")


def _unified(value: Any) -> Any:
    kind = type(value)
    if kind is float:
        return int(value) if value.is_integer() else value
    if kind is list:
        return [_unified(item) for item in value]
    if kind is dict:
        return {key: _unified(item) for key, item in value.items()}
    return value


def at_path(value: Any, path: Iterable[str]) -> Any:
    """What stands at *path* of an item, undefined where it leads nowhere."""
    for name in path:
        if type(value) is not dict or name not in value:
            return UNDEFINED
        value = value[name]
    return value
