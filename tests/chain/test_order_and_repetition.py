"""Order does not matter: any order and any repetition of a record's events ends in the same shard, links and chunks."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from chain_rig import CHAIN_QUEUES, Rig, current, event, moment, record_id
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messaging.contracts import IngestionEvent

NAMES = ("Renewal", "Expansion", "Pilot")
TEXTS = (None, "A short note.", "One sentence of the long story stands here. " * 60)


@st.composite
def histories(draw: st.DrawFn) -> list[IngestionEvent]:
    """What a source may tell of one opportunity over time, oldest first.

    Versions rise; at one version the content may change from reading to reading (formula fields), and then each
    reading is later than the one before.
    """
    told: list[IngestionEvent] = []
    version, read_at = 1.0, 10.0
    contents: set[str] = set()
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.booleans()):
            version += 1
            contents.clear()
        read_at += draw(st.integers(1, 5))
        fields: dict[str, Any] = {"Name": draw(st.sampled_from(NAMES))}
        if (account := draw(st.sampled_from((None, 1, 2)))) is not None:
            fields["AccountId"] = record_id("Account", account)
        if (owner := draw(st.sampled_from((None, 1)))) is not None:
            fields["OwnerId"] = record_id("User", owner)
        if (text := draw(st.sampled_from(TEXTS))) is not None:
            fields["Description"] = text
        deleted = draw(st.sampled_from((False, False, False, True)))
        if deleted:
            fields = {}
        # A content that comes back at one version would be ordered by its first reading: nothing moves for it.
        if repr((deleted, fields)) in contents:
            continue
        contents.add(repr((deleted, fields)))
        told.append(
            event(
                "Opportunity",
                1,
                version,
                read_at=read_at,
                event_type="delete" if deleted else "update",
                **fields,
            )
        )
    return told


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[IngestionEvent], list[tuple[IngestionEvent, int]]]:
    """A history, and a way it may arrive: all of it at least once, in any order, with pauses to run the chain in."""
    history = draw(histories())
    repeats = draw(st.lists(st.sampled_from(history), max_size=4))
    order = draw(st.permutations([*history, *repeats]))
    runs = draw(st.lists(st.integers(0, 5), min_size=len(order), max_size=len(order)))
    return history, list(zip(order, runs, strict=True))


async def ending(folder: Path, arriving: list[tuple[IngestionEvent, int]], batch: int) -> dict[str, Any]:
    """The picture of the record after its events arrived so: after each, the first so many queues of the chain run."""
    rig = Rig(folder)
    try:
        for number, (told, queues) in enumerate(arriving):
            message = told.to_message(CHAIN_QUEUES[0])
            # A repetition comes behind the bus's duplicate window, so nothing but the chain stands in its way.
            await rig.send_body(CHAIN_QUEUES[0], message.body, f"{message.message_id}.{number}")
            for queue in CHAIN_QUEUES[:queues]:
                await rig.step(queue, max_messages=batch)
        await rig.drain(max_messages=batch)
        assert await rig.parked() == []
        shard = await rig.shard("Opportunity", 1)
        progress = (await rig.store.progress(shard.tenant_id, [shard.id]))[shard.id]
        assert progress.normalized == progress.enriched == progress.prepared == progress.embedded == shard.revision
        return await rig.picture("Opportunity", 1)
    finally:
        await rig.close()


@given(delivery=deliveries(), batch=st.sampled_from((1, 2, 256)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_any_order_and_repetition_ends_in_the_same_shard(
    delivery: tuple[list[IngestionEvent], list[tuple[IngestionEvent, int]]], batch: int
) -> None:
    history, arriving = delivery
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr("processors.blueprint.services", current.get)
        in_order = await ending(Path(folder) / "in-order", [(told, 5) for told in history], 256)
        as_it_came = await ending(Path(folder) / "as-it-came", arriving, batch)
    last = history[-1]
    assert as_it_came == in_order
    assert in_order["status"] == ("deleted" if last.event_type == "delete" else "active")
    assert in_order["structuredData"].get("name") == last.record.get("Name")
    assert (in_order["chunks"] == []) == (last.event_type == "delete")
    targets = {link["relationshipType"] for link in in_order["internal_relationships"]}
    told = {"opportunity_for": "AccountId", "has_owner": "OwnerId"}
    assert targets == {kind for kind, field in told.items() if last.record.get(field)}


async def test_the_last_activity_is_that_of_the_newest_reading_though_it_says_the_same(rig: Rig) -> None:
    at_once = [event("Account", 1, version, Name="Acme", LastModifiedDate=moment(version)) for version in (1, 2)]
    await rig.run(*at_once)
    assert (await rig.shard("Account", 1)).last_activity_at == moment(2)
