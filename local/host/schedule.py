"""NCRONTAB schedules: when a timer is due, in UTC.

Six fields (second, minute, hour, day, month, day of week) or five (no seconds: at second 0). A moment is due when all
fields match, the day of the month *and* the day of the week, as in the NCrontab library that the Functions host uses;
classic cron would take either of the two.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from croniter import CroniterBadDateError, croniter

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTH_NAMES: Final = {
    **{name: number for number, name in enumerate(_MONTHS, 1)},
    **{
        name: number
        for number, name in enumerate(
            (
                "january",
                "february",
                "march",
                "april",
                "may",
                "june",
                "july",
                "august",
                "september",
                "october",
                "november",
                "december",
            ),
            1,
        )
    },
}
_DAY_NAMES: Final = {
    **{name: number for number, name in enumerate(_DAYS)},
    **{
        name: number
        for number, name in enumerate(("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"))
    },
}
_FIELDS: Final[tuple[tuple[str, int, int, dict[str, int]], ...]] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, _MONTH_NAMES),
    ("day of week", 0, 6, _DAY_NAMES),
)
_PART: Final = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?")


class Schedule:
    """The moments at which an NCRONTAB expression is due."""

    def __init__(self, expression: str) -> None:
        """Read *expression*.

        Raises:
            ValueError: it is no NCRONTAB expression, or it is never due; the text names the field.
        """
        self.expression = expression
        fields = expression.split()
        if len(fields) == 5:
            fields = ["0", *fields]
        if len(fields) != 6:
            raise ValueError(
                f"schedule {expression!r} has {len(fields)} fields; NCRONTAB has six: "
                "second minute hour day month day-of-week"
            )
        try:
            self.fields: tuple[tuple[int, ...], ...] = tuple(
                _values(text, *field) for text, field in zip(fields, _FIELDS, strict=True)
            )
        except ValueError as error:
            raise ValueError(f"schedule {expression!r}: {error}") from None
        # Each field goes to croniter as a plain list of numbers, so that none of its own extensions of cron applies.
        self._cron = " ".join(
            "*" if len(values) == high - low + 1 else ",".join(map(str, values))
            for values, (_, low, high, _) in zip(self.fields, _FIELDS, strict=True)
        )
        try:
            self.next_after(datetime(2024, 1, 1, tzinfo=UTC))
        except CroniterBadDateError:
            raise ValueError(f"schedule {expression!r} is never due") from None

    def next_after(self, moment: datetime) -> datetime:
        """The first due moment after *moment*."""
        return self._from(moment).get_next(datetime)

    def latest_until(self, moment: datetime) -> datetime:
        """The last due moment that is not after *moment*."""
        return self._from(moment.replace(microsecond=0) + timedelta(seconds=1)).get_prev(datetime)

    def _from(self, moment: datetime) -> "croniter":
        return croniter(
            self._cron, moment.astimezone(UTC), second_at_beginning=True, day_or=False, max_years_between_matches=40
        )


def _values(text: str, name: str, low: int, high: int, words: dict[str, int]) -> tuple[int, ...]:
    """The numbers that the field *text* stands for, in order."""
    values: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is no {name}")
        first_word, last_word, step = match.groups()
        first, last = low, high
        if first_word is not None:
            first = _number(first_word, name, low, high, words)
            # A start with a step and no end goes on to the field's greatest value.
            last = _number(last_word, name, low, high, words) if last_word else (high if step else first)
        if first > last:
            raise ValueError(f"{name} range {part!r} ends before it starts")
        if step is not None and int(step) == 0:
            raise ValueError(f"{name} {part!r} has a step of 0")
        values.update(range(first, last + 1, int(step or 1)))
    return tuple(sorted(values))


def _number(word: str, name: str, low: int, high: int, words: dict[str, int]) -> int:
    number = words.get(word.lower(), -1) if not word.isdecimal() else int(word)
    if not low <= number <= high:
        raise ValueError(f"{word!r} is no {name} ({low} to {high})")
    return number
