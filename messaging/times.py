"""Times as they stand in messages and shards, and in the rows of tables.

The texts are ISO 8601 in UTC with ``Z`` and milliseconds, so their order is the order of the times; the numbers are
milliseconds since 1970.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Gives the present moment in UTC; tests pass their own."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


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


def to_milliseconds(moment: datetime) -> int:
    """Whole milliseconds from 1970 to *moment*, which has a time zone."""
    return (moment - _EPOCH) // _MILLISECOND


def from_milliseconds(milliseconds: int) -> datetime:
    """The moment in UTC so long after the beginning of 1970."""
    return _EPOCH + milliseconds * _MILLISECOND
