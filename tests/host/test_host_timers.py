"""Timers on the host: when they run, that they don't overlap, and what they remember."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import azure.functions as func
import pytest
from azure.functions.timer import TimerRequest

from local.host.app_index import index_app
from local.host.errors import HostError
from local.host.host_json import HostSettings
from local.host.invocation import Invoker
from local.host.timers import Timer

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


class HandClock:
    """A clock that moves only when it is told to."""

    def __init__(self, moment: datetime = START) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment

    def move(self, **by: float) -> None:
        self.moment += timedelta(**by)


def timer(
    work: Callable[[func.TimerRequest], None],
    folder: Path,
    clock: HandClock,
    *,
    schedule: str = "0 * * * * *",
    run_on_startup: bool = False,
    use_monitor: bool = True,
) -> Timer:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="timer", schedule=schedule, run_on_startup=run_on_startup, use_monitor=use_monitor)
    async def job(timer: func.TimerRequest) -> None:
        work(timer)

    [function] = index_app(app, HostSettings()).timers
    return Timer(function, Invoker(None, lambda: None), folder, lambda: None, clock=clock)


async def run_until_idle(one: Timer) -> None:
    """Run until the timer waits for a moment that the clock will not reach."""

    async def stopped(_event: asyncio.Event, _seconds: float) -> bool:
        return True

    with patch("local.host.timers._set_within", stopped):
        await one.run(asyncio.Event())


async def test_a_new_timer_waits_for_its_first_moment_and_a_restart_repeats_no_tick(tmp_path: Path) -> None:
    clock = HandClock()
    ticks: list[bool] = []
    await run_until_idle(timer(lambda request: ticks.append(request.past_due), tmp_path, clock))
    assert ticks == []
    clock.move(minutes=1)
    await run_until_idle(timer(lambda request: ticks.append(request.past_due), tmp_path, clock))
    assert ticks == [False]
    await run_until_idle(timer(lambda request: ticks.append(request.past_due), tmp_path, clock))
    assert ticks == [False]
    assert json.loads((tmp_path / "job.json").read_text())["last"] == "2026-01-01T12:01:00.000Z"


async def test_ticks_missed_while_the_host_was_down_are_served_by_one_that_is_past_due(tmp_path: Path) -> None:
    clock = HandClock()
    ticks: list[tuple[bool, str]] = []

    def work(request: func.TimerRequest) -> None:
        assert isinstance(request, TimerRequest)
        ticks.append((request.past_due, request.schedule_status["Next"]))

    await run_until_idle(timer(work, tmp_path, clock))
    clock.move(minutes=30, seconds=20)
    await run_until_idle(timer(work, tmp_path, clock))
    assert ticks == [(True, "2026-01-01T12:31:00.000Z")]


async def test_ticks_missed_while_the_function_ran_are_served_by_one_that_is_past_due(tmp_path: Path) -> None:
    clock = HandClock()
    ticks: list[tuple[bool, datetime]] = []

    def work(request: func.TimerRequest) -> None:
        ticks.append((request.past_due, clock.moment))
        if len(ticks) == 1:
            clock.move(minutes=5, seconds=30)

    one = timer(work, tmp_path, clock)
    clock.move(minutes=1)
    await run_until_idle(one)
    assert ticks == [
        (False, START + timedelta(minutes=1)),
        (True, START + timedelta(minutes=6, seconds=30)),
    ]


async def test_a_timer_never_runs_twice_at_a_time(tmp_path: Path) -> None:
    app = func.FunctionApp()
    running, most, runs = 0, 0, 0
    enough = asyncio.Event()
    clock = HandClock()

    @app.timer_trigger(arg_name="timer", schedule="* * * * * *")
    async def job(timer: func.TimerRequest) -> None:
        nonlocal running, most, runs
        running += 1
        most = max(most, running)
        clock.move(seconds=3)
        await asyncio.sleep(0.005)
        running -= 1
        runs += 1
        if runs == 10:
            enough.set()

    [function] = index_app(app, HostSettings()).timers
    one = Timer(function, Invoker(None, lambda: None), tmp_path, lambda: None, clock=clock)
    clock.move(seconds=1)
    stop = asyncio.Event()
    task = asyncio.create_task(one.run(stop))
    async with asyncio.timeout(60):
        await enough.wait()
    stop.set()
    await task
    assert most == 1


async def test_a_tick_that_raises_counts_as_served(tmp_path: Path) -> None:
    clock = HandClock()
    calls = 0

    def work(request: func.TimerRequest) -> None:
        nonlocal calls
        calls += 1
        raise ValueError("no")

    one = timer(work, tmp_path, clock)
    clock.move(minutes=1)
    await run_until_idle(one)
    await run_until_idle(timer(work, tmp_path, clock))
    assert calls == 1


async def test_run_on_startup_runs_at_every_start_beside_the_schedule(tmp_path: Path) -> None:
    clock = HandClock()
    ticks: list[bool] = []
    for _ in range(2):
        await run_until_idle(
            timer(lambda request: ticks.append(request.past_due), tmp_path, clock, run_on_startup=True)
        )
    assert ticks == [False, False]
    clock.move(minutes=1)
    await run_until_idle(timer(lambda request: ticks.append(request.past_due), tmp_path, clock, run_on_startup=True))
    assert len(ticks) == 4


async def test_without_use_monitor_nothing_is_remembered(tmp_path: Path) -> None:
    clock = HandClock()
    ticks: list[bool] = []
    await run_until_idle(timer(lambda _: ticks.append(True), tmp_path, clock, use_monitor=False))
    clock.move(hours=1)
    await run_until_idle(timer(lambda _: ticks.append(True), tmp_path, clock, use_monitor=False))
    assert ticks == []
    assert not (tmp_path / "job.json").exists()


async def test_a_clock_that_was_set_back_does_not_silence_the_timer(tmp_path: Path) -> None:
    ticks: list[bool] = []
    timer(lambda _: ticks.append(True), tmp_path, HandClock(START + timedelta(days=1)))
    clock = HandClock(START)
    one = timer(lambda _: ticks.append(True), tmp_path, clock)
    clock.move(minutes=1)
    await run_until_idle(one)
    assert ticks == [True]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"last": "yesterday"}', '{"last": 5}'])
def test_a_damaged_state_file_is_named_with_the_remedy(tmp_path: Path, content: str) -> None:
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(HostError, match=r"job\.json .*remove it"):
        timer(lambda _: None, tmp_path, HandClock())
