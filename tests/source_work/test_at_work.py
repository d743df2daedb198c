"""A connection never takes a whole process, and one whose source fails rests while the others go on."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from ingestion.at_work import FIRST_REST, LATELY, LONGEST_REST, PLACES, SLOW_AFTER, AtWork
from ingestion.ports import RUN_FOR
from messaging.contracts import SourceWork, Work

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@dataclass
class Stopwatch:
    """Seconds that pass when they are told to."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def at_work(stopwatch: Stopwatch) -> AtWork:
    return AtWork(stopwatch)


def work(connection_id: str, tenant_id: str = "acme", kind: Work = "read") -> SourceWork:
    """A piece of work."""
    return SourceWork(tenant_id=tenant_id, connection_id=connection_id, work=kind, due_at="2026-03-02T09:00:00.000Z")


def begin(at_work: AtWork, running: ExitStack, connection_id: str, tenant_id: str = "acme") -> int:
    """Begin as many pieces of a connection as it may have; how many those are."""
    begun = 0
    while at_work.rests(work(connection_id, tenant_id), NOW) is None:
        running.enter_context(at_work.doing(work(connection_id, tenant_id)))
        begun += 1
    return begun


def test_a_connection_alone_has_half_of_a_process_and_the_next_ones_less(at_work: AtWork) -> None:
    with ExitStack() as running:
        assert begin(at_work, running, "first") == PLACES // 2
        assert begin(at_work, running, "first", "other tenant") == PLACES // 3
        assert at_work.rests(work("newcomer"), NOW) is None
    with ExitStack() as running:
        assert begin(at_work, running, "first") == PLACES // 2


def test_a_source_that_keeps_a_piece_waiting_gets_no_more(at_work: AtWork, stopwatch: Stopwatch) -> None:
    with ExitStack() as running:
        running.enter_context(at_work.doing(work("hangs")))
        assert at_work.rests(work("hangs"), NOW) is None
        stopwatch.seconds += SLOW_AFTER.total_seconds() + 1
        assert at_work.rests(work("hangs"), NOW) is not None
        assert at_work.rests(work("quick"), NOW) is None
    assert at_work.rests(work("hangs"), NOW) is None


@pytest.mark.parametrize("kind", ["history", "poll", "purge"])
def test_what_is_long_when_all_is_well_keeps_nothing_that_is_pushed_waiting(
    at_work: AtWork, stopwatch: Stopwatch, kind: Work
) -> None:
    with at_work.doing(work("loads", kind=kind)):
        stopwatch.seconds += RUN_FOR.total_seconds() + SLOW_AFTER.total_seconds()
        assert at_work.rests(work("loads"), NOW) is None
        stopwatch.seconds += RUN_FOR.total_seconds()
        assert at_work.rests(work("loads"), NOW) is not None, "it hangs"


def test_what_waits_for_a_place_comes_back_one_after_the_other(at_work: AtWork) -> None:
    with ExitStack() as running:
        begin(at_work, running, "flooded")
        waits = [at_work.rests(work("flooded"), NOW) for _ in range(40_000)]
    told = [wait for wait in waits if wait is not None]
    assert len(told) == 40_000
    assert told[500:] == sorted(told[500:])
    # A piece takes a fifth of a second, so far as is known: of all that wait, few ask again within any second.
    within = [sum(second <= wait.total_seconds() < second + 1 for wait in told) for second in range(60)]
    assert max(within) <= 160
    assert max(told) <= LONGEST_REST


def test_a_source_that_fails_rests_longer_each_time_and_alone(at_work: AtWork) -> None:
    now, rests = NOW, []
    for _ in range(9):
        at_work.failed(work("broken"), now, None)
        waits = at_work.rests(work("broken"), now)
        assert waits is not None
        rests.append(waits)
        assert at_work.rests(work("healthy"), now) is None
        # What runs by the clock has a pace of its own, and finds out whether the source is well again.
        assert at_work.rests(work("broken", kind="poll"), now) is None
        now += LONGEST_REST
    for rest, least in zip(rests, (FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST), strict=False):
        assert least <= rest <= 1.5 * least
    assert LONGEST_REST <= rests[-1] <= 1.5 * LONGEST_REST
    assert at_work.rests(work("broken"), now) is None
    at_work.worked(work("broken"))
    assert at_work.failed(work("broken"), now, None) <= 1.5 * FIRST_REST


def test_pieces_that_fail_side_by_side_are_one_failure_and_the_next_try_is_one_piece(at_work: AtWork) -> None:
    for _ in range(8):
        assert at_work.failed(work("broken"), NOW, None) <= 1.5 * FIRST_REST
    later = NOW + FIRST_REST
    assert at_work.rests(work("broken"), later) is None
    with at_work.doing(work("broken")):
        assert at_work.rests(work("broken"), later) is not None
        at_work.worked(work("broken"))
        assert at_work.rests(work("broken"), later) is None


def test_a_limit_on_some_calls_stops_no_others(at_work: AtWork) -> None:
    assert at_work.failed(work("limited"), NOW, timedelta(seconds=60)) == timedelta(seconds=60)
    assert at_work.rests(work("limited"), NOW) is None


def test_a_source_that_has_answered_lately_is_not_failing_when_it_names_a_pause(
    at_work: AtWork, stopwatch: Stopwatch
) -> None:
    assert not at_work.answers_others(work("limited"))
    at_work.worked(work("limited", kind="poll"))
    at_work.failed(work("limited"), NOW, timedelta(seconds=60))
    assert at_work.answers_others(work("limited"))
    assert not at_work.is_failing(work("limited"))
    stopwatch.seconds += LATELY.total_seconds()
    assert not at_work.answers_others(work("limited"))


def test_a_source_fails_until_it_answers(at_work: AtWork) -> None:
    assert not at_work.is_failing(work("broken"))
    at_work.failed(work("broken"), NOW, None)
    assert at_work.is_failing(work("broken"))
    assert not at_work.is_failing(work("broken", "other tenant"))
    at_work.worked(work("broken", kind="poll"))
    assert not at_work.is_failing(work("broken"))
