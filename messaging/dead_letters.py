"""The dead letters of the bus's queues in its SQLite file: each a row, under the number it had in its queue."""

from collections.abc import Sequence
from typing import Final

import apsw
import msgspec

from messaging import segments
from messaging.bus import DeadLetter
from messaging.segments import MessageRange
from messaging.times import from_milliseconds

SCHEMA: Final = """
CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    delivery_count INTEGER NOT NULL,
    enqueued_at INTEGER NOT NULL,
    dead_lettered_at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    description TEXT NOT NULL,
    data BLOB NOT NULL                      -- as a segment's, of one message
) STRICT;
CREATE UNIQUE INDEX dead_letter_place ON dead_letter (queue, sequence);
"""


def bury(
    connection: apsw.Connection,
    queue: int,
    held: MessageRange,
    chosen: Sequence[int],
    *,
    why: tuple[str, str],
    now: int,
) -> None:
    """Move *chosen*, some or all of the range, to the dead letters; *why* is the reason and its description.

    *now* is in milliseconds since 1970.
    """
    wanted = set(chosen)
    connection.executemany(
        "INSERT INTO dead_letter"
        " (queue, sequence, delivery_count, enqueued_at, dead_lettered_at, reason, description, data)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (queue, number, held.received, segment.enqueued_at, now, *why, segments.encode([stored]))
            for segment in segments.read(connection, queue, held)
            for number, stored in segment.messages()
            if number in wanted
        ],
    )
    segments.remove(connection, queue, held, chosen)


def read(connection: apsw.Connection, queue: int, name: str, *, limit: int, after: int) -> list[DeadLetter]:
    """The dead letters of the queue called *name*, by their numbers, from the first above *after* on."""
    letters = []
    for sequence, delivery_count, enqueued_at, dead_lettered_at, reason, description, data in connection.execute(
        "SELECT sequence, delivery_count, enqueued_at, dead_lettered_at, reason, description, data"
        " FROM dead_letter WHERE queue = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        (queue, after, limit),
    ):
        [message] = segments.decode(data)
        letters.append(
            DeadLetter(
                queue=name,
                sequence_number=sequence,
                body=message.body,
                message_id=message.message_id,
                correlation_id=message.correlation_id,
                properties=message.properties,
                delivery_count=delivery_count,
                enqueued_at=from_milliseconds(enqueued_at),
                dead_lettered_at=from_milliseconds(dead_lettered_at),
                reason=reason,
                description=description,
            )
        )
    return letters


def remove(connection: apsw.Connection, queue: int, numbers: Sequence[int]) -> int:
    """Remove the dead letters with these numbers; how many there were."""
    removed = connection.execute(
        "DELETE FROM dead_letter WHERE queue = ? AND sequence IN (SELECT value FROM json_each(?)) RETURNING sequence",
        (queue, msgspec.json.encode(numbers).decode()),
    )
    return len(removed.fetchall())
