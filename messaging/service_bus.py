"""The bus on Azure: Service Bus queues, through azure-servicebus.

One sender a queue (:mod:`messaging.service_bus_sender`), kept open. Reading dead letters and counting need a receiver,
which is opened for the moment: an open one that nobody receives with is given messages, and has to give them back.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from azure.servicebus import ServiceBusMessageState, ServiceBusReceivedMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.exceptions import MessageLockLostError

from messaging.bus import RETRY_AFTER, DeadLetter, Message, QueueDepth
from messaging.concurrent_calls import results_of
from messaging.queues import QUEUES, QueueProperties
from messaging.service_bus_errors import LISTEN, unavailable
from messaging.service_bus_messages import dead_letter, enqueued_at
from messaging.service_bus_sender import QueueSender, Throttle
from messaging.times import Clock, utc_now

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE: Final = timedelta(seconds=30)
"""How long a call waits for a service that is busy or away. Whoever consumes a queue leaves a sixth of its lock for the
last call, which is longer."""

CLIENT_OPTIONS: Final[dict[str, Any]] = {"retry_total": 0, "try_timeout": 15.0}
"""What to make the ``ServiceBusClient`` with. The SDK's own tries would multiply with those made here; and without a
bound it tidies up after a link that never opened for as long as that takes."""

PEEKED_AT_ONCE: Final = 100
MOST_PEEKED: Final = 500
MOST_PEEKS: Final = 6
"""What is read of a queue to count it, at most. A peek's answer is no larger than a message, however many it is for."""

READ_AT_ONCE: Final = 3
"""How many queues are read at the same time: each has a connection of its own, and the emulator allows ten."""
READ_SECONDS: Final = 10.0
"""How long one request may take."""
REMOVE_SECONDS: Final = 20.0
"""How long dead letters are looked for that are to be removed."""
NO_MORE_SECONDS: Final = 2.0
"""When none has come for so long, none is there, or another has it."""


class ServiceBusMessageBus:
    """:class:`~messaging.bus.MessageBus` on a Service Bus namespace.

    Needs no more than the roles of a sender and a receiver on each queue. All of it belongs to one event loop.

    Args:
        connect: makes the client, with :data:`CLIENT_OPTIONS`; called once, when it is first needed.
        queues: the queues by name, which the namespace must have.
        clock: the present moment.
        pause: how long a namespace that says it is busy is left alone.
        patience: how long a call waits for a service that is busy or away.
    """

    def __init__(
        self,
        connect: Callable[[], ServiceBusClient],
        *,
        queues: Mapping[str, QueueProperties] = QUEUES,
        clock: Clock = utc_now,
        pause: timedelta = RETRY_AFTER,
        patience: timedelta = PATIENCE,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._client: ServiceBusClient | None = None
        throttle = Throttle(pause, patience)
        self._senders = {name: QueueSender(name, self._connected, throttle) for name in queues}
        self._reading = asyncio.Semaphore(READ_AT_ONCE)

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        """See :meth:`messaging.bus.MessageBus.send`. All or nothing is each batch, not each call."""
        sender = self._senders[queue]
        if messages:
            await sender.send(messages, self._clock() + delay if delay else None)

    async def depths(self) -> dict[str, QueueDepth]:
        """See :meth:`messaging.bus.MessageBus.depths`.

        Service Bus tells counts to administrators only, so the messages are read, the first few hundred of each queue.
        A locked message looks like one that waits: it counts as active.
        """
        counts = await results_of(self._depth(queue) for queue in self._senders)
        return dict(zip(self._senders, counts, strict=True))

    async def dead_letters(self, queue: str, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        """See :meth:`messaging.bus.MessageBus.dead_letters`. When each was given up, the service does not tell."""

        async def peek(receiver: ServiceBusReceiver) -> list[DeadLetter]:
            letters: list[DeadLetter] = []
            async for page in _peeked(receiver, after + 1):
                letters += [dead_letter(queue, message) for message in page]
                if len(letters) >= limit:
                    break
            return letters[:limit]

        return await self._read(queue, peek, dead_letters=True)

    async def remove_dead_letters(self, queue: str, sequence_numbers: Sequence[int]) -> int:
        """See :meth:`messaging.bus.MessageBus.remove_dead_letters`.

        Those that stand before them are received as well, and given back when it is done.
        """
        wanted = set(sequence_numbers)
        if not wanted:
            return 0
        return await self._read(queue, lambda receiver: _remove(receiver, wanted), dead_letters=True)

    async def close(self) -> None:
        """End every connection. Closing twice is harmless."""
        for sender in self._senders.values():
            await sender.close()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _connected(self) -> ServiceBusClient:
        if self._client is None:
            self._client = self._connect()
        return self._client

    async def _depth(self, queue: str) -> QueueDepth:
        standing = await self._read(queue, _count)
        dead = await self._read(queue, _count, dead_letters=True)
        at_least = {"active", "scheduled"} if standing.broken_off else set()
        return QueueDepth(
            active=standing.active,
            locked=0,
            scheduled=standing.scheduled,
            dead_lettered=dead.active,
            oldest_enqueued_at=standing.oldest,
            at_least=frozenset(at_least | ({"dead_lettered"} if dead.broken_off else set())),
        )

    async def _read(
        self, queue: str, operation: Callable[[ServiceBusReceiver], Awaitable[T]], *, dead_letters: bool = False
    ) -> T:
        """What *operation* returns of the queue or its dead letters, tried once more when the connection breaks.

        Raises:
            BusUnavailableError: both in vain.
            KeyError: there is no such queue.
        """
        if queue not in self._senders:
            raise KeyError(queue)
        async with self._reading:
            try:
                return await self._read_once(queue, operation, dead_letters)
            except Exception as error:  # noqa: BLE001 - what the SDK raises of a broken connection is of many kinds
                log.info("%s: reading it broke off (%s: %s); trying again", queue, type(error).__name__, error)
            try:
                return await self._read_once(queue, operation, dead_letters)
            except Exception as error:
                raise unavailable(queue, LISTEN, error) from error

    async def _read_once(
        self, queue: str, operation: Callable[[ServiceBusReceiver], Awaitable[T]], dead_letters: bool
    ) -> T:
        part = ServiceBusSubQueue.DEAD_LETTER if dead_letters else None
        receiver = self._connected().get_queue_receiver(queue, sub_queue=part)
        try:
            async with asyncio.timeout(REMOVE_SECONDS + READ_SECONDS):
                return await operation(receiver)
        finally:
            await receiver.close()


@dataclass(slots=True)
class _Counted:
    """What was seen of a queue; *broken_off*: there may be more."""

    active: int = 0
    scheduled: int = 0
    oldest: datetime | None = None
    broken_off: bool = False


async def _count(receiver: ServiceBusReceiver) -> _Counted:
    counted = _Counted()
    peeks = 0
    async for page in _peeked(receiver, 1):
        for message in page:
            if message.state is ServiceBusMessageState.SCHEDULED:
                counted.scheduled += 1
                continue
            counted.active += 1
            moment = enqueued_at(message)
            counted.oldest = moment if counted.oldest is None else min(counted.oldest, moment)
        peeks += 1
        if peeks == MOST_PEEKS or counted.active + counted.scheduled >= MOST_PEEKED:
            counted.broken_off = True
            break
    return counted


async def _peeked(receiver: ServiceBusReceiver, first: int) -> AsyncIterator[list[ServiceBusReceivedMessage]]:
    """The messages from sequence number *first* on, in pages as large as the service makes them."""
    while page := await receiver.peek_messages(PEEKED_AT_ONCE, sequence_number=first, timeout=READ_SECONDS):
        yield page
        first = _number(page[-1]) + 1


async def _remove(receiver: ServiceBusReceiver, wanted: set[int]) -> int:
    """Complete the messages with these sequence numbers; how many that were."""
    left = await _standing(receiver, wanted)
    removed = 0
    others: list[ServiceBusReceivedMessage] = []
    until = asyncio.get_running_loop().time() + REMOVE_SECONDS
    try:
        while left and asyncio.get_running_loop().time() < until:
            received = await receiver.receive_messages(len(left), max_wait_time=NO_MORE_SECONDS)
            if not received:
                break
            found = [message for message in received if _number(message) in left]
            others += [message for message in received if _number(message) not in left]
            removed += await _settled(found, receiver.complete_message)
            left -= {_number(message) for message in found}
    finally:
        await _settled(others, receiver.abandon_message)
    return removed


async def _standing(receiver: ServiceBusReceiver, wanted: set[int]) -> set[int]:
    """Which of the sequence numbers there are."""
    standing: set[int] = set()
    async for page in _peeked(receiver, min(wanted)):
        standing |= wanted & {_number(message) for message in page}
        if _number(page[-1]) >= max(wanted):
            break
    return standing


async def _settled(
    messages: Iterable[ServiceBusReceivedMessage], settle: Callable[[ServiceBusReceivedMessage], Awaitable[None]]
) -> int:
    """Settle the messages; how many were still under their lock."""

    async def one(message: ServiceBusReceivedMessage) -> bool:
        try:
            await settle(message)
        except MessageLockLostError:
            return False
        return True

    return sum(await asyncio.gather(*(one(message) for message in messages)))


def _number(message: ServiceBusReceivedMessage) -> int:
    return message.sequence_number or 0
