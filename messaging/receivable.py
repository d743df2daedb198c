"""Which messages of a queue in its SQLite file a receive gets next, and locking them."""

from collections import deque
from typing import Final, NamedTuple

import apsw

from messaging import dead_letters, segments
from messaging.queues import QueueProperties
from messaging.segments import MessageRange

SMALLER_EACH_TIME: Final = 4
"""By how much the batches of messages shrink with each time that they came back: of 256, then 64, 16, 4 and 1.

So work goes on though the receiver is ended again and again, and a message that ends it is alone in the end.
"""

MOVED_AT_ONCE: Final = 256
"""Rows that one receive moves at most: scheduled messages that are due, messages that are given up on."""

MAX_DELIVERY_COUNT_EXCEEDED: Final = "MaxDeliveryCountExceeded"
"""Service Bus's own reason."""


class Lock(NamedTuple):
    """A receive's lock; *locked_until* is in milliseconds since 1970, as all times here."""

    token: int
    owner: str
    locked_until: int


class Receivable(NamedTuple):
    """Whether a queue has messages never received, messages to be received again, and scheduled ones that are due."""

    unreceived: bool
    again: bool
    due: bool


def look(connection: apsw.Connection, queue: int, now: int) -> Receivable:
    """What there is to receive; locks nothing."""
    [row] = connection.execute(
        "SELECT tail > head, EXISTS (SELECT 1 FROM delivery WHERE queue = :queue AND locked_until <= :now),"
        " EXISTS (SELECT 1 FROM scheduled WHERE queue = :queue AND due_at <= :now)"
        " FROM queue WHERE id = :queue",
        {"queue": queue, "now": now},
    )
    return Receivable(*map(bool, row))


def take(
    connection: apsw.Connection,
    queue: int,
    seen: Receivable,
    *,
    properties: QueueProperties,
    max_messages: int,
    lock: Lock,
    now: int,
) -> tuple[int, int] | None:
    """Lock up to *max_messages*, within a write transaction of the caller: those to be received again come first.

    *seen* is what :func:`look` saw. Gives the first and the last number at which the ranges that *lock* now holds
    begin; None when there was nothing left to take.
    """
    if seen.due:
        _enqueue_due(connection, queue, now)
    bounds = None
    if seen.again:
        bounds = _take_again(connection, queue, properties, max_messages=max_messages, lock=lock, now=now)
    return bounds or _take_unreceived(connection, queue, max_messages, lock)


def _enqueue_due(connection: apsw.Connection, queue: int, now: int) -> None:
    """Put scheduled messages whose time has come at the end of the queue."""
    due = connection.execute(
        "SELECT id, count FROM scheduled WHERE queue = ? AND due_at <= ? ORDER BY due_at, id LIMIT ?",
        (queue, now, MOVED_AT_ONCE),
    ).fetchall()
    if not due:
        return
    first = tail = connection.execute("SELECT tail FROM queue WHERE id = ?", (queue,)).get
    for number, count in due:
        connection.execute(
            "INSERT INTO segment (queue, first, count, enqueued_at, data)"
            " SELECT queue, ?, count, due_at, data FROM scheduled WHERE id = ?",
            (tail, number),
        )
        connection.execute("DELETE FROM scheduled WHERE id = ?", (number,))
        tail += count
        if tail - first >= MOVED_AT_ONCE:
            break
    connection.execute("UPDATE queue SET tail = ? WHERE id = ?", (tail, queue))


def _take_again(
    connection: apsw.Connection, queue: int, properties: QueueProperties, *, max_messages: int, lock: Lock, now: int
) -> tuple[int, int] | None:
    """Lock free messages that were received before; their ranges' bounds. Dead-letters those that may no more.

    The oftener they came back, the fewer are taken together.
    """
    most = properties.max_delivery_count
    ranges = deque(
        MessageRange(*row)
        for row in connection.execute(
            "SELECT first, last, count FROM delivery WHERE queue = ? AND locked_until <= ? ORDER BY first LIMIT ?",
            (queue, now, max(max_messages, MOVED_AT_ONCE)),
        )
    )
    taken: list[int] = []
    room, size, given_up = max_messages, 0, 0
    while ranges and given_up < MOVED_AT_ONCE:
        held = ranges.popleft()
        if held.received >= most:
            why = MAX_DELIVERY_COUNT_EXCEEDED, f"received {held.received} times, the most that {properties.name} allows"
            dead_letters.bury(connection, queue, held, held.numbers(), why=why, now=now)
            given_up += held.size
            continue
        room = min(room, max(1, max_messages // SMALLER_EACH_TIME**held.received))
        if size + held.size <= room:
            connection.execute(
                "UPDATE delivery SET count = count + 1, token = ?, owner = ?, locked_until = ?"
                " WHERE queue = ? AND first = ?",
                (*lock, queue, held.first),
            )
            taken.append(held.first)
            size += held.size
        elif taken:
            break
        else:
            ranges.extendleft(reversed(segments.divide(connection, queue, held, room)))
    return (taken[0], taken[-1]) if taken else None


def _take_unreceived(connection: apsw.Connection, queue: int, max_messages: int, lock: Lock) -> tuple[int, int] | None:
    """Lock messages from the queue's head on; the bounds of the new range."""
    head = connection.execute("SELECT head FROM queue WHERE id = ?", (queue,)).get
    size = count = 0
    for (count,) in connection.execute(
        "SELECT count FROM segment WHERE queue = ? AND first >= ? ORDER BY first", (queue, head)
    ):
        if size + count > max_messages:
            break
        size += count
        if size == max_messages:
            break
    if not count:
        return None
    if not size:
        segments.cut(connection, queue, MessageRange(head, head + count - 1, 0), max_messages)
        size = max_messages
    connection.execute("INSERT INTO delivery VALUES (?, ?, ?, 1, ?, ?, ?)", (queue, head, head + size - 1, *lock))
    connection.execute("UPDATE queue SET head = ? WHERE id = ?", (head + size, queue))
    return head, head
