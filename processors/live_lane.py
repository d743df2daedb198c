"""The live lane: events of a tenant above its rate are moved to the bulk lane before anything is done for them.

What the app itself sends is told apart as it is sent (:mod:`messaging.lanes`); this is for what others put on the
queue, and for what several processes send together.
"""

from collections.abc import Sequence

from messaging.contracts import IngestionEvent
from messaging.lanes import TenantRates
from messaging.queues import INGESTION_EVENTS_BULK
from processors.delivery import Delivery
from processors.normalization import NormalizationPorts, normalize
from processors.outcome import DONE, Outcome


async def normalize_live(
    deliveries: Sequence[Delivery[IngestionEvent]], ports: NormalizationPorts, rates: TenantRates
) -> list[Outcome]:
    """As :func:`~processors.normalization.normalize`, of what is within its tenant's rate; the rest is moved.

    Copies and replays stay: under the id they would have in the bulk lane, the bus may have seen the first of them.

    Raises:
        BusUnavailableError: what is to be moved could not be.
    """
    moved = [
        index
        for index, delivery in enumerate(deliveries)
        if not delivery.redelivered and not rates.allows(delivery.value.tenant_id)
    ]
    if moved:
        messages = [deliveries[index].value.to_message(INGESTION_EVENTS_BULK) for index in moved]
        await ports.bus.send(INGESTION_EVENTS_BULK, messages)
    leaving = set(moved)
    staying = [index for index in range(len(deliveries)) if index not in leaving]
    outcomes: list[Outcome] = [DONE] * len(deliveries)
    if staying:
        done = await normalize([deliveries[index] for index in staying], ports)
        for index, outcome in zip(staying, done, strict=True):
            outcomes[index] = outcome
    return outcomes
