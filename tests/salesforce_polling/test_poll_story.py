"""Polling a simulated org: what is read, what is sent, what it costs, and what is remembered."""

from datetime import timedelta
from typing import Any

import pytest
from polled_org import CONNECTION, TENANT, PolledOrg

from connections.salesforce_connection import PolledObject
from ingestion.salesforce.memory import new_object_memory, object_key
from ingestion.salesforce.poll import poll
from local.salesforce.schema import Field
from messaging.bus import BusUnavailableError


def people(org: PolledOrg, number: int, **changes: Any) -> list[str]:
    """Contacts made now."""
    return [org.org.create("Contact", {"LastName": f"P{index}", **changes}) for index in range(number)]


async def test_whole_records_come_as_events_with_their_version_and_origin(org: PolledOrg) -> None:
    [made] = people(org, 1, FirstName="Ann", Email="ann@acme.example")

    report = await org.poll()

    assert (report.finished, report.events, report.errors) == (True, 1, {})
    event = org.seen.events["Contact", made]
    assert event.event_type == "create"
    assert (event.instance, event.connection_id, event.object_type) == (org.org.org_id, CONNECTION, "Contact")
    assert str(event.source_version).endswith(".000Z")
    assert event.record["Email"] == "ann@acme.example"
    assert event.record.keys() >= {"Id", "IsDeleted", "SystemModstamp", "AccountId", "MailingCity", "MasterRecordId"}
    assert not event.record.keys() & {"attributes", "MailingAddress", "LastViewedDate"}
    assert str(event.correlation_id) in str(event.traceparent)


async def test_nothing_new_sends_nothing_writes_nothing_of_the_object_and_costs_one_call_an_object(
    org: PolledOrg,
) -> None:
    await org.connect("Account", "Contact", "Opportunity", "User")
    people(org, 30)
    org.org.create("Account", {"Name": "A"})
    org.pass_time(timedelta(minutes=5))
    await org.poll()
    before = await org.memory()
    calls = len(org.api.calls)

    report = await org.poll()

    assert (report.events, report.calls) == (0, 4)
    assert len(org.api.calls) - calls == 4
    assert await org.memory() == before


async def test_rows_that_share_a_second_across_pages_are_each_read_once(org: PolledOrg) -> None:
    await org.connect(page_size=7)
    people(org, 50, SystemModstamp="2026-01-01T00:00:00.000+0000")

    report = await org.poll()

    assert org.seen.records("Contact").keys() == org.truth().keys()
    assert (report.events, org.seen.repeated) == (50, 0)
    assert report.objects["Contact"].pages == 8


async def test_rows_committed_behind_the_watermark_are_found_by_the_look_back(org: PolledOrg) -> None:
    transaction = org.org.begin()
    late = transaction.create("Contact", {"LastName": "Late"})
    org.org.clock.advance(timedelta(seconds=90))
    people(org, 5)
    await org.poll()
    assert late not in org.seen.records("Contact")

    transaction.commit()
    report = await org.poll()

    assert late in org.seen.records("Contact")
    assert report.events == 1


async def test_the_settle_lag_goes_by_whichever_clock_is_behind(org: PolledOrg) -> None:
    connection = await org.connect()
    org.clock.advance(timedelta(minutes=5))
    transaction = org.org.begin()
    late = transaction.create("Contact", {"LastName": "Late"})
    org.pass_time(timedelta(seconds=connection.look_back_seconds + connection.settle_lag_seconds / 2))
    org.org.create("Contact", {"LastName": "Newer"})
    await org.poll()
    transaction.commit()
    await org.poll()
    assert late in org.seen.records("Contact")


async def test_delete_undelete_and_merge_reach_the_events(org: PolledOrg) -> None:
    first, second, third = people(org, 3)
    await org.poll()
    org.org.clock.advance(timedelta(seconds=2))
    org.org.delete("Contact", first)
    org.org.merge("Contact", second, [third])
    await org.poll()
    assert org.seen.records("Contact").keys() == {second}
    assert org.seen.events["Contact", third].record["MasterRecordId"] == second

    org.org.clock.advance(timedelta(seconds=2))
    org.org.undelete("Contact", first)
    await org.poll()

    assert org.seen.records("Contact").keys() == {first, second}
    assert org.seen.repeated == 0


async def test_a_second_change_and_a_change_back_within_one_second_are_both_sent(org: PolledOrg) -> None:
    org.org.clock.freeze(org.org.clock())
    [one] = people(org, 1, Title="a")
    for title in ("a", "b", "a"):
        org.org.update("Contact", one, {"Title": title})
        await org.poll()
        assert org.seen.events["Contact", one].record["Title"] == title


async def test_a_failing_bus_keeps_the_cursor_and_the_next_poll_sends_the_page(
    org: PolledOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    await org.connect(page_size=10)
    people(org, 25)
    send, sent = org.bus.send, 0

    async def failing(*arguments: Any, **options: Any) -> None:
        nonlocal sent
        sent += 1
        if sent == 2:
            raise BusUnavailableError("away")
        await send(*arguments, **options)

    monkeypatch.setattr(org.bus, "send", failing)
    with pytest.raises(BusUnavailableError):
        await org.poll()

    report = await org.poll()

    assert org.seen.records("Contact").keys() == org.truth().keys()
    assert (report.events, org.seen.repeated) == (15, 0)


async def test_ended_between_send_and_save_the_page_is_read_again_and_dropped_by_the_bus(
    org: PolledOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    await org.connect(page_size=10)
    people(org, 25)
    save, saved = org.states.save, 0

    async def ended(*arguments: Any) -> Any:
        nonlocal saved
        saved += 1
        if saved == 2:
            raise KeyboardInterrupt
        return await save(*arguments)

    monkeypatch.setattr(org.states, "save", ended)
    with pytest.raises(KeyboardInterrupt):
        await org.poll()
    monkeypatch.undo()
    await org.poll()

    assert org.seen.records("Contact").keys() == org.truth().keys()
    assert org.seen.repeated == 0
    queries = org.queries()
    assert len(queries) - len(set(queries)) == 1


async def test_out_of_time_a_poll_stops_at_a_page_and_goes_on_there(org: PolledOrg) -> None:
    await org.connect(page_size=10)
    people(org, 25)
    reports = [await org.poll(deadline=org.clock() + timedelta(seconds=s)) for s in (-1, 60)]

    assert [report.finished for report in reports] == [False, True]
    assert [report.events for report in reports] == [0, 25]


async def test_a_first_load_of_many_pages_takes_the_bulk_lane_and_a_change_the_other(org: PolledOrg) -> None:
    await org.connect(page_size=10)
    first, *_ = people(org, 25)
    lanes: list[str] = []
    send = org.bus.send

    async def noted(queue: str, *arguments: Any, **options: Any) -> None:
        lanes.append(queue)
        await send(queue, *arguments, **options)

    org.bus.send = noted  # type: ignore[method-assign]  # to watch it
    await org.poll()
    org.org.clock.advance(timedelta(seconds=2))
    org.org.update("Contact", first, {"Title": "x"})
    await org.poll()

    assert lanes == ["ingestion-events-bulk"] * 3 + ["ingestion-events"]


async def test_a_large_window_is_given_up_once_nothing_can_turn_up_in_it(org: PolledOrg) -> None:
    await org.connect(page_size=10)
    people(org, 45)
    org.pass_time(timedelta(minutes=5))
    await org.poll()
    assert (await org.poll()).calls == 5

    org.pass_time(timedelta(seconds=700))
    await org.poll()
    report = await org.poll()

    assert (report.calls, report.events) == (1, 0)
    assert (await org.memory()).metadata.window == {}
    people(org, 1, LastName="New")
    assert (await org.poll()).events == 1


async def test_a_window_above_its_ceiling_is_sent_again_but_never_lost(org: PolledOrg) -> None:
    people(org, 30)
    object.__setattr__(org.ports, "window_ceiling", 10)
    await org.poll()

    report = await org.poll()

    assert report.events <= 20
    assert org.seen.records("Contact").keys() == org.truth().keys()
    assert sum(len(text) for text in (await org.memory()).metadata.window.values()) <= 160


async def test_an_object_wider_than_a_uri_is_read_in_parts_that_agree(org: PolledOrg) -> None:
    for index in range(300):
        org.org.add_field("Contact", Field(f"A_custom_field_with_a_rather_long_name_{index:03d}__c", "string"))
    await org.connect(page_size=10)
    people(org, 25, A_custom_field_with_a_rather_long_name_299__c="last")

    report = await org.poll()

    assert not report.errors
    records = org.seen.records("Contact")
    assert records.keys() == org.truth().keys()
    assert {record["A_custom_field_with_a_rather_long_name_299__c"] for record in records.values()} == {"last"}


async def test_configured_fields_are_read_with_those_that_the_chain_needs(org: PolledOrg) -> None:
    await org.connect(objects=(PolledObject(name="Contact", fields=("LastName", "Nope__c")),))
    [one] = people(org, 1)

    await org.poll()

    payload = org.seen.events["Contact", one].record
    assert payload.keys() == {"Id", "SystemModstamp", "IsDeleted", "MasterRecordId", "CreatedDate", "LastName"}
    assert "Nope__c" in str((await org.memory()).metadata.warning)


async def test_rows_in_responses_shorter_than_asked_for_are_all_read_and_leave_no_locator_open(org: PolledOrg) -> None:
    org.api.page_cap = 8
    people(org, 50)

    await org.poll()

    assert org.seen.records("Contact").keys() == org.truth().keys()
    assert sum("LIMIT 2000" in query for query in org.queries()) == 1


async def test_an_object_that_never_had_a_row_is_noted_and_no_failure(org: PolledOrg) -> None:
    report = await org.poll()

    memory = await org.memory()
    assert not report.errors
    assert (memory.last_sync_status, memory.error_message) == ("success", None)
    assert str(memory.metadata.no_rows).startswith("Contact: a read of all records gave none")

    people(org, 1)
    await org.poll()
    assert (await org.memory()).metadata.no_rows is None


async def test_no_rows_of_an_object_of_which_records_are_stored_is_an_alarm(org: PolledOrg) -> None:
    [one] = people(org, 1)
    await org.poll()
    connection = await org.connect(connection_id="second")
    org.org.hard_delete("Contact", one)

    report = await poll(connection, org.ports, org.store)

    remedy = report.errors["Contact"]
    assert remedy.startswith("Contact: ")
    assert "the user may no longer see them" in remedy
    key, empty = object_key(connection, "Contact"), new_object_memory(connection, "Contact")
    memory = (await org.states.load(TENANT, key, empty)).value
    assert (memory.last_sync_status, memory.error_message, memory.last_sync_at) == ("failed", remedy, None)


async def test_the_org_is_learnt_at_the_first_login(org: PolledOrg) -> None:
    await org.poll()

    assert (await org.connection()).instance == org.org.org_id
    assert await org.registry.resolve_instance("acme", "salesforce") == org.org.org_id
