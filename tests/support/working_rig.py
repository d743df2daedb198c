"""The chain with source work at its way in: the timer that asks for it, the work, and all that follows from it."""

from datetime import timedelta
from typing import ClassVar

from chain_rig import Rig, current

from composition import LocalServices
from local.host.queue_pump import to_service_bus_message
from messaging.queues import INGESTION_EVENTS, INGESTION_EVENTS_BULK, SOURCE_WORK

LANES = (INGESTION_EVENTS, INGESTION_EVENTS_BULK)
POLL = timedelta(seconds=60)
"""How often the connections of these tests are polled."""


class WorkingRig(Rig):
    """A chain whose source work is done as the host does it, when a test says so."""

    gives_back: ClassVar[tuple[type[BaseException], ...]] = (BaseException,)
    """What a call raises that gives its message back at once; after all else it stays locked, as after a death."""

    async def tick(self) -> None:
        """Let the timer ask for what is due."""
        current.set(self.services)
        [poll_due] = [timer for timer in self.index.timers if timer.name == "poll_due"]
        await poll_due.call(timer=None)

    async def work(self, services: LocalServices | None = None, *, most: int = 2000) -> int:
        """Do the source work that can be received now, *most* messages; how many it was.

        What a call raises goes on; its message comes again, see :attr:`gives_back`.
        """
        current.set(services or self.services)
        [work_on_source] = [function for function in self.index.queues if function.queue == SOURCE_WORK]
        done = 0
        while done < most and (messages := await self.receive(SOURCE_WORK, max_messages=1)):
            try:
                await work_on_source.call(to_service_bus_message(messages[0]))
            except self.gives_back:
                await self.bus.abandon(messages)
                raise
            await self.bus.complete(messages)
            done += 1
        assert done < 2000, "source work that never ends"
        return done

    async def settle(self, within: timedelta = timedelta(seconds=40), services: LocalServices | None = None) -> None:
        """Do all that is asked for, and what it asks for in turn that is due *within* that time; then normalize."""
        until = self.now + within
        while True:
            done = await self.work(services)
            await self.drain(*LANES)
            depths = await self.bus.depths()
            if done or any(depths[queue].active for queue in (SOURCE_WORK, *LANES)):
                continue
            if self.now >= until or not any(depths[queue].scheduled for queue in (SOURCE_WORK, *LANES)):
                return
            self.wait(2)

    async def catch_up(self) -> None:
        """Let the next poll be due, and all that follows from it be done."""
        self.wait(POLL.total_seconds() + 1)
        await self.tick()
        await self.settle()
