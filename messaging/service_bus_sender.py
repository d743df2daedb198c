"""One queue's sender: opened when first needed, dropped when it breaks, and never used by two tasks at a time."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from azure.servicebus import ServiceBusMessage, ServiceBusMessageBatch
from azure.servicebus.aio import ServiceBusClient, ServiceBusSender
from azure.servicebus.exceptions import (
    MessageSizeExceededError,
    ServiceBusQuotaExceededError,
    ServiceBusServerBusyError,
)

from messaging.bus import BusUnavailableError, Message, MessageTooLargeError
from messaging.service_bus_errors import SEND, unavailable
from messaging.service_bus_messages import outgoing, size_of

log = logging.getLogger(__name__)

T = TypeVar("T")

TRY_SECONDS: Final = 10.0
"""How long one try may take, opening the link included."""
LAST_TRY_SECONDS: Final = 2.0
"""How long a try may take for which there was no patience left."""
CLOSE_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 240.0
"""A sender that was not used for so long is made anew before it is: the service may have ended it by now, and to find
that out takes longer. It ends connections without traffic after five minutes, links after ten."""

MOST_SCHEDULED: Final = 100
"""The most messages of one schedule request."""
SCHEDULED_OVERHEAD: Final = 1024
"""The bytes that a message costs in such a request beside what its sender gave it."""


class Throttle:
    """Keeps all senders of a namespace off it while it says that it is busy: its throttle counts them together.

    Args:
        pause: how long a busy namespace is left alone.
        patience: how long a send waits at all; then it gives up.
    """

    def __init__(self, pause: timedelta, patience: timedelta) -> None:
        self._pause = pause.total_seconds()
        self.patience = patience.total_seconds()
        self._free_at = 0.0

    def busy(self) -> None:
        """The namespace has just said that it is."""
        self._free_at = asyncio.get_running_loop().time() + self._pause

    async def wait(self, queue: str, deadline: float) -> None:
        """Return when the namespace may be asked.

        Raises:
            BusUnavailableError: that is after *deadline*, a time of the event loop.
        """
        left = self._free_at - asyncio.get_running_loop().time()
        if left <= 0:
            return
        if self._free_at > deadline:
            raise BusUnavailableError(
                f"{queue}: Service Bus is throttling this namespace", retry_after=timedelta(seconds=left)
            )
        await asyncio.sleep(left)
        # Another queue's sender may have found it busy meanwhile.
        await self.wait(queue, deadline)


class QueueSender:
    """Sends to one queue.

    A sender that breaks (the service ends idle links and connections, networks drop them) is made anew, and the same
    batch is tried once more under the same message ids: what had been taken already is dropped as a duplicate.
    """

    def __init__(self, queue: str, client: Callable[[], ServiceBusClient], throttle: Throttle) -> None:
        self._queue = queue
        self._client = client
        self._throttle = throttle
        self._turn = asyncio.Lock()
        self._sender: ServiceBusSender | None = None
        self._used_at = 0.0
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, messages: Sequence[Message], due_at: datetime | None) -> None:
        """Send all of *messages* in as few batches as they need, to be received now or at *due_at*.

        Raises:
            BusUnavailableError: nothing more got through for the throttle's patience, or the service refused.
            MessageTooLargeError: one of them fits in no batch; nothing was sent.
        """
        began = asyncio.get_running_loop().time()
        await self._take_turn()
        try:
            sender, empty = await self._try(_opened, began)
            batches = [_Batch(empty, scheduled=due_at is not None)]
            for message in messages:
                if not batches[-1].add(message):
                    batches.append(_Batch(await sender.create_message_batch(), scheduled=due_at is not None))
                    if not batches[-1].add(message):
                        raise self._too_large(message, empty.max_size_in_bytes)
            for batch in batches:
                await self._send(batch, due_at, began)
                began = asyncio.get_running_loop().time()
        finally:
            self._turn.release()

    async def close(self) -> None:
        """End the link and its connection, when nobody is sending."""
        async with self._turn:
            self._drop()
            await asyncio.gather(*self._closing)

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(self._throttle.patience):
                await self._turn.acquire()
        except TimeoutError:
            raise BusUnavailableError(
                f"{self._queue}: those who send before have not been done for {self._throttle.patience:.0f} s"
            ) from None

    async def _send(self, batch: "_Batch", due_at: datetime | None, began: float) -> None:
        async def send(sender: ServiceBusSender) -> None:
            if due_at is None:
                await sender.send_messages(batch.content, timeout=TRY_SECONDS)
            else:
                await sender.schedule_messages(batch.outgoing, due_at, timeout=TRY_SECONDS)

        try:
            await self._try(send, began)
        except MessageSizeExceededError as error:
            # The service has counted more than the SDK did.
            if len(batch.messages) == 1:
                raise self._too_large(batch.messages[0], batch.content.max_size_in_bytes) from error
            for message in batch.messages:
                _, alone = await self._try(_opened, began)
                single = _Batch(alone, scheduled=due_at is not None)
                single.add(message)
                await self._send(single, due_at, asyncio.get_running_loop().time())

    def _too_large(self, message: Message, limit: int) -> MessageTooLargeError:
        alone = ServiceBusMessageBatch(max_size_in_bytes=sys.maxsize)
        alone.add_message(outgoing(message))
        return MessageTooLargeError(self._queue, message.message_id, size=alone.size_in_bytes, limit=limit)

    async def _try(self, operation: Callable[[ServiceBusSender], Awaitable[T]], began: float) -> T:
        """What *operation* returns: tried anew with a new sender when the sender breaks, once, and when the service
        is busy for as long as there is patience since *began*.

        Raises:
            BusUnavailableError: all in vain.
            MessageSizeExceededError: the service takes no message of that size.
        """
        deadline = began + self._throttle.patience
        broken = False
        while True:
            await self._throttle.wait(self._queue, deadline)
            now = asyncio.get_running_loop().time()
            if now - self._used_at > IDLE_SECONDS:
                self._drop()
            if self._sender is None:
                self._sender = self._client().get_queue_sender(self._queue)
            self._used_at = now
            try:
                async with asyncio.timeout(min(TRY_SECONDS, max(deadline - now, LAST_TRY_SECONDS))):
                    return await operation(self._sender)
            except MessageSizeExceededError:
                raise
            except ServiceBusServerBusyError as error:
                log.warning("%s: Service Bus is busy (%s)", self._queue, error)
                self._throttle.busy()
            except ServiceBusQuotaExceededError as error:
                raise unavailable(self._queue, SEND, error) from error
            except Exception as error:
                self._drop()
                if broken:
                    raise unavailable(self._queue, SEND, error) from error
                broken = True
                log.info("%s: the sender broke (%s: %s); making a new one", self._queue, type(error).__name__, error)
            except BaseException:
                # Cancelled in the middle of a frame, for all one knows.
                self._drop()
                raise

    def _drop(self) -> None:
        """Use the sender no more. It is closed meanwhile: the SDK's keep-alive takes up to a second to notice."""
        sender, self._sender = self._sender, None
        if sender is not None:
            closing = asyncio.create_task(self._closed(sender))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _closed(self, sender: ServiceBusSender) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await sender.close()
        except Exception as error:  # noqa: BLE001 - it is broken, which is why it is closed
            log.info("%s: a broken sender could not be closed (%s: %s)", self._queue, type(error).__name__, error)


async def _opened(sender: ServiceBusSender) -> tuple[ServiceBusSender, ServiceBusMessageBatch]:
    """*sender* with its link open, and a batch of the size that the link takes."""
    return sender, await sender.create_message_batch()


class _Batch:
    """Messages that go in one request."""

    def __init__(self, content: ServiceBusMessageBatch, *, scheduled: bool) -> None:
        self.content = content
        self.messages: list[Message] = []
        self.outgoing: list[ServiceBusMessage] = []
        self._scheduled = scheduled

    def add(self, message: Message) -> bool:
        """Take *message* in; False when there is no room for it."""
        if self._scheduled and self.messages and self._is_full_for(message):
            return False
        made = outgoing(message)
        try:
            self.content.add_message(made)
        except MessageSizeExceededError:
            return False
        self.messages.append(message)
        self.outgoing.append(made)
        return True

    def _is_full_for(self, message: Message) -> bool:
        """Whether a schedule request would grow too large: there each message has an envelope of its own."""
        count = len(self.messages) + 1
        size = self.content.size_in_bytes + size_of(message) + count * SCHEDULED_OVERHEAD
        return count > MOST_SCHEDULED or size > self.content.max_size_in_bytes
