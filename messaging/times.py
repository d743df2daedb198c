"""Times as they stand in messages and shards.

ISO 8601 in UTC with ``Z`` and milliseconds, so the order of the texts is the order of the times.
"""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Gives the present moment in UTC; tests pass their own."""


def utc_now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def to_text(moment: datetime) -> str:
    """*moment* as ``2026-11-22T19:40:00.123Z``.

    Raises:
        ValueError: *moment* has no time zone, so it names no moment.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone can't be written")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def from_text(text: str) -> datetime:
    """The moment in *text*: any ISO 8601 form with a zone, Salesforce's ``+0000`` included.

    Raises:
        ValueError: *text* is no ISO 8601 time or has no zone.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(UTC)
