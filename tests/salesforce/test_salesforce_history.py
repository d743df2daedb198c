"""An org's history: pages that can be read again, query jobs on bad days, and a poll after it that changes nothing."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pushed_org import SAMPLES, PushedOrg

from connections.salesforce_connection import PolledObject
from ingestion.errors import TransientError
from ingestion.first_load import FirstLoadPorts, load_pages
from ingestion.salesforce.client import QueryPage, SalesforceClient
from ingestion.salesforce.csv_export import bulk_records
from ingestion.salesforce.cursor import earlier
from ingestion.salesforce.errors import ObjectError, of_response
from ingestion.salesforce.events import stamp_text
from ingestion.salesforce.history import PUT_OFF_AFTER, HistoryReader
from ingestion.source import Pages, Position
from local.salesforce.schema import Field, empty_table
from local.salesforce.store import Table
from messaging import codec
from messaging.contracts import IngestionEvent
from messaging.queues import INGESTION_EVENTS_BULK
from processors.mapping import map_record
from shards.ordering import Decision, Reading, decide

NASTY = 'says "hi",\nand\r\nleaves\x00; ünï'


def fill(org: PushedOrg, accounts: int = 25) -> dict[str, set[str]]:
    """Records of several kinds, with what CSV makes hard."""
    org.org.add_field("Account", Field("Score__c", "double"))
    org.org.add_field("Account", Field("Vip__c", "boolean"))
    made = {"Account": set[str](), "Contact": set[str](), "User": set[str](), "Opportunity": set[str]()}
    for number in range(accounts):
        fields: dict[str, Any] = {"Name": f"A{number}", "Description": NASTY, "AnnualRevenue": f"{number}.50"}
        fields |= {"NumberOfEmployees": number, "Score__c": number, "Vip__c": number % 2 == 0, "BillingCity": "Oslo"}
        made["Account"].add(org.org.create("Account", fields))
    made["User"].add(org.org.create("User", {"LastName": "U", "Email": "u@acme.example"}))
    made["Contact"].add(org.org.create("Contact", {"LastName": "C", "Birthdate": "1990-01-02"}))
    gone = sorted(made["Account"])[0]
    org.org.delete("Account", gone)
    return made


def history(org: PushedOrg, bulk_from: int) -> HistoryReader:
    """A reader to whom so many records are many."""
    return HistoryReader(org.ports, {}, bulk_from=bulk_from, pause_seconds=0)


async def read(pages: Pages, org: PushedOrg, *, disturbed: Any = None) -> list[IngestionEvent]:
    """All pages; *disturbed* is called before each."""
    events: list[IngestionEvent] = []
    position: Position | None = None
    for number in range(60):
        if disturbed is not None:
            disturbed(number)
        page = await pages(position)
        events += page.events
        await org.bus.send(INGESTION_EVENTS_BULK, [one.to_message(INGESTION_EVENTS_BULK) for one in page.events])
        position = page.next_position
        if position is None:
            return events
    raise AssertionError("the history does not end")


def told(org: PushedOrg) -> dict[Any, Any]:
    """What the chain makes of each record: its version, and all that its fingerprint covers."""
    return {
        key: (event.source_version, map_record("salesforce", key[0], event.record, event.event_type, key[1]))
        for key, event in org.seen.events.items()
    }


@pytest.mark.parametrize("bulk_from", [0, 1_000_000], ids=["jobs", "queries"])
async def test_the_poll_after_a_history_changes_nothing(org: PushedOrg, bulk_from: int) -> None:
    made = fill(org)
    connection = await org.connect("Account", "Contact", "Opportunity", page_size=10)
    reader = history(org, bulk_from)

    async def pages(position: Position | None) -> Any:
        page = await reader.page(connection, position)
        assert page.total == 27
        return page

    events = await read(pages, org)
    await org.drain()
    assert events[0].object_type == "User"
    assert {event.source_id for event in events} == set().union(*made.values())
    before = told(org)
    assert org.api.bulk.made == (4 if bulk_from == 0 else 0)

    report = await org.poll()

    assert report.events == 26
    assert told(org) == before


async def test_polls_beside_a_history_begin_where_it_began(org: PushedOrg) -> None:
    fill(org)
    connection = await org.connect("Account", "Contact", page_size=10)
    org.pass_time(timedelta(hours=5))
    reader = history(org, 1_000_000)
    ports = FirstLoadPorts(org.bus, org.states, org.clock)
    calls = 0

    async def pages(position: Position | None) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise TransientError("cut off")
        return await reader.page(connection, position)

    await load_pages(connection, pages, ports, deadline=org.clock() + timedelta(minutes=1))
    fresh = org.org.create("Account", {"Name": "Fresh"})

    report = await org.poll()

    assert (report.rows, report.events) == (1, 1), "what is older is the history's"
    step = await load_pages(connection, pages, ports, deadline=org.clock() + timedelta(minutes=1))
    assert step.notes.finished_at is not None
    await org.drain()
    assert org.seen.records("Account").keys() == org.truth("Account").keys()
    assert fresh in org.seen.records("Account")


async def test_what_the_connection_names_no_more_is_not_taken_from_a_job_that_was_asked_for_it(org: PushedOrg) -> None:
    fill(org)
    await org.connect("Account")
    reader = history(org, 0)

    async def pages(at: Position | None) -> Any:
        page = await reader.page(await org.connection(), at)
        if org.api.bulk.made == 2:  # the first is of users
            await org.connect(objects=(PolledObject(name="Account", fields=("Name",)),))
        return page

    events = await read(pages, org)
    accounts = [one for one in events if one.object_type == "Account"]
    assert len(accounts) == 25
    assert all(one.record["Name"] and "Score__c" not in one.record for one in accounts)


async def test_a_job_that_was_not_asked_for_all_there_is_to_read_by_now_is_begun_anew(org: PushedOrg) -> None:
    fill(org)
    await org.connect("Account")
    org.org.hide("Account", ["Score__c"])
    reader = history(org, 0)

    async def pages(at: Position | None) -> Any:
        page = await reader.page(await org.connection(), at)
        if org.api.bulk.made == 2:  # the first is of users
            org.org.show("Account")
            org.pass_time(timedelta(days=1, seconds=1))
        return page

    events = await read(pages, org)
    assert org.api.bulk.made == 3
    accounts = [one for one in events if one.object_type == "Account"]
    assert len(accounts) == 25
    assert all("Score__c" in one.record for one in accounts)


@pytest.mark.parametrize("behind", [timedelta(0), timedelta(minutes=40)], ids=["same-clock", "org-behind"])
@pytest.mark.parametrize("bulk_from", [0, 1_000_000], ids=["jobs", "queries"])
async def test_the_first_poll_after_a_history_begins_where_that_began(
    org: PushedOrg, bulk_from: int, behind: timedelta
) -> None:
    made = fill(org)
    connection = await org.connect("Account", "Contact", page_size=10)
    org.org.clock.advance(-behind)
    org.pass_time(timedelta(hours=5))
    open_before = org.org.begin()
    late = open_before.create("Account", {"Name": "Committed late"})
    org.pass_time(timedelta(minutes=5))
    reader = history(org, bulk_from)
    changed = ""

    async def pages(position: Position | None) -> Any:
        nonlocal changed
        page = await reader.page(connection, position)
        if read_accounts := [one for one in page.events if one.object_type == "Account"]:
            changed = read_accounts[-1].source_id
            org.pass_time(timedelta(seconds=2))
            org.org.update("Account", changed, {"Name": "Changed while the history ran"})
        return page

    ports = FirstLoadPorts(org.bus, org.states, org.clock)
    step = await load_pages(connection, pages, ports, deadline=org.clock() + timedelta(minutes=20))
    assert step.notes.finished_at is not None
    await org.drain()
    assert made["Account"] == {one for kind, one in org.seen.events if kind == "Account"}
    open_before.commit()
    org.pass_time(timedelta(hours=3))

    report = await org.poll()

    assert 1 < report.objects["Account"].rows < 10, "what is older is not read again"
    assert report.objects["Contact"].rows == 0
    assert org.seen.records("Account").keys() == org.truth("Account").keys()
    assert late in org.seen.records("Account")
    assert org.seen.records("Account")[changed]["Name"] == "Changed while the history ran"
    assert (await org.poll()).events == 0


async def test_what_a_history_passed_over_or_found_empty_the_first_poll_reads_whole(org: PushedOrg) -> None:
    fill(org)
    org.pass_time(timedelta(hours=5))
    reader = history(org, 1_000_000)
    connection = await org.connect("Account", "Contact", "Opportunity")
    # Accounts are wanted no more when their turn comes, and are wanted again later.
    without = await org.connect("Contact", "Opportunity")
    position: list[Position | None] = []

    async def pages(at: Position | None) -> Any:
        position.append(at)
        return await reader.page(connection if at is None else without, at)

    ports = FirstLoadPorts(org.bus, org.states, org.clock)
    await load_pages(without, pages, ports, deadline=org.clock() + timedelta(minutes=1))
    assert len(position) == 4
    assert not org.truth("Opportunity")
    await org.drain()
    org.pass_time(timedelta(hours=5))
    await org.connect("Account", "Contact", "Opportunity")

    report = await org.poll()

    assert report.objects["Account"].rows == 25
    assert report.objects["Contact"].rows == 0
    assert "a read of all records gave none" in str((await org.memory("Opportunity")).metadata.no_rows)
    assert org.seen.records("Account").keys() == org.truth("Account").keys()


async def test_the_last_object_of_a_history_that_was_passed_over_is_read_whole_too(org: PushedOrg) -> None:
    fill(org)
    org.pass_time(timedelta(hours=5))
    reader = history(org, 1_000_000)
    connection = await org.connect("Contact", "Account")
    without = await org.connect("Contact")

    async def pages(at: Position | None) -> Any:
        return await reader.page(connection if at is None else without, at)

    ports = FirstLoadPorts(org.bus, org.states, org.clock)
    step = await load_pages(without, pages, ports, deadline=org.clock() + timedelta(minutes=1))
    assert step.notes.finished_at is not None
    await org.drain()
    org.pass_time(timedelta(hours=5))
    await org.connect("Contact", "Account")

    report = await org.poll()

    assert (report.objects["Account"].rows, report.objects["Contact"].rows) == (25, 0)
    assert org.seen.records("Account").keys() == org.truth("Account").keys()


async def test_a_page_read_twice_is_the_same_events(org: PushedOrg) -> None:
    fill(org, 5)
    connection = await org.connection()
    reader = history(org, 1_000_000)
    first = await reader.page(connection, None)
    again = await history(org, 1_000_000).page(connection, None)
    queue = INGESTION_EVENTS_BULK
    assert [one.to_message(queue).message_id for one in first.events] == [
        one.to_message(queue).message_id for one in again.events
    ]


async def test_jobs_that_fail_are_lost_or_refused_are_begun_anew_or_done_without(org: PushedOrg) -> None:
    made = fill(org)
    connection = await org.connect("Account", "Contact", page_size=10)
    org.api.bulk.failures.append("InternalServerError")
    org.api.bulk.unsupported.add("Contact")

    def disturbed(number: int) -> None:
        if number in (9, 12):
            org.api.bulk.lose_jobs()

    reader = history(org, 0)
    await read(lambda position: reader.page(connection, position), org, disturbed=disturbed)
    await org.drain()

    assert {one for kind in ("Account", "Contact", "User") for one in made[kind]} == {
        source_id for _, source_id in org.seen.events
    }
    assert org.api.bulk.made >= 4


async def test_a_locator_that_is_refused_begins_the_job_anew(org: PushedOrg) -> None:
    fill(org)
    connection = await org.connect("Account", page_size=10)
    org.api.faults.add("dead-locator", path="/results", skip=2, times=4)
    reader = history(org, 0)
    await read(lambda position: reader.page(connection, position), org)
    await org.drain()
    assert org.seen.records("Account").keys() == org.truth("Account").keys()


async def test_an_object_that_is_hidden_meanwhile_holds_the_history_and_says_so(org: PushedOrg) -> None:
    fill(org)
    connection = await org.connect("Account")
    reader = history(org, 1_000_000)
    first = await reader.page(connection, None)
    org.org.hide("Account")
    with pytest.raises(TransientError, match="the history waits: Account"):
        await reader.page(connection, first.next_position)
    without = await org.connect("Contact")
    passed = await reader.page(without, first.next_position)
    page = await reader.page(without, passed.next_position)
    assert (passed.events, page.events) == ([], [])
    assert page.next_position is None, "taken out of the connection, it is passed over"


@pytest.mark.parametrize("failure", [(500, ""), (400, [{"errorCode": "INVALID_TYPE", "message": "hidden"}])])
async def test_an_object_that_fails_for_long_comes_behind_the_others_and_goes_on_where_it_stood(
    org: PushedOrg, monkeypatch: pytest.MonkeyPatch, failure: tuple[int, Any]
) -> None:
    accounts = sorted(org.org.create("Account", {"Name": f"A{number}"}) for number in range(5))
    contacts = sorted(org.org.create("Contact", {"LastName": f"C{number}"}) for number in range(3))
    connection = await org.connect("Account", "Contact", page_size=2)
    reader = history(org, 1_000_000)
    query, failing = SalesforceClient.query, set[str]()

    async def picky(client: SalesforceClient, soql: str, *, object_type: str, deleted_too: bool = True) -> QueryPage:
        if object_type in failing and "COUNT()" not in soql:
            raise of_response(*failure, {}, org.clock(), object_type)
        return await query(client, soql, object_type=object_type, deleted_too=deleted_too)

    monkeypatch.setattr(SalesforceClient, "query", picky)
    position: Position | None = None
    waited: list[str] = []

    async def pages(number: int) -> list[str]:
        """The ids that so many pages bring, each asked for by its position as it is kept."""
        nonlocal position
        ids: list[str] = []
        for _ in range(number):
            page = await reader.page(connection, position)
            position = codec.decode(codec.encode(page.next_position))
            ids += [event.source_id for event in page.events]
            waited.extend([page.waits_for] if page.waits_for else [])
        return ids

    assert await pages(2) == accounts[:2], "users first, of whom there are none"
    failing.add("Account")
    assert await pages(PUT_OFF_AFTER - 1) == []
    failing.clear()
    assert await pages(1) == accounts[2:4], "what passes within an hour changes no order"
    failing.add("Account")
    assert await pages(PUT_OFF_AFTER) == []
    assert await pages(2) == contacts
    assert len(waited) == 2 * PUT_OFF_AFTER - 1
    assert all("the history waits: " in one for one in waited)
    with pytest.raises(TransientError):
        await pages(1)
    failing.clear()
    assert await pages(1) == accounts[4:]
    assert position is None


async def test_exports_of_the_data_loader_load_as_histories_do(org: PushedOrg, tmp_path: Path) -> None:
    connection = await org.connect("Account", "Opportunity")
    source = org.work_ports.sources["salesforce"]
    files = [SAMPLES / "data" / "dataloader_accountData.csv", SAMPLES / "bulk" / "success0413060133.csv"]
    renamed = tmp_path / "export_Opportunity.csv"
    renamed.write_bytes(files[1].read_bytes())

    events = await read(source.history_of_export(connection, [renamed, files[0]]), org)

    assert [event.object_type for event in events[:1]] == ["Account"]
    accounts = [event for event in events if event.object_type == "Account"]
    assert len(accounts) == 423
    assert {event.instance for event in events} == {org.org.org_id}
    deal = next(event for event in events if event.object_type == "Opportunity")
    assert (deal.record["Name"], deal.record["Amount"]) == ("George Foundation - 5000 Widgets", "500000.0")
    assert deal.source_version == "2006-06-15T01:02:50.000Z"
    position = {"file": 0, "row": 400}
    page = await source.history_of_export(connection, [files[0]])(position)
    assert [one.source_id for one in page.events] == [one.source_id for one in accounts[400:]]


async def test_what_the_org_says_of_a_version_wins_over_an_export_of_it(org: PushedOrg, tmp_path: Path) -> None:
    """Also where the clock that stamped the record is ahead of the one that tells when it was read."""
    record_id = org.org.create("Account", {"Name": "A"})
    connection = await org.connect("Account")
    export = tmp_path / "Account.csv"
    stamp = stamp_text(str(org.org.tables["Account"].records[record_id]["SystemModstamp"]))
    export.write_text(f'"ID","NAME","SYSTEMMODSTAMP"\n"{record_id}","B","{stamp}"\n')
    [event] = await read(org.work_ports.sources["salesforce"].history_of_export(connection, [export]), org)

    exported = Reading(event.source_version or "", event.read_at or "", "exported")
    by_a_slow_clock = Reading(stamp, earlier(stamp, timedelta(minutes=2)), "org's")
    assert exported.source_version == stamp
    assert decide(by_a_slow_clock, exported) is Decision.IGNORE
    assert decide(exported, by_a_slow_clock) is Decision.APPLY


async def test_an_exports_capitals_are_the_names_of_an_orgs_own_fields(org: PushedOrg, tmp_path: Path) -> None:
    owner = org.org.create("User", {"LastName": "U"})
    org.org.tables["Invoice__c"] = Table(empty_table("Invoice__c", [Field("Sum_Total__c", "currency")]))
    record_id = org.org.create("Invoice__c", {"Name": "I-1", "OwnerId": owner, "Sum_Total__c": 5})
    connection = await org.connect("Invoice__c")
    stamp = stamp_text(str(org.org.tables["Invoice__c"].records[record_id]["SystemModstamp"]))
    export = tmp_path / "Invoice__c.csv"
    export.write_text(
        f'"ID","NAME","OWNERID","LASTMODIFIEDDATE","SUM_TOTAL__C"\n"{record_id}","I-1","{owner}","{stamp}","5"\n'
    )

    async def exported() -> tuple[IngestionEvent, dict[str, Any]]:
        [event] = await read(org.work_ports.sources["salesforce"].history_of_export(connection, [export]), org)
        return event, org.structured_data(event)

    event, data = await exported()
    assert (data["name"], data["ownerId"], event.source_version) == ("I-1", owner, stamp), "before any poll"
    await org.poll()
    _, data = await exported()
    assert data["customFields"] == {"Sum_Total__c": "5"}


@pytest.mark.parametrize(
    ("sample", "events", "problem"),
    [
        ("npsp_trailhead_Account.csv", 115, ""),
        ("onyx_test_account.csv", 1, ""),
        ("fivetran_sf_opportunity_data.csv", 10, ""),
        ("npsp_1k_Account.csv", 0, "no Salesforce id"),
        ("npsp_1k_Opportunity.csv", 0, "no Salesforce id"),
        ("dateWithTimeZone.csv", 0, "ends in no object"),
    ],
)
async def test_each_export_that_we_have(org: PushedOrg, sample: str, events: int, problem: str) -> None:
    connection = await org.connect("Account", "Opportunity")
    source = org.work_ports.sources["salesforce"]
    path = next(SAMPLES.glob(f"*/{sample}"))
    if problem:
        with pytest.raises(ObjectError, match=problem) as told:
            await read(source.history_of_export(connection, [path]), org)
        assert sample in str(told.value)
    else:
        assert len(await read(source.history_of_export(connection, [path]), org)) == events


def test_pages_of_csv_with_byte_order_marks_and_nothing_in_them() -> None:
    kinds = {"Id": "id", "Name": "string", "At": "datetime", "Big": "int", "Ok": "boolean"}
    head = '\ufeff"Id","Name","At","Big","Ok"\n'
    page = head + '"001","a\n""b"", c","2026-01-01T00:00:00.000Z","5.0","false"\n"2","","","",""\n'
    assert bulk_records(page.encode(), kinds, "p") == [
        {"Id": "001", "Name": 'a\n"b", c', "At": "2026-01-01T00:00:00.000+0000", "Big": 5, "Ok": False},
        {"Id": "2", "Name": None, "At": None, "Big": None, "Ok": False},
    ]
    assert bulk_records(b"", kinds, "p") == bulk_records(b'"Id","Name"\n', kinds, "p") == []
    for broken in (b'"Id"\n"open', b'"Other"\n"1"\n', b"\xff\xff", b'"Big"\n"x"\n', b'"Id"\n"1","2"\n'):
        with pytest.raises(ObjectError):
            bulk_records(broken, kinds, "p")
