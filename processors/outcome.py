"""What became of a message: every message has an end that someone can see."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Done:
    """It is processed; nothing more will come of it."""


@dataclass(frozen=True, slots=True)
class Later:
    """It can't be processed now; a copy comes back after *delay*, for *reason*."""

    delay: timedelta
    reason: str


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
