"""What is pushed while its source fails is tried for a day, and then kept for people; nothing of it is lost."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import stamina
from salesforce_source_rig import SalesforceSourceRig
from source_rig import TENANT

from connections.salesforce_connection import PolledObject, SalesforceConnection
from ingestion.at_work import LONGEST_REST
from ingestion.work import MOST_SOURCE_FAILURES, TRIED_FOR, handle_source_work
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import to_text
from operations.replay import ReplaySelection, replay, select
from processors.outcome import DONE, Later

FEW = 8
"""Failures that are enough here."""
STEP = TRIED_FOR / FEW


@pytest.fixture(autouse=True)
def app_of_the_test(source_functions: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The functions work on the rig's services; a call that fails is not made again."""
    monkeypatch.setattr("ingestion.work.MOST_SOURCE_FAILURES", FEW)
    with stamina.set_testing(True, attempts=1):
        yield


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[SalesforceSourceRig]:
    async with SalesforceSourceRig(tmp_path) as made:
        await made.connect()
        yield made


async def replayed(rig: SalesforceSourceRig) -> int:
    """Send back what is parked because its source failed; how much that was."""
    ports = rig.services.replay
    selection = ReplaySelection(TENANT, reason="source-failing")
    return sum([await replay(ports, page) async for page in select(ports, selection)])


async def work_for(rig: SalesforceSourceRig, span: timedelta) -> None:
    """Let *span* pass, and do what is asked for meanwhile."""
    until = rig.now + span
    while rig.now < until:
        rig.wait(STEP.total_seconds())
        await rig.work()


def test_a_source_that_fails_for_a_day_does_so_often_enough() -> None:
    assert TRIED_FOR / (1.5 * LONGEST_REST) > 1.5 * MOST_SOURCE_FAILURES


async def test_after_a_day_it_is_parked_and_a_replay_reads_it(rig: SalesforceSourceRig) -> None:
    rig.answer_with_html()
    keys = [await rig.create(f"pushed {number}") for number in range(3)]
    assert await rig.deliver() == 3
    await rig.work()
    await work_for(rig, TRIED_FOR - STEP)
    assert await rig.parked() == []

    await work_for(rig, 2 * STEP)
    parked = await rig.parked()
    assert [one.reason for one in parked] == ["source-failing"] * 3
    assert "connection sf" in parked[0].detail
    assert "replay when it answers" in parked[0].detail
    calls = rig.calls()
    await work_for(rig, 2 * STEP)
    assert rig.calls() == calls

    # Still away: a replay is a new beginning, though what was pushed is old.
    rig.wait(1)
    assert await replayed(rig) == 3
    await work_for(rig, 3 * STEP)
    assert await rig.parked() == []

    rig.end_faults()
    await work_for(rig, 2 * STEP)
    await rig.normalize()
    assert await rig.texts(keys) == ["pushed 0", "pushed 1", "pushed 2"]
    assert await rig.parked() == []


async def test_what_others_that_fail_held_up_is_tried_itself_before_it_would_be_parked(
    rig: SalesforceSourceRig,
) -> None:
    objects = (PolledObject(name="Account"), PolledObject(name="Contact"))
    await rig.services.connections.save(msgspec.structs.replace(await rig.connection(), objects=objects))
    keys = [await rig.create("held up")]
    await rig.deliver()
    [held] = await rig.receive(SOURCE_WORK)
    await rig.bus.complete([held])
    rig.wait((TRIED_FOR + STEP).total_seconds())
    keys.append(await rig.create("answered"))
    await rig.deliver()
    await rig.work()
    rig.simulator.api.faults.add("server-error", times=None, path="sobjects/Contact/describe")
    contact = rig.org.create("Contact", {"LastName": "Poe"})
    failing = SourceWork(
        tenant_id=TENANT,
        connection_id="sf",
        work="read",
        due_at=to_text(rig.now),
        ids={"Contact": [contact]},
        event_id="fails",
    )
    ports = rig.services.ingestion
    assert isinstance(await handle_source_work(failing, ports), Later)
    work = SourceWork.from_bytes(held.body)

    assert isinstance(await handle_source_work(work, ports, source_failures=FEW - 2), Later)
    assert await handle_source_work(work, ports, source_failures=FEW - 1) is DONE
    await rig.normalize()
    assert await rig.texts(keys) == ["held up", "answered"]


async def test_one_that_always_fails_is_parked_though_the_source_answers_others(rig: SalesforceSourceRig) -> None:
    objects = (PolledObject(name="Account"), PolledObject(name="Contact"))
    connection = await rig.connection()
    assert isinstance(connection, SalesforceConnection)
    await rig.services.connections.save(msgspec.structs.replace(connection, objects=objects))
    rig.simulator.api.faults.add("server-error", times=None, path="sobjects/Contact/describe")
    asked = SourceWork(
        tenant_id=TENANT,
        connection_id="sf",
        work="read",
        due_at=to_text(rig.now),
        ids={"Contact": [rig.org.create("Contact", {"LastName": "Poe"})]},
        event_id="fails",
    )
    await rig.bus.send(SOURCE_WORK, [asked.to_message(SOURCE_WORK)])
    keys = []
    for number in range(5):
        keys.append(await rig.create(f"pushed {number}"))
        await rig.deliver()
        await work_for(rig, 2 * STEP)
    await rig.normalize()
    assert await rig.texts(keys) == [f"pushed {number}" for number in range(5)]
    [parked] = await rig.parked()
    assert parked.reason == "source-failing"
    assert "500 UNKNOWN_EXCEPTION" in parked.detail
