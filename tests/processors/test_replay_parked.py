"""Replay: a parked message goes back to where it came from, and is nowhere twice and never lost."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from chain_rig import TENANT, Rig, event, record_id

from messaging.bus import LARGEST_BODY, Message
from messaging.queues import INGESTION_EVENTS, QUEUES, SHARD_EMISSION
from operations.replay import ReplaySelection, replay, select
from processors.delivery import LONGEST_DELAY
from processors.outcome import Cause
from shards.parked import ParkedMessage, parked_message


class EndedError(BaseException):
    """Stands for the end of the process."""


async def selected(rig: Rig, selection: ReplaySelection) -> list[ParkedMessage]:
    return [message async for page in select(rig.services.replay, selection) for message in page]


async def park_events(rig: Rig, *, tenant_id: str = TENANT, count: int = 1) -> None:
    """Events that name no instance while their tenant has no connection."""
    await rig.run(
        *[
            event("Account", number, 1, Name=f"Account {number}", instance=None, tenant_id=tenant_id)
            for number in range(count)
        ]
    )


async def test_a_replayed_message_runs_as_if_it_were_new(rig: Rig) -> None:
    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.drain(INGESTION_EVENTS)
    await rig.give_back(SHARD_EMISSION)
    await rig.drain()
    [parked] = await rig.parked()
    assert await replay(rig.services.replay, [parked]) == 1
    assert await rig.parked() == []
    await rig.drain()
    assert await rig.parked() == []
    [chunk] = await rig.chunks("Opportunity", 1)
    assert chunk.vector is not None


async def test_a_cause_that_is_not_mended_parks_it_again_once(rig: Rig) -> None:
    await park_events(rig)
    for _ in range(QUEUES[SHARD_EMISSION].max_delivery_count - 2):
        rig.wait(1)
        await replay(rig.services.replay, await rig.parked())
        await rig.drain()
        [parked] = await rig.parked()
        assert parked.reason == "instance-unknown"


async def test_a_replayed_event_that_had_failed_behind_its_write_is_emitted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard stands as the event says, so the replay changes nothing; but nobody has heard of it yet."""

    async def broken(*_: object) -> None:
        raise ValueError("broken behind the write")

    await rig.send(event("Account", 1, 1, Name="Acme"))
    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "advance", broken)
        while not (parked := await rig.parked()):
            await rig.drain()
            rig.wait(LONGEST_DELAY.total_seconds())
    assert [message.reason for message in parked] == ["failed"]
    assert (await rig.shard("Account", 1)).revision == 1
    await replay(rig.services.replay, parked)
    await rig.drain()
    assert await rig.parked() == []
    [chunk] = await rig.chunks("Account", 1)
    assert chunk.vector is not None


async def test_a_replayed_message_has_all_its_tries_again(rig: Rig) -> None:
    waits: dict[str, str | int | bool] = {cause.value: 5 for cause in Cause}
    await rig.send_body(SHARD_EMISSION, b"{", "broken", tenantId=TENANT, laterBecause="not yet", **waits)
    await rig.drain()
    await replay(rig.services.replay, await rig.parked())
    [message] = await rig.receive(SHARD_EMISSION)
    assert message.properties.keys() == {"tenantId", "generation"}


async def test_two_replays_within_the_duplicate_window_both_arrive(rig: Rig) -> None:
    await park_events(rig)
    [first] = await rig.parked()
    await replay(rig.services.replay, [first])
    await rig.drain()
    rig.wait(1)
    [second] = await rig.parked()
    await replay(rig.services.replay, [second])
    assert (await rig.depth(INGESTION_EVENTS)).active == 1


async def test_a_message_parked_again_while_it_is_being_replayed_stays_parked(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may be done with it before the replay has taken the old copy away."""
    await rig.send(event("Account", 1, 1, Name="Acme"))
    await rig.drain(INGESTION_EVENTS)
    await rig.give_back(SHARD_EMISSION)
    await rig.drain()
    [parked] = await rig.parked()
    real = rig.bus.send

    async def send_and_fail_again(queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        await real(queue, messages, delay=delay)
        await rig.give_back(SHARD_EMISSION)
        await rig.drain()

    rig.wait(1)
    monkeypatch.setattr(rig.bus, "send", send_and_fail_again)
    await replay(rig.services.replay, [parked])
    [again] = await rig.parked()
    assert again.id == parked.id
    assert again.parked_at > parked.parked_at


async def test_a_selection_narrows_by_tenant_reason_queue_and_id(rig: Rig) -> None:
    await park_events(rig, count=2)
    await park_events(rig, tenant_id="other", count=1)
    await rig.send_body(SHARD_EMISSION, b"{", "broken")
    await rig.drain()
    everything = await selected(rig, ReplaySelection())
    assert len(everything) == 4
    assert len(await selected(rig, ReplaySelection(tenant_id=TENANT))) == 2
    assert len(await selected(rig, ReplaySelection(reason="instance-unknown"))) == 3
    assert len(await selected(rig, ReplaySelection(queue=SHARD_EMISSION))) == 1
    one = everything[0]
    assert await selected(rig, ReplaySelection(parked_id=one.id)) == [one]
    assert await selected(rig, ReplaySelection(parked_id=one.id, tenant_id="third")) == []
    assert await selected(rig, ReplaySelection(parked_id="pk_nothing")) == []


async def test_a_replay_that_is_broken_off_has_lost_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await park_events(rig)
    [parked] = await rig.parked()

    async def end(_: object) -> int:
        raise EndedError

    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "remove_parked", end)
        with pytest.raises(EndedError):
            await replay(rig.services.replay, [parked])
    assert (await rig.depth(INGESTION_EVENTS)).active == 1
    assert await rig.parked() == [parked]


async def test_one_that_the_bus_does_not_take_stays_parked_and_holds_back_no_other(rig: Rig) -> None:
    large = parked_message(
        queue=SHARD_EMISSION,
        body=b"x" * (LARGEST_BODY + 1),
        message_id="large",
        correlation_id=None,
        properties={"tenantId": TENANT},
        delivery_count=1,
        reason="invalid-message",
        detail="the body is no JSON",
        parked_at="2026-03-02T09:00:00.000Z",
    )
    await rig.store.park([large])
    for name in ("a", "b"):
        await rig.send_body(SHARD_EMISSION, b"{", name, tenantId=TENANT)
    await rig.drain()
    assert len(await rig.parked()) == 3
    assert await replay(rig.services.replay, await rig.parked()) == 2
    assert await rig.parked() == [large]
    assert (await rig.depth(SHARD_EMISSION)).active == 2
