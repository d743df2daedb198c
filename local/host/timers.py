"""Timers: when each is due, what it remembers over a restart, and its runs, one at a time."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from azure.functions.timer import TimerRequest

from local.host.app_index import TimerFunction
from local.host.errors import HostError
from local.host.invocation import InvocationFailedError, Invoker
from local.host.state_files import StateFile
from messaging.times import Clock, from_text, to_text, utc_now

_log = logging.getLogger("Host.Timers")

_LATE: Final = timedelta(seconds=1)
"""A tick later than this is past due."""
_LONGEST_WAIT: Final = 30.0
"""Seconds after which a waiting timer looks at the clock again, as the clock may be set and the machine may sleep."""


class Timer:
    """Runs one function on its schedule, never twice at a time.

    A tick counts as served when its run has ended, whether it returned or raised, as on Azure; ticks that came due
    meanwhile, or while the host was down, are served by one run with ``past_due``. With ``use_monitor`` the last tick
    is remembered in *folder*. *on_progress* is called after each run.
    """

    def __init__(
        self,
        function: TimerFunction,
        invoker: Invoker,
        folder: Path,
        on_progress: Callable[[], None],
        *,
        clock: Clock = utc_now,
    ) -> None:
        self.function = function
        self._invoker = invoker
        self._file = StateFile(folder, function.name) if function.use_monitor else None
        self._on_progress = on_progress
        self._clock = clock
        self._last = self._remembered()

    def _remembered(self) -> datetime:
        """The tick after which the timer is due: the last one served, or now when there was none."""
        now = self._clock()
        if self._file is None:
            return now
        state = self._file.read()
        if state is None:
            self._remember(now)
            return now
        try:
            # A clock that was set back must not keep the timer silent until it has caught up.
            return min(from_text(state["last"]), now)
        except (KeyError, TypeError, ValueError):
            raise HostError(f"{self._file.path} names no last tick; remove it to begin anew") from None

    def _remember(self, last: datetime) -> None:
        if self._file:
            self._file.write({"last": to_text(last), "schedule": self.function.schedule.expression})

    async def run(self, stop: asyncio.Event) -> None:
        """Work until *stop* is set; a run that has begun is not interrupted by it."""
        schedule = self.function.schedule
        if self.function.run_on_startup and not stop.is_set():
            await self._tick(past_due=False)
        while True:
            due = schedule.next_after(self._last)
            while (now := self._clock()) < due:
                if await _set_within(stop, min((due - now).total_seconds(), _LONGEST_WAIT)):
                    return
            if stop.is_set():
                return
            await self._tick(past_due=now - due > _LATE)
            self._last = schedule.latest_until(now)
            await asyncio.to_thread(self._remember, self._last)

    async def _tick(self, *, past_due: bool) -> None:
        schedule = self.function.schedule
        now = self._clock()
        request = TimerRequest(
            past_due=past_due,
            schedule_status={
                "Last": to_text(self._last),
                "Next": to_text(schedule.next_after(now)),
                "LastUpdated": to_text(now),
            },
            schedule={"AdjustForDST": True},
        )
        try:
            await self._invoker.invoke(self.function, request, what=lambda: f"tick of {to_text(now)}")
        except InvocationFailedError:
            _log.debug("timer %s goes on after its failed run", self.function.name)
        self._on_progress()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
