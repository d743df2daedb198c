"""How much of one process a connection may take: a source that hangs or fails must not hold what others wait for."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from messaging.contracts import SourceWork

MOST_AT_ONCE = 4
"""Pieces of work of one connection that run at once in a process, of the 16 that the host gives it (host.json)."""

BUSY_FOR = timedelta(seconds=1)
FIRST_REST = timedelta(seconds=5)
LONGEST_REST = timedelta(minutes=5)

_Connection = tuple[str, str]


@dataclass(slots=True)
class AtWork:
    """What a process does for each connection now, and which ones rest after failures in a row."""

    _running: Counter[_Connection] = field(default_factory=Counter)
    _failures: dict[_Connection, tuple[int, datetime]] = field(default_factory=dict)
    """Failures in a row, and until when nobody asks again."""

    def rests(self, work: SourceWork, now: datetime) -> timedelta | None:
        """How long *work* had better wait; None when it may be done now.

        Those that wait come back spread over half as much again, or they would meet again.
        """
        key = (work.tenant_id, work.connection_id)
        if self._running[key] >= MOST_AT_ONCE:
            return BUSY_FOR * random.uniform(1, 2)  # noqa: S311 - spreading
        failures = self._failures.get(key)
        if failures is not None and now < failures[1]:
            return (failures[1] - now) * random.uniform(1, 1.5)  # noqa: S311 - spreading
        return None

    @contextmanager
    def doing(self, work: SourceWork) -> Iterator[None]:
        """Count *work* while it is done."""
        key = (work.tenant_id, work.connection_id)
        self._running[key] += 1
        try:
            yield
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]

    def failed(self, work: SourceWork, now: datetime, after: timedelta | None) -> timedelta:
        """The source did not answer as it should; how long *work* waits.

        What said itself *after* how long it is to be asked again is a limit on some of its calls: the others go on.
        Otherwise the whole connection rests.
        """
        if after is not None:
            return after
        key = (work.tenant_id, work.connection_id)
        count = self._failures.get(key, (0, now))[0] + 1
        rest = min(FIRST_REST * 2.0 ** min(count - 1, 10), LONGEST_REST)
        self._failures[key] = (count, now + rest)
        return rest

    def worked(self, work: SourceWork) -> None:
        """The source answered."""
        self._failures.pop((work.tenant_id, work.connection_id), None)
