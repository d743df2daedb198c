"""How an org's records change, and what of it is seen when."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from local.salesforce.contacts import contacts_company, numbered_id
from local.salesforce.hostile import HostileCursor, hostile_company, hostile_epochs
from local.salesforce.org import Org, OrgError
from local.salesforce.schema import Field, Record
from local.salesforce.server import SalesforceSimulator
from local.salesforce.soql import parse
from messaging.codec import encode

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)


def rows(org: Org, soql: str, *, include_deleted: bool = False) -> list[Record]:
    org.commit_due()
    return org.plan(parse(soql)).run(include_deleted=include_deleted)


def names(org: Org, object_name: str = "Account", *, include_deleted: bool = False) -> list[object]:
    found = rows(org, f"SELECT Id FROM {object_name} ORDER BY Name", include_deleted=include_deleted)
    return [record["Name"] for record in found]


@pytest.fixture(autouse=True)
def standing_clock(org: Org) -> None:
    org.clock.freeze(NOON)


def test_writes_are_stamped_to_the_second_and_so_tie(org: Org) -> None:
    first = org.create("Account", {"Name": "A"})
    org.clock.advance(timedelta(milliseconds=400))
    second = org.create("Account", {"Name": "B"})
    table = org.tables["Account"]
    assert table.records[first]["SystemModstamp"] == table.records[second]["SystemModstamp"]
    org.clock.advance(timedelta(seconds=5))
    org.update("Account", first, {"Region__c": "EMEA"})
    record = table.records[first]
    assert record["SystemModstamp"] == record["LastModifiedDate"] == "2026-05-06T12:00:05.000+0000"
    assert record["CreatedDate"] == "2026-05-06T12:00:00.000+0000"


def test_system_processes_and_formulas_move_less(org: Org, accounts: list[str]) -> None:
    before = dict(org.tables["Account"].records[accounts[0]])
    org.clock.advance(timedelta(minutes=1))
    org.update("Account", accounts[0], {"Region__c": "x"}, stamps="none")
    after = org.tables["Account"].records[accounts[0]]
    assert (after["Region__c"], after["SystemModstamp"]) == ("x", before["SystemModstamp"])
    org.update("Account", accounts[0], {}, stamps="system")
    after = org.tables["Account"].records[accounts[0]]
    assert after["SystemModstamp"] == "2026-05-06T12:01:00.000+0000"
    assert after["LastModifiedDate"] == before["LastModifiedDate"]


def test_a_deleted_account_takes_its_children_along_and_brings_them_back(org: Org) -> None:
    account = org.create("Account", {"Name": "A"})
    contact = org.create("Contact", {"LastName": "C", "AccountId": account})
    other = org.create("Contact", {"LastName": "D", "AccountId": account})
    org.delete("Contact", other)
    org.delete("Account", account)
    assert names(org) == names(org, "Contact") == []
    assert names(org, "Contact", include_deleted=True) == ["C", "D"]
    org.undelete("Account", account)
    assert names(org) == ["A"]
    assert [record["Id"] for record in rows(org, "SELECT Id FROM Contact")] == [contact]


def test_a_hard_delete_leaves_nothing_to_see(org: Org, accounts: list[str]) -> None:
    org.hard_delete("Account", accounts[1])
    assert names(org, include_deleted=True) == ["A", "C", "D", "E"]
    assert org.delete_log["Account"] == []


def test_a_merge_moves_the_children_and_names_the_winner(org: Org, accounts: list[str]) -> None:
    winner, loser = accounts[0], accounts[1]
    contact = org.create("Contact", {"LastName": "C", "AccountId": loser})
    org.clock.advance(timedelta(seconds=9))
    org.merge("Account", winner, [loser])
    table = org.tables["Account"].records
    assert (table[loser]["IsDeleted"], table[loser]["MasterRecordId"]) == (True, winner)
    moved = org.tables["Contact"].records[contact]
    assert (moved["AccountId"], moved["SystemModstamp"]) == (winner, "2026-05-06T12:00:09.000+0000")
    assert table[winner]["SystemModstamp"] == "2026-05-06T12:00:09.000+0000"


def test_a_transaction_shows_its_rows_late_with_the_stamps_of_then(org: Org, accounts: list[str]) -> None:
    with org.begin() as transaction:
        made = transaction.create("Account", {"Name": "late"})
        transaction.update("Account", accounts[0], {"Name": "A2"})
        org.clock.advance(timedelta(minutes=2))
        seen = org.create("Account", {"Name": "seen first"})
        assert names(org) == ["A", "B", "C", "D", "E", "seen first"]
        with pytest.raises(OrgError, match="UNABLE_TO_LOCK_ROW"):
            org.update("Account", accounts[0], {"Name": "other"})
    table = org.tables["Account"].records
    assert names(org) == ["A2", "B", "C", "D", "E", "late", "seen first"]
    assert str(table[made]["SystemModstamp"]) < str(table[seen]["SystemModstamp"])


def test_a_transaction_commits_by_the_clock_or_not_at_all(org: Org) -> None:
    org.begin(timedelta(seconds=30)).create("Account", {"Name": "timed"})
    dropped = org.begin()
    dropped.create("Account", {"Name": "dropped"})
    dropped.roll_back()
    assert names(org) == []
    org.clock.advance(timedelta(seconds=30))
    assert names(org) == ["timed"]
    with pytest.raises(OrgError, match="closed"):
        dropped.commit()


def test_what_an_org_refuses(org: Org, accounts: list[str]) -> None:
    user = org.create("User", {"LastName": "U"})
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: org.create("Nothing", {}), "no object Nothing"),
        (lambda: org.create("Account", {"Foo": 1}), "no field Foo"),
        (lambda: org.create("Account", {"Id": accounts[0]}), "already"),
        (lambda: org.create("Account", {"NumberOfEmployees": "many"}), "no number"),
        (lambda: org.update("Account", numbered_id("001", 77), {}), "there is no Account"),
        (lambda: org.delete("User", user), "can't be deleted"),
        (lambda: org.undelete("Account", accounts[0]), "not in the recycle bin"),
        (lambda: org.merge("Account", accounts[0], [accounts[0]]), "merged into itself"),
        (lambda: org.merge("Opportunity", "x", []), "can't be merged"),
    ]
    for refused, said in refusals:
        with pytest.raises(OrgError, match=said):
            refused()
    org.delete("Account", accounts[0])
    with pytest.raises(OrgError, match="ENTITY_IS_DELETED"):
        org.update("Account", accounts[0], {})


def test_both_orders_hold_after_any_change(org: Org, accounts: list[str]) -> None:
    org.update("Account", accounts[3], {}, stamp=NOON - timedelta(hours=1))
    org.hard_delete("Account", accounts[2])
    org.create("Account", {"Name": "F"}, stamp=NOON - timedelta(minutes=1))
    table = org.tables["Account"]
    keys = sorted((str(record["SystemModstamp"]), str(record["Id"])) for record in table.records.values())
    assert table.by_stamp == keys
    assert table.by_id == sorted(table.records)


def test_an_encoded_record_follows_its_changes(org: Org, accounts: list[str]) -> None:
    table = org.tables["Account"]
    query = parse(f"SELECT Name FROM Account WHERE Id = '{accounts[0]}'")

    def name() -> bytes:
        plan = org.plan(query)
        return table.encode(plan.run(include_deleted=False), plan.names, "59.0")[0]

    assert b'"Name":"A"' in name()
    org.update("Account", accounts[0], {"Name": "A2"})
    assert b'"Name":"A2"' in name()


def test_a_record_made_before_a_field_and_committed_behind_it_has_it(org: Org) -> None:
    transaction = org.begin()
    made = transaction.create("Account", {"Name": "Late"})
    org.add_field("Account", Field("New__c", "boolean"))
    transaction.commit()
    [record] = rows(org, f"SELECT Id, New__c FROM Account WHERE Id = '{made}'")
    assert record["New__c"] is False


def test_nobody_merges_a_record_whose_child_a_transaction_holds(org: Org, accounts: list[str]) -> None:
    winner, loser = accounts[:2]
    child = org.create("Contact", {"LastName": "C", "AccountId": loser})
    transaction = org.begin()
    transaction.update("Contact", child, {"Title": "T"})
    with pytest.raises(OrgError, match="UNABLE_TO_LOCK_ROW"):
        org.merge("Account", winner, [loser])
    assert loser in {str(record["Id"]) for record in rows(org, "SELECT Id FROM Account")}
    transaction.commit()
    org.merge("Account", winner, [loser])
    assert org.tables["Contact"].records[child]["AccountId"] == winner


def test_made_up_contacts_are_the_same_every_time_and_of_the_stated_size() -> None:
    first, second = contacts_company(300), contacts_company(300)
    assert first == second
    table = first.tables["Contact"]
    assert len({record["Id"] for record in table.records}) == 300
    assert table.fields.keys() == table.records[0].keys()
    mean = sum(len(encode(record)) for record in table.records) / 300
    assert 700 < mean < 1000


def test_the_hostile_epochs_hold_what_they_say() -> None:
    first, second, third, fourth = (dict(epoch.records) for epoch in hostile_epochs())
    assert (len(first), len(second), len(third)) == (1000, 1160, 1460)
    assert fourth == third
    assert sum(bool(record["IsDeleted"]) for record in third.values()) == 10
    assert set(first) - set(second) == set(range(10, 20))
    watermark = max(str(record["SystemModstamp"]) for record in first.values())
    behind = [number for number in set(second) - set(first) if str(second[number]["SystemModstamp"]) <= watermark]
    assert sorted(behind) == list(range(1000, 1070))
    for epoch in hostile_epochs():
        assert all(datetime.fromisoformat(str(row["SystemModstamp"])) < epoch.now for row in epoch.records.values())


def test_the_hostile_cursor_is_played_on_a_simulator() -> None:
    org = Org(hostile_company())
    play = HostileCursor(org)
    simulator = SalesforceSimulator(org, set_epoch=play.set_epoch)
    play.play_on(simulator.api)
    assert simulator.api.page_cap == 100
    struck = [simulator.api.faults.strike("/services/data/v59.0/query") for _ in range(5)]
    assert [fault and fault.status for fault in struck] == [None, 429, None, 500, None]
    play.set_epoch(1)
    assert len(rows(org, "SELECT Id FROM Contact", include_deleted=True)) == 1160
    assert org.clock() == play.epochs[1].now
    with pytest.raises(ValueError, match="no epoch 4"):
        play.set_epoch(4)
