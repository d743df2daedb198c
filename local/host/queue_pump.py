"""From a queue to its function: receive under a lock, run, complete or abandon."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from azure.functions.servicebus import ServiceBusMessage

from local.host.app_index import QueueFunction
from local.host.host_json import HostSettings
from local.host.invocation import InvocationFailedError, Invoker
from messaging.bus import BusUnavailableError, MessageBus, QueueReceiver, ReceivedMessage
from messaging.times import utc_now

_log = logging.getLogger("Host.Queues")

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.2
"""Seconds between two looks at an empty queue: they double from the first to the longest."""
_FIRST_RETRY: Final = 0.5
_LONGEST_RETRY: Final = 30.0
_NAMED_IDS: Final = 10


class HostedBus(MessageBus, QueueReceiver, Protocol):
    """A bus that the app sends to and the host receives from."""


def to_service_bus_message(message: ReceivedMessage, locked_until: datetime | None = None) -> ServiceBusMessage:
    """The message as Azure's worker hands it to a function; what the bus does not know of is None.

    *locked_until* takes the place of the message's own when its lock has been renewed.
    """
    properties: dict[str, object] = dict(message.properties)
    return ServiceBusMessage(
        body=message.body,
        application_properties=properties,
        user_properties=properties,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        content_type="application/json",
        delivery_count=message.delivery_count,
        sequence_number=message.sequence_number,
        enqueued_sequence_number=message.sequence_number,
        enqueued_time_utc=message.enqueued_at,
        lock_token=message.lock_token,
        locked_until=locked_until or message.locked_until,
        state=0,
    )


class _Batch:
    """Messages of one receive, and since when they are held."""

    def __init__(self, messages: list[ReceivedMessage]) -> None:
        self.messages = messages
        self.locked_until = messages[0].locked_until
        self._received = time.monotonic()
        self._lock = max((self.locked_until - utc_now()).total_seconds(), 0.001)

    @property
    def has_waited(self) -> bool:
        """Whether more than a tenth of the lock has gone by since the lock was taken."""
        return time.monotonic() - self._received > self._lock / 10

    @property
    def lock_seconds(self) -> float:
        return self._lock

    def renewed(self) -> None:
        """The lock begins anew from now."""
        self._received = time.monotonic()
        self.locked_until = utc_now() + timedelta(seconds=self._lock)

    def __str__(self) -> str:
        return _named(self.messages)


class QueuePump:
    """Feeds one function from its queue until told to stop, and settles what it has done.

    A batch function has one invocation at a time; the next batch is received, and the last one settled, while it runs.
    A function of single messages has up to ``maxConcurrentCalls`` invocations, whose locks are renewed.
    A return completes the messages, a raise abandons them. *on_progress* is called after each settlement, as the
    function may have sent to other queues.
    """

    def __init__(
        self,
        function: QueueFunction,
        receiver: QueueReceiver,
        invoker: Invoker,
        settings: HostSettings,
        on_progress: Callable[[], None],
    ) -> None:
        self.function = function
        self._receiver = receiver
        self._invoker = invoker
        self._settings = settings
        self._on_progress = on_progress
        self._wake = asyncio.Event()
        self._stopping = False
        self._pause = FIRST_PAUSE
        self._retry = _FIRST_RETRY

    def wake(self) -> None:
        """Look at the queue now; called when something may have been sent to it."""
        self._wake.set()

    def stop(self) -> None:
        """Receive no more; :meth:`run` returns once what is held is settled."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Work until :meth:`stop`. When cancelled, what is held is abandoned first."""
        await (self._run_batches() if self.function.batches else self._run_single())

    async def _run_batches(self) -> None:
        ahead: asyncio.Task[_Batch | None] | None = None
        settling: asyncio.Task[None] | None = None
        try:
            while not self._stopping or ahead is not None:
                waiting, ahead = ahead, None
                batch = await waiting if waiting is not None else await self._gather_batch()
                if batch is None or not await self._still_held(batch):
                    continue
                # A bus may cut a batch short of the most there can be; well short of it means that little is left,
                # and what comes while this one runs makes a better batch than what is there now.
                if len(batch.messages) * 2 > self._settings.max_message_batch_size and not self._stopping:
                    ahead = asyncio.create_task(self._receive(self._settings.max_message_batch_size))
                done = await self._run_function(batch)
                if settling is not None:
                    await settling
                settling = asyncio.create_task(self._settle(batch.messages, done))
        finally:
            if ahead is not None and (left := await ahead) is not None:
                await self._settle(left.messages, False)
            if settling is not None:
                await settling

    async def _run_single(self) -> None:
        running: set[asyncio.Task[None]] = set()
        try:
            while not self._stopping:
                free = self._settings.max_concurrent_calls - len(running)
                if free <= 0:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    continue
                batch = await self._receive(free)
                if batch is None:
                    await self._idle()
                    continue
                for message in batch.messages:
                    task = asyncio.create_task(self._run_one(_Batch([message])))
                    running.add(task)
                    task.add_done_callback(running.discard)
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _run_one(self, held: _Batch) -> None:
        renewing = asyncio.create_task(self._keep_lock(held))
        try:
            done = await self._run_function(held)
        finally:
            renewing.cancel()
        await self._settle(held.messages, done)

    async def _run_function(self, held: _Batch) -> bool:
        """Whether the function returned."""
        if self.function.batches:
            value: object = [to_service_bus_message(message, held.locked_until) for message in held.messages]
        else:
            value = to_service_bus_message(held.messages[0])
        try:
            await self._invoker.invoke(self.function, value, what=held.__str__)
        except InvocationFailedError:
            return False
        except asyncio.CancelledError:
            _log.warning("function %s was interrupted; its %s are given back", self.function.name, held)
            await self._settle(held.messages, False)
            raise
        return True

    async def _settle(self, messages: Sequence[ReceivedMessage], done: bool) -> None:
        try:
            settled = await (self._receiver.complete(messages) if done else self._receiver.abandon(messages))
        except BusUnavailableError as error:
            _log.error(
                "queue %s: %s can't be %s and will come again when their lock ends: %s",
                self.function.queue,
                _named(messages),
                "completed" if done else "abandoned",
                error,
            )
        else:
            if settled < len(messages):
                _log.warning(
                    "queue %s: %d of %d messages had lost their lock before function %s ended; they will come again",
                    self.function.queue,
                    len(messages) - settled,
                    len(messages),
                    self.function.name,
                )
        self._on_progress()

    async def _gather_batch(self) -> _Batch | None:
        """The next batch; None after a look at an empty queue and the pause that follows it."""
        most = self._settings.max_message_batch_size
        batch = await self._receive(most)
        if batch is None:
            await self._idle()
            return None
        until = time.monotonic() + self._settings.max_batch_wait_time.total_seconds()
        while (
            len(batch.messages) < self._settings.min_message_batch_size
            and not self._stopping
            and time.monotonic() < until
        ):
            more = await self._receive(most - len(batch.messages))
            if more is None:
                await self._idle()
            else:
                batch.messages.extend(more.messages)
        return batch

    async def _receive(self, most: int) -> _Batch | None:
        self._wake.clear()
        try:
            messages = await self._receiver.receive(self.function.queue, max_messages=most)
        except BusUnavailableError as error:
            _log.error("queue %s can't be read, trying again in %g s: %s", self.function.queue, self._retry, error)
            self._pause, self._retry = self._retry, min(self._retry * 2, _LONGEST_RETRY)
            return None
        self._retry = _FIRST_RETRY
        if not messages:
            self._pause = min(self._pause, LONGEST_PAUSE)
            return None
        self._pause = FIRST_PAUSE
        return _Batch(messages)

    async def _idle(self) -> None:
        """Wait for a wake or for the pause to pass."""
        try:
            async with asyncio.timeout(self._pause):
                await self._wake.wait()
        except TimeoutError:
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        else:
            self._pause = FIRST_PAUSE

    async def _still_held(self, batch: _Batch) -> bool:
        """Give a batch that had to wait its full lock again; False when the lock is lost, and the batch with it."""
        if not batch.has_waited:
            return True
        try:
            renewed = await self._receiver.renew(batch.messages)
        except BusUnavailableError as error:
            _log.error("queue %s: the lock of %s can't be renewed: %s", self.function.queue, batch, error)
            renewed = 0
        if renewed == len(batch.messages):
            batch.renewed()
            return True
        await self._settle(batch.messages, False)
        return False

    async def _keep_lock(self, held: _Batch) -> None:
        """Renew the lock each half of it, up to ``maxAutoLockRenewalDuration``."""
        until = time.monotonic() + self._settings.max_auto_lock_renewal.total_seconds()
        while time.monotonic() + held.lock_seconds / 2 < until:
            await asyncio.sleep(held.lock_seconds / 2)
            try:
                if not await self._receiver.renew(held.messages):
                    _log.warning("queue %s: the lock of %s is lost", self.function.queue, held)
                    return
            except BusUnavailableError as error:
                _log.error("queue %s: the lock of %s can't be renewed: %s", self.function.queue, held, error)


def _named(messages: Sequence[ReceivedMessage]) -> str:
    named = ", ".join(message.message_id for message in messages[:_NAMED_IDS])
    more = f" and {len(messages) - _NAMED_IDS} more" if len(messages) > _NAMED_IDS else ""
    return f"{'message' if len(messages) == 1 else 'messages'} {named}{more}"
