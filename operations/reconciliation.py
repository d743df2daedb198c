"""Reconcile: what stayed behind is emitted again, from the stage after the last one it finished."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from messaging import tracing
from messaging.bus import Message, MessageBus
from messaging.contracts import EnrichmentJob, ShardEmission
from messaging.queues import EMBEDDING_JOBS, ENRICHMENT_JOBS, SHARD_EMISSION
from messaging.times import Clock, to_text
from operations.metrics import Metrics
from shards.parked import ParkedMessages, parked_id
from shards.store import Progress, ShardStore

log = logging.getLogger(__name__)

BATCH = 1000
CHAIN_QUEUES = (SHARD_EMISSION, ENRICHMENT_JOBS, EMBEDDING_JOBS)


@dataclass(frozen=True, slots=True)
class ReconciliationPorts:
    """What reconciliation reaches of the world."""

    store: ShardStore
    parked: ParkedMessages
    bus: MessageBus
    clock: Clock
    metrics: Metrics


async def reconcile(ports: ReconciliationPorts, *, after: timedelta) -> int:
    """Emit again for each shard of which a stage is behind and nothing moved for *after*; how many there were.

    Each sweep is a generation of its own: under their old ids the messages would be dropped as duplicates. A shard
    whose text is prepared but not embedded goes through preparation again, which names the chunks without a vector.
    Left alone are shards whose message may still wait in a queue, and those whose message is parked.
    """
    now = ports.clock()
    depths = await ports.bus.depths()
    ports.metrics.queues(depths, now)
    waiting = [depths[queue].oldest_enqueued_at for queue in CHAIN_QUEUES]
    before = min([now, *(moment for moment in waiting if moment is not None)]) - after
    behind = await _behind(ports, to_text(before))
    if not behind:
        return 0
    generation = int(now.timestamp())
    emissions = [_emission(progress, generation) for progress in behind if progress.enriched < progress.normalized]
    jobs = [_job(progress, generation) for progress in behind if progress.enriched >= progress.normalized]
    await _send(ports.bus, SHARD_EMISSION, emissions)
    await _send(ports.bus, ENRICHMENT_JOBS, jobs)
    log.info("reconciled %d shards: %d to enrich, %d to prepare", len(behind), len(emissions), len(jobs))
    return len(behind)


async def observe(ports: ReconciliationPorts) -> None:
    """Measure what is parked and which stages are behind, where anyone is told."""
    if ports.metrics.on:
        ports.metrics.parked(await ports.parked.parked_counts())
        behind = await ports.store.stages_behind()
        ports.metrics.behind({stage.value: count for stage, count in behind.items()})


async def _behind(ports: ReconciliationPorts, before: str) -> list[Progress]:
    """Up to :data:`BATCH` shards that stand still, those left out whose message is parked."""
    limit = BATCH
    while True:
        lagging = await ports.store.lagging(before=before, limit=limit)
        behind = [progress for progress in lagging if not await _is_parked(progress, ports.parked)]
        if len(behind) >= BATCH or len(lagging) < limit:
            return behind[:BATCH]
        # The parked ones stand still longest and come first, so they must not be all that is looked at.
        limit *= 2


async def _is_parked(progress: Progress, parked: ParkedMessages) -> bool:
    if progress.enriched < progress.normalized:
        queue = SHARD_EMISSION
    elif progress.prepared < progress.normalized:
        queue = ENRICHMENT_JOBS
    else:
        queue = EMBEDDING_JOBS
    of_shard = parked_id(queue, f"{progress.tenant_id}|{progress.shard_id}")
    return await parked.get_parked(of_shard, progress.tenant_id) is not None


async def _send(bus: MessageBus, queue: str, messages: Sequence[Message]) -> None:
    if messages:
        await bus.send(queue, messages)


def _emission(progress: Progress, generation: int) -> Message:
    return ShardEmission(
        tenant_id=progress.tenant_id,
        shard_id=progress.shard_id,
        shard_type_id=progress.shard_type_id,
        revision=progress.normalized,
        change_type="update",
        generation=generation,
        traceparent=tracing.new_trace(SHARD_EMISSION, progress.tenant_id),
    ).to_message(SHARD_EMISSION, generation=generation)


def _job(progress: Progress, generation: int) -> Message:
    return EnrichmentJob(
        tenant_id=progress.tenant_id,
        shard_id=progress.shard_id,
        shard_type_id=progress.shard_type_id,
        revision=progress.normalized,
        generation=generation,
        traceparent=tracing.new_trace(ENRICHMENT_JOBS, progress.tenant_id),
    ).to_message(ENRICHMENT_JOBS, generation=generation)
