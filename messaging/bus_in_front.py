"""A bus that stands before another one: what a wrapper does not change goes to the bus behind."""

from collections.abc import Sequence
from datetime import timedelta

from messaging.bus import DeadLetter, Message, MessageBus, QueueDepth


class BusInFront:
    """*bus* itself, for a subclass to change a part of."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        """See :meth:`messaging.bus.MessageBus.send`."""
        await self._bus.send(queue, messages, delay=delay)

    async def depths(self) -> dict[str, QueueDepth]:
        """See :meth:`messaging.bus.MessageBus.depths`."""
        return await self._bus.depths()

    async def dead_letters(self, queue: str, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        """See :meth:`messaging.bus.MessageBus.dead_letters`."""
        return await self._bus.dead_letters(queue, limit=limit, after=after)

    async def remove_dead_letters(self, queue: str, sequence_numbers: Sequence[int]) -> int:
        """See :meth:`messaging.bus.MessageBus.remove_dead_letters`."""
        return await self._bus.remove_dead_letters(queue, sequence_numbers)

    async def close(self) -> None:
        """See :meth:`messaging.bus.MessageBus.close`."""
        await self._bus.close()
