"""Embed: a vector for each chunk that lacks one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from messaging.contracts import EmbeddingJob
from processors.delivery import Delivery
from processors.models.embedding import EmbeddingModel
from processors.outcome import DONE, Outcome
from shards.store import ShardStore, Stage


class VectorMeter(Protocol):
    """Counts vectors."""

    def embedded(self, vectors: int, pipeline: str | None) -> None:
        """So many vectors were made and stored for shards that came by *pipeline*."""


@dataclass(frozen=True, slots=True)
class EmbeddingPorts:
    """What embedding reaches of the world."""

    store: ShardStore
    model: EmbeddingModel
    meter: VectorMeter


async def embed(deliveries: Sequence[Delivery[EmbeddingJob]], ports: EmbeddingPorts) -> list[Outcome]:
    """Embed the chunks that the jobs name and that still have the hash they name; equal texts are embedded once.

    A chunk that changed since, or went, is another job's. A shard is done when none of its chunks lacks a vector.
    """
    tenants: dict[str, list[EmbeddingJob]] = {}
    for delivery in deliveries:
        tenants.setdefault(delivery.value.tenant_id, []).append(delivery.value)
    for tenant_id, jobs in tenants.items():
        await _embed_tenant(tenant_id, jobs, ports)
    return [DONE] * len(deliveries)


async def _embed_tenant(tenant_id: str, jobs: Sequence[EmbeddingJob], ports: EmbeddingPorts) -> None:
    # A batch may name one chunk under several hashes, in any order: whichever of them the chunk has now is meant.
    wanted = {(reference.chunk_id, reference.hash): job.pipeline for job in jobs for reference in job.chunks}
    chunks = await ports.store.chunks_by_id(tenant_id, list(dict.fromkeys(identifier for identifier, _ in wanted)))
    current = [chunk for chunk in chunks if (chunk.id, chunk.hash) in wanted]
    if current:
        rows: dict[str, int] = {}
        texts: list[str] = []
        for chunk in current:
            if chunk.hash not in rows:
                rows[chunk.hash] = len(texts)
                texts.append(chunk.text)
        vectors = await ports.model.embed(texts)
        if len(texts) != len(current):
            vectors = vectors[[rows[chunk.hash] for chunk in current]]
        await ports.store.put_vectors(
            tenant_id, [(chunk.id, chunk.hash) for chunk in current], vectors, model=ports.model.name
        )
        for pipeline, made in Counter(wanted[chunk.id, chunk.hash] for chunk in current).items():
            ports.meter.embedded(made, pipeline)
    newest: dict[str, EmbeddingJob] = {}
    for job in jobs:
        if job.shard_id not in newest or newest[job.shard_id].revision < job.revision:
            newest[job.shard_id] = job
    incomplete = await ports.store.shards_without_vectors(tenant_id, list(newest))
    complete = [job for shard, job in newest.items() if shard not in incomplete]
    if complete:
        await ports.store.advance(
            tenant_id, Stage.EMBEDDED, [(job.shard_id, job.shard_type_id, job.revision) for job in complete]
        )
