"""A queue's duplicate-detection window in its SQLite file: which messages were not sent in it yet."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, TypeVar

import apsw

from messaging.sent_ids import ID_BYTES, SentIds

T = TypeVar("T")

SCHEMA: Final = """
CREATE TABLE sent (
    queue INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    sent_at INTEGER NOT NULL,               -- milliseconds since 1970
    ids BLOB NOT NULL,                      -- 20 bytes an id, one behind the other
    PRIMARY KEY (queue, entry)
) STRICT, WITHOUT ROWID;
"""

PRUNE_EVERY: Final = 16
PRUNED_ENTRIES: Final = 64
"""Every sixteenth entry drops up to 64 that have expired: four times what comes in."""


def id_bytes(message_id: str) -> bytes:
    """20 bytes that stand for the id: those it spells, when it is a digest in lower-case hexadecimal."""
    if len(message_id) == 2 * ID_BYTES:
        try:
            spelt = bytes.fromhex(message_id)
        except ValueError:
            pass  # some other 40 characters
        else:
            if spelt.hex() == message_id:
                return spelt
    return blake2b(message_id.encode(), digest_size=ID_BYTES).digest()


class DuplicateWindow:
    """What was sent to one queue, by any process, in the last *length* milliseconds.

    Ids are appended to a log in the file, an entry a send, and looked for in memory: an index by id would dirty a page
    of the file for nearly every message.
    """

    def __init__(self, queue: int, length: int) -> None:
        self._queue = queue
        self._length = length
        self._sent = SentIds()
        self._recorded = 0

    @property
    def latest(self) -> int:
        """The number of the last entry that is known here."""
        return self._sent.latest

    def learn(self, connection: apsw.Connection, last_entry: int, now: int) -> None:
        """Take in the entries up to *last_entry* that other processes have made since the last look."""
        if last_entry <= self._sent.latest:
            return
        for entry, ids in connection.execute(
            "SELECT entry, ids FROM sent WHERE queue = ? AND entry > ? AND entry <= ? AND sent_at > ? ORDER BY entry",
            (self._queue, self._sent.latest, last_entry, now - self._length),
        ):
            self._sent.add(entry, ids)
        self._sent.latest = last_entry

    def unsent(self, connection: apsw.Connection, by_id: Mapping[bytes, T], now: int) -> dict[bytes, T]:
        """Those of *by_id* whose id stands in no known entry of the window."""
        ids = list(by_id)
        candidates = self._sent.find(ids)
        if not candidates:
            return dict(by_id)
        in_full = {
            entry: self._ids_of(connection, entry, sent_after=now - self._length) for entry in set(candidates.values())
        }
        duplicates = {ids[index] for index, entry in candidates.items() if ids[index] in in_full[entry]}
        return {digest: value for digest, value in by_id.items() if digest not in duplicates}

    def record(self, connection: apsw.Connection, entry: int, ids: bytes, now: int) -> None:
        """Write the entry; :meth:`remember` it once that is committed."""
        connection.execute("INSERT INTO sent VALUES (?, ?, ?, ?)", (self._queue, entry, now, ids))
        self._recorded += 1
        if self._recorded % PRUNE_EVERY:
            return
        connection.execute(
            "DELETE FROM sent WHERE queue = :queue AND sent_at <= :start"
            " AND entry IN (SELECT entry FROM sent WHERE queue = :queue ORDER BY entry LIMIT :limit)",
            {"queue": self._queue, "start": now - self._length, "limit": PRUNED_ENTRIES},
        )
        self._sent.forget_before(connection.execute("SELECT min(entry) FROM sent WHERE queue = ?", (self._queue,)).get)

    def remember(self, entry: int, ids: bytes) -> None:
        """The entry is in the file for good."""
        self._sent.add(entry, ids)

    def _ids_of(self, connection: apsw.Connection, entry: int, *, sent_after: int) -> frozenset[bytes]:
        ids = connection.execute(
            "SELECT ids FROM sent WHERE queue = ? AND entry = ? AND sent_at > ?", (self._queue, entry, sent_after)
        ).get
        return frozenset(ids[offset : offset + ID_BYTES] for offset in range(0, len(ids or b""), ID_BYTES))
