"""What the incoming bytes say and proton keeps to itself: the message format of each transfer."""

import struct
from collections import deque

from service_bus_peer.amqp_values import decode, list_items

BATCHED_FORMAT = 0x80013700
"""A transfer of several messages, each in a data section of its own (Microsoft's format)."""

_ATTACH, _TRANSFER = 0x12, 0x14
_AMQP_FRAME = 0


class IncomingFrames:
    """Reads along with proton and remembers, by link, the formats of the transfers that have begun."""

    def __init__(self) -> None:
        self._unread = b""
        self._names: dict[tuple[int, int], str] = {}
        self._formats: dict[str, deque[int]] = {}
        self._unfinished: set[tuple[int, int]] = set()

    def feed(self, data: bytes) -> None:
        """Read *data*, which follows what was fed before; frames may begin and end anywhere in it."""
        data = self._unread + data if self._unread else data
        at = 0
        while len(data) - at >= 8:
            if data[at : at + 4] == b"AMQP":
                at += 8
                continue
            size, offset, kind, channel = struct.unpack_from(">IBBH", data, at)
            if len(data) - at < size:
                break
            if kind == _AMQP_FRAME and size > 4 * offset:
                self._read(data, at + 4 * offset, channel)
            at += max(size, 8)
        self._unread = data[at:]

    def format_of_next(self, link_name: str) -> int:
        """The format of the oldest transfer on the link that has not been asked for; 0 is AMQP's own."""
        return self._formats[link_name].popleft()

    def _read(self, data: bytes, start: int, channel: int) -> None:
        code, fields = decode(data, start + 1)
        if code == _ATTACH:
            items = list_items(data, fields)
            name, handle = (decode(next(items))[0] for _ in range(2))
            self._names[channel, handle] = name
            self._formats[name] = deque()
            self._unfinished.discard((channel, handle))
        elif code == _TRANSFER:
            items = list_items(data, fields)
            handle, _, _, message_format, _, more = (decode(next(items, b"\x40"))[0] for _ in range(6))
            # Only the first frame of a transfer in several must tell the format.
            if (channel, handle) not in self._unfinished:
                self._formats[self._names[channel, handle]].append(message_format or 0)
            if more:
                self._unfinished.add((channel, handle))
            else:
                self._unfinished.discard((channel, handle))
