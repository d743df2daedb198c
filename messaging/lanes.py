"""Lanes: a tenant above its rate goes on in the bulk lane, so that a flood delays only itself."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from messaging.bus import Message, MessageBus
from messaging.bus_in_front import BusInFront
from messaging.queues import INGESTION_EVENTS, INGESTION_EVENTS_BULK

EVENTS_PER_SECOND = 100.0
"""Events a second of one tenant that one process takes down the live lane for as long as they come."""

BURST_SECONDS = 10.0
"""A tenant that was quiet may have the events of so many seconds at once."""

_MOST_TENANTS = 10_000


class TenantRates:
    """How many events of each tenant may still go at once. Each process counts for itself."""

    def __init__(
        self, events_per_second: float = EVENTS_PER_SECOND, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = events_per_second
        self._monotonic = monotonic
        self._left: dict[object, tuple[float, float]] = {}
        """By tenant: how many events may go at once, as of when."""

    def allows(self, tenant: object) -> bool:
        """Whether one more event of *tenant* is within its rate; it is counted if so."""
        now = self._monotonic()
        most = self._rate * BURST_SECONDS
        left, since = self._left.get(tenant, (most, now))
        left = min(most, left + (now - since) * self._rate)
        if len(self._left) >= _MOST_TENANTS and tenant not in self._left:
            self._left.clear()
        allowed = left >= 1
        self._left[tenant] = (left - 1 if allowed else left, now)
        return allowed


class LaneBus(BusInFront):
    """A bus that sends the events of a tenant above its rate to ``ingestion-events-bulk``; the rest is *bus* itself."""

    def __init__(self, bus: MessageBus, rates: TenantRates) -> None:
        super().__init__(bus)
        self._rates = rates

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        """See :meth:`messaging.bus.MessageBus.send`."""
        if queue != INGESTION_EVENTS:
            await self._bus.send(queue, messages, delay=delay)
            return
        lanes: Mapping[str, list[Message]] = {INGESTION_EVENTS: [], INGESTION_EVENTS_BULK: []}
        for message in messages:
            live = self._rates.allows(message.properties.get("tenantId"))
            lanes[INGESTION_EVENTS if live else INGESTION_EVENTS_BULK].append(message)
        for lane, part in lanes.items():
            if part:
                await self._bus.send(lane, part, delay=delay)
