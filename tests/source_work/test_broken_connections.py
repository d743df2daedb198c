"""One broken connection never slows the others, says what it needs, and has lost nothing once it is mended."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import stamina
from source_rig import TENANT, Key
from sources_side_by_side import SideBySide

from ingestion.at_work import PLACES
from ingestion.connecting import resume
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK

SYSTEMS = ("slack", "salesforce", "gdrive")
REMEDY = {"slack": "install the app", "salesforce": "Run As user", "gdrive": "restore the user"}

PATIENCE = 100.0
"""Seconds after which a test gives up."""


@pytest.fixture(autouse=True)
def app_of_the_test(source_functions: None) -> Iterator[None]:
    """The functions work on the rig's services; a call that fails is made once more, at once."""
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture
async def sources(tmp_path: Path) -> AsyncIterator[SideBySide]:
    made = SideBySide(tmp_path)
    try:
        await made.connect()
        yield made
    finally:
        await made.close()


@pytest.mark.parametrize("broken", SYSTEMS)
async def test_a_connection_that_is_let_in_no_more_stops_alone_and_loses_nothing(
    sources: SideBySide, broken: str
) -> None:
    sick = sources.by_system[broken]
    keys = {system: [await one.create(f"{system} before")] for system, one in sources.by_system.items()}
    await sources.catch_up()
    sources.shut_out(broken)
    for number in (1, 2):
        for system, one in sources.by_system.items():
            keys[system].append(await one.create(f"{system} {number}"))
            await one.deliver()
        await sources.catch_up()

    for system in SYSTEMS:
        texts = await sources.by_system[system].texts(keys[system])
        expected = [f"{system} before", f"{system} 1", f"{system} 2"]
        assert texts == (expected if system != broken else [expected[0], None, None])
    status = await sources.status()
    for system in SYSTEMS:
        if system != broken:
            assert (status[system]["state"], status[system]["error"]) == ("active", None)
    assert status[broken]["state"] == "failed"
    assert REMEDY[broken] in status[broken]["error"]
    asked = sick.calls()
    await sources.catch_up()
    assert sick.calls() == asked

    sources.let_in(broken)
    await resume(await sick.connection(), sources.services.ingestion)
    await sources.settle()
    await sources.replay()
    await sources.settle()
    assert await sick.texts(keys[broken]) == [f"{broken} before", f"{broken} 1", f"{broken} 2"]
    assert (await sources.status())[broken]["error"] is None
    assert not await sources.parked()


@pytest.mark.parametrize("broken", SYSTEMS)
async def test_a_source_that_answers_with_pages_for_people_is_asked_again_and_holds_up_nobody(
    sources: SideBySide, broken: str
) -> None:
    sick = sources.by_system[broken]
    sources.answer_with_pages(broken)
    keys = {}
    for system, one in sources.by_system.items():
        keys[system] = await one.create(f"{system} while broken")
        if one is sick and system == "slack":
            # A message that is pushed comes whole: this push is lost.
            await one.pushes()
        await one.deliver()
    await sources.catch_up()
    for system, one in sources.by_system.items():
        assert await one.texts([keys[system]]) == [None if system == broken else f"{system} while broken"]
    status = await sources.status()
    assert {system: status[system]["state"] for system in SYSTEMS} == dict.fromkeys(SYSTEMS, "active")
    assert {system for system in SYSTEMS if status[system]["error"]} == {broken}
    assert status[broken]["error"].endswith("it is asked again by itself")

    sick.end_faults()
    for _ in range(4):
        await sources.catch_up()
    assert await sick.texts([keys[broken]]) == [f"{broken} while broken"]
    assert (await sources.status())[broken]["error"] is None
    assert not await sources.parked()


async def test_a_source_that_does_not_answer_holds_up_nobody(sources: SideBySide) -> None:
    """It takes half of the process and no more, however much of it waits."""
    await sources.catch_up()
    fault = sources.slack.simulator.api.faults.add("slow", times=None, delay=600.0)
    slack = sources.slack
    channels = [slack.workspace.create_channel(f"deal-{number}", user=slack.user).id for number in range(PLACES)]
    await sources.bus.send(SOURCE_WORK, [read_channel(channel).to_message(SOURCE_WORK) for channel in channels])
    async with sources.worker(), asyncio.timeout(PATIENCE):
        while not fault.hits or (await sources.depth(SOURCE_WORK)).locked < PLACES // 2:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.01)
        keys = [await sources.salesforce.create("salesforce"), await sources.gdrive.create("gdrive")]
        await sources.salesforce.deliver()
        await sources.gdrive.deliver()
        sources.wait(5)
        while not await stored_and_embedded(sources, keys):  # noqa: ASYNC110 - so is the store
            await asyncio.sleep(0.02)
        assert (await sources.depth(SOURCE_WORK)).locked >= PLACES // 2
        slack.simulator.stop()


def read_channel(channel: str) -> SourceWork:
    """The request to read a channel."""
    return SourceWork(
        tenant_id=TENANT,
        connection_id="slack",
        work="read",
        due_at="2026-03-02T09:00:00.000Z",
        event_id=channel,
        ids={"channel": [channel]},
    )


async def stored_and_embedded(sources: SideBySide, keys: Sequence[Key]) -> bool:
    """Whether all records are stored and searchable."""
    shards = [await sources.salesforce.stored(keys[0]), await sources.gdrive.stored(keys[1])]
    if None in shards:
        return False
    progress = await sources.store.progress(TENANT, [shard.id for shard in shards if shard])
    return all(one.embedded for one in progress.values()) and len(progress) == len(keys)
