"""How much of one process a connection may take: a source that hangs or fails must not hold what others wait for."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from messaging.contracts import SourceWork

PLACES = 16
"""Pieces of work that a process does at once: ``maxConcurrentCalls`` of host.json."""

SLOW_AFTER = timedelta(seconds=5)
"""A connection that takes longer over what was pushed gets no further places until that has come to its end."""
LONG_SLOW_AFTER = timedelta(seconds=45)
"""The same of polls, sweeps and first loads, which work for half a minute when all is well: what is pushed meanwhile
goes on beside them."""

BUSY_FOR = timedelta(seconds=0.5)
LONGEST_TURN = timedelta(seconds=0.5)
"""Between two pieces that wait for a place, at most: what takes longer may be on its last."""

FIRST_REST = timedelta(seconds=5)
LONGEST_REST = timedelta(minutes=5)
"""Of a connection whose source fails, and of a piece that waits for a place: nobody knows when there will be many."""

LATELY = timedelta(hours=1)
"""A source that has answered within it does answer: what it refuses for a while is above a limit of its."""

PUSHED = frozenset({"push", "read"})

_FIRST_GUESS = 0.2
"""Seconds that a piece takes, before any has been seen."""

_Connection = tuple[str, str]


@dataclass(slots=True)
class _Standing:
    """A connection in this process. *slow_from*: when each running piece has taken too long. *seconds* are those that
    what is pushed takes. *turn*: when the last that waits comes back.

    *failures* in a row, and *until* when nobody takes what is pushed. *answered*: when the source last did.
    """

    slow_from: list[float] = field(default_factory=list)
    seconds: float = _FIRST_GUESS
    turn: datetime | None = None
    failures: int = 0
    until: datetime | None = None
    answered: float | None = None


@dataclass(slots=True)
class AtWork:
    """What a process does for each connection now, and which ones rest after failures in a row."""

    monotonic: Callable[[], float] = time.monotonic
    _standings: dict[_Connection, _Standing] = field(default_factory=dict)
    _busy: int = 0
    """Connections with a piece that runs."""

    def rests(self, work: SourceWork, now: datetime, *, own_try: bool = False) -> timedelta | None:
        """How long *work* had better wait; None when it may be done now. For its *own try* it waits for a place alone.

        What waits for a place comes back when its turn is, as far as that can be told: a thousand pieces that ask
        every second would themselves be a flood.
        """
        key = (work.tenant_id, work.connection_id)
        standing = self._standings.setdefault(key, _Standing())
        if len(standing.slow_from) >= self._places(standing):
            gap = min(timedelta(seconds=standing.seconds / PLACES), LONGEST_TURN)
            soonest = now + BUSY_FOR * random.uniform(1, 2)  # noqa: S311 - spreading
            standing.turn = min(max(standing.turn + gap, soonest) if standing.turn else soonest, now + LONGEST_REST)
            return standing.turn - now
        if work.work in PUSHED and not own_try and standing.until is not None and now < standing.until:
            # Spread over half as much again, or they would meet again.
            return (standing.until - now) * random.uniform(1, 1.5)  # noqa: S311 - spreading
        return None

    def _places(self, standing: _Standing) -> int:
        """How many places a connection may have: as many as each other one at work, and as many for a newcomer.

        One that has failed is tried with one piece, and one that keeps a piece waiting gets none on top.
        """
        if standing.failures:
            return 1
        if standing.slow_from and self.monotonic() > min(standing.slow_from):
            return 1
        others = self._busy - bool(standing.slow_from)
        return max(1, PLACES // (others + 2))

    @contextmanager
    def doing(self, work: SourceWork) -> Iterator[None]:
        """Count *work* while it is done."""
        standing = self._standings.setdefault((work.tenant_id, work.connection_id), _Standing())
        is_pushed = work.work in PUSHED
        began = self.monotonic()
        slow_from = began + (SLOW_AFTER if is_pushed else LONG_SLOW_AFTER).total_seconds()
        self._busy += not standing.slow_from
        standing.slow_from.append(slow_from)
        try:
            yield
        finally:
            standing.slow_from.remove(slow_from)
            self._busy -= not standing.slow_from
            if is_pushed:
                standing.seconds += (self.monotonic() - began - standing.seconds) / 8

    def failed(self, work: SourceWork, now: datetime, after: timedelta | None) -> timedelta:
        """The source did not answer as it should; how long *work* waits.

        What said itself *after* how long it is to be asked again is a limit on some of its calls: the others go on.
        Otherwise nothing that is pushed to the connection is taken for a while. Pieces that ran side by side when it
        failed tell of one failure.
        """
        if after is not None:
            return after
        standing = self._standings.setdefault((work.tenant_id, work.connection_id), _Standing())
        if standing.until is None or now >= standing.until:
            standing.failures += 1
            standing.until = now + min(FIRST_REST * 2.0 ** min(standing.failures - 1, 10), LONGEST_REST)
        return (standing.until - now) * random.uniform(1, 1.5)  # noqa: S311 - spreading

    def is_failing(self, work: SourceWork) -> bool:
        """Whether the connection's source has failed, and not answered since."""
        standing = self._standings.get((work.tenant_id, work.connection_id))
        return standing is not None and standing.failures > 0

    def answers_others(self, work: SourceWork) -> bool:
        """Whether other work of the connection has lately been done."""
        standing = self._standings.get((work.tenant_id, work.connection_id))
        if standing is None or standing.answered is None:
            return False
        return self.monotonic() < standing.answered + LATELY.total_seconds()

    def worked(self, work: SourceWork) -> None:
        """The source answered."""
        standing = self._standings.setdefault((work.tenant_id, work.connection_id), _Standing())
        standing.failures, standing.until, standing.answered = 0, None, self.monotonic()
