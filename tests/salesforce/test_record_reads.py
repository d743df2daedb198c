"""What becomes of ids that a push named: whole records, joined reads, and what changes along with them."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
from polled_org import CONNECTION, TENANT
from pushed_org import PushedOrg

from ingestion.work import handle_source_work
from local.salesforce.schema import Field, empty_table
from local.salesforce.store import Table
from messaging.contracts import SourceWork
from messaging.times import to_text
from processors.outcome import DONE, Park
from shards.identity import shard_id
from shards.store import ShardWrite


def read(org: PushedOrg, ids: dict[str, list[str]], event_id: str = "e", **more: Any) -> SourceWork:
    """A request to read *ids* now."""
    return SourceWork(
        tenant_id=TENANT,
        connection_id=CONNECTION,
        work="read",
        due_at=to_text(org.clock()),
        ids=ids,
        event_id=event_id,
        **more,
    )


async def do(org: PushedOrg, work: SourceWork) -> None:
    """Do the work, and take the events."""
    assert await handle_source_work(work, org.work_ports) == DONE
    await org.drain()


async def test_what_is_read_is_what_a_poll_reads(org: PushedOrg) -> None:
    made = org.org.create("Account", {"Name": "A", "AnnualRevenue": "120000.50", "BillingCity": "Oslo"})
    await do(org, read(org, {"Account": [made[:15]]}))
    by_read = org.seen.events["Account", made]

    await org.poll()

    by_poll = org.seen.events["Account", made]
    assert by_read.record == by_poll.record
    assert (by_read.source_version, by_read.instance) == (by_poll.source_version, org.org.org_id)
    assert "SessionId" not in by_read.record


async def test_what_a_push_reads_between_a_change_and_its_opposite_in_one_second_is_read_once_more(
    org: PushedOrg,
) -> None:
    """A poll that read the record before takes it for what it has sent already."""
    made = org.org.create("Account", {"Name": "There"})
    stamp = str(org.org.tables["Account"].records[made]["SystemModstamp"])
    await org.poll()
    org.org.update("Account", made, {"Name": "Elsewhere"}, stamp=stamp)
    await org.post({"ChangeEventHeader": {"entityName": "Account", "changeType": "UPDATE", "recordIds": [made]}})
    await org.work()
    assert org.seen.records("Account")[made]["Name"] == "Elsewhere"
    org.org.update("Account", made, {"Name": "There"}, stamp=stamp)
    org.pass_time(timedelta(seconds=6))
    assert (await org.poll()).events == 0
    await org.work()
    assert org.seen.records("Account")[made]["Name"] == "There"
    org.pass_time(timedelta(seconds=6))
    assert await org.work() == []


async def test_requests_at_the_same_time_are_one_query_and_each_id_is_read_once(org: PushedOrg) -> None:
    made = [org.org.create("Account", {"Name": f"A{number}"}) for number in range(40)]
    works = [read(org, {"Account": [*made[start : start + 10], made[0]]}, f"e{start}") for start in range(0, 40, 10)]

    assert await asyncio.gather(*(handle_source_work(work, org.work_ports) for work in works)) == [DONE] * 4
    await org.drain()

    assert len(org.queries("Account")) == 1
    assert org.seen.records("Account").keys() == set(made)
    assert org.seen.repeated == 0


async def test_a_read_beside_a_poll_takes_neither_its_place_nor_its_budget(org: PushedOrg) -> None:
    await org.connect("Account", "Contact", page_size=5)
    made = [org.org.create("Contact", {"LastName": f"P{number}"}) for number in range(60)]
    account = org.org.create("Account", {"Name": "A"})

    polling = asyncio.create_task(org.poll())
    works = [read(org, {"Account": [account]}, f"e{number}") for number in range(2)]
    assert await asyncio.gather(*(handle_source_work(work, org.work_ports) for work in works)) == [DONE] * 2
    report = await polling
    await org.drain()

    assert org.seen.records("Contact").keys() == set(made)
    assert account in org.seen.records("Account")
    assert report.calls >= 13
    state = await org.states.load(TENANT, f"salesforce/{org.org.org_id}/api", _usage())
    assert sum(state.value.metadata.calls.values()) == org.api.used_calls(), "every call is counted once"


def _usage() -> Any:
    from connections.budget import ApiUsage
    from ingestion.salesforce.memory import BudgetMemory

    return BudgetMemory(
        name="", integration_id="", integration_type="", last_sync_status="success", metadata=ApiUsage()
    )


async def test_wide_objects_and_short_responses_are_read_whole(org: PushedOrg) -> None:
    for index in range(300):
        org.org.add_field("Contact", Field(f"A_custom_field_with_a_rather_long_name_{index:03d}__c", "string"))
    org.api.page_cap = 8
    last = "A_custom_field_with_a_rather_long_name_299__c"
    made = [org.org.create("Contact", {"LastName": "P", last: "last"}) for _ in range(30)]

    await do(org, read(org, {"Contact": made}))

    records = org.seen.records("Contact")
    assert records.keys() == set(made)
    assert {record[last] for record in records.values()} == {"last"}


async def test_a_custom_object_is_told_by_the_key_prefixes_of_the_org(org: PushedOrg) -> None:
    org.org.tables["Invoice__c"] = Table(empty_table("Invoice__c"))
    made = org.org.create("Invoice__c", {"Name": "I-1"})
    await org.connect("Account", "Invoice__c")

    await do(org, read(org, {"": [made]}))
    assert org.seen.records("Invoice__c").keys() == {made}

    await org.post({"Id": "zzz000000000001"})
    org.pass_time(timedelta(seconds=3))
    [outcome] = await org.work()
    assert isinstance(outcome, Park)
    assert (outcome.reason, "zzz" in outcome.detail) == ("unknown-object-type", True)


async def test_a_record_that_nobody_may_read_is_kept_for_people_and_others_go_on(org: PushedOrg) -> None:
    org.org.hide("Contact")
    await org.post({"Id": "003000000000001"})
    org.pass_time(timedelta(seconds=3))
    [outcome] = await org.work()
    assert isinstance(outcome, Park)
    assert outcome.reason == "object-unreadable"


async def test_a_record_whose_transaction_is_still_open_is_asked_for_once_more(org: PushedOrg) -> None:
    transaction = org.org.begin()
    made = transaction.create("Account", {"Name": "A"})
    await org.post({"Id": made})
    org.pass_time(timedelta(seconds=3))
    assert await org.work() == [DONE]
    assert org.seen.records("Account") == {}
    transaction.commit()

    org.pass_time(timedelta(seconds=6))
    assert await org.work() == [DONE]

    assert org.seen.records("Account").keys() == {made}
    await do(org, read(org, {"Account": ["001000000000009AAA"]}, "never.again"))
    org.pass_time(timedelta(seconds=6))
    assert await org.asked() == [], "what is not there the second time is no more asked for"


async def test_a_record_that_is_gone_for_good_is_deleted_unless_too_many_are(org: PushedOrg) -> None:
    made = [org.org.create("Account", {"Name": f"A{number}"}) for number in range(12)]
    org.pass_time(timedelta(minutes=5))
    await org.poll()
    org.org.hard_delete("Account", made[0])
    await do(org, read(org, {"Account": [made[0]]}))
    assert made[0] not in org.seen.records("Account")
    assert made[1] in org.seen.records("Account")

    for one in made[1:]:
        org.org.hard_delete("Account", one)
    await do(org, read(org, {"Account": made[1:]}, "many"))
    assert org.seen.records("Account").keys() == set(made[1:]), "left to the sweep"


async def test_overflow_and_wildcards_lead_to_a_poll_from_before_the_commit_and_a_sweep(org: PushedOrg) -> None:
    made = [org.org.create("Account", {"Name": f"A{number}"}) for number in range(3)]
    org.pass_time(timedelta(hours=3))
    made.append(org.org.create("Account", {"Name": "Newest"}))
    await org.poll()
    committed = org.org.clock() - timedelta(hours=2)
    late = org.org.create("Account", {"Name": "Late"}, stamp=committed - timedelta(minutes=5))
    await org.poll()
    assert late not in org.seen.records("Account"), "further back than a poll looks"

    header = {
        "entityName": "Account",
        "changeType": "GAP_OVERFLOW",
        "recordIds": ["000000000000000AAA"],
        "transactionKey": "t",
        "sequenceNumber": 9,
        "commitTimestamp": int(committed.timestamp() * 1000),
    }
    assert (await org.post({"ChangeEventHeader": header})).status == 202
    assert await org.work() == [DONE]
    asked = await org.asked()
    assert sorted(work.work for work in asked) == ["poll", "sweep"]
    org.org.hide("Account")
    assert (await org.poll()).errors.keys() == {"Account"}, (
        "what a poll that could not read was to read stays to be read"
    )
    org.org.show("Account")
    for work in asked:
        assert await handle_source_work(work, org.work_ports) == DONE
    await org.drain()

    assert org.seen.records("Account").keys() == {*made, late}
    assert (await org.memory("Account")).metadata.rewind_to is None


async def test_owners_are_read_even_where_users_are_not_polled(org: PushedOrg) -> None:
    owner = org.org.create("User", {"LastName": "Owner", "Email": "owner@acme.example"})
    org.org.create("Account", {"Name": "A", "OwnerId": owner})
    await org.poll()
    assert await org.work() == [DONE]
    assert org.seen.records("User").keys() == {owner}

    other = org.org.create("User", {"LastName": "Other"})
    account = org.org.create("Account", {"Name": "B", "OwnerId": other})
    await do(org, read(org, {"Account": [account]}))
    assert await org.work() == [DONE]
    assert org.seen.records("User").keys() == {owner, other}
    await org.poll()
    assert await org.asked() == []

    # Taken away with all that a connection brought, and connected again, while this process runs.
    stored = await org.store.get(TENANT, shard_id(TENANT, "salesforce", org.org.org_id, "User", owner))
    assert stored is not None
    assert all(await org.store.write_many([ShardWrite(msgspec.structs.replace(stored, status="deleted"), stored.etag)]))
    org.pass_time(timedelta(hours=1))
    org.org.create("Account", {"Name": "C", "OwnerId": owner})
    await org.poll()
    assert [work.ids for work in await org.asked()] == [{"User": [owner]}]


async def test_a_merge_and_a_cascade_take_the_children_along(org: PushedOrg) -> None:
    """The loser is read with the record it was merged into and what belonged to it; a deletion with what it took."""
    winner, loser, doomed = (org.org.create("Account", {"Name": name}) for name in "WLD")
    child = org.org.create("Contact", {"LastName": "C", "AccountId": loser})
    deal = org.org.create("Opportunity", {"Name": "O", "StageName": "New", "AccountId": doomed})
    await org.poll()
    await org.link("Contact", child, "Account", loser)
    await org.link("Opportunity", deal, "Account", doomed)
    org.pass_time(timedelta(seconds=2))
    org.org.merge("Account", winner, [loser])
    org.org.delete("Account", doomed)

    await do(org, read(org, {"Account": [loser, doomed]}))

    assert org.seen.events["Account", loser].record["MasterRecordId"] == winner
    assert org.seen.events["Contact", child].record["AccountId"] == winner
    assert org.seen.records("Account").keys() == {winner}
    assert org.seen.records("Opportunity") == {}
