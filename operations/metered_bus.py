"""A bus whose sends are counted and told by a span each."""

from collections.abc import Sequence
from datetime import timedelta

from opentelemetry.trace import SpanKind

from messaging import tracing
from messaging.bus import DeadLetter, Message, MessageBus, QueueDepth
from operations.metrics import Metrics


class MeteredBus:
    """*bus*, with what is sent through it counted."""

    def __init__(self, bus: MessageBus, metrics: Metrics) -> None:
        self._bus = bus
        self._metrics = metrics

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        """See :meth:`messaging.bus.MessageBus.send`."""
        attributes = tracing.message_attributes(queue, "send", "send")
        attributes["messaging.batch.message_count"] = len(messages)
        # Not a producer: what the messages carry are the spans in which each of them was made.
        with tracing.span(f"send {queue}", attributes, kind=SpanKind.CLIENT):
            await self._bus.send(queue, messages, delay=delay)
        self._metrics.sent(queue, messages)

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
