"""The home on Azure, whole, on this machine: the app in Microsoft's worker, with a peer for each service.

Service Bus and Cosmos DB are peers that the real SDKs talk to, the blobs are in Azurite. A test sees all of it through
the same ports as the app, in its own process.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from azurite import Azurite
from cosmos_peer.peer import CosmosPeer, CosmosPeerProcess
from cosmos_peer.peer import PeerHandle as CosmosPeerHandle
from functions_host.environment import ROOT, worker_python
from functions_host.host import FunctionsHost, Instance
from node_process import require_node_peers
from service_bus_peer.peer import PeerHandle as ServiceBusPeerHandle
from service_bus_peer.peer import ServiceBusPeer, ServiceBusPeerProcess
from service_bus_peer.proton_requirement import require_proton

from azure_composition import provision_azure
from composition import Services, build
from local.host.host_json import read_host_json
from messaging.bus import BusUnavailableError
from messaging.contracts import IngestionEvent
from messaging.queues import INGESTION_EVENTS, QUEUES
from processors.delivery import LONGEST_DELAY
from settings import Settings, load_settings

log = logging.getLogger(__name__)

TOKEN_KEY = "0123456789abcdef0123456789abcdef"
NEVER = "0 0 0 29 2 *"
"""A schedule for timers that tests fire themselves."""
LOCK = max(queue.lock_duration for queue in QUEUES.values())
FORSAKEN_SECONDS = 2.0
"""Locks that no function works under for so long are those of messages that could not be settled."""
PATIENCE = 240.0
"""Seconds until a home that has work must be done with it, on a machine that has other work too."""


def azure_settings(bus: ServiceBusPeerHandle, cosmos: CosmosPeerHandle, azurite: Azurite) -> dict[str, str]:
    """The app settings of a home on these peers."""
    return {
        "SHARDLINE_HOME": "azure",
        "ServiceBusConnection": bus.connection_string,
        "CosmosConnection": f"AccountEndpoint={cosmos.endpoint};AccountKey={cosmos.key};",
        "AzureWebJobsStorage": azurite.connection_string,
        "SHARDLINE_COSMOS_DATABASE": "shardline",
        "SHARDLINE_SECRETS": "environment",
        "SHARDLINE_TOKEN_KEY": TOKEN_KEY,
        "SHARDLINE_POLL_SCHEDULE": NEVER,
        "SHARDLINE_RECONCILE_SCHEDULE": NEVER,
    }


def settings_of(environment: dict[str, str]) -> Settings:
    """The settings as a process with this environment reads them."""
    with patch.dict(os.environ, environment, clear=True):
        return load_settings()


class AzureHome:
    """A running home. *services* are those of this process, *host* runs the app."""

    def __init__(
        self,
        bus: ServiceBusPeerHandle,
        cosmos: CosmosPeerHandle,
        azurite: Azurite,
        services: Services,
        host: FunctionsHost,
    ) -> None:
        self.bus = bus
        self.cosmos = cosmos
        self.azurite = azurite
        self.services = services
        self.host = host

    @property
    def instance(self) -> Instance:
        """The instance that has been running longest."""
        return self.host.instances[0]

    async def send(self, events: Sequence[IngestionEvent], *, queue: str = INGESTION_EVENTS) -> None:
        """Send events as a producer does: under their own message ids, and again while the bus is away."""
        messages = [event.to_message(queue) for event in events]
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await self.services.bus.send(queue, messages)
                except BusUnavailableError as error:
                    log.info("sending again: %s", error)

    async def until_at_work(self) -> None:
        """Wait until a function has messages."""
        async with asyncio.timeout(PATIENCE):
            while not self.host.busy:  # noqa: ASYNC110 - the host tells nobody
                await asyncio.sleep(0.002)

    async def until_put_off(self) -> None:
        """Wait until messages are to come later: whoever had them could not do with them what is to be done."""
        async with asyncio.timeout(PATIENCE):
            while not any(depth.scheduled for depth in self.bus.state.depths().values()):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)

    async def until_idle(self, *, patience: float = PATIENCE) -> None:
        """Wait until no message is left, for so many seconds at most.

        The broker's time moves on for messages that are to come later, and for locks that nobody holds any more.
        """
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(patience):
            worked = clock()
            while True:
                depths = self.bus.state.depths().values()
                if self.host.busy or any(depth.active for depth in depths):
                    worked = clock()
                elif any(depth.locked for depth in depths):
                    # The SDK holds messages for a moment before it hands them over.
                    if clock() - worked > FORSAKEN_SECONDS:
                        self.bus.advance(LOCK)
                        worked = clock()
                elif any(depth.scheduled for depth in depths):
                    self.bus.advance(LONGEST_DELAY)
                else:
                    return
                await asyncio.sleep(0.02)

    def dead_letters(self) -> list[str]:
        """What the broker has given up on, a line each."""
        return [
            f"{queue}: {letter.message_id}: {letter.dead_letter_reason}"
            for queue in QUEUES
            for letter in self.bus.state.dead_letters(queue)
        ]

    async def parked(self) -> list[str]:
        """What has been parked, a line each."""
        return [
            f"{message.queue}: {message.message_id}: {message.reason}: {message.detail}"
            for message in (await self.services.store.parked(limit=1000)).items
        ]

    async def lose_instance(self) -> None:
        """Have the instance go that has been running longest, with all that it holds, and another take its place."""
        await self.host.lose(self.instance)
        await self.host.add_instance()


@asynccontextmanager
async def azure_home(
    folder: Path, *, instances: int = 1, largest_batch: int | None = None, peers_apart: bool = False
) -> AsyncIterator[AzureHome]:
    """A new home with so many instances of the app; everything of it is ended at the end.

    *largest_batch* takes the place of host.json's ``maxMessageBatchSize``. With *peers_apart* each peer has a process
    of its own, so that what it costs is not taken from the app.
    """
    require_proton()
    require_node_peers()
    worker_python()
    async with AsyncExitStack() as stack:
        bus: ServiceBusPeerHandle = stack.enter_context(ServiceBusPeerProcess() if peers_apart else ServiceBusPeer())
        cosmos: CosmosPeerHandle = stack.enter_context(CosmosPeerProcess() if peers_apart else CosmosPeer())
        # As it is deployed: a step sees what the one before has written.
        cosmos.set_consistency("Strong")
        azurite = Azurite()
        stack.callback(azurite.end)
        settings = azure_settings(bus, cosmos, azurite)
        await provision_azure(settings_of(settings))
        services = build(settings_of(settings))
        stack.push_async_callback(services.close)
        host_json = read_host_json(ROOT / "host.json")
        if largest_batch is not None:
            host_json = replace(host_json, max_message_batch_size=largest_batch)
        host = FunctionsHost(settings, folder, host_json=host_json, feed_poll_delay=0.2, feed_retry_delay=0.2)
        stack.push_async_callback(host.close)
        for _ in range(instances):
            await host.add_instance()
        await host.follow_feeds()
        yield AzureHome(bus, cosmos, azurite, services, host)
