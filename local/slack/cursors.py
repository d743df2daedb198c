"""Pages: cursors as Slack makes them (base64, short-lived), and pages that are shorter than asked for, or empty."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from local.slack.errors import ApiError

LIFETIME = timedelta(hours=1)
_MOST_KEPT = 50_000
_EMPTY_WAS_SENT = "+"
_END = "$"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """*items* of a page, and the cursor of the next; empty at the end."""

    items: Sequence[T]
    next_cursor: str


@dataclass(frozen=True, slots=True)
class Walk(Generic[T]):
    """What a cursor is good for: *name* is the method and what it was asked of.

    *place* is where an item stands, for the cursor, which begins with *prefix*; *reached* says whether the first place
    is as far on as the second, so that a walk goes on where an item has gone.
    """

    name: str
    prefix: str
    place: Callable[[T], str]
    reached: Callable[[str, str], bool]


class Cursors:
    """The cursors that were given out.

    *short_pages* sends an empty page before each other one, each of these half as long as asked for, and one more empty
    page at the end; all of that is legal. *page_cap* makes pages shorter than asked for.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.lifetime = LIFETIME
        self.short_pages = False
        self.page_cap = 1000
        self._clock = clock
        self._given: dict[tuple[str, str], datetime] = {}

    def expire(self) -> None:
        """Let every cursor die."""
        self._given.clear()

    def page(self, walk: Walk[T], items: Sequence[T], cursor: str, limit: int) -> Page[T]:
        """A page of *items*, which are in the order of the walk.

        Raises:
            ApiError: ``invalid_cursor``: it is another walk's, or dead.
        """
        start, mark = self._read(walk, cursor) if cursor else ("", "")
        if mark == _END:
            return Page((), "")
        first = 0
        while start and first < len(items) and not walk.reached(walk.place(items[first]), start):
            first += 1
        if self.short_pages and mark != _EMPTY_WAS_SENT and first < len(items):
            return Page((), self._give(walk, walk.place(items[first]) + _EMPTY_WAS_SENT))
        size = min(limit, self.page_cap)
        if self.short_pages:
            size = max(1, size // 2)
        last = first + size
        if last < len(items):
            return Page(items[first:last], self._give(walk, walk.place(items[last])))
        return Page(items[first:last], self._give(walk, _END) if self.short_pages and items else "")

    def _give(self, walk: Walk[T], text: str) -> str:
        cursor = base64.b64encode(f"{walk.prefix}:{text}".encode()).decode()
        if len(self._given) >= _MOST_KEPT:
            self._given.pop(next(iter(self._given)))
        self._given[walk.name, cursor] = self._clock()
        return cursor

    def _read(self, walk: Walk[T], cursor: str) -> tuple[str, str]:
        given = self._given.get((walk.name, cursor))
        if given is None or self._clock() - given >= self.lifetime:
            raise ApiError("invalid_cursor")
        try:
            text = base64.b64decode(cursor, validate=True).decode().removeprefix(f"{walk.prefix}:")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ApiError("invalid_cursor") from error
        for mark in (_EMPTY_WAS_SENT, _END):
            if text.endswith(mark):
                return text.removesuffix(mark), mark
        return text, ""
