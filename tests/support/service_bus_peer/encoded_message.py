"""A message as it travels, kept as bytes: the broker never changes the part that its sender wrote (AMQP 1.0, 3.2)."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self
from uuid import UUID

from service_bus_peer.amqp_values import (
    MalformedError,
    Symbol,
    decode,
    encode,
    encode_map,
    end_of,
    list_items,
    map_entries,
)

# Descriptors of the sections (AMQP 1.0, 3.2).
_HEADER, _DELIVERY_ANNOTATIONS, _ANNOTATIONS = 0x70, 0x71, 0x72
_PROPERTIES, _APPLICATION_PROPERTIES, _DATA, _VALUE = 0x73, 0x74, 0x75, 0x77
_NAMES = {
    _PROPERTIES: "properties",
    _APPLICATION_PROPERTIES: "application-properties",
    _DATA: "body",
    _VALUE: "body",
}

# What the service writes itself; a sender's own values of these are not kept.
_OF_THE_SERVICE = frozenset(
    {
        "x-opt-sequence-number",
        "x-opt-enqueue-sequence-number",
        "x-opt-enqueued-time",
        "x-opt-locked-until",
        "x-opt-message-state",
    }
)
_NO_HEADER = b"\x40" * 4
_SEQUENCE_NUMBER = encode(Symbol("x-opt-sequence-number")) + b"\x81"
_ENQUEUE_SEQUENCE_NUMBER = encode(Symbol("x-opt-enqueue-sequence-number")) + b"\x81" + bytes(8)
_ENQUEUED_TIME = encode(Symbol("x-opt-enqueued-time")) + b"\x83"
_LOCKED_UNTIL = encode(Symbol("x-opt-locked-until")) + b"\x83"
_MESSAGE_STATE = encode(Symbol("x-opt-message-state")) + b"\x71"
# The delivery annotations up to the sixteen bytes of the token.
_LOCK_TOKEN = b"\x00\x53\x71" + encode_map((encode(Symbol("x-opt-lock-token")) + encode(UUID(int=0)),))[:-16]
_SCHEDULED_ENQUEUE_TIME = "x-opt-scheduled-enqueue-time"


@dataclass(frozen=True, slots=True)
class EncodedMessage:
    """A message, cut into what the service may write and what it may not. *size* is that of the whole, in bytes."""

    message_id: str | None
    header: bytes
    annotations: tuple[bytes, ...]
    scheduled_for: int | None
    bare: bytes
    size: int

    @classmethod
    def cut(cls, data: bytes) -> Self:
        """The message in *data*.

        Raises:
            MalformedError: *data* is no AMQP message.
        """
        header, scheduled_for, message_id, bare_from = _NO_HEADER, None, None, len(data)
        kept: list[bytes] = []
        for code, start, value, _ in _sections(data):
            if code == _HEADER:
                # Durable, priority, time to live, first acquirer; the fifth, the delivery count, is the service's.
                fields = list(list_items(data, value))[:4]
                header = b"".join(fields) + _NO_HEADER[len(fields) :]
            elif code == _ANNOTATIONS:
                for key, entry in map_entries(data, value):
                    if key not in _OF_THE_SERVICE:
                        kept.append(entry)
                    if key == _SCHEDULED_ENQUEUE_TIME:
                        scheduled_for = decode(entry, end_of(entry, 0))[0]
            elif code >= _PROPERTIES:
                bare_from = min(bare_from, start)
                if code == _PROPERTIES:
                    message_id = _first_property(data, value)
        return cls(message_id, header, tuple(kept), scheduled_for, data[bare_from:], len(data))

    def delivered(
        self,
        *,
        sequence_number: int,
        enqueued_at: int,
        delivery_count: int,
        state: int,
        lock_token: UUID | None = None,
        locked_until: int | None = None,
    ) -> bytes:
        """The message as the service hands it out. Times are in milliseconds since 1970."""
        written = [
            _SEQUENCE_NUMBER + struct.pack(">q", sequence_number),
            _ENQUEUE_SEQUENCE_NUMBER,
            _ENQUEUED_TIME + struct.pack(">q", enqueued_at),
            _MESSAGE_STATE + struct.pack(">i", state),
        ]
        if locked_until is not None:
            written.append(_LOCKED_UNTIL + struct.pack(">q", locked_until))
        return b"".join(
            (
                b"\x00\x53\x70\xd0",
                struct.pack(">II", 4 + len(self.header) + 5, 5),
                self.header,
                struct.pack(">BI", 0x70, delivery_count),
                b"" if lock_token is None else _LOCK_TOKEN + lock_token.bytes,
                b"\x00\x53\x72",
                encode_map((*written, *self.annotations)),
                self.bare,
            )
        )

    def with_properties(self, added: Mapping[str, str]) -> "EncodedMessage":
        """The message with *added* among its application properties, as when it is dead-lettered."""
        before, entries, after = b"", [], b""
        for code, start, value, end in _sections(self.bare):
            if code == _PROPERTIES:
                before += self.bare[start:end]
            elif code == _APPLICATION_PROPERTIES:
                entries = [entry for key, entry in map_entries(self.bare, value) if key not in added]
            else:
                after += self.bare[start:end]
        entries += [encode(key) + encode(text) for key, text in added.items()]
        section = b"\x00\x53\x74" + encode_map(entries)
        return replace(self, bare=before + section + after)

    @property
    def body(self) -> bytes:
        """The bytes of the data sections; of a message with a value in place of them, that value as text."""
        parts = []
        for code, _, value, _ in _sections(self.bare):
            if code in (_DATA, _VALUE):
                decoded = decode(self.bare, value)[0]
                parts.append(decoded if isinstance(decoded, bytes) else str(decoded).encode())
        return b"".join(parts)

    @property
    def application_properties(self) -> dict[str, Any]:
        """What the sender, and the service when it dead-lettered the message, wrote there."""
        for code, _, value, _ in _sections(self.bare):
            if code == _APPLICATION_PROPERTIES:
                return dict(decode(self.bare, value)[0])
        return {}

    @property
    def properties(self) -> list[Any]:
        """The fields of the properties section in their order (AMQP 1.0, 3.2.4), as many as were sent."""
        for code, _, value, _ in _sections(self.bare):
            if code == _PROPERTIES:
                return list(decode(self.bare, value)[0])
        return []


def cut_batch(data: bytes) -> list[EncodedMessage]:
    """The messages in a transfer of the batched format: each data section is one of them.

    Raises:
        MalformedError: *data* is no such batch.
    """
    messages = [EncodedMessage.cut(decode(data, value)[0]) for code, _, value, _ in _sections(data) if code == _DATA]
    if not messages:
        raise MalformedError("a batch without messages")
    return messages


def sections_of(data: bytes) -> dict[str, Any]:
    """The decoded ``properties``, ``application-properties`` and ``body`` of an encoded message, those that it has.

    Raises:
        MalformedError: *data* is no AMQP message.
    """
    names = {
        _PROPERTIES: "properties",
        _APPLICATION_PROPERTIES: "application-properties",
        _DATA: "body",
        _VALUE: "body",
    }
    return {names[code]: decode(data, value)[0] for code, _, value, _ in _sections(data) if code in names}


def _sections(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Of each section: its code, where it starts, where its value starts, and where it ends."""
    start = 0
    while start < len(data):
        if data[start] != 0x00:
            raise MalformedError("a section of a message has no descriptor")
        code, value = decode(data, start + 1)
        if not isinstance(code, int) or not _HEADER <= code <= 0x78:
            raise MalformedError(f"a message has no section {code!r}")
        end = end_of(data, value)
        yield code, start, value, end
        start = end


def _first_property(data: bytes, start: int) -> str | None:
    """The message id, first of the properties at *start*, as text whatever its type."""
    first = next(list_items(data, start), None)
    message_id = None if first is None else decode(first)[0]
    return None if message_id is None else str(message_id)
