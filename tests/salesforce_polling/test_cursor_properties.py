"""The cursor against every timing: whatever commits when, and whenever it is polled, no version of a row is lost."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from ingestion.salesforce.cursor import (
    Cursor,
    Position,
    Sighting,
    Window,
    advance,
    begin,
    bounded,
    finish,
    id_key,
    window_start,
)
from messaging.times import to_text

LOOK_BACK = 60
SETTLE_LAG = 5
START = datetime(2026, 1, 1, tzinfo=UTC)


def text(seconds: float) -> str:
    """A moment of the source."""
    return to_text(START + timedelta(seconds=seconds))


@dataclass(frozen=True)
class Write:
    """A record written at *stamp*, seen by others from *commit* on; *content* tells its versions apart."""

    record: str
    stamp: int
    commit: int
    content: int


@dataclass(frozen=True)
class Poll:
    """A poll *gap* seconds after the last; a page takes *pace* seconds; *cut* pages in, it is ended before a save."""

    gap: int
    pace: int
    page_size: int
    cut: int | None


class Source:
    """A table as it is visible at any second."""

    def __init__(self, writes: list[Write]) -> None:
        self._writes = writes

    def rows(self, now: int) -> list[tuple[str, str, int]]:
        """(stamp, id, content) of the visible rows at *now*, in order."""
        visible: dict[str, Write] = {}
        for write in self._writes:
            if write.commit <= now:
                visible[write.record] = write
        return sorted((text(write.stamp), write.record, write.content) for write in visible.values())


class Poller:
    """Polls as :mod:`ingestion.salesforce.poll` does; what it saved outlives a cut, what it sent is kept too."""

    def __init__(self, source: Source, skew: int, ceiling: int) -> None:
        self._source = source
        self._skew = skew
        self._ceiling = ceiling
        self.cursor = Cursor()
        self.window: dict[str, str] = {}
        self.sent: list[tuple[str, str, int]] = []

    def poll(self, now: int, plan: Poll) -> int:
        """One poll; the second it ends at."""
        cursor, window = self.cursor, Window(self.window, ceiling=self._ceiling)
        look_back = timedelta(seconds=LOOK_BACK)
        pages = 0
        while True:
            if cursor.walk is None:
                began_at = text(now + self._skew)
                cursor = begin(
                    cursor, began_at=began_at, bound=text(now + self._skew - SETTLE_LAG), look_back=look_back
                )
            cursor = bounded(cursor, text(now - SETTLE_LAG)) if pages == 0 else cursor
            page = self._page(cursor, now, plan.page_size)
            now += plan.pace
            pages += 1
            fresh = []
            for stamp, record, content in page:
                digest = blake2b(f"{record} {content}".encode(), digest_size=8).digest()
                if window.sighting(id_key(record), stamp, digest) is not Sighting.SEEN:
                    self.sent.append((stamp, record, content))
                fresh.append((id_key(record), stamp, digest))
            if page:
                cursor = advance(cursor, last=Position(page[-1][0], page[-1][1]), rows=len(page))
                window.keep(fresh, window_start(cursor, look_back))
            final = len(page) < plan.page_size
            if final:
                cursor = finish(cursor, ended_at=text(now + self._skew), look_back=look_back)
                if cursor.floor is not None:
                    window.forget_to(cursor.floor.stamp)
            if plan.cut == pages:
                return now
            self.cursor, self.window = cursor, window.stored()
            if final:
                return now

    def _page(self, cursor: Cursor, now: int, size: int) -> list[tuple[str, str, int]]:
        walk = cursor.walk
        assert walk is not None
        after = walk.position or walk.after
        rows = self._source.rows(now)
        if after is not None:
            rows = [row for row in rows if (row[0], row[1]) > (after.stamp, after.id)]
        elif walk.start is not None:
            rows = [row for row in rows if row[0] >= walk.start]
        return rows[:size]


@st.composite
def histories(draw: st.DrawFn) -> list[Write]:
    """Writes of a few records; a record is locked while a transaction that wrote it is open."""
    free: dict[str, int] = {}
    writes = []
    stamp = 0
    for content in range(draw(st.integers(0, 25))):
        stamp += draw(st.sampled_from([0, 0, 0, 1, 2, 10, 50, 200]))
        record = f"r{draw(st.integers(0, 12)):02d}"
        written = max(stamp, free.get(record, 0))
        # A transaction that is open as long as the look-back has been begun within it.
        commit = written + draw(st.sampled_from([0, 0, 1, 5, 30, LOOK_BACK - 1]))
        free[record] = commit
        writes.append(Write(record, written, commit, content))
    return sorted(writes, key=lambda write: write.commit)


polls = st.builds(
    Poll,
    gap=st.sampled_from([0, 1, 3, 20, 61, 150, 400]),
    pace=st.sampled_from([0, 1, 7]),
    page_size=st.integers(1, 6),
    cut=st.one_of(st.none(), st.none(), st.integers(1, 3)),
)


@given(histories(), st.lists(polls, max_size=12), st.sampled_from([-1000, -30, 0, 4, 30, 100_000]), st.integers(2, 50))
def test_every_row_is_sent_in_its_last_version(
    history: list[Write], plans: list[Poll], skew: int, ceiling: int
) -> None:
    source = Source(history)
    poller = Poller(source, skew, ceiling)
    now = 0
    for plan in plans:
        now = poller.poll(now + plan.gap, plan)
    end = max([now, *(write.commit for write in history)]) + 1
    poller.poll(end, Poll(0, 0, 3, None))
    if poller.cursor.walk is not None:
        raise AssertionError("the last poll came to its end")
    poller.poll(end + 1, Poll(0, 0, 3, None))

    newest: dict[str, tuple[str, int]] = {}
    for stamp, record, content in poller.sent:
        newest[record] = max(newest.get(record, ("", -1)), (stamp, content))
    assert newest == {record: (stamp, content) for stamp, record, content in source.rows(end)}


@given(histories(), st.lists(polls, max_size=12))
def test_what_was_sent_is_not_sent_again_without_a_cut(history: list[Write], plans: list[Poll]) -> None:
    poller = Poller(Source(history), 0, 1000)
    now = 0
    for plan in plans:
        now = poller.poll(now + plan.gap, Poll(plan.gap, plan.pace, plan.page_size, None))

    assert len(poller.sent) == len(set(poller.sent))


@given(histories(), st.lists(polls, max_size=12))
def test_the_watermark_never_passes_now_less_the_settle_lag(history: list[Write], plans: list[Poll]) -> None:
    poller = Poller(Source(history), 0, 1000)
    now = 0
    for plan in plans:
        now = poller.poll(now + plan.gap, plan)
        assert poller.cursor.watermark is None or poller.cursor.watermark <= text(now - SETTLE_LAG)


@given(histories())
def test_the_stored_window_is_the_window(history: list[Write]) -> None:
    poller = Poller(Source(history), 0, 1000)
    poller.poll(1000, Poll(0, 0, 4, None))
    stored = poller.window

    assert Window(stored, ceiling=1000).stored() == stored
