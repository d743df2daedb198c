"""When a run's work is done: what is planned for its own time holds nobody up, what is to be tried again does."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from slack_source_rig import SlackSourceRig
from source_rig import TENANT

from ingestion.asking import ask
from ingestion.first_load import FirstLoadPorts, note_asked
from local.summary import SOON, Moment, summarize, until_idle
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import to_text

pytestmark = pytest.mark.usefixtures("source_functions")


class StillWaitingError(Exception):
    """It waits on."""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[SlackSourceRig]:
    """A workspace that is not connected yet."""
    async with SlackSourceRig(tmp_path / "data") as made:
        yield made


async def is_idle(rig: SlackSourceRig) -> bool:
    """Whether nothing is waited for; the first look tells."""

    def seen(moment: Moment) -> None:
        if moment.waiting:
            raise StillWaitingError

    try:
        await until_idle(rig.services, {(TENANT, (await rig.connection()).connection_id)}, seen)
    except StillWaitingError:
        return False
    return True


async def plan(rig: SlackSourceRig, delay: timedelta, name: str) -> None:
    """Have the source asked for something after *delay*."""
    connection = await rig.connection()
    work = SourceWork(
        tenant_id=TENANT,
        connection_id=connection.connection_id,
        work="read",
        due_at=to_text(rig.now),
        ids={"sharing": ["C0DEALS001 scoped"]},
        event_id=name,
    )
    await rig.services.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)], delay=delay)


async def test_what_is_planned_for_later_holds_nobody_up(rig: SlackSourceRig) -> None:
    await rig.connect()
    await rig.settle()
    await rig.drain()
    await plan(rig, timedelta(hours=1), "late")
    assert await is_idle(rig)
    summary = await summarize(rig.services, TENANT, seconds=1, events={}, stages={})
    assert set(summary["queues"].values()) == {0}

    await plan(rig, SOON / 2, "soon")
    assert not await is_idle(rig)
    rig.wait(SOON.total_seconds())
    assert not await is_idle(rig), "it can be done now"
    await rig.work()
    assert await is_idle(rig)


async def test_what_is_tried_again_later_is_waited_for(rig: SlackSourceRig) -> None:
    connection = await rig.connect()
    await rig.settle()
    await rig.drain()
    rig.wait(1)
    rig.answer_with_html()
    await ask([connection], "poll", rig.services.ingestion)
    for _ in range(3):
        await rig.work()
        rig.wait(SOON.total_seconds())
    await rig.work()
    assert (await rig.depth(SOURCE_WORK)).scheduled
    assert not await is_idle(rig)
    rig.end_faults()
    rig.wait(3600)
    await rig.work()
    assert await is_idle(rig)


async def test_a_first_load_that_nobody_goes_on_with_is_not_waited_for(rig: SlackSourceRig) -> None:
    """As a command leaves it that could not log in, or was killed."""
    connection = await rig.connect()
    await rig.settle()
    await rig.drain()
    await plan(rig, timedelta(hours=1), "late")
    services = rig.services
    await note_asked(connection, FirstLoadPorts(services.bus, services.states, services.clock), anew=True)
    assert await is_idle(rig)
    await ask([connection], "history", services.ingestion)
    assert not await is_idle(rig)
