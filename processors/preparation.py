"""Prepare: a shard's text in chunks. Only chunks that changed go on."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from messaging.bus import MessageBus
from messaging.contracts import MAX_CHUNKS_PER_JOB, ChunkReference, EmbeddingJob, EnrichmentJob
from messaging.queues import EMBEDDING_JOBS
from messaging.times import Clock, to_milliseconds, to_text
from processors.chunking import pieces
from processors.delivery import Delivery
from processors.outcome import DONE, Outcome, Park
from processors.threads import thread_parts, thread_root
from shards.blobs import BlobMissingError, BlobStore, BlobTooLargeError
from shards.file_text import LARGEST_DOCUMENT, FileTextInvalidError, read_text_document
from shards.identity import chunk_id
from shards.model import Chunk, Shard
from shards.store import ChunkState, ShardStore, Stage
from shards.types import TextPart, shard_type

TEXTS_AT_ONCE = 8
"""How many shards with texts in the blob store are prepared together: their texts are in memory then."""


@dataclass(frozen=True, slots=True)
class PreparationPorts:
    """What preparation reaches of the world."""

    store: ShardStore
    bus: MessageBus
    blobs: BlobStore
    clock: Clock


@dataclass(slots=True)
class _Plan:
    """What one shard's chunks need."""

    shard: Shard
    job: EnrichmentJob
    hashes: list[str]
    write: list[Chunk]
    stale: list[str]
    without_vector: list[ChunkReference]


_Work = tuple[Shard, EnrichmentJob]


async def prepare(deliveries: Sequence[Delivery[EnrichmentJob]], ports: PreparationPorts) -> list[Outcome]:
    """Bring each shard's chunks in step with its text, and ask for the vectors that are missing.

    Chunks are written, then progress, then the old chunks deleted: broken off anywhere, the step can be run again, and
    a shard that was left without a vector stands as not embedded until it is.
    """
    outcomes: list[Outcome] = [DONE] * len(deliveries)
    tenants: dict[str, dict[str, EnrichmentJob]] = {}
    for delivery in deliveries:
        tenants.setdefault(delivery.value.tenant_id, {})[delivery.value.shard_id] = delivery.value
    for tenant_id, jobs in tenants.items():
        shards = await ports.store.get_many(tenant_id, list(jobs))
        for index, delivery in enumerate(deliveries):
            job = delivery.value
            if job.tenant_id == tenant_id and job.shard_id not in shards:
                outcomes[index] = Park("shard-missing", f"there is no shard {job.shard_id} to prepare")
        # A root's text holds its replies, so a reply's job is one of its root too.
        replies = {root: jobs[shard.id] for shard in shards.values() if (root := thread_root(shard)) is not None}
        shards |= await ports.store.get_many(tenant_id, [root for root in replies if root not in shards])
        causes = jobs | replies
        work = [(shard, causes[shard.id]) for shard in shards.values()]
        unreadable: dict[str, Park] = {}
        for group in _groups(work):
            unreadable |= await _prepare_together(tenant_id, group, ports)
        for index, delivery in enumerate(deliveries):
            if delivery.value.tenant_id == tenant_id and delivery.value.shard_id in unreadable:
                outcomes[index] = unreadable[delivery.value.shard_id]
    return outcomes


def _groups(work: Sequence[_Work]) -> Iterator[Sequence[_Work]]:
    """*work* in parts that are prepared together: all without a text in the blob store, the others a few at a time."""
    large = [(shard, job) for shard, job in work if _content_ref(shard)]
    yield [(shard, job) for shard, job in work if not _content_ref(shard)]
    for start in range(0, len(large), TEXTS_AT_ONCE):
        yield large[start : start + TEXTS_AT_ONCE]


def _content_ref(shard: Shard) -> str | None:
    return shard.unstructured_data.content_ref if shard.unstructured_data else None


async def _prepare_together(tenant_id: str, work: Sequence[_Work], ports: PreparationPorts) -> dict[str, Park]:
    """Prepare shards; what becomes of those whose text can't be read."""
    done: list[_Plan] = []
    unreadable: dict[str, Park] = {}
    while work:
        plans = await _write_chunks(tenant_id, work, ports, unreadable)
        overtaken = await _overtaken(tenant_id, plans, ports.store)
        overtaken |= await _outgrown(plans, overtaken.keys(), ports)
        done.extend(plan for plan in plans if plan.shard.id not in overtaken)
        shards = await ports.store.get_many(tenant_id, list(overtaken))
        work = [(shard, _once_more(overtaken[shard.id].job, ports.clock)) for shard in shards.values()]

    complete = [plan for plan in done if not plan.without_vector]
    if complete:
        await ports.store.advance(tenant_id, Stage.EMBEDDED, [_finished(plan.shard) for plan in complete])
    jobs = [job for plan in done for job in _embedding_jobs(plan)]
    if jobs:
        await ports.bus.send(
            EMBEDDING_JOBS, [job.to_message(EMBEDDING_JOBS, generation=job.generation) for job in jobs]
        )
    return unreadable


async def _write_chunks(
    tenant_id: str, work: Sequence[_Work], ports: PreparationPorts, unreadable: dict[str, Park]
) -> list[_Plan]:
    """Write what changed of each shard's chunks; those whose text can't be read come into *unreadable*."""
    states = await ports.store.chunk_states(tenant_id, [shard.id for shard, _ in work])
    now = to_text(ports.clock())
    plans = []
    for shard, job in work:
        try:
            current, chunks = await _current_chunks(shard, now, ports)
        except _UnreadableTextError as error:
            unreadable[shard.id] = error.end
        else:
            plans.append(_plan(current, job, chunks, states.get(shard.id, {})))
    written = [chunk for plan in plans for chunk in plan.write]
    if written:
        await ports.store.put_chunks(tenant_id, written)
    await ports.store.advance(tenant_id, Stage.PREPARED, [_finished(plan.shard) for plan in plans])
    stale = [identifier for plan in plans for identifier in plan.stale]
    if stale:
        await ports.store.delete_chunks(tenant_id, stale)
    return plans


async def _overtaken(tenant_id: str, plans: Sequence[_Plan], store: ShardStore) -> dict[str, _Plan]:
    """The plans whose shard has a newer revision by now, whose chunks they may just have written over.

    Chunks have no condition to be written under. But a newer revision is known to the progress before it is prepared,
    so of two preparations the one that writes last sees here that it must not have the last word.
    """
    touched = {plan.shard.id: plan for plan in plans if plan.write or plan.stale}
    if not touched:
        return {}
    progress = await store.progress(tenant_id, list(touched))
    return {
        identifier: touched[identifier]
        for identifier, known in progress.items()
        if max(known.normalized, known.enriched, known.prepared) > touched[identifier].shard.revision
    }


async def _outgrown(plans: Sequence[_Plan], overtaken: Collection[str], ports: PreparationPorts) -> dict[str, _Plan]:
    """The plans of threads whose text is another by now: a root's revision does not tell that it got a reply.

    Of two replies prepared at once, each by its own worker, one may have been read before the other was written, and
    its chunks be put last. Both replies are written before they are prepared, so who puts the last chunks sees here
    what they lack.
    """
    now = to_text(ports.clock())
    outgrown: dict[str, _Plan] = {}
    for plan in plans:
        shard = plan.shard
        if (
            shard.id in overtaken
            or not (plan.write or plan.stale)
            or shard_type(shard.shard_type_id).chunking != "thread"
        ):
            continue
        chunks = await shard_chunks(shard, now, ports.store, ports.blobs)
        if [chunk.hash for chunk in chunks] != plan.hashes:
            outgrown[shard.id] = plan
    return outgrown


def _once_more(job: EnrichmentJob, clock: Clock) -> EnrichmentJob:
    """The job under a generation of its own.

    The newer revision's vectors may have been asked for and put already, and then been dropped with the text: under
    the old message ids the bus would drop the second request too.
    """
    return job.model_copy(update={"generation": max(job.generation + 1, to_milliseconds(clock()))})


def _finished(shard: Shard) -> tuple[str, str, int]:
    return (shard.id, shard.shard_type_id, shard.revision)


def _plan(shard: Shard, job: EnrichmentJob, chunks: Sequence[Chunk], stored: dict[str, ChunkState]) -> _Plan:
    plan = _Plan(shard, job, [chunk.hash for chunk in chunks], write=[], stale=[], without_vector=[])
    wanted = set()
    for chunk in chunks:
        wanted.add(chunk.id)
        state = stored.get(chunk.id)
        same_text = state is not None and state.hash == chunk.hash
        if state is None or not same_text or state.acl_scope != chunk.acl_scope:
            plan.write.append(chunk)
        if state is None or not same_text or not state.has_vector:
            plan.without_vector.append(ChunkReference(chunk_id=chunk.id, hash=chunk.hash))
    plan.stale = [identifier for identifier in stored if identifier not in wanted]
    return plan


class _UnreadableTextError(Exception):
    """The text of a shard can't be read; *end* is what becomes of its message."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.end = Park(reason, detail)


async def _current_chunks(shard: Shard, now: str, ports: PreparationPorts) -> tuple[Shard, list[Chunk]]:
    """The shard and its chunks; as it stands by now, when the text that it named has gone meanwhile.

    Raises:
        _UnreadableTextError: the text that it names can't be read.
    """
    while True:
        try:
            return shard, await shard_chunks(shard, now, ports.store, ports.blobs)
        except BlobMissingError as error:
            newer = (await ports.store.get_many(shard.tenant_id, [shard.id])).get(shard.id)
            if newer is None or _content_ref(newer) == _content_ref(shard):
                raise _UnreadableTextError(
                    "content-missing",
                    f"the text of {shard.id} can't be found: {error}. Put it back from a backup and replay, or have the"
                    " source read the file again",
                ) from None
            shard = newer
        except (BlobTooLargeError, FileTextInvalidError) as error:
            raise _UnreadableTextError(
                "content-invalid", f"the text of {shard.id} under {_content_ref(shard)} can't be read: {error}"
            ) from None


async def shard_chunks(shard: Shard, now: str, store: ShardStore, blobs: BlobStore) -> list[Chunk]:
    """The chunks that a shard has as it stands.

    None for a deleted shard, for one whose type is not searched, and for a reply, whose text is its thread's.

    Raises:
        BlobMissingError: there is no text under the reference that the shard names.
        BlobTooLargeError, FileTextInvalidError: what is there is no text of this shard.
        StoreUnavailableError: the store is away.
    """
    kind = shard_type(shard.shard_type_id)
    if not shard.is_live or not kind.searchable or thread_root(shard) is not None:
        return []
    threaded = kind.chunking == "thread"
    parts = await thread_parts(shard, store) if threaded else kind.text_parts(shard.structured_data)
    made = pieces(shard.name, parts + await _unstructured_parts(shard, blobs))
    return [
        Chunk(
            id=chunk_id(shard.id, ordinal),
            tenant_id=shard.tenant_id,
            shard_id=shard.id,
            shard_type_id=shard.shard_type_id,
            ordinal=ordinal,
            text=piece.text,
            hash=piece.hash,
            acl_scope=shard.acl.scope,
            updated_at=now,
            place=piece.place,
        )
        for ordinal, piece in enumerate(made)
    ]


async def _unstructured_parts(shard: Shard, blobs: BlobStore) -> list[TextPart]:
    """The shard's free text: inline, and in the blob store."""
    data = shard.unstructured_data
    if data is None:
        return []
    parts = [TextPart(None, data.text)] if data.text else []
    if data.content_ref:
        owners = {(source.instance, source.external_id) for source in shard.external_relationships}
        content = await blobs.get(shard.tenant_id, data.content_ref, limit=LARGEST_DOCUMENT)
        parts += read_text_document(content, owners)
    return parts


def _reason(plan: _Plan) -> str:
    """What changed the text. A root's revision stands still while replies change it; the reply tells its jobs apart."""
    job = plan.job
    return "changed" if job.shard_id == plan.shard.id else f"reply {job.shard_id} {job.revision}"


def _embedding_jobs(plan: _Plan) -> list[EmbeddingJob]:
    return [
        EmbeddingJob(
            tenant_id=plan.shard.tenant_id,
            shard_id=plan.shard.id,
            shard_type_id=plan.shard.shard_type_id,
            revision=plan.shard.revision,
            chunks=plan.without_vector[start : start + MAX_CHUNKS_PER_JOB],
            reason=_reason(plan),
            generation=plan.job.generation,
            observed_at=plan.job.observed_at,
            correlation_id=plan.job.correlation_id,
            traceparent=plan.job.traceparent,
            pipeline=plan.job.pipeline,
        )
        for start in range(0, len(plan.without_vector), MAX_CHUNKS_PER_JOB)
    ]
