"""The port to the message bus, and the values that pass through it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeGuard

import msgspec

Property = str | int | bool


def is_property(value: object) -> TypeGuard[Property]:
    """Whether every home of the bus can carry *value* as a property: a whole number must fit in 64 bits with sign."""
    return isinstance(value, str) or (isinstance(value, int) and -(2**63) <= value < 2**63)


LARGEST_BODY: Final = 252 * 1024
"""The most bytes of a body that every home of the bus takes: Service Bus Standard's 256 KB, less 4 KB for the rest."""

RETRY_AFTER: Final = timedelta(seconds=10)
"""When a bus that is away, or has too much to do, is worth asking again."""


class BusUnavailableError(Exception):
    """The bus did not take or give a message; asking again may work, *retry_after* from now."""

    def __init__(self, message: str, *, retry_after: timedelta = RETRY_AFTER) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class MessageTooLargeError(Exception):
    """A message that the bus will never take. *size* and *limit* are in bytes."""

    def __init__(self, queue: str, message_id: str, *, size: int, limit: int) -> None:
        super().__init__(f"{queue}: message {message_id} is {size:,} bytes, and the bus takes {limit:,} at most")
        self.queue = queue
        self.message_id = message_id
        self.size = size
        self.limit = limit


# Structs, because a frozen dataclass takes ten times as long to make and every message is made at every hop. They
# hold plain values and can be in no cycle, so the garbage collector need not look at them.
class Message(msgspec.Struct, frozen=True, gc=False):
    """A message to send. *message_id*, of 1 to 128 characters, is what duplicate detection goes by.

    Ids that differ in upper and lower case or in blanks only may be taken for the same.
    """

    body: bytes
    message_id: str
    correlation_id: str | None = None
    properties: Mapping[str, Property] = msgspec.field(default_factory=dict)


class ReceivedMessage(msgspec.Struct, frozen=True, gc=False):
    """A message under a lock. *delivery_count* counts this delivery too, so the first is 1."""

    queue: str
    sequence_number: int
    lock_token: str
    body: bytes
    message_id: str
    correlation_id: str | None
    properties: Mapping[str, Property]
    delivery_count: int
    enqueued_at: datetime
    locked_until: datetime


@dataclass(frozen=True, slots=True)
class ScheduledMessage:
    """A message that can be received from *due_at* on."""

    message_id: str
    properties: Mapping[str, Property]
    due_at: datetime


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that the bus gave up on, where it came from, and why; *dead_lettered_at* where the bus tells it."""

    queue: str
    sequence_number: int
    body: bytes
    message_id: str
    correlation_id: str | None
    properties: Mapping[str, Property]
    delivery_count: int
    enqueued_at: datetime
    dead_lettered_at: datetime | None
    reason: str
    description: str


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many messages of a queue can be received now, are under a lock, are due later, are given up on.

    A bus that can't tell a locked message from one that waits counts it as active. *oldest_enqueued_at* is the enqueue
    time of the oldest that is active or locked. *at_least* names the counts that were broken off, because counting is
    reading there: they are that many or more.
    """

    active: int
    locked: int
    scheduled: int
    dead_lettered: int
    oldest_enqueued_at: datetime | None
    at_least: frozenset[str] = frozenset()


class MessageBus(Protocol):
    """What the product needs of a bus. Names a queue of :mod:`messaging.queues`; others raise ``KeyError``."""

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        """Send all of *messages*, to be received now or after *delay*. Returns once the bus has them for good.

        A message whose id was sent to the queue within its duplicate window is dropped, without an error: sending
        again is harmless where it is not known what became of the first time.

        Raises:
            BusUnavailableError: the bus took none, or it is not known which.
            MessageTooLargeError: one of them is too large; nothing was sent.
        """

    async def depths(self) -> dict[str, QueueDepth]:
        """The depth of every queue."""

    async def dead_letters(self, queue: str, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        """Up to *limit* dead letters of *queue* with a sequence number above *after*, oldest first; they stay there."""

    async def remove_dead_letters(self, queue: str, sequence_numbers: Sequence[int]) -> int:
        """Take dead letters off the queue for good; how many there were and nobody else held."""

    async def close(self) -> None:
        """Give back connections and locks."""


class QueueReceiver(Protocol):
    """The receiving half, which the host of the functions needs (on Azure, the Functions host itself)."""

    async def receive(self, queue: str, *, max_messages: int) -> list[ReceivedMessage]:
        """Up to *max_messages*, oldest first, each locked for the queue's lock duration.

        Empty when there are none; it does not wait. A message received oftener than the queue's maximum is
        dead-lettered instead (``MaxDeliveryCountExceeded``).
        """

    async def complete(self, messages: Sequence[ReceivedMessage]) -> int:
        """Take the messages off their queue; how many were still under this lock."""

    async def abandon(self, messages: Sequence[ReceivedMessage]) -> int:
        """Free the locks at once; the delivery counts stay. How many were still under this lock."""

    async def renew(self, messages: Sequence[ReceivedMessage]) -> int:
        """Lock for the queue's lock duration from now; how many were still under this lock."""

    async def dead_letter(self, messages: Sequence[ReceivedMessage], *, reason: str, description: str) -> int:
        """Give up on the messages, for *reason*."""
