"""From the change feed of a Cosmos container to its function, as the host's Cosmos DB extension does it.

There is a lease for each range of the container, here a continuation in memory. It moves on when the function has
returned, and also when it has failed for good: without a retry policy at once, with one after its last try. A worker
that ends takes nothing along: the batch has not been checkpointed and comes again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import CosmosHttpResponseError

from functions_host.functions import Function
from functions_host.trigger_data import TriggerValue, changed_documents
from functions_host.worker import Invocation, Retry, WorkerEndedError

_log = logging.getLogger("functions_host.feed_pump")

DEFAULT_MAX_ITEMS: Final = 100
PAUSE_AFTER_ERROR: Final = 0.2


@dataclass
class _Lease:
    """How far a range of the container has been followed."""

    feed_range: dict[str, Any]
    continuation: str | None = None


InvokeRetried = Callable[[Function, TriggerValue, Retry], Awaitable[Invocation]]


class FeedPump:
    """Feeds one function from one container's feed.

    *retry_delay* takes the place of the policy's own pause; *poll_delay*, in seconds, that of the binding's.
    *failed* counts invocations that failed, *passed_over* batches that were given up on; *busy* says whether there is
    one with the function.
    """

    def __init__(
        self,
        function: Function,
        container: ContainerProxy,
        invoke: InvokeRetried,
        *,
        retry_delay: float | None = None,
        poll_delay: float | None = None,
    ) -> None:
        self.function = function
        self.failed = 0
        self.passed_over = 0
        self._rounds = 0
        self._round_done = asyncio.Condition()
        self.busy = False
        self._container = container
        self._invoke = invoke
        self._retry_delay = retry_delay
        self._poll_delay = poll_delay
        self._leases: list[_Lease] | None = None

    async def run(self) -> None:
        """Work until cancelled."""
        binding = self.function.trigger
        pause = self._poll_delay if self._poll_delay is not None else int(binding.get("feedPollDelay", 5000)) / 1000
        while True:
            try:
                await self.catch_up()
                async with self._round_done:
                    self._rounds += 1
                    self._round_done.notify_all()
            except (CosmosHttpResponseError, OSError) as error:
                _log.info("the feed of %s can't be read: %r", self.function.name, error)
                await asyncio.sleep(PAUSE_AFTER_ERROR)
            except WorkerEndedError:
                await asyncio.sleep(PAUSE_AFTER_ERROR)
            await asyncio.sleep(pause)

    async def caught_up(self) -> None:
        """Wait until all that has changed before this call has been handed over by :meth:`run`."""
        async with self._round_done:
            # The round that is under way may have looked before.
            until = self._rounds + 2
            await self._round_done.wait_for(lambda: self._rounds >= until)

    async def catch_up(self) -> int:
        """Hand over what has changed since the leases; how many documents.

        Raises:
            WorkerEndedError: the worker ended over a batch, which is still to come.
        """
        if self._leases is None:
            self._leases = [_Lease(feed_range) async for feed_range in self._container.read_feed_ranges()]
        return sum([await self._follow(lease) for lease in self._leases])

    async def _follow(self, lease: _Lease) -> int:
        given = 0
        while True:
            documents, behind = await self._read(lease)
            if documents:
                self.busy = True
                try:
                    await self._give(documents)
                finally:
                    self.busy = False
            lease.continuation = behind
            given += len(documents)
            if not documents:
                return given

    async def _read(self, lease: _Lease) -> tuple[list[dict[str, Any]], str]:
        """The next documents of a range, none when there are no more; and the continuation behind them."""
        binding = self.function.trigger
        position: dict[str, Any] = {"continuation": lease.continuation}
        if lease.continuation is None:
            start = "Beginning" if binding.get("startFromBeginning") else "Now"
            position = {"feed_range": lease.feed_range, "start_time": start}
        answered: list[Mapping[str, str]] = []
        feed = self._container.query_items_change_feed(
            max_item_count=int(binding.get("maxItemsPerInvocation", DEFAULT_MAX_ITEMS)),
            response_hook=lambda headers, _: answered.append(headers),
            **position,
        )
        documents: list[dict[str, Any]] = []
        async for page in feed.by_page():
            documents = [document async for document in page]
            break
        return documents, answered[-1]["etag"]

    async def _give(self, documents: list[dict[str, Any]]) -> None:
        policy = self.function.retry
        tries = 0
        trigger = changed_documents(documents)
        while True:
            done = await self._invoke(self.function, trigger, Retry(tries, policy.count if policy else 0))
            if done.succeeded:
                return
            self.failed += 1
            # A count of -1 means for ever.
            if policy is None or tries == policy.count:
                self.passed_over += 1
                _log.warning("%s failed for good: %s", self.function.name, done.problem)
                return
            tries += 1
            await asyncio.sleep(self._retry_delay if self._retry_delay is not None else policy.delay)
