"""The traps of Salesforce's interfaces, one test each, by the number that each has among them."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from polled_org import TENANT
from pushed_org import SAMPLES, HttpDoor, PushedOrg, as_of

from ingestion.errors import CredentialError, TransientError
from ingestion.salesforce.csv_export import bulk_records
from ingestion.salesforce.errors import ObjectError
from ingestion.salesforce.history import HistoryReader
from ingestion.salesforce.outbound_message import ACK
from ingestion.salesforce.refresh import refresh
from ingestion.source import Position
from ingestion.work import handle_source_work
from local.salesforce.pushes import Pushes
from local.salesforce.schema import Field
from messaging.bus import BusUnavailableError
from messaging.contracts import IngestionEvent, SourceWork
from messaging.times import to_text
from processors.outcome import DONE, Later


async def pushed(org: PushedOrg, *changes: Any, style: Any = "outbound") -> Pushes:
    """Post what *changes* do to the connection's address, once."""
    with HttpDoor(org) as door:
        pushes = Pushes(org.org, door.url, style, scale=0.01)
        for change in changes:
            change()
        await asyncio.to_thread(pushes.deliver)
        pushes.stop()
    return pushes


async def name_of(org: PushedOrg, record_id: str) -> str:
    shard = await org.stored("Account", record_id)
    assert shard is not None
    return str(shard.structured_data["name"])


async def test_trap_01_messages_carry_no_signature_so_address_and_org_are_checked(org: PushedOrg) -> None:
    with HttpDoor(org) as door:
        wrong = Pushes(org.org, door.url + "x")
        org.org.create("Account", {"Name": "A"})
        await asyncio.to_thread(wrong.deliver)
        wrong.stop()
    assert (wrong.waiting, door.answers[0].status) == (1, 404)
    message = (SAMPLES / "outbound" / "derived_obm_account_1.xml").read_bytes()
    assert (await org.post(message, kind="text/xml")).status == 403, "it is of another org"
    assert await org.asked() == []
    own = as_of(org.org.org_id, message, b"00D5g000000OPENEA4")
    assert (await org.post(own, kind="text/xml")).status == 200
    assert len(await org.asked()) == 1


async def test_trap_02_only_the_exact_ack_ends_a_message(org: PushedOrg) -> None:
    pushes = await pushed(org, lambda: org.org.create("Account", {"Name": 'A & "B" <C>'}))
    assert (pushes.delivered, pushes.waiting, pushes.attempts) == (1, 0, 1)
    assert "<notificationsResponse" in ACK


async def test_trap_03_what_was_not_taken_comes_again_out_of_order_with_the_newest_values(
    org: PushedOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise BusUnavailableError("away")

    made = [org.org.create("Account", {"Name": f"A{number}"}) for number in range(150)]
    with HttpDoor(org) as door:
        pushes = Pushes(org.org, door.url, scale=0.01)
        for one in made:
            org.org.update("Account", one, {"Name": "first"})
        with monkeypatch.context() as patched:
            patched.setattr(org.bus, "send", away)
            await asyncio.to_thread(pushes.deliver)
        assert (pushes.waiting, pushes.delivered, await org.asked()) == (150, 0, [])
        org.org.update("Account", made[0], {"Name": "second"})
        org.pass_time(timedelta(seconds=30))
        await asyncio.to_thread(pushes.deliver)
        assert (pushes.waiting, pushes.delivered, pushes.dropped) == (0, 151, 0)
        org.org.update("Account", made[1], {"Name": "never taken"})
        with monkeypatch.context() as patched:
            patched.setattr(org.bus, "send", away)
            await asyncio.to_thread(pushes.deliver)
        org.pass_time(timedelta(hours=1))
        await asyncio.to_thread(pushes.deliver)
        assert pushes.dropped == 1, "after a day, here shortened, nobody sends it any more"
        pushes.stop()
    assert set(await org.work()) == {DONE}
    assert org.seen.records("Account").keys() == set(made)
    assert await name_of(org, made[0]) == "second"
    await org.poll()
    assert await name_of(org, made[1]) == "never taken", "the poll catches what pushes miss"


async def test_trap_04_a_field_that_was_emptied_is_absent_from_a_message_and_emptied_here(org: PushedOrg) -> None:
    made = org.org.create("Account", {"Name": "A", "Industry": "Energy"})
    await org.poll()
    await pushed(org, lambda: org.org.update("Account", made, {"Industry": None}))
    assert await org.work() == [DONE]
    shard = await org.stored("Account", made)
    assert shard is not None
    assert "industry" not in shard.structured_data


async def test_trap_05_ids_of_15_and_18_characters_are_one_record(org: PushedOrg) -> None:
    made = org.org.create("Account", {"Name": "A"})
    await org.post([{"Id": made[:15]}, {"Id": made}])
    [work] = await org.taken()
    assert work.ids == {"Account": [made]}
    assert (await org.post({"Id": made.lower()})).status == 400, "lower-cased on its way, it names another record"


async def test_trap_06_rows_that_share_a_stamp_or_commit_late_are_read(org: PushedOrg) -> None:
    await org.connect("Account", page_size=7)
    stamp = {"SystemModstamp": "2026-01-01T00:00:00.000+0000"}
    made = [org.org.create("Account", {"Name": "A", **stamp}) for _ in range(50)]
    transaction = org.org.begin()
    late = transaction.create("Account", {"Name": "Late"})
    org.pass_time(timedelta(seconds=90))
    made.append(org.org.create("Account", {"Name": "Newer"}))
    await org.poll()
    transaction.commit()
    await org.poll()
    assert org.seen.records("Account").keys() == {*made, late}


async def test_trap_07_a_formula_changes_without_a_stamp(org: PushedOrg) -> None:
    org.org.add_field("Account", Field("Health__c", "double", calculated=True))
    made = org.org.create("Account", {"Name": "A"})
    org.pass_time(timedelta(hours=1))
    org.org.create("Account", {"Name": "B"})
    await org.poll()
    pushes = await pushed(org, lambda: org.org.drift("Account", made, {"Health__c": 5}))
    assert (pushes.attempts, (await org.poll()).events) == (0, 0)
    await refresh(await org.connection(), org.ports, org.store)
    await org.drain()
    shard = await org.stored("Account", made)
    assert shard is not None
    assert shard.structured_data["customFields"]["Health__c"] == 5


async def test_trap_08_a_deletion_is_in_no_message_and_found_by_polls_and_change_events(org: PushedOrg) -> None:
    first, second = (org.org.create("Account", {"Name": "A"}) for _ in range(2))
    await org.poll()
    org.pass_time(timedelta(seconds=2))
    pushes = await pushed(org, lambda: org.org.delete("Account", first))
    assert pushes.attempts == 0
    await org.poll()
    assert org.seen.records("Account").keys() == {second}
    await pushed(org, lambda: org.org.delete("Account", second), style="changes")
    assert await org.work() == [DONE]
    assert org.seen.records("Account") == {}


async def test_trap_09_no_query_locator_is_ever_needed(org: PushedOrg) -> None:
    org.api.page_cap = 8
    made = {org.org.create("Account", {"Name": "A"}) for _ in range(50)}
    org.api.faults.add("dead-locator", times=None)
    await org.poll()
    assert org.seen.records("Account").keys() == made


async def test_trap_10_a_403_is_a_limit_or_a_permission(org: PushedOrg) -> None:
    work = SourceWork(
        tenant_id=TENANT,
        connection_id="sf",
        work="read",
        due_at=to_text(org.clock()),
        ids={"Account": ["001" + "0" * 12]},
    )
    org.api.faults.add("request-limit")
    outcome = await handle_source_work(work, org.work_ports)
    assert isinstance(outcome, Later)
    assert outcome.delay > timedelta(minutes=20)
    org.pass_time(timedelta(hours=1))
    org.api.faults.add("insufficient-access", path="/queryAll")
    report = await org.poll()
    assert "grant read access" in next(iter(report.errors.values()))


@pytest.mark.parametrize("shape", ["unavailable-html", "unavailable", "unauthorized-html", "unauthorized-object"])
async def test_trap_11_errors_come_as_lists_objects_and_pages(org: PushedOrg, shape: str) -> None:
    made = org.org.create("Account", {"Name": "A"})
    await org.poll()
    org.api.faults.add(shape)
    await org.poll()
    org.api.faults.add(shape, times=None)
    with pytest.raises((TransientError, CredentialError)):
        await org.poll()
    org.api.faults.clear()
    await org.poll()
    assert org.seen.records("Account").keys() == {made}


async def test_trap_12_what_the_user_may_not_see_is_said(org: PushedOrg) -> None:
    org.org.create("Account", {"Name": "A"})
    org.org.hide("Account", ["Industry"])
    org.org.hide("Opportunity")
    source = org.work_ports.sources["salesforce"]
    checked = await source.check(await org.connection())
    told = {(one.what, one.state): one for one in checked.findings}
    assert "Industry" in told["Account", "warning"].detail
    assert "permission set" in told["Account", "warning"].remedy
    assert "grant read access" in told["Opportunity", "warning"].detail
    assert "no record can be seen" in told["Contact", "warning"].detail
    assert (told["login", "ok"].detail.startswith("as org 00D"), checked.is_usable) == (True, True)
    assert told["webhook", "warning"].remedy.startswith("use at least 24")
    assert "API calls of 24 hours are left" in told["limits", "ok"].detail


async def test_trap_13_the_relative_address_of_a_next_page_is_never_followed(org: PushedOrg) -> None:
    org.api.page_cap = 3
    made = {org.org.create("Account", {"Name": "A"}) for _ in range(20)}
    await org.poll()
    await org.sweep()
    assert org.seen.records("Account").keys() == made
    assert [call.path for call in org.api.calls if "/queryAll" in call.path]
    assert not [call for call in org.api.calls if "0r8" in call.path], "the last row says where the next page begins"


async def test_trap_14_a_refreshed_sandbox_is_another_org(org: PushedOrg) -> None:
    connection = msgspec.structs.replace(await org.connection(), instance="00D000000000009AAA")
    with pytest.raises(CredentialError, match="was a sandbox"):
        await org.work_ports.sources["salesforce"].check(connection)


async def test_trap_15_a_short_response_is_not_the_end(org: PushedOrg) -> None:
    await org.connect("Account", page_size=10)
    org.api.page_cap = 3
    made = {org.org.create("Account", {"Name": "A"}) for _ in range(20)}
    report = await org.poll()
    assert report.objects["Account"].finished
    assert org.seen.records("Account").keys() == made


async def test_trap_16_csv_of_jobs_has_line_breaks_quotes_marks_and_nul_and_ends_with_a_word(org: PushedOrg) -> None:
    page = '\ufeff"Id","Name"\n"1","two\nlines, ""quoted""\0"\n'.encode()
    assert bulk_records(page, {"Id": "id", "Name": "string"}, "p") == [{"Id": "1", "Name": 'two\nlines, "quoted"'}]
    with pytest.raises(ObjectError):
        bulk_records(b'"Id"\n"1', {"Id": "id"}, "p")
    connection = await org.connect("Account", page_size=2)
    texts = {org.org.create("Account", {"Description": f'{n}\n"said", she'}): f'{n}\n"said", she' for n in range(5)}
    reader = HistoryReader(org.ports, {}, bulk_from=0, pause_seconds=0)
    position: Position | None = None
    events: list[IngestionEvent] = []
    for _ in range(20):
        loaded = await reader.page(connection, position)
        events, position = [*events, *loaded.events], loaded.next_position
        if position is None:
            break
    assert position is None, "the locator of the last page is the word null"
    assert {one.source_id: one.record["Description"] for one in events if one.object_type == "Account"} == texts


async def test_trap_17_wildcards_are_no_ids(org: PushedOrg) -> None:
    for record_id in ("001*", "000000000000000AAA"):
        header = {"entityName": "Account", "changeType": "UPDATE", "recordIds": [record_id], "commitTimestamp": 1}
        assert (await org.post({"ChangeEventHeader": header})).status == 202
        [work] = await org.asked()
        assert work.ids == {"Account": []}
        assert work.push == {"everythingSince": "1970-01-01T00:00:00.001Z"}
    await org.poll()
    transaction, began = org.org.begin(), org.clock()
    late = transaction.create("Account", {"Name": "Late"})
    for _ in range(2):
        org.pass_time(timedelta(hours=1))
        org.org.create("Account", {"Name": "Newer"})
        await org.poll()
    transaction.commit()
    await org.poll()
    assert late not in org.seen.records("Account"), "it is stamped two hours before what is read again"
    header = {"entityName": "Account", "changeType": "GAP_OVERFLOW", "recordIds": ["000000000000000AAA"]}
    await org.post({"ChangeEventHeader": {**header, "commitTimestamp": int(began.timestamp() * 1000)}})
    assert set(await org.work()) == {DONE}
    await org.poll()
    assert late in org.seen.records("Account")


async def test_trap_18_a_session_ends_without_notice(org: PushedOrg) -> None:
    made = [org.org.create("Account", {"Name": "A"}) for _ in range(3)]
    await org.poll()
    org.api.login.expire_sessions()
    logins = org.api.login.logins
    await org.post({"Id": made[0]})
    org.pass_time(timedelta(seconds=3))
    assert await org.work() == [DONE]
    assert org.api.login.logins == logins + 1


async def test_trap_19_the_orgs_count_of_calls_lags_and_our_own_does_not(org: PushedOrg) -> None:
    org.api.daily_limit = 40
    report = await org.poll()
    assert report.calls_left == int(40 * 0.5) - report.calls
