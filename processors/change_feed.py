"""The change feed's way in: shards that others than the chain have written get their chunks and vectors.

The feed is a hint: it tells which shards to look at, and what is prepared is read from the store. The chain's own
writes are in the feed too and are passed by, as are its items that are no shards.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Annotated, Any, Protocol

import msgspec

from messaging import codec, tracing
from messaging.bus import BusUnavailableError, MessageBus
from messaging.contracts import EnrichmentJob, is_tenant_id
from messaging.queues import EMBEDDING_JOBS, ENRICHMENT_JOBS
from messaging.times import Clock, to_text
from processors.delivery import Delivery
from processors.outcome import Park
from processors.preparation import PreparationPorts, prepare
from shards.identity import SHARD_ID_PREFIX
from shards.parked import ParkedMessages, parked_message
from shards.store import ShardStore, Stage, StoreUnavailableError

log = logging.getLogger(__name__)

CHAIN = "chain"
"""Who wrote what has its own way on through the queues."""


_Name = Annotated[str, msgspec.Meta(min_length=1)]


class _ChangedShard(msgspec.Struct, rename="camel"):
    """What the feed must tell of a shard: all that a job about it needs."""

    id: _Name
    tenant_id: str
    shard_type_id: _Name
    revision: Annotated[int, msgspec.Meta(ge=1)]
    written_by: str = CHAIN
    updated_at: str | None = None

    def __post_init__(self) -> None:
        if not is_tenant_id(self.tenant_id):
            raise ValueError("no message can name its tenant")


class FeedMeter(Protocol):
    """Counts changes."""

    def followed(self, *, done: int, failed: int, seconds: float) -> None:
        """Changes that others wrote were prepared; those that *failed* go on as jobs of their own."""


@dataclass(frozen=True, slots=True)
class ChangeFeedPorts:
    """What following the change feed reaches of the world."""

    store: ShardStore
    bus: MessageBus
    parked: ParkedMessages
    preparation: PreparationPorts
    clock: Clock
    meter: FeedMeter


async def prepare_changes(documents: Iterable[Mapping[str, Any]], ports: ChangeFeedPorts) -> int:
    """Prepare the shards among *documents* that the chain did not write; how many there were.

    A shard whose preparation fails goes on as an enrichment job of its own, which is tried again with backoff and then
    parked like any other, so that it holds back nothing and is not passed over.

    Raises:
        BusUnavailableError, StoreUnavailableError: none of it is lost, the same changes must come again.
    """
    changed: dict[tuple[str, str], _ChangedShard] = {}
    for document in documents:
        if document.get("writtenBy") == CHAIN or not str(document.get("id")).startswith(SHARD_ID_PREFIX):
            continue
        try:
            shard = msgspec.convert(dict(document), _ChangedShard)
        except msgspec.ValidationError as error:
            await _park(document, f"a changed shard can't be read: {error}", ports)
        else:
            changed[shard.tenant_id, shard.id] = shard
    started, failed = perf_counter(), 0
    if changed:
        attributes: tracing.Attributes = {"shardline.pipeline": "integration", "shardline.changes": len(changed)}
        with tracing.span("process change-feed", attributes):
            for tenant_id in {tenant_id for tenant_id, _ in changed}:
                shards = [shard for shard in changed.values() if shard.tenant_id == tenant_id]
                failed += await _prepare_tenant(tenant_id, shards, ports)
        ports.meter.followed(done=len(changed) - failed, failed=failed, seconds=perf_counter() - started)
    return len(changed)


async def _prepare_tenant(tenant_id: str, shards: list[_ChangedShard], ports: ChangeFeedPorts) -> int:
    """Prepare changed shards of one tenant; how many go on as jobs of their own."""
    jobs = [
        EnrichmentJob(
            tenant_id=tenant_id,
            shard_id=shard.id,
            shard_type_id=shard.shard_type_id,
            revision=shard.revision,
            observed_at=shard.updated_at,
            traceparent=tracing.new_trace(EMBEDDING_JOBS, tenant_id),
            pipeline="integration",
        )
        for shard in shards
    ]
    # Whoever wrote them has given them their links. From here on the reconciler knows them too.
    written = [(shard.id, shard.shard_type_id, shard.revision) for shard in shards]
    await ports.store.advance(tenant_id, Stage.NORMALIZED, written)
    await ports.store.advance(tenant_id, Stage.ENRICHED, written)
    try:
        await _prepare(jobs, ports)
    except (BusUnavailableError, StoreUnavailableError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, each shard is tried alone and then has its own end
        log.warning("%d changed shards of %s can't be prepared together (%s)", len(jobs), tenant_id, error)
        return sum([not await _prepared_or_handed_on(job, ports) for job in jobs])
    return 0


async def _prepared_or_handed_on(job: EnrichmentJob, ports: ChangeFeedPorts) -> bool:
    """Whether *job* could be prepared; if not, it goes on as a job of its own."""
    try:
        await _prepare([job], ports)
    except (BusUnavailableError, StoreUnavailableError):
        raise
    except Exception as error:  # noqa: BLE001 - the queue tries it again, and parks it with its reason
        log.warning("shard %s of %s goes on as a job of its own: %s", job.shard_id, job.tenant_id, error)
        await ports.bus.send(ENRICHMENT_JOBS, [job.to_message(ENRICHMENT_JOBS)])
        return False
    return True


async def _prepare(jobs: list[EnrichmentJob], ports: ChangeFeedPorts) -> None:
    outcomes = await prepare([Delivery(job) for job in jobs], ports.preparation)
    for job, outcome in zip(jobs, outcomes, strict=True):
        if isinstance(outcome, Park):
            # The one reason is that the shard is gone by now, and its chunks with it.
            log.info("shard %s of %s: %s", job.shard_id, job.tenant_id, outcome.detail)


async def _park(document: Mapping[str, Any], detail: str, ports: ChangeFeedPorts) -> None:
    await ports.parked.park(
        [
            parked_message(
                queue=ENRICHMENT_JOBS,
                body=codec.encode(dict(document)),
                message_id=f"change feed {document.get('id')}",
                correlation_id=None,
                properties={},
                delivery_count=1,
                reason="invalid-shard",
                detail=detail,
                parked_at=to_text(ports.clock()),
            )
        ]
    )
