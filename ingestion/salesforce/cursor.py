"""The keyset cursor on (SystemModstamp, Id): which rows a walk asks for, and from where the next one starts.

A row is stamped when it is written and becomes visible when its transaction commits, so rows turn up behind a cursor
that has passed them. Each walk therefore starts the look-back before the watermark and reads up to the newest row; the
watermark never passes the moment the walk began, less the settle lag. Rows that it meets again unchanged are
recognised (:class:`Window`) and not sent again.

Times are texts as :mod:`messaging.times` writes them, so they compare as times. Nothing here knows the time: callers
say it.
"""

import base64
from collections.abc import Iterable
from datetime import timedelta
from enum import Enum
from hashlib import blake2b

import msgspec

from messaging.times import from_text, to_text


class Position(msgspec.Struct, frozen=True, rename="camel"):
    """A place in the order of (SystemModstamp, Id): a row's own."""

    stamp: str
    id: str


class Walk(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A walk under way. *position* is the last row whose events the bus has; None before the first page.

    *start* is the stamp it began at, None for all rows; *bound* is as far as the watermark may go after it.
    """

    began_at: str
    bound: str
    start: str | None = None
    after: Position | None = None
    position: Position | None = None
    rows: int = 0
    pages: int = 0


class Cursor(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the polling of one object stands.

    Attributes:
        watermark: every row stamped up to here that was visible when the last walk began has been read.
        tip: the newest row ever read, and *tip_since* when the walk ended that first came to it.
        floor: nothing at or before it needs to be read again.
        walk: the walk under way, None between two.
    """

    watermark: str | None = None
    tip: Position | None = None
    tip_since: str | None = None
    floor: Position | None = None
    walk: Walk | None = None

    @property
    def is_first_load(self) -> bool:
        """Whether no walk has been finished yet that met a row."""
        return self.watermark is None


def begin(cursor: Cursor, *, began_at: str, bound: str, look_back: timedelta) -> Cursor:
    """The cursor with a walk begun. A walk that was interrupted goes on where it was."""
    if cursor.walk is not None:
        return cursor
    start: str | None = None
    after: Position | None = None
    if cursor.watermark is not None:
        start = earlier(cursor.watermark, look_back)
        if cursor.floor is not None and start <= cursor.floor.stamp:
            start, after = None, cursor.floor
    return msgspec.structs.replace(cursor, walk=Walk(began_at=began_at, bound=bound, start=start, after=after))


def rewound(cursor: Cursor, to: str) -> Cursor:
    """The cursor, between two walks, such that the next one reads all that was stamped since *to* again."""
    if cursor.watermark is None:
        return cursor
    return msgspec.structs.replace(cursor, watermark=min(cursor.watermark, to), floor=None)


def bounded(cursor: Cursor, bound: str) -> Cursor:
    """The cursor with its walk's bound at most *bound*."""
    walk = _walk(cursor)
    return msgspec.structs.replace(cursor, walk=msgspec.structs.replace(walk, bound=min(walk.bound, bound)))


def condition(walk: Walk) -> str:
    """The SOQL condition of the walk's next page; empty for the first page of all rows."""
    position = walk.position or walk.after
    if position is not None:
        return f"(SystemModstamp > {position.stamp} OR (SystemModstamp = {position.stamp} AND Id > '{position.id}'))"
    return f"SystemModstamp >= {walk.start}" if walk.start else ""


def advance(cursor: Cursor, *, last: Position, rows: int) -> Cursor:
    """The cursor after a page that ended with the row *last*, once the bus has the page's events.

    Raises:
        StuckWalkError: the page did not get ahead, so the walk would never end.
    """
    walk = _walk(cursor)
    if last == walk.position or (walk.position is not None and last.stamp < walk.position.stamp):
        raise StuckWalkError(f"the page after {walk.position} ends at {last}: the rows are not in the order asked for")
    return msgspec.structs.replace(
        cursor,
        walk=msgspec.structs.replace(walk, position=last, rows=walk.rows + rows, pages=walk.pages + 1),
    )


def finish(cursor: Cursor, *, ended_at: str, look_back: timedelta) -> Cursor:
    """The cursor after the walk's last page, which came at *ended_at*."""
    walk = _walk(cursor)
    tip, tip_since = cursor.tip, cursor.tip_since
    if walk.position is not None and (tip is None or (walk.position.stamp >= tip.stamp and walk.position != tip)):
        tip, tip_since = walk.position, ended_at
    watermark = cursor.watermark
    if tip is not None:
        reached = min(tip.stamp, walk.bound)
        watermark = reached if watermark is None else max(watermark, reached)
    return Cursor(
        watermark=watermark,
        tip=tip,
        tip_since=tip_since,
        floor=tip if walk.pages > 1 and _is_settled(walk, tip, tip_since, look_back) else cursor.floor,
    )


def window_start(cursor: Cursor, look_back: timedelta) -> str | None:
    """The oldest stamp that a later walk may meet again, seen from the walk's present place; None: any."""
    walk = _walk(cursor)
    newest = walk.position.stamp if walk.position else cursor.watermark
    if newest is None:
        return None
    reached = max(cursor.watermark or "", min(newest, walk.bound))
    return earlier(reached, look_back)


def earlier(stamp: str, span: timedelta) -> str:
    """*stamp* less *span*."""
    return to_text(from_text(stamp) - span)


class StuckWalkError(Exception):
    """A page did not bring the walk further."""


def _walk(cursor: Cursor) -> Walk:
    if cursor.walk is None:
        raise ValueError("no walk is under way")
    return cursor.walk


def _is_settled(walk: Walk, tip: Position | None, tip_since: str | None, look_back: timedelta) -> bool:
    """Whether nothing can turn up any more at or before *tip*, so that it may become the floor.

    When a walk had come to the tip, every transaction that stamped a row before it had begun; once another walk has
    begun more than the look-back later, those have all been committed and read. Only a window of many rows (a mass
    update) is given up so: since the watermark stands at it, it would cost several calls a poll for ever. A window of
    one page is read for the price of the one call that a poll costs anyway.
    """
    if tip is None or tip_since is None:
        return False
    # A tip beyond the bound says that the source's clock is ahead of ours: not settled.
    return tip.stamp <= walk.bound and to_text(from_text(tip_since) + look_back) < walk.began_at


class Sighting(Enum):
    """What a row is to what has been sent before."""

    NEW = "new"
    """Not seen, or seen with another stamp."""
    CHANGED = "changed"
    """Seen with the same stamp and another content: it was changed twice within the second that a stamp resolves."""
    SEEN = "seen"
    """Sent already, exactly so."""


_ID_BYTES = 5
_DIGEST_BYTES = 7
_ENTRY_BYTES = _ID_BYTES + _DIGEST_BYTES


class Window:
    """The rows of the look-back that have been sent, as digests.

    An entry is twelve bytes: five of a hash of the id, seven of the content's digest. Two rows that share an id hash
    (one chance in a thousand among 50,000) only push each other out and are sent again, which changes nothing.
    """

    def __init__(self, stored: dict[str, str] | None = None, *, ceiling: int) -> None:
        self._ceiling = ceiling
        self._entries: dict[bytes, tuple[str, bytes]] = {}
        for stamp, text in sorted((stored or {}).items()):
            packed = base64.b64decode(text)
            for start in range(0, len(packed), _ENTRY_BYTES):
                entry = packed[start : start + _ENTRY_BYTES]
                self._entries[entry[:_ID_BYTES]] = (stamp, entry[_ID_BYTES:])

    def __len__(self) -> int:
        return len(self._entries)

    def sighting(self, key: bytes, stamp: str, digest: bytes) -> Sighting:
        """What the row with this id hash, stamp and digest is."""
        known = self._entries.get(key)
        if known is None or known[0] != stamp:
            return Sighting.NEW
        return Sighting.SEEN if known[1] == digest[:_DIGEST_BYTES] else Sighting.CHANGED

    def keep(self, rows: Iterable[tuple[bytes, str, bytes]], start: str | None) -> None:
        """Remember *rows* (id hash, stamp, digest) stamped at or after *start*, and forget what is older.

        Above the ceiling the rows of the oldest stamps are forgotten; met again, they are sent again.
        """
        entries = self._entries
        for key, stamp, digest in rows:
            if start is None or stamp >= start:
                entries[key] = (stamp, digest[:_DIGEST_BYTES])
        if start is not None:
            entries = {key: entry for key, entry in entries.items() if entry[0] >= start}
        if len(entries) > self._ceiling:
            newest = sorted(entries.items(), key=lambda item: item[1][0])[-self._ceiling :]
            entries = dict(newest)
        self._entries = entries

    def forget_to(self, floor: str) -> None:
        """Forget rows stamped at or before *floor*, which no walk will meet again."""
        self._entries = {key: entry for key, entry in self._entries.items() if entry[0] > floor}

    def stored(self) -> dict[str, str]:
        """The window as it is stored: base64 of the entries, by stamp."""
        packed: dict[str, bytearray] = {}
        for key, (stamp, digest) in self._entries.items():
            packed.setdefault(stamp, bytearray()).extend(key + digest)
        return {stamp: base64.b64encode(entries).decode() for stamp, entries in packed.items()}


def id_key(record_id: str) -> bytes:
    """The hash of an id that :class:`Window` goes by."""
    return blake2b(record_id.encode(), digest_size=_ID_BYTES).digest()
