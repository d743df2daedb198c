"""Order does not matter: whatever order readings come in, and however often, the same one stands."""

from dataclasses import dataclass
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from shards.ordering import Decision, Reading, decide, version_key


@dataclass(frozen=True)
class History:
    """A record's readings, in the order of the source, and the order they arrive in, some of them repeated."""

    readings: list[Reading]
    arrivals: list[Reading]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Readings as sources give them: within a version a content that has gone does not come back.

    From version to version it may (A, B, A), and a version may be read with the content of the one before.
    """
    readings = []
    for version in range(draw(st.integers(1, 4))):
        contents = draw(st.lists(st.sampled_from("ABC"), min_size=1, unique=True))
        times = [draw(st.integers(1, 2)) for _ in contents]
        read = [content for content, often in zip(contents, times, strict=True) for _ in range(often)]
        for moment, content in enumerate(read):
            readings.append(Reading(f"{version + 8}", f"2026-01-01T00:{version:02d}:{moment:02d}.000Z", content))
    arrivals = draw(st.lists(st.sampled_from(readings), max_size=8)) + draw(st.permutations(readings))
    return History(readings, draw(st.permutations(arrivals)))


def settle(arrivals: list[Reading]) -> Reading:
    """What stands after the arrivals."""
    stored: Reading | None = None
    for reading in arrivals:
        if decide(stored, reading) in {Decision.APPLY, Decision.MOVE_VERSION}:
            stored = reading
    assert stored is not None
    return stored


@given(histories())
def test_any_order_and_repetition_ends_in_the_newest_reading(history: History) -> None:
    stands, newest = settle(history.arrivals), history.readings[-1]
    assert (stands.source_version, stands.fingerprint) == (newest.source_version, newest.fingerprint)


@given(histories())
def test_once_all_have_come_repeating_them_changes_nothing(history: History) -> None:
    stands = settle(history.arrivals)
    again = settle([*history.arrivals, *history.arrivals])
    assert (again.source_version, again.fingerprint) == (stands.source_version, stands.fingerprint)


@given(st.lists(st.sampled_from("ABC"), min_size=1, max_size=6), st.data())
def test_what_no_version_covers_may_come_back_in_any_order(contents: list[str], data: st.DataObject) -> None:
    readings = [
        Reading("8", f"2026-01-01T00:00:{moment:02d}.000Z", content, moves_moment=True)
        for moment, content in enumerate(contents)
    ]
    assert settle(data.draw(st.permutations(readings))) == readings[-1]


def test_the_decisions_by_name() -> None:
    stored = Reading("5", "2026-01-01T00:00:10.000Z", "A")
    for version, second, content, expected in (
        ("5", "10", "A", Decision.NOTHING),
        ("5", "11", "A", Decision.NOTHING),
        ("5", "11", "B", Decision.APPLY),
        ("5", "09", "B", Decision.IGNORE),
        ("4", "59", "B", Decision.IGNORE),
        ("6", "01", "A", Decision.MOVE_VERSION),
        ("10", "01", "B", Decision.APPLY),
    ):
        reading = Reading(version, f"2026-01-01T00:00:{second}.000Z", content)
        assert decide(stored, reading) is expected, reading
    assert decide(None, stored) is Decision.APPLY


def test_what_comes_back_within_a_version_and_arrives_early_is_put_right_by_the_next_reading() -> None:
    """The one exception: of A, B, A in one version, B stands when both A came before it, and only until then."""
    first, between, last, next_one = (
        Reading("5", f"2026-01-01T00:00:0{second}.000Z", content) for second, content in enumerate("ABAA")
    )
    for arrivals in permutations((first, between, last)):
        early = arrivals.index(between) == 2 and arrivals[0] is first
        assert settle(list(arrivals)).fingerprint == ("B" if early else "A")
        assert settle([*arrivals, next_one]).fingerprint == "A"


def test_two_readings_of_one_moment_end_the_same_in_either_order() -> None:
    one, other = (Reading("5", "2026-01-01T00:00:00.000Z", content) for content in "AB")
    assert settle([one, other]) == settle([other, one])


@given(st.integers(0), st.integers(0))
def test_integers_are_ordered_by_value(one: int, other: int) -> None:
    assert (version_key(str(one)) < version_key(str(other))) == (one < other)


@given(st.integers(0, 10**10), st.integers(0, 999_999), st.integers(0, 10**10), st.integers(0, 999_999))
def test_slack_times_are_ordered_by_time(seconds: int, micros: int, other: int, other_micros: int) -> None:
    keys = version_key(f"{seconds}.{micros:06d}"), version_key(f"{other}.{other_micros:06d}")
    assert (keys[0] < keys[1]) == ((seconds, micros) < (other, other_micros))


def test_a_record_without_a_version_is_older_than_any() -> None:
    times = ["", "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.001Z"]
    assert sorted(times, key=version_key) == times
