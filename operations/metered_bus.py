"""A bus whose sends are counted and told by a span each."""

from collections.abc import Sequence
from datetime import timedelta

from opentelemetry.trace import SpanKind

from messaging import tracing
from messaging.bus import Message, MessageBus
from messaging.bus_in_front import BusInFront
from operations.metrics import Metrics


class MeteredBus(BusInFront):
    """*bus*, with what is sent through it counted."""

    def __init__(self, bus: MessageBus, metrics: Metrics) -> None:
        super().__init__(bus)
        self._metrics = metrics

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        """See :meth:`messaging.bus.MessageBus.send`."""
        attributes = tracing.message_attributes(queue, "send", "send")
        attributes["messaging.batch.message_count"] = len(messages)
        # Not a producer: what the messages carry are the spans in which each of them was made.
        with tracing.span(f"send {queue}", attributes, kind=SpanKind.CLIENT):
            await self._bus.send(queue, messages, delay=delay)
        self._metrics.sent(queue, messages)
