"""The receiving half on Service Bus, which on Azure the Functions host has: with the real SDK, for tests."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

from azure.servicebus import ServiceBusMessageState, ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.aio import ServiceBusReceiver as SdkReceiver
from azure.servicebus.exceptions import MessageAlreadySettled, MessageLockLostError

from messaging.bus import ReceivedMessage
from messaging.queues import QUEUES, QueueProperties
from messaging.service_bus_messages import body_of, correlation_id_of, enqueued_at, message_id_of, properties_of
from messaging.times import Clock, utc_now

FIRST_WITHIN = 60.0
"""Seconds until a message must come that is known to wait."""
NONE_WITHIN = 0.1
"""Seconds in which none must come, while all that there are are held."""

Settle = Callable[[SdkReceiver, ServiceBusReceivedMessage], Awaitable[object]]


class ServiceBusReceiver:
    """:class:`~messaging.bus.QueueReceiver` on a namespace, for the only receiver of each queue.

    Args:
        connect: makes the client.
        queues: the queues by name.
        clock: the broker's present moment: locks that have ended then are not held any more.
    """

    def __init__(
        self,
        connect: Callable[[], ServiceBusClient],
        *,
        queues: Mapping[str, QueueProperties] = QUEUES,
        clock: Clock = utc_now,
    ) -> None:
        self._client = connect()
        self._clock = clock
        self._turns = {name: asyncio.Lock() for name in queues}
        self._receivers: dict[str, SdkReceiver] = {}
        self._held: dict[str, tuple[ReceivedMessage, ServiceBusReceivedMessage]] = {}
        self._until: dict[str, datetime] = {}

    async def receive(self, queue: str, *, max_messages: int) -> list[ReceivedMessage]:
        """See :meth:`messaging.bus.QueueReceiver.receive`.

        The queue is peeked first. The SDK has no way to ask without waiting; and were it asked for more than there is,
        what comes later would be pushed to it, and given back, at any time.
        """
        async with self._turns[queue]:
            receiver = self._receiver(queue)
            free, held = await self._look(queue, receiver, max_messages)
            if not free and not held:
                return []
            messages = await receiver.receive_messages(
                max(free, 1), max_wait_time=FIRST_WITHIN if free else NONE_WITHIN
            )
            return [self._received(queue, message) for message in messages]

    async def complete(self, messages: Sequence[ReceivedMessage]) -> int:
        """See :meth:`messaging.bus.QueueReceiver.complete`."""
        return await self._end(messages, lambda receiver, message: receiver.complete_message(message))

    async def abandon(self, messages: Sequence[ReceivedMessage]) -> int:
        """See :meth:`messaging.bus.QueueReceiver.abandon`."""
        return await self._end(messages, lambda receiver, message: receiver.abandon_message(message))

    async def renew(self, messages: Sequence[ReceivedMessage]) -> int:
        """See :meth:`messaging.bus.QueueReceiver.renew`."""

        async def renew(receiver: SdkReceiver, message: ServiceBusReceivedMessage) -> None:
            until = await receiver.renew_message_lock(message)
            self._until[str(message.lock_token)] = until.astimezone(UTC)

        return sum(await asyncio.gather(*(self._settle(message, renew) for message in messages)))

    async def dead_letter(self, messages: Sequence[ReceivedMessage], *, reason: str, description: str) -> int:
        """See :meth:`messaging.bus.QueueReceiver.dead_letter`."""

        async def bury(receiver: SdkReceiver, message: ServiceBusReceivedMessage) -> None:
            await receiver.dead_letter_message(message, reason=reason, error_description=description)

        return await self._end(messages, bury)

    async def close(self) -> None:
        """End every connection; what is held comes again when its lock ends."""
        await self._client.close()

    def _receiver(self, queue: str) -> SdkReceiver:
        if queue not in self._receivers:
            self._receivers[queue] = self._client.get_queue_receiver(queue)
        return self._receivers[queue]

    async def _look(self, queue: str, receiver: SdkReceiver, most: int) -> tuple[int, int]:
        """How many messages wait, counted to *most*, and how many of those seen this object holds."""
        now = self._clock()
        held = {
            received.sequence_number
            for token, (received, _) in self._held.items()
            if received.queue == queue and self._until[token] > now
        }
        free: set[int] = set()
        locked: set[int] = set()
        first = 1
        while len(free) < most and (page := await receiver.peek_messages(100, sequence_number=first)):
            numbers = {message.sequence_number or 0: message.state for message in page}
            active = {number for number, state in numbers.items() if state is ServiceBusMessageState.ACTIVE}
            free |= active - held
            locked |= active & held
            first = max(numbers) + 1
        return min(len(free), most), len(locked)

    def _received(self, queue: str, message: ServiceBusReceivedMessage) -> ReceivedMessage:
        assert message.sequence_number is not None
        assert message.locked_until_utc is not None
        received = ReceivedMessage(
            queue=queue,
            sequence_number=message.sequence_number,
            lock_token=str(message.lock_token),
            body=body_of(message),
            message_id=message_id_of(message),
            correlation_id=correlation_id_of(message),
            properties=properties_of(message),
            # On the wire it counts the deliveries that failed.
            delivery_count=(message.delivery_count or 0) + 1,
            enqueued_at=enqueued_at(message),
            locked_until=message.locked_until_utc.astimezone(UTC),
        )
        self._held[received.lock_token] = received, message
        self._until[received.lock_token] = received.locked_until
        return received

    async def _end(self, messages: Sequence[ReceivedMessage], settle: Settle) -> int:
        """Settle the messages and hold them no more; how many were still under their lock."""
        ended = await asyncio.gather(*(self._settle(message, settle) for message in messages))
        for message in messages:
            self._held.pop(message.lock_token, None)
        return sum(ended)

    async def _settle(self, message: ReceivedMessage, settle: Settle) -> bool:
        """Whether the message was still under this lock."""
        if message.lock_token not in self._held:
            return False
        try:
            await settle(self._receiver(message.queue), self._held[message.lock_token][1])
        except (MessageLockLostError, MessageAlreadySettled):
            self._held.pop(message.lock_token)
            return False
        return True
