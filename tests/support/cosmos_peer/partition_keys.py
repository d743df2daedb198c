"""Partition keys: what an item's is, and the effective partition key that says in which range it lives.

The effective key is the 128-bit MurmurHash3 (x64 variant) of the key's binary form, its two highest bits cleared,
as upper-case hexadecimal; a hierarchical key's is that of each level, one after the other, so that all items under a
prefix lie between the prefix's hash and the same with ``FF`` behind it.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cosmos_peer.answers import RefusedError, bad_request
from cosmos_peer.json_values import UNDEFINED, at_path, decode

MAX_KEY_BYTES = 2048
"""The longest partition key value (service limit, large keys)."""
PARTITION_KEY_MISMATCH = 1001

_MASK = (1 << 64) - 1
_C1, _C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


def _rotated(value: int, by: int) -> int:
    return ((value << by) | (value >> (64 - by))) & _MASK


def _mixed(value: int) -> int:
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & _MASK
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ (value >> 33)


def murmur3_128(data: bytes) -> tuple[int, int]:
    """MurmurHash3 x64 128 of *data* with seed 0: its two 64-bit halves (h1, h2)."""
    h1 = h2 = 0
    whole = len(data) // 16 * 16
    for k1, k2 in struct.iter_unpack("<QQ", data[:whole]):
        h1 ^= _rotated(k1 * _C1 & _MASK, 31) * _C2 & _MASK
        h1 = (_rotated(h1, 27) + h2) * 5 + 0x52DCE729 & _MASK
        h2 ^= _rotated(k2 * _C2 & _MASK, 33) * _C1 & _MASK
        h2 = (_rotated(h2, 31) + h1) * 5 + 0x38495AB5 & _MASK
    k1, k2 = struct.unpack("<QQ", data[whole:].ljust(16, b"\0"))
    h2 ^= _rotated(k2 * _C2 & _MASK, 33) * _C1 & _MASK
    h1 ^= _rotated(k1 * _C1 & _MASK, 31) * _C2 & _MASK
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = h1 + h2 & _MASK
    h2 = h2 + h1 & _MASK
    h1, h2 = _mixed(h1), _mixed(h2)
    h1 = h1 + h2 & _MASK
    return h1, h2 + h1 & _MASK


def encoded(component: Any) -> bytes:
    """The binary form of one level of a key that is hashed, and that tells equal values from others.

    Raises:
        RefusedError: 400, neither a string, a number, a truth value, null nor undefined; or too long.
    """
    if component is UNDEFINED:
        return b"\x00"
    if component is None:
        return b"\x01"
    if component is False:
        return b"\x02"
    if component is True:
        return b"\x03"
    if isinstance(component, int | float):
        return b"\x05" + struct.pack("<d", float(component))
    if isinstance(component, str):
        text = component.encode()
        if len(text) > MAX_KEY_BYTES:
            raise bad_request(f"A partition key value has {len(text)} bytes; at most {MAX_KEY_BYTES} are allowed.")
        return b"\x08" + text + b"\xff"
    raise bad_request("A partition key value is an object or an array.")


@lru_cache(maxsize=65536)
def _hashed(data: bytes) -> str:
    h1, h2 = murmur3_128(data)
    return f"{h2 & (_MASK >> 2):016X}{h1:016X}"


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A partition key's value: *data* tells it from others, *epk* is where it lives."""

    components: tuple[Any, ...]
    data: bytes
    epk: str


@dataclass(frozen=True, slots=True)
class EpkRange:
    """Effective keys from *low* (inclusive) to *high* (exclusive), compared as text."""

    low: str
    high: str

    def holds(self, epk: str) -> bool:
        """Whether the effective key lies in the range."""
        return self.low <= epk < self.high

    def overlaps(self, other: "EpkRange") -> bool:
        """Whether the ranges share a key."""
        return self.low < other.high and other.low < self.high


WHOLE = EpkRange("", "FF")


@dataclass(frozen=True, slots=True)
class KeyDefinition:
    """The partition key of a container: the paths of its levels."""

    paths: tuple[tuple[str, ...], ...]
    hierarchical: bool

    def value(self, components: Sequence[Any]) -> KeyValue:
        """The full key or a prefix of a hierarchical one."""
        levels = [encoded(component) for component in components]
        data = b"".join(levels)
        epk = "".join(map(_hashed, levels)) if self.hierarchical else _hashed(data)
        return KeyValue(tuple(components), data, epk)

    def of_item(self, item: Any) -> KeyValue:
        """The key that the item's own values make."""
        return self.value([at_path(item, path) for path in self.paths])

    def of_header(self, header: str) -> KeyValue:
        """The full key that a request names.

        Raises:
            RefusedError: 400/1001, not as many levels as the container's key has.
        """
        value = self.value(header_components(header))
        if len(value.components) != len(self.paths):
            raise key_mismatch()
        return value

    def span(self, value: KeyValue) -> EpkRange:
        """All items of a full key, or under a prefix."""
        if len(value.components) == len(self.paths):
            return EpkRange(value.epk, value.epk + "0")
        return EpkRange(value.epk, value.epk + "FF") if value.components else WHOLE


def header_components(header: str) -> list[Any]:
    """The levels in an ``x-ms-documentdb-partitionkey`` header; ``{}`` stands for undefined.

    Raises:
        RefusedError: 400, no JSON array.
    """
    components = decode(header.encode())
    if not isinstance(components, list):
        raise bad_request(f"Partition key {header} is invalid.")
    return [UNDEFINED if component == {} else component for component in components]


def key_mismatch() -> RefusedError:
    """The key named is not the one of the definition or of the item."""
    return bad_request(
        "Partition key provided either doesn't correspond to definition in the collection or doesn't match partition"
        " key field values specified in the document.",
        substatus=PARTITION_KEY_MISMATCH,
    )
