"""How many calls are left, by what the org says and by what Shardline has made itself."""

from datetime import UTC, datetime, timedelta

from connections.budget import RECHECK, ApiBudget, ApiUsage

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)


def budget(usage: ApiUsage | None = None, *, reserve: float = 0.1, own: float = 1.0) -> ApiBudget:
    """A budget in use."""
    return ApiBudget(usage or ApiUsage(), reserve_share=reserve, own_share=own)


def test_an_org_that_nothing_is_known_of_is_asked() -> None:
    assert budget().closed_until(NOW) is None


def test_calls_stop_at_the_reserve_and_one_is_spent_later_to_learn_the_new_count() -> None:
    one = budget()
    one.observe(899, 1000, NOW)
    assert one.closed_until(NOW) is None

    one.observe(900, 1000, NOW)

    assert one.closed_until(NOW) == NOW + RECHECK
    assert one.closed_until(NOW + RECHECK) is None


def test_the_own_share_is_over_a_rolling_day() -> None:
    one = budget(own=0.01)
    one.observe(0, 1000, NOW)
    for _ in range(10):
        assert one.closed_until(NOW) is None
        one.count_call(NOW)

    until = one.closed_until(NOW)

    assert until == datetime(2026, 11, 23, 13, tzinfo=UTC)
    assert one.closed_until(until) is None


def test_two_connections_of_one_org_add_up() -> None:
    stored = ApiUsage()
    first, second = budget(stored), budget(stored)
    for one, calls in ((first, 3), (second, 4)):
        for _ in range(calls):
            one.count_call(NOW)
    first.observe(50, 1000, NOW)
    second.observe(60, 1000, NOW + timedelta(seconds=1))

    merged = second.merge_into(first.merge_into(stored, NOW), NOW)

    assert merged.calls == {"2026-11-22T12": 7}
    assert merged.used == 60


def test_hours_of_yesterday_are_forgotten() -> None:
    one = budget(ApiUsage(calls={"2026-11-21T11": 5, "2026-11-21T12": 5}))

    assert one.merge_into(one.usage, NOW).calls == {"2026-11-21T12": 5}


def test_a_refusal_closes_until_the_org_answers_again() -> None:
    one = budget()
    one.refuse(NOW + timedelta(minutes=30))
    assert one.closed_until(NOW) == NOW + timedelta(minutes=30)

    one.observe(5, 1000, NOW)

    assert one.closed_until(NOW) is None
