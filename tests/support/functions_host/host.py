"""The host: instances of the app, each with a worker and the listeners of its queues; feeds, timers and HTTP over all.

On Azure an instance that is lost takes its host's listeners along, so :meth:`FunctionsHost.lose` ends both: nothing is
settled, and what was held comes again when its locks end.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from azure.cosmos.aio import CosmosClient
from azure.servicebus.aio import ServiceBusClient

from functions_host.environment import ROOT, worker_python
from functions_host.feed_pump import FeedPump
from functions_host.functions import Function, MissingSettingError
from functions_host.queue_pump import QueuePump
from functions_host.trigger_data import TriggerValue, http_request, timer_tick
from functions_host.worker import Invocation, Retry, Worker, WorkerEndedError, returned_body
from local.host.host_json import HostSettings, read_host_json
from local.host.routes import RouteTemplate
from local.host.schedule import Schedule


class FunctionFailedError(Exception):
    """A function failed that was run by itself; the message has its stack."""


@dataclass(eq=False)
class Instance:
    """A worker and the listeners that feed it."""

    worker: Worker
    pumps: list[QueuePump] = field(default_factory=list)
    clients: list[ServiceBusClient] = field(default_factory=list)
    running: list[asyncio.Task[None]] = field(default_factory=list)

    async def invoke(self, function: Function, trigger: TriggerValue) -> Invocation:
        """Run a function in this worker."""
        return await self.worker.invoke(function, trigger)

    async def stop(self) -> None:
        """Settle what is held, then end."""
        for pump in self.pumps:
            pump.stop()
        await asyncio.gather(*self.running)
        await self.worker.stop()
        await asyncio.gather(*(client.close() for client in self.clients))

    async def lose(self) -> None:
        """End at once; what was held is neither completed nor abandoned."""
        for task in self.running:
            task.cancel()
        self.worker.kill()
        await asyncio.gather(*self.running, return_exceptions=True)
        await self.worker.stop()
        await asyncio.gather(*(client.close() for client in self.clients))


class FunctionsHost:
    """The app of *directory*, run with *settings* alone.

    The keyword arguments take the place of host.json and of pauses that a test has no time for.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        folder: Path,
        *,
        directory: Path = ROOT,
        host_json: HostSettings | None = None,
        feed_poll_delay: float | None = None,
        feed_retry_delay: float | None = None,
    ) -> None:
        self.settings = dict(settings)
        self.instances: list[Instance] = []
        self.feeds: list[FeedPump] = []
        self._folder = folder
        self._directory = directory
        self._host_json = host_json or read_host_json(directory / "host.json")
        self._feed_delays = {"poll_delay": feed_poll_delay, "retry_delay": feed_retry_delay}
        self._numbers = count(1)
        self._ticked: dict[str, datetime] = {}
        self._background: list[asyncio.Task[None]] = []
        self._cosmos: CosmosClient | None = None

    @property
    def functions(self) -> dict[str, Function]:
        """The functions of the app by name."""
        return self.instances[0].worker.functions

    async def add_instance(self, *, listen: bool = True) -> Instance:
        """Start one more instance; with *listen* it takes messages from the queues.

        Raises:
            IndexingError: the worker found no functions.
            MissingSettingError: a binding names a setting that is not there.
        """
        output = self._folder / f"worker-{next(self._numbers)}.log"
        instance = Instance(await Worker.start(worker_python(), self._directory, self.settings, output))
        self.instances.append(instance)
        if listen:
            self._listen(instance)
        return instance

    def _listen(self, instance: Instance) -> None:
        for function in instance.worker.functions.values():
            if function.kind != "serviceBusTrigger":
                continue
            client = ServiceBusClient.from_connection_string(
                self._connection(function), retry_total=1, retry_backoff_factor=0.05
            )
            queue = function.setting("queueName", self.settings)
            pump = QueuePump(
                function,
                queue,
                client,
                instance.invoke,
                settings=self._host_json,
                capabilities=instance.worker.capabilities,
            )
            instance.clients.append(client)
            instance.pumps.append(pump)
            instance.running.append(asyncio.create_task(pump.run(), name=f"pump of {queue}"))

    def _connection(self, function: Function) -> str:
        name = str(function.trigger["connection"])
        if name not in self.settings:
            raise MissingSettingError(f"function {function.name}: the setting {name} is missing")
        return self.settings[name]

    async def follow_feeds(self) -> None:
        """Have the change feeds followed from now on, by whichever instance there is."""
        for function in self.functions.values():
            if function.kind == "cosmosDBTrigger":
                container = (
                    self._client(function)
                    .get_database_client(function.setting("databaseName", self.settings))
                    .get_container_client(function.setting("containerName", self.settings))
                )
                pump = FeedPump(function, container, self._invoke_retried, **self._feed_delays)
                self.feeds.append(pump)
                self._background.append(asyncio.create_task(pump.run(), name=f"feed of {function.name}"))

    def _client(self, function: Function) -> CosmosClient:
        if self._cosmos is None:
            self._cosmos = CosmosClient.from_connection_string(self._connection(function), connection_verify=False)
        return self._cosmos

    def run_timers(self) -> None:
        """Fire every timer when its schedule says so, from now on."""
        for function in self.functions.values():
            if function.kind == "timerTrigger":
                self._background.append(asyncio.create_task(self._tick(function), name=f"timer {function.name}"))

    async def _tick(self, function: Function) -> None:
        schedule = Schedule(function.setting("schedule", self.settings))
        while True:
            now = datetime.now(UTC)
            await asyncio.sleep((schedule.next_after(now) - now).total_seconds())
            with suppress(FunctionFailedError, WorkerEndedError):  # as on Azure, the next tick tries again
                await self.fire(function.name)

    async def fire(self, name: str) -> Invocation:
        """Run a timer's function now.

        Raises:
            FunctionFailedError: it failed.
        """
        now = datetime.now(UTC)
        last = self._ticked.get(name, now)
        self._ticked[name] = now
        done = await self._invoke(self.functions[name], timer_tick(last=last, due=now))
        if not done.succeeded:
            raise FunctionFailedError(done.stack)
        return done

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """What the function of the route answers: status, headers, body. *path* begins below the prefix.

        Raises:
            FunctionFailedError: it failed, or no function has this route.
        """
        bare = path.partition("?")[0]
        for function in self.functions.values():
            if function.kind != "httpTrigger" or method not in function.trigger["methods"]:
                continue
            route = RouteTemplate(function.trigger["route"]).match(bare)
            if route is not None:
                url = f"http://localhost/{self._host_json.route_prefix}/{path}"
                trigger = http_request(method, url, route=route, headers=headers or {}, body=body)
                done = await self._invoke(function, trigger)
                if not done.succeeded:
                    raise FunctionFailedError(done.stack)
                return returned_body(done)
        raise FunctionFailedError(f"no function answers {method} {path}")

    async def _invoke(self, function: Function, trigger: TriggerValue) -> Invocation:
        return await self.instances[0].invoke(function, trigger)

    async def _invoke_retried(self, function: Function, trigger: TriggerValue, retry: Retry) -> Invocation:
        if not self.instances:
            raise WorkerEndedError("there is no instance")
        return await self.instances[0].worker.invoke(function, trigger, retry=retry)

    @property
    def busy(self) -> int:
        """How many messages and batches of documents are with functions now."""
        messages = sum(pump.busy for instance in self.instances for pump in instance.pumps)
        return messages + sum(feed.busy for feed in self.feeds)

    async def lose(self, instance: Instance) -> None:
        """Have an instance go as in a power cut."""
        self.instances.remove(instance)
        await instance.lose()

    async def close(self) -> None:
        """End everything in good order."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(instance.stop() for instance in self.instances))
        self.instances.clear()
        if self._cosmos is not None:
            await self._cosmos.close()


@asynccontextmanager
async def running_host(
    settings: Mapping[str, str], folder: Path, *, instances: int = 1, **more: Any
) -> AsyncIterator[FunctionsHost]:
    """A host with so many instances; everything of it is ended at the end."""
    host = FunctionsHost(settings, folder, **more)
    try:
        for _ in range(instances):
            await host.add_instance()
        await host.follow_feeds()
        yield host
    finally:
        await host.close()
