"""An object at whose calls Salesforce fails holds up no others, in any work; an org that is down is asked little."""

from datetime import timedelta

import pytest
from polled_org import CONNECTION, TENANT
from pushed_org import PushedOrg

from ingestion.errors import TransientError
from ingestion.salesforce.client import QueryPage, SalesforceClient
from ingestion.salesforce.errors import of_response
from ingestion.salesforce.failing_objects import IN_A_ROW, PATIENCE
from ingestion.work import handle_source_work
from local.salesforce.schema import Field
from local.simulator_faults import Fault
from messaging.contracts import SourceWork, Work
from messaging.times import to_text
from processors.outcome import DONE, Later, Outcome

DESCRIBE = "sobjects/Account/describe"


async def do(org: PushedOrg, kind: Work, due_at: str) -> Outcome:
    """Do a piece of recurring work, and take the events."""
    work = SourceWork(tenant_id=TENANT, connection_id=CONNECTION, work=kind, due_at=due_at)
    outcome = await handle_source_work(work, org.work_ports)
    await org.drain()
    return outcome


async def test_a_poll_reads_the_others_and_the_failing_one_when_it_is_well_again(org: PushedOrg) -> None:
    account = org.org.create("Account", {"Name": "A"})
    contact, deal = org.org.create("Contact", {"LastName": "C"}), org.org.create("Opportunity", {"Name": "O"})
    org.api.faults.add("server-error", path=DESCRIBE, times=None)
    assert await do(org, "poll", to_text(org.clock())) == DONE
    assert (list(org.seen.records("Contact")), list(org.seen.records("Opportunity"))) == ([contact], [deal])
    memory = await org.connection_memory()
    assert memory.last_sync_status == "partial"
    assert "Account: Salesforce answered 500" in str(memory.error_message)

    org.api.faults.clear()
    org.pass_time(timedelta(minutes=1))
    assert await do(org, "poll", to_text(org.clock())) == DONE
    assert list(org.seen.records("Account")) == [account]
    assert (await org.connection_memory()).error_message is None


async def test_an_org_that_is_down_is_asked_for_a_few_objects_alone(org: PushedOrg) -> None:
    await org.connect("Account", "Contact", "Opportunity", "User", "Lead", "Case")
    fault = org.api.faults.add("unavailable-html", path="sobjects", times=None)
    with pytest.raises(TransientError, match="503"):
        await org.poll()
    assert fault.hits <= 4 * IN_A_ROW
    org.api.faults.clear()
    fault = org.api.faults.add(Fault(status=429, headers={"Retry-After": "30"}, path="sobjects", times=None))
    with pytest.raises(TransientError) as told:
        await org.poll()
    assert (told.value.after, fault.hits) == (timedelta(seconds=30), 1)


@pytest.mark.parametrize("kind", ["sweep", "refresh"])
async def test_a_sweep_and_a_refresh_do_the_others_and_try_the_failing_one_for_a_while(
    org: PushedOrg, kind: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Account", "Contact"):
        org.org.add_field(name, Field("Health__c", "double", calculated=True))
    org.org.create("Account", {"Name": "A"})
    contact = org.org.create("Contact", {"LastName": "C"})
    await org.poll()
    org.pass_time(timedelta(days=8))
    org.org.drift("Contact", contact, {"Health__c": 7})
    query = SalesforceClient.query

    async def failing(client: SalesforceClient, soql: str, *, object_type: str, deleted_too: bool = True) -> QueryPage:
        if object_type == "Account":
            raise of_response(500, "", {}, org.clock(), object_type)
        return await query(client, soql, object_type=object_type, deleted_too=deleted_too)

    monkeypatch.setattr(SalesforceClient, "query", failing)
    due_at = to_text(org.clock())

    assert isinstance(await do(org, kind, due_at), Later)
    notes = (await org.memory("Contact")).metadata
    assert due_at in (notes.sweep.swept_due, notes.refresh.refreshed_due)
    org.pass_time(PATIENCE)
    assert await do(org, kind, due_at) == DONE
    assert "Account: Salesforce answered 500" in str((await org.connection_memory()).error_message)
    monkeypatch.undo()
    due_at = to_text(org.clock())
    assert await do(org, kind, due_at) == DONE
    assert (await org.connection_memory()).error_message is None


@pytest.mark.parametrize("kind", ["poll", "sweep", "refresh"])
async def test_an_object_that_takes_all_of_the_time_to_fail_leaves_some_to_the_others(
    org: PushedOrg, kind: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, fields in (("Account", {"Name": "A"}), ("Contact", {"LastName": "B"})):
        org.org.add_field(name, Field("Health__c", "double", calculated=True))
        org.org.create(name, fields)
    await org.poll()
    contact = org.org.create("Contact", {"LastName": "C"})
    org.pass_time(timedelta(days=8))
    query = SalesforceClient.query

    async def failing(client: SalesforceClient, soql: str, *, object_type: str, deleted_too: bool = True) -> QueryPage:
        if object_type == "Account":
            org.pass_time(org.work_ports.run_for)
            raise of_response(500, "", {}, org.clock(), object_type)
        return await query(client, soql, object_type=object_type, deleted_too=deleted_too)

    monkeypatch.setattr(SalesforceClient, "query", failing)
    due_at = to_text(org.clock())

    await do(org, kind, due_at)
    memory = await org.memory("Contact")
    if kind == "poll":
        assert contact in org.seen.records("Contact")
    else:
        assert due_at in (memory.metadata.sweep.swept_due, memory.metadata.refresh.refreshed_due)


async def test_an_object_whose_queries_take_too_long_at_any_size_is_asked_for_small_pages_next_time(
    org: PushedOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = org.org.create("Account", {"Name": "A"})
    contact = org.org.create("Contact", {"LastName": "B"})
    query = SalesforceClient.query
    asked: list[str] = []

    async def slow(client: SalesforceClient, soql: str, *, object_type: str, deleted_too: bool = True) -> QueryPage:
        if object_type == "Account":
            asked.append(soql.rpartition(" LIMIT ")[2])
            raise of_response(400, [{"errorCode": "QUERY_TIMEOUT", "message": "too long"}], {}, org.clock(), "Account")
        return await query(client, soql, object_type=object_type, deleted_too=deleted_too)

    monkeypatch.setattr(SalesforceClient, "query", slow)
    for _ in range(3):
        report = await org.poll()
        assert "QUERY_TIMEOUT" in report.errors["Account"]
    assert asked == ["2000", "1000", "500", "250", "125", "62", "62", "62"], "each of them costs two minutes"
    assert contact in org.seen.records("Contact")
    monkeypatch.undo()
    await org.poll()
    assert account in org.seen.records("Account")
