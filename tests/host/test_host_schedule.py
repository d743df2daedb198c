"""When an NCRONTAB schedule is due."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.host.schedule import Schedule


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 */5 * * * *", "2026-01-01T00:02:30", "2026-01-01T00:05:00"),
        ("*/10 * * * * *", "2026-01-01T00:00:05", "2026-01-01T00:00:10"),
        ("*/10 * * * * *", "2026-01-01T00:00:50", "2026-01-01T00:01:00"),
        ("5/20 * * * * *", "2026-01-01T00:00:06", "2026-01-01T00:00:25"),
        ("15,45 30 * * * *", "2026-01-01T00:30:15", "2026-01-01T00:30:45"),
        ("0 0 9-17/4 * * *", "2026-01-01T13:00:00", "2026-01-01T17:00:00"),
        ("0 0 0 1 Jan *", "2026-01-01T00:00:00", "2027-01-01T00:00:00"),
        ("0 0 0 * february,MARCH *", "2026-01-15T00:00:00", "2026-02-01T00:00:00"),
        ("0 30 9 * * Mon-Fri", "2026-01-02T09:30:00", "2026-01-05T09:30:00"),
        ("0 30 9 * * sunday", "2026-01-01T00:00:00", "2026-01-04T09:30:00"),
        ("0 0 12 29 2 *", "2026-01-01T00:00:00", "2028-02-29T12:00:00"),
        ("*/15 * * * *", "2026-01-01T00:01:00", "2026-01-01T00:15:00"),
        # The day of the month and the day of the week must both match: the next Friday the 13th of 2026.
        ("0 0 0 13 * 5", "2026-01-01T00:00:00", "2026-02-13T00:00:00"),
    ],
)
def test_the_next_due_moment(expression: str, after: str, expected: str) -> None:
    assert Schedule(expression).next_after(at(after)) == at(expected)


def test_a_moment_in_another_zone_is_taken_as_the_moment_it_is() -> None:
    assert Schedule("0 0 12 * * *").next_after(datetime.fromisoformat("2026-01-01T12:30:00+02:00")) == at(
        "2026-01-01T12:00:00"
    )


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("bad", "has 1 fields"),
        ("00:05:00", "has 1 fields"),
        ("0 0 0 0 0 0 0", "has 7 fields"),
        ("60 * * * * *", "'60' is no second"),
        ("0 0 24 * * *", "'24' is no hour"),
        ("0 0 0 0 * *", "'0' is no day"),
        ("0 0 0 * 13 *", "'13' is no month"),
        ("0 0 0 * * 7", "'7' is no day of week"),
        ("0 0 0 * Janvier *", "'Janvier' is no month"),
        ("0 0 0 * * L", "'L' is no day of week"),
        ("0 0 0 ? * *", "'\\?' is no day"),
        ("0 30-10 * * * *", "ends before it starts"),
        ("*/0 * * * * *", "step of 0"),
        ("0 0 0 31 2 *", "never due"),
    ],
)
def test_a_bad_expression_names_what_is_wrong(expression: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Schedule(expression)


def parts(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    step = st.sampled_from(["", "/2", "/7", "/15"])
    span = st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}")
    one = st.one_of(number.map(str), st.builds(lambda a, b: a + b, st.one_of(st.just("*"), span), step))
    return st.lists(one, min_size=1, max_size=3).map(",".join)


def naive_values(text: str, low: int, high: int) -> set[int]:
    values: set[int] = set()
    for part in text.split(","):
        base, _, step = part.partition("/")
        first, _, last = base.partition("-")
        begin = low if first == "*" else int(first)
        end = high if first == "*" else int(last or first)
        values |= {
            value for value in range(low, high + 1) if begin <= value <= end and (value - begin) % int(step or 1) == 0
        }
    return values


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(parts(0, 59), parts(0, 59), parts(0, 23), parts(1, 28), parts(1, 12), parts(0, 6)),
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC)),
)
def test_the_next_moment_matches_every_field_and_none_before_it_does(fields: tuple[str, ...], start: datetime) -> None:
    schedule = Schedule(" ".join(fields))
    found = schedule.next_after(start)
    bounds = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]
    seconds, minutes, hours, days, months, weekdays = (
        naive_values(text, *bound) for text, bound in zip(fields, bounds, strict=True)
    )

    def matches_day(moment: datetime) -> bool:
        return moment.day in days and moment.month in months and moment.isoweekday() % 7 in weekdays

    expected = (start + timedelta(seconds=1)).replace(microsecond=0)
    while not matches_day(expected):
        expected = expected.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    of_day = [
        moment
        for hour in sorted(hours)
        for minute in sorted(minutes)
        for second in sorted(seconds)
        if (moment := expected.replace(hour=hour, minute=minute, second=second)) >= expected
    ]
    while not of_day:
        expected = expected.replace(hour=0, minute=0, second=0) + timedelta(days=1)
        if matches_day(expected):
            of_day = [expected.replace(hour=min(hours), minute=min(minutes), second=min(seconds))]
    assert found == of_day[0]
    assert schedule.latest_until(found) == found
    assert schedule.latest_until(found + timedelta(milliseconds=999)) == found
    assert schedule.latest_until(found - timedelta(milliseconds=1)) < found
