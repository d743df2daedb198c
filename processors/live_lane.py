"""The live lane: events of a tenant above its rate are moved to the bulk lane before anything is done for them.

What the app itself sends is told apart as it is sent (:mod:`messaging.lanes`); this is for what others put on the
queue, and for what several processes send together.
"""

from dataclasses import dataclass
from typing import Final

from messaging import codec
from messaging.lanes import TenantRates
from messaging.queues import INGESTION_EVENTS_BULK
from processors.incoming import IncomingMessage

TENANT: Final = "tenantId"
"""A property of every message that the app sends, and a field of every body."""


@dataclass(frozen=True, slots=True)
class AboveRate:
    """Diverts what is above its tenant's rate to the bulk lane.

    What is delivered again stays: a broken try may have written without emitting, and that is known here alone.
    """

    rates: TenantRates
    queue: str = INGESTION_EVENTS_BULK

    def takes(self, message: IncomingMessage) -> bool:
        """Whether *message* goes on in the bulk lane. Each is to be asked about once: it counts."""
        if message.delivery_count > 1:
            return False
        tenant = _tenant(message)
        return tenant is not None and not self.rates.allows(tenant)


def _tenant(message: IncomingMessage) -> str | None:
    """Whose the message is; None where it does not tell, and is parked in a moment."""
    tenant = message.application_properties.get(TENANT)
    if tenant is None:
        try:
            content = codec.decode(message.get_body())
        except codec.DecodeError:
            return None
        tenant = content.get(TENANT) if isinstance(content, dict) else None
    return tenant if isinstance(tenant, str) else None
