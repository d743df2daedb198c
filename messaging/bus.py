"""The port to the message bus, and the values that pass through it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

Property = str | int | bool


class BusUnavailableError(Exception):
    """The bus did not take or give a message; asking again later may work."""


# Structs, because a frozen dataclass takes ten times as long to make and every message is made at every hop. They
# hold plain values and can be in no cycle, so the garbage collector need not look at them.
class Message(msgspec.Struct, frozen=True, gc=False):
    """A message to send. *message_id* is what duplicate detection goes by."""

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
class DeadLetter:
    """A message that the bus gave up on, where it came from, and why."""

    queue: str
    sequence_number: int
    body: bytes
    message_id: str
    correlation_id: str | None
    properties: Mapping[str, Property]
    delivery_count: int
    enqueued_at: datetime
    dead_lettered_at: datetime
    reason: str
    description: str


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many messages of a queue can be received now, are under a lock, are due later, are given up on.

    *oldest_enqueued_at* is the enqueue time of the oldest that is not given up on.
    """

    active: int
    locked: int
    scheduled: int
    dead_lettered: int
    oldest_enqueued_at: datetime | None


class MessageBus(Protocol):
    """What the product needs of a bus. Names a queue of :mod:`messaging.queues`; others raise ``KeyError``."""

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        """Send all of *messages*, to be received now or after *delay*. Returns once the bus has them for good.

        A message whose id was sent to the queue within its duplicate window is dropped, without an error.

        Raises:
            BusUnavailableError: the bus took none, or it is not known which.
        """

    async def depths(self) -> dict[str, QueueDepth]:
        """The depth of every queue."""

    async def dead_letters(self, queue: str, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        """Up to *limit* dead letters of *queue* with a sequence number above *after*, oldest first; they stay there."""

    async def remove_dead_letters(self, queue: str, sequence_numbers: Sequence[int]) -> int:
        """Take dead letters off the queue for good; how many there were."""

    async def close(self) -> None:
        """Give back connections and locks."""


class QueueReceiver(Protocol):
    """The receiving half, which the host of the functions needs (on Azure, the Functions host itself)."""

    async def receive(
        self, queue: str, *, max_messages: int, lock_for: timedelta | None = None
    ) -> list[ReceivedMessage]:
        """Up to *max_messages*, oldest first, each locked for *lock_for* (the queue's own duration when None).

        Empty when there are none; it does not wait. A message received oftener than the queue's maximum is
        dead-lettered instead (``MaxDeliveryCountExceeded``).
        """

    async def complete(self, messages: Sequence[ReceivedMessage]) -> int:
        """Take the messages off their queue; how many were still under this lock."""

    async def abandon(self, messages: Sequence[ReceivedMessage]) -> int:
        """Free the locks at once; the delivery counts stay. How many were still under this lock."""

    async def renew(self, messages: Sequence[ReceivedMessage], *, lock_for: timedelta | None = None) -> int:
        """Prolong the locks; how many were still under this lock."""

    async def dead_letter(self, messages: Sequence[ReceivedMessage], *, reason: str, description: str) -> int:
        """Give up on the messages, for *reason*."""
