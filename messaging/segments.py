"""How the messages of a queue are kept in its SQLite file, and taken apart when they meet different ends.

A segment is a row of up to 64 messages of one send, because a row costs far more than the bytes in it. Messages that
were received are in ranges of whole segments, with their delivery count and lock; a range whose messages meet
different ends is carved into segments and ranges of one message.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import apsw
import msgspec

from messaging.bus import Message, Property

SCHEMA: Final = """
CREATE TABLE segment (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    enqueued_at INTEGER NOT NULL,           -- all times in milliseconds since 1970
    data BLOB NOT NULL                      -- MessagePack: [[message id, correlation id, properties, body], …]
) STRICT;
CREATE UNIQUE INDEX segment_place ON segment (queue, first, count);
CREATE TABLE delivery (
    queue INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    count INTEGER NOT NULL,                 -- how often the messages were received
    token INTEGER,
    owner TEXT,                             -- the process that holds the lock
    locked_until INTEGER NOT NULL,          -- 0 when free
    PRIMARY KEY (queue, first)
) STRICT, WITHOUT ROWID;
"""

SEGMENT_MESSAGES: Final = 64
SEGMENT_BYTES: Final = 256 * 1024
"""A segment is closed when it has this many messages or body bytes: the smaller, the less a split receive rewrites."""


class StoredMessage(msgspec.Struct, array_like=True, gc=False):
    """A message as it stands in a segment."""

    message_id: str
    correlation_id: str | None
    properties: dict[str, Property]
    body: bytes


class MessageRange(NamedTuple):
    """Messages *first* to *last* of a queue, received together, *received* times."""

    first: int
    last: int
    received: int

    @property
    def size(self) -> int:
        """How many messages."""
        return self.last - self.first + 1

    def numbers(self) -> range:
        """Their sequence numbers."""
        return range(self.first, self.last + 1)


class Segment(NamedTuple):
    """Some messages, the first with sequence number *first*; *enqueued_at* in milliseconds since 1970."""

    first: int
    size: int
    enqueued_at: int
    data: bytes

    def messages(self) -> Iterator[tuple[int, StoredMessage]]:
        """Each message with its sequence number."""
        return enumerate(decode(self.data), self.first)


encode = msgspec.msgpack.Encoder().encode
"""The data of a segment of these messages."""

decode = msgspec.msgpack.Decoder(list[StoredMessage]).decode
"""The messages in a segment's data."""


def batches(messages: Iterable[Message], most: int, most_bytes: int) -> Iterator[list[Message]]:
    """*messages* in lists of at most *most* messages and *most_bytes* body bytes (or one larger message)."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        length = len(message.body)
        if batch and (len(batch) == most or size + length > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch


def packed(messages: Iterable[Message]) -> list[tuple[int, bytes]]:
    """The messages as segments that have no place yet: how many, and the data."""
    return [
        (
            len(batch),
            encode(
                [
                    (message.message_id, message.correlation_id, dict(message.properties), message.body)
                    for message in batch
                ]
            ),
        )
        for batch in batches(messages, SEGMENT_MESSAGES, SEGMENT_BYTES)
    ]


def append(connection: apsw.Connection, queue: int, segment: Segment) -> None:
    """Put the segment in its place."""
    connection.execute(
        "INSERT INTO segment (queue, first, count, enqueued_at, data) VALUES (?, ?, ?, ?, ?)", (queue, *segment)
    )


def read(connection: apsw.Connection, queue: int, held: MessageRange) -> list[Segment]:
    """The segments of the range, in order."""
    rows = connection.execute(
        "SELECT first, count, enqueued_at, data FROM segment WHERE queue = ? AND first BETWEEN ? AND ? ORDER BY first",
        (queue, held.first, held.last),
    )
    return [Segment(*row) for row in rows]


def cut(
    connection: apsw.Connection, queue: int, held: MessageRange, largest: int, kept: Sequence[int] | None = None
) -> list[tuple[int, int]]:
    """Rewrite the segments of the range to ones of at most *largest* messages; the first and last number of each.

    With *kept*, only the messages with these numbers stay; *largest* is 1 then.
    """
    wanted = None if kept is None else set(kept)
    segments = read(connection, queue, held)
    _delete_segments(connection, queue, held)
    bounds = []
    for segment in segments:
        messages = decode(segment.data)
        for offset in range(0, len(messages), largest):
            part = messages[offset : offset + largest]
            first = segment.first + offset
            if wanted is None or first in wanted:
                append(connection, queue, Segment(first, len(part), segment.enqueued_at, encode(part)))
                bounds.append((first, first + len(part) - 1))
    return bounds


def divide(connection: apsw.Connection, queue: int, held: MessageRange, largest: int) -> list[MessageRange]:
    """Make of one range several, each of at most *largest* messages, under the same lock."""
    bounds = cut(connection, queue, held, largest)
    _replace_range(connection, queue, held, bounds)
    return [MessageRange(first, last, held.received) for first, last in bounds]


def carve(connection: apsw.Connection, queue: int, held: MessageRange, kept: Sequence[int]) -> None:
    """Leave only *kept* of the range, each in a range of its own under the same lock."""
    _replace_range(connection, queue, held, cut(connection, queue, held, 1, kept))


def remove(connection: apsw.Connection, queue: int, held: MessageRange, chosen: Sequence[int]) -> None:
    """Delete *chosen*, some or all of the range."""
    if len(chosen) < held.size:
        gone = set(chosen)
        carve(connection, queue, held, [number for number in held.numbers() if number not in gone])
    else:
        _delete_segments(connection, queue, held)
        connection.execute("DELETE FROM delivery WHERE queue = ? AND first = ?", (queue, held.first))


def _delete_segments(connection: apsw.Connection, queue: int, held: MessageRange) -> None:
    connection.execute("DELETE FROM segment WHERE queue = ? AND first BETWEEN ? AND ?", (queue, held.first, held.last))


def _replace_range(
    connection: apsw.Connection, queue: int, held: MessageRange, bounds: Sequence[tuple[int, int]]
) -> None:
    [lock] = connection.execute(
        "DELETE FROM delivery WHERE queue = ? AND first = ? RETURNING token, owner, locked_until", (queue, held.first)
    ).fetchall()
    connection.executemany(
        "INSERT INTO delivery VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(queue, first, last, held.received, *lock) for first, last in bounds],
    )
