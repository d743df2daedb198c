"""The sweep of file texts: what nothing names goes; whatever may still be named stays."""

import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from chain_rig import START, TENANT, Rig, current
from file_events import CUSTOMER, file, is_there, kept

from messaging.bus import Message
from messaging.claim_check import LARGEST_INLINE
from messaging.queues import INGESTION_EVENTS, INGESTION_EVENTS_BULK
from operations.replay import ReplaySelection, replay, select
from operations.text_sweep import SAFE_AGE, slice_at, sweep_texts
from shards.file_text import put_text
from shards.store import StoreUnavailableError
from shards.types import TextPart


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep looks at the queues again at once."""
    monkeypatch.setattr("operations.text_sweep.PAUSE", timedelta(0))


def put_long_ago(rig: Rig, reference: str, age: timedelta = SAFE_AGE + timedelta(minutes=1)) -> str:
    """Say that the text was put so long before the app's present; its reference."""
    path: Path = rig.settings.blob_folder / reference
    moment = (rig.now - age).timestamp()
    os.utime(path, (moment, moment))
    return reference


async def orphan(rig: Rig, version: int = 1, *texts: str, file_id: str = "F1") -> str:
    """What a process leaves that is killed when it has put a text, and has not sent its event."""
    return put_long_ago(rig, await kept(rig, version, *(texts or ("Left behind.",)), file_id=file_id))


async def sweep(rig: Rig) -> int:
    """Let the sweep look at all texts; how many went."""
    return await sweep_texts(rig.services.text_sweep, "")


async def test_the_text_of_a_killed_process_goes_within_eleven_days(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.blueprint.services", current.get)
    current.set(rig.services)
    [timer] = [timer for timer in rig.index.timers if timer.name == "sweep_file_texts"]
    left = await orphan(rig)
    named = put_long_ago(rig, await kept(rig, 1, "Named.", file_id="F2"))
    await rig.run(file(1, named, file_id="F2"))
    for _ in range(11 * 24):
        await timer.call(timer=None)
        rig.wait(3600)
    assert (await is_there(rig, left), await is_there(rig, named)) == (False, True)


def test_every_eleven_days_have_every_slice_and_each_hour_of_the_day_comes_to_all() -> None:
    every = {f"{number:02x}" for number in range(256)}
    for start in (0, 5, 250):
        assert {slice_at(START + timedelta(days=start, hours=hour)) for hour in range(11 * 24)} == every
    assert {slice_at(START + timedelta(days=day)) for day in range(256)} == every


async def test_a_text_whose_deletion_failed_goes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = await kept(rig, 1, "Old words.")
    await rig.run(file(1, ref))

    async def away(*_: object, **__: object) -> int:
        raise StoreUnavailableError("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(rig.services.blobs, "delete", away)
        await rig.run(file(2, event_type="delete"))
    put_long_ago(rig, ref)
    assert await sweep(rig) == 1
    assert not await is_there(rig, ref)


async def test_each_version_but_the_one_that_the_shard_names_goes(rig: Rig) -> None:
    refs = [await orphan(rig, version, f"Text {version}.") for version in (1, 2, 3)]
    await rig.run(file(2, refs[1]))
    assert await sweep(rig) == 2
    assert [await is_there(rig, ref) for ref in refs] == [False, True, False]


async def test_a_young_text_stays(rig: Rig) -> None:
    ref = put_long_ago(rig, await kept(rig, 1, "Just put."), SAFE_AGE - timedelta(minutes=1))
    assert await sweep(rig) == 0
    assert await is_there(rig, ref)


async def _active(rig: Rig, message: Message) -> None:
    await rig.bus.send(INGESTION_EVENTS, [message])


async def _in_the_bulk_lane(rig: Rig, message: Message) -> None:
    await rig.bus.send(INGESTION_EVENTS_BULK, [message])


async def _locked(rig: Rig, message: Message) -> None:
    await _active(rig, message)
    [_] = await rig.receive(INGESTION_EVENTS)


async def _scheduled(rig: Rig, message: Message) -> None:
    await rig.bus.send(INGESTION_EVENTS, [message], delay=timedelta(minutes=5))


async def _dead_lettered(rig: Rig, message: Message) -> None:
    await _active(rig, message)
    await rig.bus.dead_letter(await rig.receive(INGESTION_EVENTS), reason="tried too often", description="")


@pytest.mark.parametrize("somewhere", [_active, _in_the_bulk_lane, _locked, _scheduled, _dead_lettered])
async def test_nothing_goes_while_an_event_is_on_its_way(
    rig: Rig, somewhere: Callable[[Rig, Message], Awaitable[None]]
) -> None:
    ref = await orphan(rig)
    await somewhere(rig, file(1, ref).to_message(INGESTION_EVENTS))
    assert await sweep(rig) == 0
    assert await is_there(rig, ref)


async def test_what_was_on_its_way_is_named_once_it_has_come(rig: Rig) -> None:
    ref = await orphan(rig)
    await rig.send(file(1, ref))
    assert await sweep(rig) == 0
    await rig.drain()
    assert await sweep(rig) == 0
    assert await is_there(rig, ref)


@pytest.mark.parametrize("note", ["", "x" * (LARGEST_INLINE + 1)], ids=["whole", "with its payload kept apart"])
async def test_what_a_parked_event_names_stays_until_it_is_replayed(rig: Rig, note: str) -> None:
    ref = await orphan(rig)
    unreadable = file(1, ref, description=note).model_copy(update={"schema_version": 99})
    await rig.services.bus.send(INGESTION_EVENTS, [unreadable.to_message(INGESTION_EVENTS)])
    await rig.drain()
    [parked] = await rig.parked()
    assert parked.reason == "newer-schema"
    assert ("payloadRef" in parked.body) == bool(note)
    other = await orphan(rig, 1, "Of another file.", file_id="F2")
    assert await sweep(rig) == 1
    assert (await is_there(rig, ref), await is_there(rig, other)) == (True, False)


async def test_an_event_that_is_parked_or_replayed_meanwhile_keeps_its_text(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = await orphan(rig)
    await rig.run(file(1, ref).model_copy(update={"schema_version": 99}))
    real = rig.store.parked

    async def replayed_before_it_is_read(*given: object, **named: object) -> object:
        monkeypatch.setattr(rig.store, "parked", real)
        async for page in select(rig.services.replay, ReplaySelection()):
            await replay(rig.services.replay, page)
        return await real(*given, **named)  # type: ignore[arg-type] # as it was asked

    monkeypatch.setattr(rig.store, "parked", replayed_before_it_is_read)
    assert await sweep(rig) == 0
    assert (await rig.depth(INGESTION_EVENTS)).active == 1
    assert await is_there(rig, ref)


async def test_a_text_that_is_put_again_meanwhile_stays(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = await orphan(rig)
    real = rig.bus.depths

    async def put_again() -> object:
        await kept(rig, 1, "Left behind.")
        return await real()

    monkeypatch.setattr(rig.bus, "depths", put_again)
    assert await sweep(rig) == 0
    assert await is_there(rig, ref)


async def test_what_is_no_text_of_a_file_stays(rig: Rig) -> None:
    blobs = rig.services.blobs
    refs = [put_long_ago(rig, await blobs.put(TENANT, content)) for content in (b"[]", b'{"parts": []}', b"\xff")]
    damaged = await orphan(rig)
    (rig.settings.blob_folder / damaged).write_bytes(b"half of it")
    put_long_ago(rig, damaged)
    assert await sweep(rig) == 0
    assert all([await is_there(rig, ref) for ref in refs])
    assert (rig.settings.blob_folder / damaged).exists()


async def test_the_same_file_of_two_tenants_is_two_texts(rig: Rig) -> None:
    ours = await orphan(rig)
    await rig.run(file(1, ours))
    theirs = []
    for tenant in ("globex", "Ümlaut & Co", "x" * 200):
        ref = await put_text(rig.services.blobs, tenant, "F1", "1", [TextPart(None, "Theirs.")], instance=CUSTOMER)
        theirs.append(put_long_ago(rig, ref))
    # Of a space whose name was cut nobody can tell whose it is, as long as its tenant has no shard.
    assert await sweep(rig) == 2
    assert [(rig.settings.blob_folder / ref).exists() for ref in theirs] == [False, False, True]
    assert await is_there(rig, ours)
