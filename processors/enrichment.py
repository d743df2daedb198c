"""Enrich: a shard's links in step with its fields.

The chain's own shards come with the links that their fields tell, and pass with a read. What was written elsewhere, or
by rules that have changed since, is brought in step here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from messaging.bus import MessageBus
from messaging.contracts import EnrichmentJob, ShardEmission
from messaging.queues import ENRICHMENT_JOBS
from messaging.times import Clock, to_text
from processors.delivery import Delivery
from processors.outcome import DONE, Later, Outcome, Park
from processors.structured_links import with_structured_links
from shards.model import Shard
from shards.store import ShardStore, ShardWrite, Stage

WRITE_TRIES = 5
CONTENTION_DELAY = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class EnrichmentPorts:
    """What enrichment reaches of the world."""

    store: ShardStore
    bus: MessageBus
    clock: Clock


async def enrich(deliveries: Sequence[Delivery[ShardEmission]], ports: EnrichmentPorts) -> list[Outcome]:
    """Bring each shard's links in step with its fields and pass it on to preparation.

    Links change the etag, not the revision. Links made or rejected by people, and links of other methods, stay.
    """
    outcomes: list[Outcome] = [DONE] * len(deliveries)
    tenants: dict[str, dict[str, list[int]]] = {}
    for index, delivery in enumerate(deliveries):
        emission = delivery.value
        tenants.setdefault(emission.tenant_id, {}).setdefault(emission.shard_id, []).append(index)
    for tenant_id, wanted in tenants.items():
        linked, contended = await _link(tenant_id, list(wanted), ports)
        jobs: list[EnrichmentJob] = []
        for this_shard, indexes in wanted.items():
            if this_shard in contended:
                for index in indexes:
                    outcomes[index] = Later(CONTENTION_DELAY, "other writers keep changing the shard")
            elif this_shard not in linked:
                for index in indexes:
                    outcomes[index] = Park("shard-missing", f"there is no shard {this_shard} to enrich")
            else:
                emission = deliveries[indexes[-1]].value
                jobs.append(_job(linked[this_shard], emission))
        if jobs:
            await ports.store.advance(
                tenant_id, Stage.ENRICHED, [(job.shard_id, job.shard_type_id, job.revision) for job in jobs]
            )
            await ports.bus.send(
                ENRICHMENT_JOBS, [job.to_message(ENRICHMENT_JOBS, generation=job.generation) for job in jobs]
            )
    return outcomes


def _job(shard: Shard, emission: ShardEmission) -> EnrichmentJob:
    return EnrichmentJob(
        tenant_id=shard.tenant_id,
        shard_id=shard.id,
        shard_type_id=shard.shard_type_id,
        revision=shard.revision,
        generation=emission.generation,
        observed_at=emission.observed_at,
        correlation_id=emission.correlation_id,
        traceparent=emission.traceparent,
        pipeline=emission.pipeline,
    )


async def _link(tenant_id: str, wanted: list[str], ports: EnrichmentPorts) -> tuple[dict[str, Shard], set[str]]:
    """The shards with their links in step, by id, and the ids of those that others kept changing."""
    linked: dict[str, Shard] = {}
    pending = wanted
    for _ in range(WRITE_TRIES):
        shards = await ports.store.get_many(tenant_id, pending)
        now = to_text(ports.clock())
        writes: list[Shard] = []
        for shard in shards.values():
            links = with_structured_links(shard, now)
            linked[shard.id] = shard
            if links != shard.internal_relationships:
                shard.internal_relationships = links
                writes.append(shard)
        if not writes:
            return linked, set()
        etags = await ports.store.write_many([ShardWrite(shard, shard.etag) for shard in writes])
        pending = [shard.id for shard, etag in zip(writes, etags, strict=True) if etag is None]
        if not pending:
            return linked, set()
    return linked, set(pending)
