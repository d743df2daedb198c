"""What this process has done since it started: messages and seconds by stage, events by source."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from messaging.contracts import Contract, IngestionEvent
from messaging.queues import (
    EMBEDDING_JOBS,
    ENRICHMENT_JOBS,
    INGESTION_EVENTS,
    INGESTION_EVENTS_BULK,
    SHARD_EMISSION,
)

STAGE_OF_QUEUE: Final = {
    INGESTION_EVENTS: "normalize",
    INGESTION_EVENTS_BULK: "normalize",
    SHARD_EMISSION: "enrich",
    ENRICHMENT_JOBS: "prepare",
    EMBEDDING_JOBS: "embed",
}
"""The stage that consumes each queue of the chain."""


class StageMeter:
    """Counts by stage and source. Seconds are elapsed time within the stage; stages overlap."""

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.events: Counter[str] = Counter()

    def record(self, queue: str, contracts: Sequence[Contract], seconds: float) -> None:
        """A batch of *queue* was processed in *seconds*."""
        stage = STAGE_OF_QUEUE.get(queue, queue)
        self.messages[stage] += len(contracts)
        self.seconds[stage] += seconds
        for contract in contracts:
            if isinstance(contract, IngestionEvent):
                self.events[contract.source] += 1
