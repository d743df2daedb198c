"""A worker: the queues, timers and change feeds of the app in one loop, as a process or inside another."""

import argparse
import asyncio
import fcntl
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from local.host.app_index import AppIndex
from local.host.change_feed import ChangeFeed, FeedFollower
from local.host.child import DEFAULT_GRACE, ChildProcess, add_child_arguments, run_child
from local.host.errors import HostError
from local.host.interpreter import settle_interpreter
from local.host.invocation import Invoker
from local.host.queue_pump import HostedBus, QueuePump
from local.host.services import HostedServices
from local.host.timers import Timer

_log = logging.getLogger("Host.Worker")

_LOCK_WAIT: Final = 40.0


class Worker:
    """Everything of an app that is not HTTP.

    *only_queues*: leave timers and change feeds to another worker, as each of them runs in one process alone.
    *recycle* is called when a thread of a function can't be ended in time; by default the worker stops.
    """

    def __init__(
        self,
        index: AppIndex,
        bus: HostedBus,
        feed: ChangeFeed,
        state_dir: Path,
        *,
        only_queues: bool = False,
        grace: timedelta = DEFAULT_GRACE,
        recycle: Callable[[], None] | None = None,
    ) -> None:
        self._index = index
        self._bus = bus
        self._feed = feed
        self._state_dir = state_dir
        self._only_queues = only_queues
        self._grace = grace
        self._stop = asyncio.Event()
        self._recycle = recycle or self._stop.set
        self._invoker = Invoker(index.settings.function_timeout, self._recycle)
        self._pumps = [
            QueuePump(function, bus, self._invoker, index.settings, self._wake_all) for function in index.queues
        ]
        self._followers: list[FeedFollower] = []

    @property
    def running(self) -> int:
        """How many invocations run now."""
        return self._invoker.running

    @property
    def threads_running(self) -> int:
        """How many threads run a function now: after :meth:`run`, those that can't be ended."""
        return self._invoker.threads_running

    def wake(self, queue: str) -> None:
        """Look at *queue* now: this process has sent to it. Call it from the worker's loop."""
        for pump in self._pumps:
            if pump.function.queue == queue:
                pump.wake()

    def _wake_all(self) -> None:
        for pump in self._pumps:
            pump.wake()
        for follower in self._followers:
            follower.wake()

    async def run(self, stop: asyncio.Event, *, on_ready: Callable[[], None] | None = None) -> None:
        """Work until *stop*; what runs then may end within the grace period, what does not is given back.

        Raises:
            HostError: a function names a queue that does not exist, what a trigger remembers can't be read, or another
                process holds the timers and feeds of this state folder.
        """
        settle_interpreter()
        missing = {pump.function.queue for pump in self._pumps} - set(await self._bus.depths() if self._pumps else ())
        if missing:
            names = ", ".join(f.name for f in self._index.queues if f.queue in missing)
            raise HostError(f"queue {', '.join(sorted(missing))} of function {names} does not exist")
        for note in self._index.notes:
            _log.warning("%s", note)
        if self._only_queues:
            await self._run(stop, [], on_ready)
            return
        self._state_dir.mkdir(parents=True, exist_ok=True)
        async with _sole_owner(self._state_dir):
            timers = [
                Timer(function, self._invoker, self._state_dir / "timers", self._wake_all)
                for function in self._index.timers
            ]
            self._followers = [
                FeedFollower(function, self._feed, self._invoker, self._state_dir / "feeds", self._wake_all)
                for function in self._index.feeds
            ]
            await self._run(stop, timers, on_ready)

    async def _run(self, stop: asyncio.Event, timers: list[Timer], on_ready: Callable[[], None] | None) -> None:
        work = {
            asyncio.create_task(runner, name=name)
            for name, runner in [
                *((f"queue {pump.function.queue}", pump.run()) for pump in self._pumps),
                *((f"timer {timer.function.name}", timer.run(self._stop)) for timer in timers),
                *((f"feed {follower.function.name}", follower.run()) for follower in self._followers),
            ]
        }
        stops = {asyncio.create_task(stop.wait()), asyncio.create_task(self._stop.wait())}
        _log.info(
            "running %d queue functions, %d timers, %d change feeds",
            len(self._pumps),
            len(timers),
            len(self._followers),
        )
        if on_ready is not None:
            on_ready()
        try:
            done, _ = await asyncio.wait({*work, *stops}, return_when=asyncio.FIRST_COMPLETED)
            if broken := done & work:
                # None of them ends before it is asked to; a defect of the host must not pass for a quiet queue.
                for task in broken:
                    _log.critical("%s has ended by itself", task.get_name())
                    task.result()
                raise RuntimeError("a trigger has ended by itself")
        finally:
            self._stop.set()
            for task in stops:
                task.cancel()
            for pump in self._pumps:
                pump.stop()
            for follower in self._followers:
                follower.stop()
            if work:
                _, late = await asyncio.wait(work, timeout=self._grace.total_seconds())
                for task in late:
                    _log.warning("%s did not end within %g s", task.get_name(), self._grace.total_seconds())
                    task.cancel()
                await asyncio.gather(*work, return_exceptions=True)
            self._invoker.close()


async def run_worker(
    index: AppIndex,
    bus: HostedBus,
    feed: ChangeFeed,
    state_dir: Path,
    stop: asyncio.Event,
    *,
    only_queues: bool = False,
    grace: timedelta = DEFAULT_GRACE,
) -> None:
    """Run the queues, timers and feeds of *index* in this loop until *stop*; see :meth:`Worker.run`."""
    await Worker(index, bus, feed, state_dir, only_queues=only_queues, grace=grace).run(stop)


@asynccontextmanager
async def _sole_owner(state_dir: Path) -> AsyncIterator[None]:
    """Hold the timers and feeds of *state_dir*, which a host that was killed may still hold for a moment."""
    until = asyncio.get_running_loop().time() + _LOCK_WAIT
    with (state_dir / "worker.lock").open("ab") as lock:
        while True:
            try:
                # The kernel lets go of it when the process ends, however it ends.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if asyncio.get_running_loop().time() > until:
                    raise HostError(f"another process runs the timers of {state_dir}; stop it first") from None
            await asyncio.sleep(0.05)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """A worker as a process of its own, as the supervisor starts it."""
    parser = argparse.ArgumentParser(prog="python -m local.host.worker", description=main.__doc__)
    add_child_arguments(parser)
    parser.add_argument("--state-dir", type=Path, required=True, help="where timers and feeds keep what they remember")
    parser.add_argument("--only-queues", action="store_true", help="leave timers and feeds to another worker")
    options = parser.parse_args(arguments)

    async def work(child: ChildProcess, index: AppIndex, services: HostedServices) -> None:
        worker = Worker(
            index,
            services.queues,
            services.store,
            options.state_dir,
            only_queues=options.only_queues,
            grace=options.grace,
            recycle=child.ask_to_recycle,
        )
        try:
            await worker.run(child.stop, on_ready=child.ready)
        finally:
            child.threads_running = worker.threads_running

    return run_child(options, work)


if __name__ == "__main__":
    main()
