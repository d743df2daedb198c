"""The bus on one machine: queues in a SQLite file, for any number of processes on it.

The messages of a queue are numbered without gaps and kept in segments (:mod:`messaging.segments`). Those from the
queue's *head* on were never received; those before it are in ranges with their delivery count and lock. So sending,
receiving and completing a batch are each a handful of statements, however many messages it has.
"""

import itertools
import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import msgspec

from messaging import dead_letters, duplicate_window, receivable, segments
from messaging.bus import (
    LARGEST_BODY,
    BusUnavailableError,
    DeadLetter,
    Message,
    MessageTooLargeError,
    QueueDepth,
    ReceivedMessage,
    ScheduledMessage,
)
from messaging.duplicate_window import DuplicateWindow, id_bytes
from messaging.joined_sends import LARGEST_JOINED, JoinedSends
from messaging.process_identity import is_dead, process_identity
from messaging.queues import QUEUES, QueueProperties
from messaging.receivable import Lock
from messaging.segments import MessageRange, Segment
from messaging.sqlite import DataFileError, FileBusyError, SqliteFile
from messaging.times import Clock, from_milliseconds, to_milliseconds, utc_now

K = TypeVar("K")

APPLICATION_ID: Final = 0x53684C42
"""``ShLB`` in ASCII."""

SCHEMA_VERSION: Final = 1

_OWN_SCHEMA: Final = """
CREATE TABLE queue (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    head INTEGER NOT NULL DEFAULT 1,        -- the first message never received
    tail INTEGER NOT NULL DEFAULT 1,        -- the number that the next message gets
    last_entry INTEGER NOT NULL DEFAULT 0   -- the last entry in sent
) STRICT;
CREATE TABLE scheduled (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE INDEX scheduled_due ON scheduled (queue, due_at);
"""

SCHEMA: Final = _OWN_SCHEMA + dead_letters.SCHEMA + segments.SCHEMA + duplicate_window.SCHEMA

PAGE_SIZE: Final = 8_192
"""Bytes a page: a segment of 64 bodies of 1 KiB fills eight. Measured by the bus bench against 4,096 and 16,384."""

TRANSACTION_MESSAGES: Final = 1_024
TRANSACTION_BYTES: Final = 1024 * 1024
"""A larger send is several transactions, so that none keeps other writers waiting for more than some milliseconds."""

_instances = itertools.count(1)

_End = Callable[[apsw.Connection, int, MessageRange, Sequence[int]], None]
"""What becomes of some messages, in ascending order, of a range of the queue with this id."""


class SqliteMessageBus:
    """:class:`~messaging.bus.MessageBus` and :class:`~messaging.bus.QueueReceiver` on one file.

    Opening frees the locks of processes that have ended. A lock belongs to this object: closing frees what it holds.
    The file keeps the size of the largest backlog it has held, and uses the room again.

    Args:
        path: the file; made when missing.
        queues: the queues by name.
        clock: the present moment.

    Raises:
        DataFileError: the file can't be used; the message says what to do.
        FileBusyError: another process kept the file locked.
    """

    def __init__(
        self, path: Path | str, queues: Mapping[str, QueueProperties] = QUEUES, clock: Clock = utc_now
    ) -> None:
        self._queues = dict(queues)
        self._joined = {name: JoinedSends(partial(self._send_together, name)) for name in self._queues}
        self._clock = clock
        self._owner = f"{process_identity()}/{next(_instances)}"
        self._file = SqliteFile(
            path, schema=SCHEMA, version=SCHEMA_VERSION, application_id=APPLICATION_ID, page_size=PAGE_SIZE
        )
        try:
            self._ids = self._file.run_now(self._register_queues)
            self._windows = {
                name: DuplicateWindow(self._ids[name], _milliseconds_of(queue.duplicate_detection_window))
                for name, queue in self._queues.items()
            }
            self._file.run_now(self._free_dead_owners)
        except BaseException:
            self._file.close()
            raise

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        """See :meth:`messaging.bus.MessageBus.send`. Above 1,024 messages or 1 MiB it is not all or nothing."""
        if queue not in self._queues:
            raise KeyError(queue)
        for message in messages:
            if len(message.body) > LARGEST_BODY:
                raise MessageTooLargeError(queue, message.message_id, size=len(message.body), limit=LARGEST_BODY)
        with _as_unavailable():
            if delay is None and 0 < len(messages) <= LARGEST_JOINED:
                await self._joined[queue].send(messages)
                return
            for batch in segments.batches(messages, TRANSACTION_MESSAGES, TRANSACTION_BYTES):
                await self._file.run(partial(self._send, queue=queue, messages=batch, delay=delay))

    async def receive(
        self, queue: str, *, max_messages: int, lock_for: timedelta | None = None
    ) -> list[ReceivedMessage]:
        """See :meth:`messaging.bus.QueueReceiver.receive`. *lock_for* may take the place of the queue's lock duration.

        Fewer than *max_messages* may come though more wait: whole segments are taken, and messages that were received
        before don't share a batch with messages that were not. An empty list means that none could be received,
        except that a long row of messages was just dead-lettered: :meth:`waiting` tells.
        """
        if max_messages < 1:
            raise ValueError(f"max_messages is {max_messages}, and must be at least 1")
        properties = self._queues[queue]
        duration = _milliseconds_of(properties.lock_duration if lock_for is None else lock_for)
        with _as_unavailable():
            return await self._file.run(
                partial(self._receive, queue=queue, max_messages=max_messages, duration=duration),
                if_cancelled=self._hand_back,
            )

    async def complete(self, messages: Sequence[ReceivedMessage]) -> int:
        """See :meth:`messaging.bus.QueueReceiver.complete`."""
        return await self._settle(messages, segments.remove)

    async def abandon(self, messages: Sequence[ReceivedMessage]) -> int:
        """See :meth:`messaging.bus.QueueReceiver.abandon`."""
        return await self._set_lock(messages, "token = NULL, owner = NULL, locked_until = 0", {})

    async def renew(self, messages: Sequence[ReceivedMessage], *, lock_for: timedelta | None = None) -> int:
        """See :meth:`messaging.bus.QueueReceiver.renew`. *lock_for* may take the place of the queue's lock duration."""
        renewed = 0
        for queue, of_queue in _by(messages, lambda message: message.queue).items():
            duration = self._queues[queue].lock_duration if lock_for is None else lock_for
            until = self._now() + _milliseconds_of(duration)
            renewed += await self._set_lock(of_queue, "locked_until = :until", {"until": until})
        return renewed

    async def dead_letter(self, messages: Sequence[ReceivedMessage], *, reason: str, description: str) -> int:
        """See :meth:`messaging.bus.QueueReceiver.dead_letter`."""

        def bury(connection: apsw.Connection, queue: int, held: MessageRange, chosen: Sequence[int]) -> None:
            dead_letters.bury(connection, queue, held, chosen, why=(reason, description), now=self._now())

        return await self._settle(messages, bury)

    async def depths(self) -> dict[str, QueueDepth]:
        """See :meth:`messaging.bus.MessageBus.depths`. All is counted, and locked messages are told apart."""
        with _as_unavailable():
            rows = await self._file.run(
                lambda connection: _rows(
                    connection,
                    """
                    SELECT name,
                        tail - head
                        + (SELECT coalesce(sum(last - first + 1), 0) FROM delivery
                            WHERE queue = q.id AND locked_until <= :now)
                        + (SELECT coalesce(sum(count), 0) FROM scheduled WHERE queue = q.id AND due_at <= :now),
                        (SELECT coalesce(sum(last - first + 1), 0) FROM delivery
                            WHERE queue = q.id AND locked_until > :now),
                        (SELECT coalesce(sum(count), 0) FROM scheduled WHERE queue = q.id AND due_at > :now),
                        (SELECT count(*) FROM dead_letter WHERE queue = q.id),
                        (SELECT enqueued_at FROM segment WHERE queue = q.id ORDER BY first LIMIT 1)
                    FROM queue AS q
                    """,
                    {"now": self._now()},
                )
            )
        return {
            name: QueueDepth(active, locked, scheduled, dead, None if oldest is None else from_milliseconds(oldest))
            for name, active, locked, scheduled, dead, oldest in rows
            if name in self._queues
        }

    async def waiting(self) -> dict[str, int]:
        """How many messages of each queue can be received now. Reads a few pages and locks nothing: fit for polling."""
        with _as_unavailable():
            rows = await self._file.run(
                lambda connection: _rows(
                    connection,
                    """
                    SELECT name, tail - head
                        + (SELECT coalesce(sum(last - first + 1), 0) FROM delivery
                            WHERE queue = q.id AND locked_until <= :now)
                        + (SELECT coalesce(sum(count), 0) FROM scheduled WHERE queue = q.id AND due_at <= :now)
                    FROM queue AS q
                    """,
                    {"now": self._now()},
                )
            )
        return {name: count for name, count in rows if name in self._queues}

    async def scheduled(self, queue: str) -> list[ScheduledMessage]:
        """The messages of *queue* that are due later, and those due by now that nobody has received since."""
        with _as_unavailable():
            rows = await self._file.run(
                lambda connection: _rows(
                    connection,
                    "SELECT due_at, data FROM scheduled WHERE queue = ? ORDER BY due_at",
                    (self._ids[queue],),
                )
            )
        return [
            ScheduledMessage(stored.message_id, stored.properties, from_milliseconds(due_at))
            for due_at, data in rows
            for stored in segments.decode(data)
        ]

    async def dead_letters(self, queue: str, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        """See :meth:`messaging.bus.MessageBus.dead_letters`."""
        with _as_unavailable():
            return await self._file.run(
                lambda connection: dead_letters.read(connection, self._ids[queue], queue, limit=limit, after=after)
            )

    async def remove_dead_letters(self, queue: str, sequence_numbers: Sequence[int]) -> int:
        """See :meth:`messaging.bus.MessageBus.remove_dead_letters`."""
        with _as_unavailable():
            return await self._file.write(
                lambda connection: dead_letters.remove(connection, self._ids[queue], sequence_numbers)
            )

    async def release_dead_owners(self) -> int:
        """Free the locks of processes that have ended without closing; how many messages that made available."""
        with _as_unavailable():
            return await self._file.run(self._free_dead_owners)

    async def close(self) -> None:
        """Free the locks held through this object and close the file. Closing twice is harmless."""
        if self._file.closed:
            return
        try:
            with _as_unavailable():
                await self._file.write(
                    lambda connection: _rows(
                        connection,
                        "UPDATE delivery SET token = NULL, owner = NULL, locked_until = 0 WHERE owner = ?",
                        (self._owner,),
                    )
                )
        finally:
            self._file.close()

    # From here on everything runs on the file's thread.

    def _now(self) -> int:
        return to_milliseconds(self._clock())

    def _register_queues(self, connection: apsw.Connection) -> dict[str, int]:
        def known() -> dict[str, int]:
            rows = _rows(connection, "SELECT name, id FROM queue")
            return {name: number for name, number in rows if name in self._queues}

        if len(known()) < len(self._queues):
            self._file.transaction(
                lambda connection: connection.executemany(
                    "INSERT INTO queue (name) VALUES (?) ON CONFLICT DO NOTHING", [(name,) for name in self._queues]
                )
            )
        return known()

    def _free_dead_owners(self, connection: apsw.Connection) -> int:
        owners = _rows(connection, "SELECT DISTINCT owner FROM delivery WHERE owner IS NOT NULL")
        dead = [owner for (owner,) in owners if is_dead(owner.rpartition("/")[0])]

        def free(connection: apsw.Connection) -> int:
            rows = _rows(
                connection,
                "UPDATE delivery SET token = NULL, owner = NULL, locked_until = 0"
                " WHERE owner IN (SELECT value FROM json_each(?)) RETURNING last - first + 1",
                (_json(dead),),
            )
            return sum(count for (count,) in rows)

        return self._file.transaction(free) if dead else 0

    async def _send_together(self, queue: str, taken: Callable[[], Sequence[Message]]) -> None:
        await self._file.run(lambda connection: self._send(connection, queue=queue, messages=taken(), delay=None))

    def _send(
        self, connection: apsw.Connection, *, queue: str, messages: Sequence[Message], delay: timedelta | None
    ) -> None:
        queue_id, window = self._ids[queue], self._windows[queue]
        now = self._now()
        due_at = now + _milliseconds_of(delay) if delay is not None else now
        by_id: dict[bytes, Message] = {}
        for message in messages:
            by_id.setdefault(id_bytes(message.message_id), message)

        # All but the writing is done before the lock is taken, and again only if another process has sent meanwhile.
        window.learn(connection, connection.execute("SELECT last_entry FROM queue WHERE id = ?", (queue_id,)).get, now)
        fresh = window.unsent(connection, by_id, now)
        if not fresh:
            return
        packed = segments.packed(fresh.values())

        def write(connection: apsw.Connection) -> tuple[int, bytes] | None:
            nonlocal fresh, packed
            [(tail, last_entry)] = _rows(connection, "SELECT tail, last_entry FROM queue WHERE id = ?", (queue_id,))
            if last_entry != window.latest:
                window.learn(connection, last_entry, now)
                fresh = window.unsent(connection, by_id, now)
                packed = segments.packed(fresh.values())
            if not fresh:
                return None
            for count, data in packed:
                if due_at > now:
                    connection.execute(
                        "INSERT INTO scheduled (queue, due_at, count, data) VALUES (?, ?, ?, ?)",
                        (queue_id, due_at, count, data),
                    )
                else:
                    segments.append(connection, queue_id, Segment(tail, count, now, data))
                    tail += count
            entry, ids = last_entry + 1, b"".join(fresh)
            connection.execute("UPDATE queue SET tail = ?, last_entry = ? WHERE id = ?", (tail, entry, queue_id))
            window.record(connection, entry, ids, now)
            return entry, ids

        entry = self._file.transaction(write)
        if entry is not None:
            window.remember(*entry)

    def _receive(
        self, connection: apsw.Connection, *, queue: str, max_messages: int, duration: int
    ) -> list[ReceivedMessage]:
        queue_id = self._ids[queue]
        now = self._now()
        waiting = receivable.look(connection, queue_id, now)
        if not any(waiting):
            return []
        lock = Lock(secrets.randbits(62), self._owner, now + duration)
        taken = self._file.transaction(
            lambda connection: receivable.take(
                connection,
                queue_id,
                waiting,
                properties=self._queues[queue],
                max_messages=max_messages,
                lock=lock,
                now=now,
            )
        )
        if taken is None:
            return []
        # Read after the commit: the lock already keeps others off, and the bodies need not keep writers waiting. All at
        # once: a reader that goes on keeps the log from being begun anew.
        rows = _rows(
            connection,
            "SELECT s.first, s.enqueued_at, d.count, s.data FROM delivery AS d"
            " JOIN segment AS s ON s.queue = d.queue AND s.first BETWEEN d.first AND d.last"
            " WHERE d.queue = ? AND d.first BETWEEN ? AND ? AND d.token = ? ORDER BY d.first, s.first",
            (queue_id, *taken, lock.token),
        )
        token, locked_until = f"{lock.token:016x}", from_milliseconds(lock.locked_until)
        messages = []
        for first, enqueued_ms, count, data in rows:
            enqueued_at = from_milliseconds(enqueued_ms)
            messages += [
                ReceivedMessage(
                    queue,
                    number,
                    token,
                    stored.body,
                    stored.message_id,
                    stored.correlation_id,
                    stored.properties,
                    count,
                    enqueued_at,
                    locked_until,
                )
                for number, stored in enumerate(segments.decode(data), first)
            ]
        return messages

    def _hand_back(self, _connection: apsw.Connection, messages: list[ReceivedMessage]) -> None:
        """Undo a receive that nobody saw, its delivery included."""
        if not messages:
            return
        self._file.transaction(
            lambda connection: connection.execute(
                "UPDATE delivery SET count = count - 1, token = NULL, owner = NULL, locked_until = 0"
                " WHERE queue = ? AND token = ?",
                (self._ids[messages[0].queue], int(messages[0].lock_token, 16)),
            )
        )

    async def _settle(self, messages: Sequence[ReceivedMessage], end: _End) -> int:
        """Do *end* to the messages that are still under their lock; how many those are."""
        settled = 0
        with _as_unavailable():
            for (queue, token), of_lock in _by(messages, lambda message: (message.queue, message.lock_token)).items():
                numbers = sorted({message.sequence_number for message in of_lock})
                settled += await self._file.write_together(
                    partial(self._settle_lock, queue=self._ids[queue], token=int(token, 16), numbers=numbers, end=end)
                )
        return settled

    def _settle_lock(
        self, connection: apsw.Connection, *, queue: int, token: int, numbers: list[int], end: _End
    ) -> int:
        ranges = connection.execute(
            "SELECT first, last, count FROM delivery"
            " WHERE queue = ? AND first <= ? AND last >= ? AND token = ? AND locked_until > ?",
            (queue, numbers[-1], numbers[0], token, self._now()),
        ).fetchall()
        settled = 0
        for held in itertools.starmap(MessageRange, ranges):
            chosen = numbers[bisect_left(numbers, held.first) : bisect_right(numbers, held.last)]
            if chosen:
                end(connection, queue, held, chosen)
                settled += len(chosen)
        return settled

    async def _set_lock(self, messages: Sequence[ReceivedMessage], assignments: str, values: dict[str, int]) -> int:
        def assign(connection: apsw.Connection, queue: int, held: MessageRange, chosen: Sequence[int]) -> None:
            if len(chosen) < held.size:
                segments.carve(connection, queue, held, held.numbers())
            connection.execute(
                f"UPDATE delivery SET {assignments} WHERE queue = :queue"
                " AND first IN (SELECT value FROM json_each(:firsts))",
                {"queue": queue, "firsts": _json([held.first] if len(chosen) == held.size else chosen), **values},
            )

        return await self._settle(messages, assign)


def _rows(
    connection: apsw.Connection, query: str, values: Sequence[int | str] | Mapping[str, int | str] = ()
) -> list[Any]:
    """The rows of *query*, of the types that the STRICT tables vouch for."""
    return connection.execute(query, values).fetchall()


@contextmanager
def _as_unavailable() -> Iterator[None]:
    """What the file can't do just now, in the port's own words."""
    try:
        yield
    except (DataFileError, FileBusyError) as error:
        raise BusUnavailableError(str(error)) from error


def _by(messages: Iterable[ReceivedMessage], key: Callable[[ReceivedMessage], K]) -> dict[K, list[ReceivedMessage]]:
    groups: dict[K, list[ReceivedMessage]] = {}
    for message in messages:
        groups.setdefault(key(message), []).append(message)
    return groups


def _json(values: Sequence[int | str]) -> str:
    return msgspec.json.encode(values).decode()


def _milliseconds_of(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
