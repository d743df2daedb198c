"""What became of a message: every message has an end that someone can see."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Done:
    """It is processed; nothing more will come of it."""


class Cause(StrEnum):
    """What kept a message from its end; the value is the property of its copies that counts how often this did.

    Each is counted by itself: only failures use up the tries a message has.
    """

    FAILURE = "attempt"
    OUTAGE = "outages"
    SOURCE = "sourceFailures"
    """The source that is to be asked fails: :mod:`ingestion.work` says how often that may be."""
    POSTPONEMENT = "postponements"
    """Nothing went wrong: others were first, or there is more to do than there was time."""


@dataclass(frozen=True, slots=True)
class Later:
    """It can't be processed now; a copy comes back after *delay*, for *reason*."""

    delay: timedelta
    reason: str
    cause: Cause = Cause.POSTPONEMENT


@dataclass(frozen=True, slots=True)
class Park:
    """It can't be processed as it is and is kept for people.

    *reason* is a stable word; *detail* names what was wrong, where, and what to do.
    """

    reason: str
    detail: str


Outcome = Done | Later | Park

DONE = Done()


class PermanentError(Exception):
    """A message that no retry will help; it is parked under *reason*."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
