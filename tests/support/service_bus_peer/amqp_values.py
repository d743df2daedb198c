"""The AMQP 1.0 type system: values to bytes and back (AMQP 1.0, part 1, section 1.6).

Only what messages, annotations and management requests carry: no decimals and no UTF-32 characters.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID


class MalformedError(ValueError):
    """The bytes are no AMQP value, or not one that is spoken here."""


class Symbol(str):
    """A string of AMQP's symbol type."""

    __slots__ = ()


class Timestamp(int):
    """Milliseconds since 1970."""


class UnsignedInt(int):
    """A number of AMQP's 32-bit unsigned type."""


class Int(int):
    """A number of AMQP's 32-bit signed type; a plain int is sent as its 64-bit one."""


class Array(NamedTuple):
    """Several values of one type, sent as one AMQP array."""

    values: Sequence["Timestamp | int"]


class Described(NamedTuple):
    """A value with a descriptor that says what it means."""

    descriptor: Any
    value: Any


_FIXED: dict[int, Callable[[bytes], Any]] = {
    0x40: lambda _: None,
    0x41: lambda _: True,
    0x42: lambda _: False,
    0x43: lambda _: 0,
    0x44: lambda _: 0,
    0x45: lambda _: [],
    0x50: lambda raw: raw[0],
    0x51: lambda raw: struct.unpack(">b", raw)[0],
    0x52: lambda raw: raw[0],
    0x53: lambda raw: raw[0],
    0x54: lambda raw: struct.unpack(">b", raw)[0],
    0x55: lambda raw: struct.unpack(">b", raw)[0],
    0x56: lambda raw: raw[0] == 1,
    0x60: lambda raw: struct.unpack(">H", raw)[0],
    0x61: lambda raw: struct.unpack(">h", raw)[0],
    0x70: lambda raw: struct.unpack(">I", raw)[0],
    0x71: lambda raw: struct.unpack(">i", raw)[0],
    0x72: lambda raw: struct.unpack(">f", raw)[0],
    0x80: lambda raw: struct.unpack(">Q", raw)[0],
    0x81: lambda raw: struct.unpack(">q", raw)[0],
    0x82: lambda raw: struct.unpack(">d", raw)[0],
    0x83: lambda raw: Timestamp(struct.unpack(">q", raw)[0]),
    0x98: lambda raw: UUID(bytes=raw),
}
_BINARY, _STRING, _SYMBOL = 0x0, 0x1, 0x3
_LIST, _MAP, _EMPTY_LIST = 0x0, 0x1, 0x45
_DESCRIBED = 0x00
# The upper four bits of a constructor say how wide the value is (part 1, section 1.2).
_FIXED_WIDTHS = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}
_ONE_BYTE_SIZES, _FOUR_BYTE_SIZES = (0xA, 0xC, 0xE), (0xB, 0xD, 0xF)


def end_of(data: bytes, start: int) -> int:
    """Where the value that begins at *start* ends.

    Raises:
        MalformedError: there is no whole value there.
    """
    if start >= len(data):
        raise MalformedError("the bytes end where a value belongs")
    code = data[start]
    end = end_of(data, end_of(data, start + 1)) if code == _DESCRIBED else _end_of_contents(data, code, start + 1)
    if end > len(data):
        raise MalformedError("the bytes end within a value")
    return end


def decode(data: bytes, start: int = 0) -> tuple[Any, int]:
    """The value that begins at *start*, and where it ends.

    Raises:
        MalformedError: there is no whole value of a known type there.
    """
    end = end_of(data, start)
    if data[start] == _DESCRIBED:
        descriptor, start = decode(data, start + 1)
        value, end = decode(data, start)
        return Described(descriptor, value), end
    try:
        return _contents(data, data[start], start + 1, end), end
    except MalformedError:
        raise
    except (ValueError, TypeError, IndexError) as error:
        # Text that is none, a map with a list for a key or with half a pair, a count beyond the contents.
        raise MalformedError(f"a value of type 0x{data[start]:02x} can't be read: {error}") from error


def map_entries(data: bytes, start: int) -> Iterator[tuple[Any, bytes]]:
    """The keys of the map at *start*, each with the bytes of its key and value together.

    Raises:
        MalformedError: there is no map there.
    """
    code = data[start]
    if code >> 4 not in (0xC, 0xD) or code & 0xF != _MAP:
        raise MalformedError(f"a value of type 0x{code:02x} stands where a map belongs")
    count, at = _count(data, code, start + 1)
    for _ in range(count // 2):
        key, after_key = decode(data, at)
        after_value = end_of(data, after_key)
        yield key, data[at:after_value]
        at = after_value


def list_items(data: bytes, start: int) -> Iterator[bytes]:
    """The bytes of each item of the list at *start*.

    Raises:
        MalformedError: there is no list there.
    """
    code = data[start]
    if code == _EMPTY_LIST:
        return
    if code >> 4 not in (0xC, 0xD) or code & 0xF != _LIST:
        raise MalformedError(f"a value of type 0x{code:02x} stands where a list belongs")
    count, at = _count(data, code, start + 1)
    for _ in range(count):
        end = end_of(data, at)
        yield data[at:end]
        at = end


def encode(value: Any) -> bytes:
    """*value* as AMQP.

    Raises:
        TypeError: AMQP has no type for it here.
    """
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        raise TypeError(f"AMQP has no type for {value!r} here")
    return encoder(value)


def encode_map(entries: Sequence[bytes]) -> bytes:
    """A map of *entries*, each the bytes of a key and its value."""
    contents = b"".join(entries)
    return struct.pack(">BII", 0xD1, len(contents) + 4, 2 * len(entries)) + contents


def _variable(kind: int, contents: bytes) -> bytes:
    if len(contents) < 256:
        return bytes([0xA0 | kind, len(contents)]) + contents
    return struct.pack(">BI", 0xB0 | kind, len(contents)) + contents


def _encode_array(array: Array) -> bytes:
    # One constructor, then the values without theirs; nothing else than 64-bit types is sent in arrays.
    code = 0x83 if any(isinstance(each, Timestamp) for each in array.values) else 0x81
    contents = bytes([code]) + b"".join(struct.pack(">q", each) for each in array.values)
    return struct.pack(">BII", 0xF0, len(contents) + 4, len(array.values)) + contents


def _encode_list(values: Sequence[Any]) -> bytes:
    contents = b"".join(map(encode, values))
    return struct.pack(">BII", 0xD0, len(contents) + 4, len(values)) + contents


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"\x40",
    bool: lambda value: b"\x41" if value else b"\x42",
    int: lambda value: struct.pack(">Bq", 0x81, value),
    Int: lambda value: struct.pack(">Bi", 0x71, value),
    UnsignedInt: lambda value: struct.pack(">BI", 0x70, value),
    Timestamp: lambda value: struct.pack(">Bq", 0x83, value),
    float: lambda value: struct.pack(">Bd", 0x82, value),
    UUID: lambda value: b"\x98" + value.bytes,
    bytes: lambda value: _variable(_BINARY, value),
    str: lambda value: _variable(_STRING, value.encode()),
    Symbol: lambda value: _variable(_SYMBOL, value.encode("ascii")),
    Described: lambda value: b"\x00" + encode(value.descriptor) + encode(value.value),
    Array: _encode_array,
    list: _encode_list,
    dict: lambda value: encode_map([encode(key) + encode(item) for key, item in value.items()]),
}


def _end_of_contents(data: bytes, code: int, at: int) -> int:
    """Where the contents at *at* of a value of type *code* end, which may lie beyond *data*."""
    kind = code >> 4
    if (width := _FIXED_WIDTHS.get(kind)) is not None:
        return at + width
    if kind in _ONE_BYTE_SIZES:
        return at + 1 + int.from_bytes(data[at : at + 1], "big")
    if kind in _FOUR_BYTE_SIZES:
        return at + 4 + _size(data, at)
    raise MalformedError(f"0x{code:02x} is no AMQP type")


def _contents(data: bytes, code: int, at: int, end: int) -> Any:
    """The value of type *code* whose bytes, sizes included, are *at* to *end*."""
    if (fixed := _FIXED.get(code)) is not None:
        return fixed(data[at:end])
    width = 1 if code >> 4 in _ONE_BYTE_SIZES else 4
    match code >> 4, code & 0xF:
        case ((0xA | 0xB), kind) if kind == _BINARY:
            return bytes(data[at + width : end])
        case ((0xA | 0xB), kind) if kind == _STRING:
            return bytes(data[at + width : end]).decode()
        case ((0xA | 0xB), kind) if kind == _SYMBOL:
            return Symbol(bytes(data[at + width : end]).decode("ascii"))
        case ((0xC | 0xD), kind) if kind in (_LIST, _MAP):
            values = []
            count, at = _count(data, code, at)
            for _ in range(count):
                value, at = decode(data, at)
                values.append(value)
            return values if kind == _LIST else dict(zip(values[::2], values[1::2], strict=True))
        case ((0xE | 0xF), 0):
            count, at = _count(data, code, at)
            return _array(data, count, at)
    raise MalformedError(f"0x{code:02x} is no AMQP type that is spoken here")


def _array(data: bytes, count: int, at: int) -> list[Any]:
    code = data[at]
    if code == _DESCRIBED:
        raise MalformedError("an array of described values is not spoken here")
    at += 1
    values = []
    for _ in range(count):
        end = _end_of_contents(data, code, at)
        values.append(_contents(data, code, at, end))
        at = end
    return values


def _count(data: bytes, code: int, at: int) -> tuple[int, int]:
    if code >> 4 in _ONE_BYTE_SIZES:
        return data[at + 1], at + 2
    return _size(data, at + 4), at + 8


def _size(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
