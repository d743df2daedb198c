"""An org that takes only short queries and small pages, for its fields are many and slow, is read nevertheless."""

import re
from datetime import timedelta
from urllib.parse import quote_plus

import pytest
from pushed_org import PushedOrg

from ingestion.first_load import FirstLoadPorts, load_pages
from ingestion.salesforce.client import QueryPage, SalesforceClient
from ingestion.salesforce.errors import of_response
from ingestion.salesforce.history import HistoryReader
from ingestion.salesforce.refresh import refresh
from local.salesforce.schema import Field
from processors.outcome import DONE

LONGEST, LARGEST_PAGE = 1200, 100


@pytest.fixture
def refused(org: PushedOrg, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on the org refuses large queries; which it has."""
    made: list[str] = []
    query = SalesforceClient.query

    async def picky(client: SalesforceClient, soql: str, *, object_type: str, deleted_too: bool = True) -> QueryPage:
        if soql.startswith("SELECT COUNT()"):
            return await query(client, soql, object_type=object_type, deleted_too=deleted_too)
        limit = re.search(r" LIMIT (\d+)", soql)
        by_id = " IN ('" in soql
        code = "QUERY_TOO_COMPLICATED" if len(quote_plus(soql)) > LONGEST else ""
        code = code or ("QUERY_TIMEOUT" if limit and int(limit[1]) > LARGEST_PAGE and not by_id else "")
        if code:
            made.append(code)
            raise of_response(400, [{"errorCode": code, "message": "too much"}], {}, org.clock(), object_type)
        return await query(client, soql, object_type=object_type, deleted_too=deleted_too)

    monkeypatch.setattr(SalesforceClient, "query", picky)
    return made


def fill(org: PushedOrg, accounts: int = 150) -> list[str]:
    """Accounts with many fields, one of them a formula."""
    for number in range(30):
        org.org.add_field("Account", Field(f"A_field_of_many_{number}__c", "string"))
    org.org.add_field("Account", Field("Health__c", "double", calculated=True))
    return [org.org.create("Account", {"Name": f"A{number}", "Health__c": number}) for number in range(accounts)]


async def test_its_history_is_read_in_parts_and_small_pages(org: PushedOrg, refused: list[str]) -> None:
    fill(org)
    connection = await org.connect("Account")
    reader = HistoryReader(org.ports, {}, pause_seconds=0)
    ports = FirstLoadPorts(org.bus, org.states, org.clock)
    deadline = org.clock() + timedelta(minutes=1)

    step = await load_pages(connection, lambda position: reader.page(connection, position), ports, deadline=deadline)

    assert step.notes.finished_at is not None, step.notes.waiting_for
    await org.drain()
    assert org.seen.records("Account").keys() == org.truth("Account").keys()
    assert set(refused) == {"QUERY_TOO_COMPLICATED", "QUERY_TIMEOUT"}
    assert len(refused) < 15, "what was refused once is not asked for again on each page"


async def test_an_object_that_cannot_be_counted_in_time_is_loaded_as_one_of_many(org: PushedOrg) -> None:
    fill(org, 10)
    connection = await org.connect("Account", page_size=4)
    reader = HistoryReader(org.ports, {}, pause_seconds=0)
    org.api.faults.add("query-timeout", path="/queryAll", skip=1)
    ports = FirstLoadPorts(org.bus, org.states, org.clock)
    deadline = org.clock() + timedelta(minutes=1)

    step = await load_pages(connection, lambda position: reader.page(connection, position), ports, deadline=deadline)

    assert step.notes.finished_at is not None, step.notes.waiting_for
    assert (step.notes.records, step.notes.estimated, org.api.bulk.made) == (10, True, 1)
    await org.drain()
    assert org.seen.records("Account").keys() == org.truth("Account").keys()


async def test_a_refresh_of_it_comes_to_its_end(org: PushedOrg, refused: list[str]) -> None:
    made = fill(org, 120)
    await org.connect("Account")
    await org.poll()
    org.pass_time(timedelta(days=8))
    refused.clear()
    org.org.drift("Account", made[7], {"Health__c": 1000})

    report = await refresh(await org.connection(), org.ports, org.store)
    await org.drain()

    assert (report.finished, report.events) == (True, 1)
    assert str(org.seen.records("Account")[made[7]]["Health__c"]) == "1000"


async def test_pushes_about_many_of_its_records_are_read(org: PushedOrg, refused: list[str]) -> None:
    made = fill(org)
    await org.connect("Account")
    answer = await org.post([{"Id": one} for one in made])
    assert answer.status == 202

    org.pass_time(timedelta(seconds=2.1))
    assert set(await org.work()) == {DONE}

    assert org.seen.records("Account").keys() == set(made)
    assert len(refused) < 15
