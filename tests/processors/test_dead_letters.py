"""What the bus gave up on is parked, with its origin, and can be replayed."""

from dataclasses import replace
from datetime import timedelta

from chain_rig import TENANT, Rig, event, id_of
from pytest import MonkeyPatch

from messaging.bus import DeadLetter
from messaging.queues import INGESTION_EVENTS, QUEUES
from operations.dead_letters import REASON, drain
from operations.replay import ReplaySelection, replay, select


async def _dead_letter(rig: Rig, count: int = 1) -> None:
    """Receive the waiting message until the bus has had enough: nobody ever ends it."""
    for _ in range(QUEUES[INGESTION_EVENTS].max_delivery_count):
        received = await rig.bus.receive(INGESTION_EVENTS, max_messages=1, lock_for=timedelta(seconds=1))
        assert received
        await rig.bus.abandon(received)
    assert not await rig.bus.receive(INGESTION_EVENTS, max_messages=1)
    depths = await rig.bus.depths()
    assert depths[INGESTION_EVENTS].dead_lettered == count


async def test_a_dead_letter_is_parked_with_reason_and_origin(rig: Rig) -> None:
    await rig.send(event("Account", 1, 1, Name="Acme"))
    await _dead_letter(rig)
    assert await drain(rig.services.dead_letters) == 1
    page = await rig.store.parked(TENANT)
    [parked] = page.items
    assert (parked.queue, parked.reason, parked.tenant_id) == (INGESTION_EVENTS, REASON, TENANT)
    assert "MaxDeliveryCountExceeded" in parked.detail
    assert (await rig.bus.depths())[INGESTION_EVENTS].dead_lettered == 0
    assert await drain(rig.services.dead_letters) == 0


async def test_a_dead_letter_comes_back_by_replay(rig: Rig) -> None:
    await rig.send(event("Account", 1, 1, Name="Acme"))
    await _dead_letter(rig)
    await drain(rig.services.dead_letters)
    async for page in select(rig.services.replay, ReplaySelection(reason=REASON)):
        await replay(rig.services.replay, page)
    await rig.drain()
    shard = await rig.store.get(TENANT, id_of("Account", 1))
    assert shard is not None
    assert shard.name == "Acme"
    assert not (await rig.store.parked(TENANT)).items


async def test_dead_letters_whose_producers_gave_them_no_id_are_parked_each(rig: Rig, monkeypatch: MonkeyPatch) -> None:
    """Service Bus takes messages without an id; the file does not."""
    for number in (1, 2):
        await rig.send_body(INGESTION_EVENTS, b"{", f"m{number}", number=number)
        await _dead_letter(rig, number)
    real = rig.services.bus.dead_letters

    async def without_ids(queue: str, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        return [replace(letter, message_id="") for letter in await real(queue, limit=limit, after=after)]

    monkeypatch.setattr(rig.services.bus, "dead_letters", without_ids)
    assert await drain(rig.services.dead_letters) == 2
    parked = await rig.parked()
    assert sorted(message.properties["number"] for message in parked) == [1, 2]
    assert await replay(rig.services.replay, parked) == 2
    assert sorted(message.properties["number"] for message in await rig.receive(INGESTION_EVENTS)) == [1, 2]


async def test_a_dead_letter_too_large_for_any_item_is_parked_by_claim_check(
    rig: Rig, monkeypatch: MonkeyPatch
) -> None:
    """A Premium namespace takes messages of 100 MB, from producers that know nothing of claim checks."""
    large = event("Account", 1, 1, Name="Acme", Notes__c="\n" * 2_000_000)
    await rig.send(event("Account", 1, 1, Name="Acme"))
    await _dead_letter(rig)
    real = rig.services.bus.dead_letters

    async def not_by_claim_check(queue: str, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        return [replace(letter, body=large.to_bytes()) for letter in await real(queue, limit=limit, after=after)]

    monkeypatch.setattr(rig.services.bus, "dead_letters", not_by_claim_check)
    await drain(rig.services.dead_letters)
    await replay(rig.services.replay, await rig.parked())
    await rig.drain()
    assert await rig.parked() == []
    assert (await rig.shard("Account", 1)).name == "Acme"
