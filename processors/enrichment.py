"""Enrich: the links that a shard's own fields tell. A link may be written before its target exists."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from messaging.bus import MessageBus
from messaging.contracts import EnrichmentJob, ShardEmission
from messaging.queues import ENRICHMENT_JOBS
from messaging.times import Clock, to_text
from processors.delivery import Delivery
from processors.outcome import DONE, Later, Outcome, Park
from shards.identity import InvalidExternalIdError, link_id, shard_id
from shards.model import ExternalRelationship, InternalRelationship, Shard
from shards.store import ShardStore, ShardWrite, Stage
from shards.types import LinkTarget, shard_type

STRUCTURED_FIELD = "structured-field"
"""The method of links that come from a field which holds the target's id."""
STRUCTURED_FIELD_CONFIDENCE = Decimal("0.9")

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
        correlation_id=emission.correlation_id,
        traceparent=emission.traceparent,
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


def with_structured_links(shard: Shard, now: str) -> list[InternalRelationship]:
    """The shard's links as its fields tell them now, beside those that are not of this method's making.

    A deleted shard has no fields left; it keeps the links that its deletion left it.
    """
    if shard.status == "deleted":
        return shard.internal_relationships
    told = _structured_links(shard, now)
    kept: list[InternalRelationship] = []
    for link in shard.internal_relationships:
        if link.belongs_to_people or link.method != STRUCTURED_FIELD or link.relationship_type == "merged_into":
            kept.append(link)
            told.pop(link.id, None)
        elif link.id in told:
            kept.append(link)
            del told[link.id]
    return kept + list(told.values())


def _structured_links(shard: Shard, now: str) -> dict[str, InternalRelationship]:
    links: dict[str, InternalRelationship] = {}
    kind = shard_type(shard.shard_type_id)
    for source in shard.external_relationships:
        for told in kind.link_targets(source.system, shard.structured_data):
            target = _target_id(shard, source, told)
            if target is None or target == shard.id:
                continue
            made = link_id(shard.id, told.relationship_type, target)
            links[made] = InternalRelationship(
                id=made,
                target_shard_id=target,
                target_shard_type_id=told.target_shard_type_id,
                relationship_type=told.relationship_type,
                status="active",
                confidence=STRUCTURED_FIELD_CONFIDENCE,
                source="messaging" if source.system_type == "messaging" else "crm",
                method=STRUCTURED_FIELD,
                evidence={"field": told.source_field},
                created_at=now,
                created_by="system",
            )
    return links


def _target_id(shard: Shard, source: ExternalRelationship, told: LinkTarget) -> str | None:
    """The target's shard id; None when the field holds no id of its system (the field itself stays as it came)."""
    if told.shard_id is not None:
        return told.shard_id
    if told.object_type is None or told.external_id is None:
        return None
    try:
        return shard_id(shard.tenant_id, source.system, source.instance, told.object_type, told.external_id)
    except InvalidExternalIdError:
        return None
