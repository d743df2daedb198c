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
    name: QueueProperties(name)
    for name in (
        INGESTION_EVENTS,
        INGESTION_EVENTS_BULK,
        SHARD_EMISSION,
        ENRICHMENT_JOBS,
        EMBEDDING_JOBS,
        SOURCE_WORK,
    )
}
