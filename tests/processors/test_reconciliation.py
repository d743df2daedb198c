"""What was written is never forgotten: a lost message is emitted again, and one that waits is left alone."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from chain_rig import CHAIN_QUEUES, TENANT, Rig, event, record_id

from messaging.bus import Message
from messaging.queues import EMBEDDING_JOBS, ENRICHMENT_JOBS, INGESTION_EVENTS, SHARD_EMISSION
from operations.reconciliation import reconcile
from shards.store import StoreUnavailableError

AFTER = timedelta(seconds=120)


class KilledError(BaseException):
    """Stands for the end of the process: nothing catches it."""


class EndOnSend:
    """Lets the process end when it is about to send to *queue*."""

    def __init__(self, rig: Rig, queue: str) -> None:
        self._real = rig.bus.send
        self._queue = queue

    async def __call__(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        if queue == self._queue:
            raise KilledError
        await self._real(queue, messages, delay=delay)


async def lose_messages(rig: Rig, queue: str) -> None:
    """Take what waits on *queue* off it as if it had never been sent."""
    while messages := await rig.receive(queue):
        await rig.bus.complete(messages)


async def whole(rig: Rig) -> None:
    """The one opportunity has gone through every stage."""
    [shard] = [await rig.shard("Opportunity", 1)]
    assert len(shard.internal_relationships) == 1
    chunks = await rig.chunks("Opportunity", 1)
    assert chunks
    assert all(chunk.vector is not None for chunk in chunks)
    progress = (await rig.store.progress(TENANT, [shard.id]))[shard.id]
    assert (progress.normalized, progress.enriched, progress.prepared, progress.embedded) == (1, 1, 1, 1)


@pytest.mark.parametrize("lost", [SHARD_EMISSION, ENRICHMENT_JOBS, EMBEDDING_JOBS])
async def test_a_lost_message_is_emitted_again(rig: Rig, lost: str) -> None:
    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.drain(*CHAIN_QUEUES[: CHAIN_QUEUES.index(lost)])
    await lose_messages(rig, lost)
    await rig.drain()
    assert await reconcile(rig.services.reconciliation, after=AFTER) == 0, "it may still be on its way"
    rig.wait(AFTER.total_seconds() + 1)
    assert await reconcile(rig.services.reconciliation, after=AFTER) == 1
    await rig.drain()
    await whole(rig)
    rig.wait(AFTER.total_seconds() + 1)
    assert await reconcile(rig.services.reconciliation, after=AFTER) == 0


@pytest.mark.parametrize(
    ("queue", "emits_to"),
    [(INGESTION_EVENTS, SHARD_EMISSION), (SHARD_EMISSION, ENRICHMENT_JOBS), (ENRICHMENT_JOBS, EMBEDDING_JOBS)],
)
async def test_a_step_that_ended_between_write_and_emit_is_made_whole_by_its_redelivery(
    rig: Rig, queue: str, emits_to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    for earlier in CHAIN_QUEUES[: CHAIN_QUEUES.index(queue)]:
        await rig.drain(earlier)
    with monkeypatch.context() as patch:
        patch.setattr(rig.bus, "send", EndOnSend(rig, emits_to))
        messages = await rig.receive(queue)
        with pytest.raises(KilledError):
            await rig.call(queue, messages)
        await rig.bus.abandon(messages)
    assert (await rig.depth(emits_to)).active == 0
    await rig.drain()
    await whole(rig)


async def test_a_newer_version_of_the_same_content_does_not_hide_a_lost_emission(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store fails right behind the shard's write; the copy that comes later shares its batch with a newer event."""

    async def away(*_: object) -> None:
        raise StoreUnavailableError("no answer")

    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "advance", away)
        await rig.step(INGESTION_EVENTS)
    assert await rig.find("Opportunity", 1) is not None
    assert (await rig.depth(INGESTION_EVENTS)).scheduled == 1
    rig.wait(5)
    await rig.send(event("Opportunity", 1, 2, Name="Deal", AccountId=record_id("Account", 1)))
    batch = await rig.receive(INGESTION_EVENTS)
    assert [message.delivery_count for message in batch] == [1, 1]
    await rig.call(INGESTION_EVENTS, batch)
    await rig.bus.complete(batch)
    await rig.drain()
    await whole(rig)


async def test_a_shard_whose_write_was_the_last_thing_its_process_did_is_found(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither progress nor emission was written, and the event that tells of it again only moves the version."""

    async def end(*_: object) -> None:
        raise KilledError

    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "advance", end)
        messages = await rig.receive(INGESTION_EVENTS)
        with pytest.raises(KilledError):
            await rig.call(INGESTION_EVENTS, messages)
        await rig.bus.abandon(messages)
    old = await rig.receive(INGESTION_EVENTS)
    await rig.send(event("Opportunity", 1, 2, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.step(INGESTION_EVENTS)
    await rig.call(INGESTION_EVENTS, old)
    await rig.bus.complete(old)
    await rig.drain()
    await whole(rig)


async def test_what_still_waits_in_a_queue_is_left_alone(rig: Rig) -> None:
    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.drain(INGESTION_EVENTS)
    rig.wait(3600)
    assert await reconcile(rig.services.reconciliation, after=AFTER) == 0
    assert (await rig.depth(SHARD_EMISSION)).active == 1
    await rig.drain()
    await whole(rig)


async def test_what_is_under_a_lock_is_left_alone(rig: Rig) -> None:
    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.drain(INGESTION_EVENTS)
    held = await rig.receive(SHARD_EMISSION)
    rig.wait(AFTER.total_seconds() + 60)
    assert await reconcile(rig.services.reconciliation, after=AFTER) == 0
    await rig.bus.abandon(held)


async def test_what_is_parked_is_left_to_people(rig: Rig) -> None:
    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.drain(INGESTION_EVENTS)
    await rig.give_back(SHARD_EMISSION)
    await rig.drain()
    [parked] = await rig.parked()
    assert (parked.queue, parked.reason) == (SHARD_EMISSION, "delivered-too-often")
    rig.wait(3600)
    assert await reconcile(rig.services.reconciliation, after=AFTER) == 0


async def test_many_parked_shards_do_not_hide_one_that_stays_behind(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.reconciliation.BATCH", 5)
    await rig.send(*[event("Account", number, 1, Name=f"Account {number}") for number in range(10)])
    await rig.drain(INGESTION_EVENTS)
    await rig.give_back(SHARD_EMISSION)
    await rig.drain()
    assert len(await rig.parked()) == 10
    rig.wait(1)
    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.drain(INGESTION_EVENTS)
    await lose_messages(rig, SHARD_EMISSION)
    rig.wait(AFTER.total_seconds() + 1)
    assert await reconcile(rig.services.reconciliation, after=AFTER) == 1
    await rig.drain()
    await whole(rig)


async def test_each_sweep_is_a_generation_of_its_own(rig: Rig) -> None:
    """Within the duplicate window the bus would drop a second sweep's messages under the ids of the first."""
    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.drain(INGESTION_EVENTS)
    await lose_messages(rig, SHARD_EMISSION)
    for _ in range(2):
        rig.wait(AFTER.total_seconds() + 1)
        assert await reconcile(rig.services.reconciliation, after=AFTER) == 1
        assert (await rig.depth(SHARD_EMISSION)).active == 1
        await lose_messages(rig, SHARD_EMISSION)
    rig.wait(AFTER.total_seconds() + 1)
    await reconcile(rig.services.reconciliation, after=AFTER)
    await rig.drain()
    await whole(rig)


async def test_two_reconcilers_at_once_are_harmless(rig: Rig) -> None:
    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.drain(INGESTION_EVENTS)
    await lose_messages(rig, SHARD_EMISSION)
    rig.wait(AFTER.total_seconds() + 1)
    ports = rig.services.reconciliation
    await asyncio.gather(reconcile(ports, after=AFTER), reconcile(ports, after=AFTER))
    assert (await rig.depth(SHARD_EMISSION)).active == 1
    await rig.drain()
    await whole(rig)
