"""The change log of one user or of one shared drive: the newest entry of each file and drive, oldest first."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from local.gdrive.errors import invalid_value

Kind = Literal["file", "drive"]
_EMPTY_PAGES = 16
"""What a token's last digit counts: empty pages seen at its place."""

_OFFSETS = 1_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of one file or drive. *removed*: it is gone from this log; what is gone has no resource any more."""

    kind: Kind
    entry_id: str
    sequence: int
    time: datetime
    removed: bool


class ChangeLog:
    """The log of *name*, a user's address or a drive's id.

    It keeps state and not history: a second change of a file moves its entry to the end. Each log has numbers of its
    own, so that a token of one means nothing to another.
    """

    def __init__(self, name: str, base: int) -> None:
        self.name = name
        self._entries: dict[tuple[Kind, str], Entry] = {}
        self._offset = zlib.crc32(name.encode()) % _OFFSETS
        self._next = base
        self._floor = 1

    def put(self, entry: Entry) -> None:
        """Add the newest entry."""
        key = (entry.kind, entry.entry_id)
        self._entries.pop(key, None)
        self._entries[key] = entry
        self._next = max(self._next, entry.sequence + 1)

    def since(self, sequence: int, repeated: int = 0) -> list[Entry]:
        """Entries from *sequence* on, oldest first, with *repeated* older ones before them."""
        found: list[Entry] = []
        for entry in reversed(self._entries.values()):
            if entry.sequence < sequence:
                if not found or repeated <= 0:
                    break
                repeated -= 1
            found.append(entry)
        return found[::-1]

    @property
    def next_sequence(self) -> int:
        """Where the next entry will be, at the earliest."""
        return self._next

    def token(self, sequence: int, empty_pages: int = 0) -> str:
        """The page token of a place."""
        return str((sequence + self._offset) * _EMPTY_PAGES + empty_pages)

    def read_token(self, token: str) -> tuple[int, int]:
        """The place that *token* names, and how many empty pages were seen there.

        Raises:
            DriveApiError: 400 Invalid Value: it is none of this log, or lost.
        """
        if not token.isascii() or not token.isdigit() or len(token) > 20:
            raise invalid_value("pageToken")
        place, empty_pages = divmod(int(token), _EMPTY_PAGES)
        sequence = place - self._offset
        if not self._floor <= sequence <= self._next:
            raise invalid_value("pageToken")
        return sequence, empty_pages

    def lose_tokens(self) -> None:
        """Let every token given so far be unknown."""
        self._next += 1
        self._floor = self._next


def seeded(name: str, base: int, entries: Iterable[Entry]) -> ChangeLog:
    """A log that begins with *entries*."""
    log = ChangeLog(name, base)
    for entry in sorted(entries, key=lambda entry: entry.sequence):
        log.put(entry)
    return log
