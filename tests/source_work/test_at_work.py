"""A connection never takes a whole process, and one whose source fails rests while the others go on."""

from datetime import UTC, datetime, timedelta

from ingestion.at_work import FIRST_REST, LONGEST_REST, PLACES, AtWork
from messaging.contracts import SourceWork

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def work(connection_id: str, tenant_id: str = "acme") -> SourceWork:
    """A piece of work."""
    return SourceWork(tenant_id=tenant_id, connection_id=connection_id, work="read", due_at="2026-03-02T09:00:00.000Z")


def test_a_connection_has_its_share_of_a_process_and_no_more() -> None:
    at_work = AtWork()
    doing = [at_work.doing(work("slow")) for _ in range(PLACES // 2)]
    for one in doing:
        assert at_work.rests(work("slow"), NOW) is None
        one.__enter__()
    assert at_work.rests(work("slow"), NOW) is not None
    assert at_work.rests(work("slow", "other"), NOW) is None
    assert at_work.rests(work("quick"), NOW) is None
    doing[0].__exit__(None, None, None)
    assert at_work.rests(work("slow"), NOW) is None


def test_a_source_that_fails_in_a_row_rests_longer_each_time_and_alone() -> None:
    at_work = AtWork()
    rests = [at_work.failed(work("broken"), NOW, None) for _ in range(9)]
    assert rests[:3] == [FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST]
    assert rests[-1] == LONGEST_REST
    waits = at_work.rests(work("broken"), NOW)
    assert waits is not None
    assert waits >= LONGEST_REST
    assert at_work.rests(work("healthy"), NOW) is None
    assert at_work.rests(work("broken"), NOW + LONGEST_REST) is None
    at_work.worked(work("broken"))
    assert at_work.failed(work("broken"), NOW, None) == FIRST_REST


def test_a_limit_on_some_calls_stops_no_others() -> None:
    at_work = AtWork()
    assert at_work.failed(work("limited"), NOW, timedelta(seconds=60)) == timedelta(seconds=60)
    assert at_work.rests(work("limited"), NOW) is None
