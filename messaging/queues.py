"""The queues, each named here and nowhere else, with the properties that the code relies on."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

INGESTION_EVENTS: Final = "ingestion-events"
INGESTION_EVENTS_BULK: Final = "ingestion-events-bulk"
SHARD_EMISSION: Final = "shard-emission"
ENRICHMENT_JOBS: Final = "enrichment-jobs"
EMBEDDING_JOBS: Final = "embedding-jobs"
SOURCE_WORK: Final = "source-work"


@dataclass(frozen=True, slots=True)
class QueueProperties:
    """What every home of the bus gives a queue; the same values stand in the deployment's queue definitions."""

    name: str
    lock_duration: timedelta = timedelta(minutes=5)
    max_delivery_count: int = 10
    duplicate_detection_window: timedelta = timedelta(minutes=10)


QUEUES: Final[dict[str, QueueProperties]] = {
    properties.name: properties
    for properties in (
        QueueProperties(INGESTION_EVENTS),
        QueueProperties(INGESTION_EVENTS_BULK),
        QueueProperties(SHARD_EMISSION),
        QueueProperties(ENRICHMENT_JOBS),
        QueueProperties(EMBEDDING_JOBS),
        # A poll may run for minutes and keeps what it has read, so a host that ends in the middle of it is no sign
        # that the work is what ended it.
        QueueProperties(SOURCE_WORK, max_delivery_count=100),
    )
}
