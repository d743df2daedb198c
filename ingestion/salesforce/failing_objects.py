"""Objects at whose calls Salesforce fails (HTTP 500, a query that takes too long): they hold up no others.

A failure is taken for the object's own where another object of the same run can be read; several in a row before any
could be are the org's.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from connections.budget import ApiBudget
from ingestion.errors import TransientError
from messaging.times import Clock, from_text

log = logging.getLogger(__name__)

IN_A_ROW: Final = 3
"""Objects that fail, before any could be read, until no more are tried."""

PATIENCE: Final = timedelta(hours=6)
"""How long after its time a sweep or a refresh is tried again for an object that fails. Longer, and the others would
wait for their next one; a poll comes again soon by itself."""

LEFT_TO_OTHERS: Final = timedelta(seconds=15)
"""How long the others have behind one that fails, whatever it took: Salesforce gives up a query after two minutes.
That is longer than a try lasts, and each try would be that object's alone."""


class FailingObjects:
    """The objects of a run that have failed; *budget* counts the run's calls, which had better end at *deadline*."""

    def __init__(self, budget: ApiBudget, deadline: datetime | None, clock: Clock) -> None:
        self.errors: dict[str, str] = {}
        """What people have to know of each."""
        self.deadline = deadline
        """When the run has to end, put off by what failed."""
        self._budget = budget
        self._clock = clock
        self._first: TransientError | None = None
        self._any_read = False
        self._any_done = False

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """What is done within is about the object *name*.

        Raises:
            TransientError: it is not the object that fails.
        """
        made = self._budget.made
        try:
            yield
        except TransientError as error:
            self._first = self._first or error
            self.errors[name] = f"{name}: {error}; the other objects are read, and this one is tried again"
            log.warning("%s", self.errors[name])
            if self.deadline is not None:
                self.deadline = max(self.deadline, self._clock() + LEFT_TO_OTHERS)
            # A time to wait is said for all calls: nothing else can be asked meanwhile.
            if error.after is not None or (len(self.errors) >= IN_A_ROW and not self._any_read):
                raise
        else:
            # What was finished by an earlier try asks nothing, and says nothing of how the org is now.
            self._any_read = self._any_read or self._budget.made > made
            self._any_done = True

    def end(self, *, again: bool = False) -> None:
        """All objects were tried that there was time for; *again*: those that failed are to be tried once more soon.

        Raises:
            TransientError: nothing could be done, or it is to be tried again.
        """
        if self._first is not None and (again or not self._any_done):
            raise self._first


def is_tried_again(due_at: str | None, now: datetime) -> bool:
    """Whether a sweep or a refresh that was due then is still tried again for an object that fails."""
    return due_at is not None and now < from_text(due_at) + PATIENCE
