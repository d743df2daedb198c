"""The chain with a simulated org at its way in, polled as the timer and the queue have it."""

from pathlib import Path
from typing import Any

from chain_rig import Rig, current
from polled_org import PolledOrg

from local.host.queue_pump import to_service_bus_message
from messaging.queues import SOURCE_WORK


class PollingRig(Rig):
    """A chain that polls *org*."""

    def __init__(self, org: PolledOrg, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.org = org

    async def poll(self) -> None:
        """Let the timer ask for what is due, and do it."""
        current.set(self.services)
        [poll_due] = [timer for timer in self.index.timers if timer.name == "poll_due"]
        await poll_due.call(timer=None)
        [work_on_source] = [function for function in self.index.queues if function.queue == SOURCE_WORK]
        while messages := await self.receive(SOURCE_WORK, max_messages=1):
            await work_on_source.call(to_service_bus_message(messages[0]))
            await self.bus.complete(messages)
