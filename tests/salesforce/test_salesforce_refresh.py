"""Values that change without a stamp, and fields that come, go or change their type."""

import logging
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from polled_org import CONNECTION, TENANT
from pushed_org import PushedOrg

from connections.salesforce_connection import PolledObject
from ingestion.asking import enqueue_due
from ingestion.errors import BudgetExhaustedError
from ingestion.first_load import FirstLoadPorts, load_pages
from ingestion.salesforce import refresh as refreshing
from ingestion.salesforce.history import HistoryReader
from ingestion.salesforce.poll import poll
from ingestion.salesforce.refresh import refresh
from ingestion.work import handle_source_work
from local.salesforce.schema import Field
from messaging.contracts import SourceWork
from messaging.queues import INGESTION_EVENTS
from messaging.times import to_text
from processors.outcome import DONE, Later


async def custom(org: PushedOrg, record_id: str) -> dict[str, Any]:
    """The custom fields that are stored of an account."""
    shard = await org.stored("Account", record_id)
    assert shard is not None
    return dict(shard.structured_data.get("customFields", {}))


async def filled(org: PushedOrg, number: int = 12) -> list[str]:
    """Accounts with a formula, polled, and one that is newer than a poll looks back to them."""
    org.org.add_field("Account", Field("Health__c", "double", calculated=True))
    org.org.add_field("Account", Field("Weather__c", "string", calculated=True))
    await org.connect("Account")
    made = [org.org.create("Account", {"Name": f"A{one}", "Health__c": one}) for one in range(number)]
    org.pass_time(timedelta(minutes=15))
    org.org.create("Account", {"Name": "Newest"})
    await org.poll()
    return made


async def refreshed(org: PushedOrg, **options: Any) -> Any:
    report = await refresh(await org.connection(), org.ports, org.store, **options)
    await org.drain()
    return report


async def test_a_formula_that_drifts_is_found_by_the_refresh_alone(org: PushedOrg) -> None:
    made = await filled(org)
    org.org.drift("Account", made[3], {"Health__c": "77.5", "Weather__c": "rain"})
    assert (await org.poll()).events == 0, "no poll sees it"
    calls = len(org.queries("Account"))

    report = await refreshed(org)

    assert (report.rows, report.events, report.finished) == (13, 1, True)
    assert str((await custom(org, made[3]))["Health__c"]) == "77.5"
    assert org.seen.repeated == 0
    assert len(org.queries("Account")) - calls == 2, "one for the formulas of all, one for the record that differs"
    assert (await refreshed(org)).events == 0
    org.org.drift("Account", made[3], {"Weather__c": None})
    assert (await refreshed(org)).events == 1
    assert "Weather__c" not in await custom(org, made[3])


async def test_fields_that_the_connection_leaves_out_are_dropped_and_come_back_when_it_names_none(
    org: PushedOrg,
) -> None:
    """Within the day for which a describe is believed; what reads records by id or a history goes by the new list too,
    so one that no poll had noted would be missing from what they read for good."""
    made = await filled(org)
    await org.connect(objects=(PolledObject(name="Account", fields=("Name",)),))
    await org.poll()
    await refreshed(org)
    assert await custom(org, made[3]) == {}
    await org.connect("Account")
    await org.poll()
    await refreshed(org)
    assert str((await custom(org, made[3]))["Health__c"]) == "3"


@pytest.mark.parametrize("reading", ["push", "history"])
async def test_a_field_that_only_a_push_or_a_history_saw_hidden_comes_back(org: PushedOrg, reading: str) -> None:
    made = await filled(org)
    org.org.hide("Account", ["Health__c"])
    org.pass_time(timedelta(seconds=1))
    if reading == "push":
        await org.post({"Id": made[3]})
        org.pass_time(timedelta(seconds=3))
        await org.work()
    else:
        reader = HistoryReader(org.ports, {}, pause_seconds=0)
        page = await reader.page(await org.connection(), None)
        while page.next_position is not None:
            page = await reader.page(await org.connection(), page.next_position)
            await org.bus.send(INGESTION_EVENTS, [one.to_message(INGESTION_EVENTS) for one in page.events])
        await org.drain()
    assert "Health__c" not in await custom(org, made[3])
    org.org.show("Account")
    await org.poll()
    org.pass_time(timedelta(days=1, seconds=1))
    await org.poll()
    assert any(work.work == "refresh" for work in await org.asked())
    await refreshed(org)
    assert str((await custom(org, made[3]))["Health__c"]) == "3"


async def test_what_was_under_way_when_fields_came_back_is_found_by_the_next_refresh(org: PushedOrg) -> None:
    made = await filled(org)
    await org.connect(objects=(PolledObject(name="Account", fields=("Name",)),))
    await org.poll()
    await refresh(await org.connection(), org.ports, org.store)  # its events wait in the bus
    await org.connect("Account")
    await poll(await org.connection(), org.ports, org.store)
    await refresh(await org.connection(), org.ports, org.store)
    await org.drain()
    assert await custom(org, made[3]) == {}
    await refreshed(org)
    assert str((await custom(org, made[3]))["Health__c"]) == "3"
    assert (await org.memory("Account")).metadata.refresh.fields == ()


async def test_the_first_poll_knows_by_which_fields_the_history_was_read(org: PushedOrg) -> None:
    org.org.add_field("Account", Field("Region__c", "string"))
    made = org.org.create("Account", {"Name": "A", "Region__c": "EMEA"})
    await org.connect(objects=(PolledObject(name="Account", fields=("Name",)),))
    ports = FirstLoadPorts(org.bus, org.states, org.clock)
    reader = HistoryReader(org.ports, {}, pause_seconds=0)
    org.pass_time(timedelta(hours=1))
    pages = partial(reader.page, await org.connection())
    await load_pages(await org.connection(), pages, ports, deadline=org.clock() + timedelta(minutes=5))
    await org.drain()
    await org.connect("Account")
    await org.poll()
    await refreshed(org)
    assert await custom(org, made) == {"Region__c": "EMEA"}


async def test_a_refresh_is_due_by_its_hours_goes_on_where_it_was_and_ends(
    org: PushedOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refreshing, "PAGE", 5)
    made = await filled(org)
    org.pass_time(timedelta(hours=169))
    await enqueue_due(org.work_ports)
    [work] = [one for one in await org.asked() if one.work == "refresh"]
    for record_id in made:
        org.org.drift("Account", record_id, {"Health__c": 1000})

    deadline = org.clock() + timedelta(hours=1)

    def late() -> Any:
        return org.clock() if len(org.queries("Account")) < 5 else deadline

    ports = replace(org.ports, clock=late)
    first = await refresh(await org.connection(), ports, org.store, deadline=deadline, due_at=work.due_at)
    assert not first.finished
    notes = (await org.memory("Account")).metadata.refresh
    assert notes.after is not None
    assert 0 < notes.compared < 12

    assert await handle_source_work(work, org.work_ports) == DONE
    await org.drain()

    assert {str((await custom(org, one))["Health__c"]) for one in made} == {"1000"}
    assert org.seen.repeated == 0, "each was read once"
    assert (await org.memory("Account")).metadata.refresh.compared == 13


async def test_a_refresh_leaves_the_last_calls_to_polls(org: PushedOrg) -> None:
    await filled(org)
    org.api.daily_limit = 100
    org.api.use_calls(78)
    await org.poll()
    with pytest.raises(BudgetExhaustedError, match="leaves the last 12 calls to polls"):
        await refreshed(org)
    work = SourceWork(tenant_id=TENANT, connection_id=CONNECTION, work="refresh", due_at=to_text(org.clock()))
    outcome = await handle_source_work(work, org.work_ports)
    assert isinstance(outcome, Later)
    assert outcome.delay > timedelta(minutes=50)
    assert (await org.poll()).finished


async def test_fields_that_come_go_and_change_are_noted_and_their_records_read_anew(
    org: PushedOrg, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    made = await filled(org, 3)
    org.org.add_field("Account", Field("Gone__c", "string"))
    org.org.add_field("Account", Field("Code__c", "string"))
    org.pass_time(timedelta(hours=25))
    for one in made:
        org.org.update("Account", one, {"Gone__c": "x", "Code__c": "7"}, stamps="none")
    await org.poll()
    assert await org.work() == [DONE]
    assert {(await custom(org, one))["Gone__c"] for one in made} == {"x"}, "new fields of records that nobody touched"

    org.org.remove_field("Account", "Gone__c")
    org.org.retype_field("Account", Field("Code__c", "double"))
    org.org.update("Account", made[0], {"Code__c": 7}, stamps="none")
    org.org.update("Account", made[1], {"Name": "changed"})
    org.pass_time(timedelta(minutes=5))
    await org.poll()
    [asked] = await org.asked()
    assert asked.work == "refresh"
    assert await handle_source_work(asked, org.work_ports) == DONE
    await org.drain()

    notes = (await org.memory("Account")).metadata
    changes = [(one.field, one.change) for one in notes.schema_changes]
    assert changes == [("Gone__c", "new"), ("Code__c", "new"), ("Gone__c", "vanished"), ("Code__c", "retyped")]
    assert [line for line in caplog.messages if "field Code__c was string, is double" in line]
    assert "Gone__c" not in await custom(org, made[2])
    assert (await custom(org, made[0]))["Code__c"] == 7
    assert (notes.refresh.wanted, notes.refresh.fields) == (False, ("Gone__c", "Code__c")), "the next compares them too"
    assert (await org.poll()).events == 0
    assert await org.asked() == []


async def test_only_the_newest_changes_of_an_object_are_kept(org: PushedOrg) -> None:
    await filled(org, 1)
    for start in (0, 40):
        for number in range(start, start + 40):
            org.org.add_field("Account", Field(f"F{number}__c", "string"))
        org.pass_time(timedelta(hours=25))
        await org.poll()
    changes = (await org.memory("Account")).metadata.schema_changes
    assert (len(changes), changes[-1].field) == (50, "F79__c")
