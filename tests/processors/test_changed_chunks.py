"""Unchanged text is neither written nor embedded again; a vector never lands on a text it is not of."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from chain_rig import TENANT, Rig, event, id_of, moment
from counting_model import CountingModel, notes

from messaging.bus import ReceivedMessage
from messaging.contracts import MAX_CHUNKS_PER_JOB, ChunkReference, EmbeddingJob, ShardEmission
from messaging.queues import EMBEDDING_JOBS, ENRICHMENT_JOBS, INGESTION_EVENTS, SHARD_EMISSION
from operations.reconciliation import reconcile
from shards.identity import shard_id
from shards.model import Acl, Chunk, ExternalRelationship, Shard, content_fingerprint
from shards.store import ChunkState, ShardWrite


@pytest.fixture
def model() -> CountingModel:
    return CountingModel()


@pytest.fixture
async def rig(tmp_path: Path, model: CountingModel, chain_functions: None) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "data", model=model)
    try:
        yield made
    finally:
        await made.close()


async def test_only_the_chunk_that_changed_goes_on(rig: Rig, model: CountingModel) -> None:
    await rig.run(event("Account", 1, 1, Name="Acme", Description=notes(5)))
    before = await rig.chunks("Account", 1)
    assert len(model.texts) == len(before) > 4
    model.texts.clear()
    await rig.run(event("Account", 1, 2, Name="Acme", Description=notes(5, other=2)))
    after = await rig.chunks("Account", 1)
    changed = [new.text for old, new in zip(before, after, strict=True) if old.hash != new.hash]
    assert len(changed) == 1
    assert model.texts == changed
    assert all(chunk.vector is not None for chunk in after)


async def test_a_change_beside_the_text_embeds_nothing(rig: Rig, model: CountingModel) -> None:
    await rig.run(event("Account", 1, 1, Name="Acme", Description=notes(3)))
    jobs, texts = rig.handled("embed"), len(model.texts)
    before = await rig.chunks("Account", 1)
    rig.wait(60)
    await rig.run(event("Account", 1, 2, Name="Acme", Description=notes(3), Phone="+1 555 0100"))
    assert (await rig.shard("Account", 1)).revision == 2
    assert rig.handled("embed") == jobs
    assert len(model.texts) == texts
    assert await rig.chunks("Account", 1) == before
    progress = (await rig.store.progress(TENANT, [id_of("Account", 1)]))[id_of("Account", 1)]
    assert (progress.normalized, progress.enriched, progress.prepared, progress.embedded) == (2, 2, 2, 2)


async def test_a_shorter_text_leaves_no_chunk_behind(rig: Rig) -> None:
    await rig.run(event("Account", 1, 1, Name="Acme", Description=notes(5)))
    await rig.run(event("Account", 1, 2, Name="Acme", Description="Short."))
    [chunk] = await rig.chunks("Account", 1)
    assert chunk.text.endswith("Short.")
    counts = await rig.store.counts(TENANT)
    assert (counts.chunks, counts.vectors) == (1, 1)


async def test_a_deleted_record_has_no_text_left(rig: Rig) -> None:
    await rig.run(event("Account", 1, 1, Name="Acme", Description=notes(3)))
    await rig.run(event("Account", 1, 2, event_type="delete"))
    assert await rig.chunks("Account", 1) == []
    counts = await rig.store.counts(TENANT)
    assert (counts.chunks, counts.vectors, counts.deleted) == (0, 0, 1)


async def test_equal_texts_are_embedded_once(rig: Rig, model: CountingModel) -> None:
    await rig.run(*[event("Account", number, 1, Name="Same", Description="The same words.") for number in range(20)])
    assert len(model.texts) == 1
    assert (await rig.store.counts(TENANT)).vectors == 20


async def test_a_job_names_at_most_so_many_chunks(rig: Rig, model: CountingModel) -> None:
    words = " ".join(f"word{number}" for number in range(45_000))
    await rig.send(event("Account", 1, 1, Name="Acme", Description=words))
    await rig.drain(INGESTION_EVENTS, SHARD_EMISSION, ENRICHMENT_JOBS)
    jobs = [EmbeddingJob.from_bytes(message.body) for message in await rig.receive(EMBEDDING_JOBS)]
    sizes = [len(job.chunks) for job in jobs]
    assert max(sizes) == MAX_CHUNKS_PER_JOB
    assert len(sizes) > 1
    named = [reference.chunk_id for job in jobs for reference in job.chunks]
    assert named == [chunk.id for chunk in await rig.chunks("Account", 1)]


async def test_the_stage_is_done_only_when_the_last_chunk_has_its_vector(rig: Rig) -> None:
    words = " ".join(f"word{number}" for number in range(45_000))
    await rig.send(event("Account", 1, 1, Name="Acme", Description=words))
    await rig.drain(INGESTION_EVENTS, SHARD_EMISSION, ENRICHMENT_JOBS)
    shard = id_of("Account", 1)
    assert (await rig.depth(EMBEDDING_JOBS)).active > 1
    await rig.step(EMBEDDING_JOBS, max_messages=1)
    assert (await rig.store.progress(TENANT, [shard]))[shard].embedded == 0
    await rig.drain()
    assert (await rig.store.progress(TENANT, [shard]))[shard].embedded == 1


async def test_a_job_of_an_older_text_gives_no_vector(rig: Rig, model: CountingModel) -> None:
    await rig.send(event("Account", 1, 1, Name="Acme", Description="Old words."))
    await rig.drain(INGESTION_EVENTS, SHARD_EMISSION, ENRICHMENT_JOBS)
    await rig.send(event("Account", 1, 2, Name="Acme", Description="New words, and more."))
    await rig.drain(INGESTION_EVENTS, SHARD_EMISSION, ENRICHMENT_JOBS)
    assert (await rig.depth(EMBEDDING_JOBS)).active == 2
    await rig.drain()
    [chunk] = await rig.chunks("Account", 1)
    assert model.texts == [chunk.text]
    assert chunk.vector == (await model.embed([chunk.text]))[0].tobytes()


async def test_an_older_job_behind_a_newer_one_in_a_batch_does_not_hide_it(rig: Rig, model: CountingModel) -> None:
    await rig.send(event("Account", 1, 1, Name="Acme", Description="Old words."))
    await rig.drain(INGESTION_EVENTS, SHARD_EMISSION, ENRICHMENT_JOBS)
    old = await rig.receive(EMBEDDING_JOBS)
    await rig.send(event("Account", 1, 2, Name="Acme", Description="New words, and more."))
    await rig.drain(INGESTION_EVENTS, SHARD_EMISSION, ENRICHMENT_JOBS)
    new = await rig.receive(EMBEDDING_JOBS)
    await rig.call(EMBEDDING_JOBS, [*new, *old])
    await rig.bus.complete([*new, *old])
    [chunk] = await rig.chunks("Account", 1)
    assert model.texts == [chunk.text]
    assert chunk.vector == (await model.embed([chunk.text]))[0].tobytes()


async def test_a_job_for_chunks_that_are_gone_is_done_without_a_trace(rig: Rig, model: CountingModel) -> None:
    await rig.run(event("Account", 1, 1, Name="Acme"))
    model.texts.clear()
    job = EmbeddingJob(
        tenant_id=TENANT,
        shard_id=id_of("Account", 1),
        shard_type_id="c_account",
        revision=1,
        chunks=[ChunkReference(chunk_id=f"{id_of('Account', 1)}.00009", hash="0" * 32)],
        reason="again",
    )
    before = await rig.picture("Account", 1)
    await rig.bus.send(EMBEDDING_JOBS, [job.to_message(EMBEDDING_JOBS)])
    await rig.drain()
    assert model.texts == []
    assert await rig.parked() == []
    assert await rig.picture("Account", 1) == before


async def test_two_preparations_at_once_leave_the_newer_text(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has read the shard, another overtakes it with the next revision: the first must not write the last word."""
    await rig.send(event("Account", 1, 1, Name="Acme", Description="Old words."))
    await rig.drain(INGESTION_EVENTS, SHARD_EMISSION)
    slow = await rig.receive(ENRICHMENT_JOBS)
    real = rig.store.put_chunks
    overtaken = False

    async def overtaken_first(tenant_id: str, chunks: Sequence[Chunk]) -> None:
        nonlocal overtaken
        if not overtaken:
            overtaken = True
            await rig.send(event("Account", 1, 2, Name="Acme", Description="New words."))
            await rig.drain(INGESTION_EVENTS, SHARD_EMISSION, ENRICHMENT_JOBS)
        await real(tenant_id, chunks)

    monkeypatch.setattr(rig.store, "put_chunks", overtaken_first)
    await rig.call(ENRICHMENT_JOBS, slow)
    await rig.bus.complete(slow)
    await rig.drain()
    [chunk] = await rig.chunks("Account", 1)
    assert overtaken
    assert chunk.text.endswith("New words.")
    assert chunk.vector is not None


async def prepared_late(rig: Rig) -> list[ReceivedMessage]:
    """A shard at its second revision, whose preparation a worker holds; the shard has the vector of its first."""
    await rig.run(event("Account", 1, 1, Name="Acme", Description="Old words."))
    await rig.send(event("Account", 1, 2, Name="Acme", Description="Words in between."))
    await rig.drain(INGESTION_EVENTS, SHARD_EMISSION)
    return await rig.receive(ENRICHMENT_JOBS)


async def test_a_preparation_overtaken_by_a_whole_chain_gives_back_the_vector_that_it_took(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer revision is embedded already, so the bus knows its job, and would drop a second one like it."""
    slow = await prepared_late(rig)
    real = rig.store.chunk_states

    async def overtaken_behind_the_reading(
        tenant_id: str, shard_ids: Sequence[str]
    ) -> dict[str, dict[str, ChunkState]]:
        monkeypatch.setattr(rig.store, "chunk_states", real)
        states = await real(tenant_id, shard_ids)
        await rig.run(event("Account", 1, 3, Name="Acme", Description="New words."))
        return states

    monkeypatch.setattr(rig.store, "chunk_states", overtaken_behind_the_reading)
    await rig.call(ENRICHMENT_JOBS, slow)
    await rig.bus.complete(slow)
    await rig.drain()
    [chunk] = await rig.chunks("Account", 1)
    assert chunk.text.endswith("New words.")
    assert chunk.vector is not None


async def test_a_vector_taken_by_a_worker_that_ended_behind_it_is_found_missing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EndedError(BaseException):
        pass

    slow = await prepared_late(rig)
    real = rig.store.put_chunks

    async def overtaken_then_ended(tenant_id: str, chunks: Sequence[Chunk]) -> None:
        monkeypatch.setattr(rig.store, "put_chunks", real)
        await rig.run(event("Account", 1, 3, Name="Acme", Description="New words."))
        await real(tenant_id, chunks)
        raise EndedError

    monkeypatch.setattr(rig.store, "put_chunks", overtaken_then_ended)
    with pytest.raises(EndedError):
        await rig.call(ENRICHMENT_JOBS, slow)
    await rig.bus.abandon(slow)
    await rig.drain()
    rig.wait(3600)
    await reconcile(rig.services.reconciliation, after=timedelta(minutes=2))
    await rig.drain()
    [chunk] = await rig.chunks("Account", 1)
    assert chunk.text.endswith("New words.")
    assert chunk.vector is not None
    assert await rig.store.lagging(before=moment(10**6)) == []


async def say(rig: Rig, ts: str, content: str, *, replies_to: str | None = None) -> None:
    """Write a message's shard as the source's mapping would, and emit it."""
    shard_identifier = shard_id(TENANT, "slack", "T1", "message", f"C1:{ts}")
    data = {"content": content, "channelId": "C1", "sentAt": f"2026-03-01T10:00:{ts}.000Z"}
    if replies_to:
        data["parentMessageId"] = f"C1:{replies_to}"
    acl = Acl.of("tenant")
    message = Shard(
        id=shard_identifier,
        tenant_id=TENANT,
        shard_type_id="c_message",
        structured_data=data,
        external_relationships=[
            ExternalRelationship(
                system="slack", instance="T1", system_type="messaging", object_type="message", external_id=f"C1:{ts}"
            )
        ],
        acl=acl,
        fingerprint=content_fingerprint(data, None, acl, "active"),
        created_at=moment(0),
        updated_at=moment(0),
    )
    await rig.store.write_many([ShardWrite(message, None)])
    emission = ShardEmission(
        tenant_id=TENANT, shard_id=shard_identifier, shard_type_id="c_message", revision=1, change_type="create"
    )
    await rig.bus.send(SHARD_EMISSION, [emission.to_message(SHARD_EMISSION)])


async def test_replies_that_follow_each_other_are_embedded_with_their_thread(rig: Rig) -> None:
    """The root's revision stands still while its text grows, so its jobs differ by their chunks alone."""
    await say(rig, "01", "Who takes the call with Acme?")
    await rig.drain()
    for number in range(2, 5):
        await say(rig, f"{number:02}", f"Answer number {number}.", replies_to="01")
        await rig.drain()
    chunks = await rig.store.chunks(TENANT, shard_id(TENANT, "slack", "T1", "message", "C1:01"))
    assert "Answer number 4." in chunks[-1].text
    assert all(chunk.vector is not None for chunk in chunks)
