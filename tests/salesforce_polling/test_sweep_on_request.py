"""A sweep that an operator asks for: it is done although none is due, and a short confirmation follows it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from polled_org import CONNECTION, TENANT, PolledOrg
from shardline_command import Answer, shardline

from composition import LocalServices, build_local
from connections.salesforce_connection import SalesforceAuth, SalesforceConnection
from ingestion.asking import ask_for_sweep, enqueue_due
from ingestion.work import handle_source_work
from local.home import prepare_home
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from processors.outcome import DONE
from settings import HOME_FILE, load_settings

SIMULATOR = "http://127.0.0.1:9"


async def do_what_was_asked_for(org: PolledOrg) -> list[str]:
    """Do the work that waits; of what kinds it was."""
    messages = await org.bus.receive(SOURCE_WORK, max_messages=10)
    asked = [SourceWork.from_bytes(message.body) for message in messages]
    for one in asked:
        assert await handle_source_work(one, org.work_ports) == DONE
    await org.bus.complete(messages)
    await org.drain()
    return [one.work for one in asked]


async def test_a_record_that_is_gone_for_good_is_found_by_a_sweep_asked_for_and_the_one_that_confirms(
    org: PolledOrg,
) -> None:
    one, other = (org.org.create("Contact", {"LastName": name}) for name in ("One", "Other"))
    await org.poll()
    org.org.hard_delete("Contact", one)
    org.pass_time(timedelta(seconds=5))

    await ask_for_sweep([await org.connection()], org.work_ports)
    assert await do_what_was_asked_for(org) == ["sweep"]
    assert one in org.seen.records("Contact"), "one listing is not enough"

    org.pass_time(org.work_ports.confirm_after)
    await enqueue_due(org.work_ports)
    assert "sweep" in await do_what_was_asked_for(org)
    assert org.seen.records("Contact").keys() == {other}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[LocalServices]:
    """A sandbox home with one connection and no host."""
    prepare_home(tmp_path, simulators={"salesforce": SIMULATOR})
    services = build_local(load_settings(tmp_path / HOME_FILE))
    await services.connections.save(
        SalesforceConnection(
            connection_id=CONNECTION,
            tenant_id=TENANT,
            system="salesforce",
            name="Acme",
            auth=SalesforceAuth(
                flow="client-credentials", domain="acme.my", consumer_key="k", consumer_secret=f"secret:{TENANT}/s"
            ),
        )
    )
    try:
        yield services
    finally:
        await services.close()


def sweep(services: LocalServices, *options: str) -> Answer:
    """Call the command."""
    return shardline("sweep", "--data", services.settings.store_file.parent, *options)


async def test_the_command_asks_for_work_that_is_due_now(home: LocalServices) -> None:
    answer = sweep(home, "--json")

    assert (answer.code, answer.error) == (0, "")
    assert answer.json["connections"] == [{"tenantId": TENANT, "connectionId": CONNECTION}]
    assert answer.json["confirmAfterSeconds"] == home.ingestion.confirm_after.total_seconds() == 5
    [message] = await home.queues.receive(SOURCE_WORK, max_messages=10)
    work = SourceWork.from_bytes(message.body)
    assert (work.tenant_id, work.connection_id, work.work) == (TENANT, CONNECTION, "sweep")
    assert work.due_at == answer.json["dueAt"]


async def test_the_command_says_who_does_the_sweep_and_when_a_record_is_gone(home: LocalServices) -> None:
    answer = sweep(home, "--tenant", TENANT, "--connection", CONNECTION)

    assert answer.code == 0
    assert f"sweep of {CONNECTION} of {TENANT}" in answer.out
    assert "shardline up" in answer.out
    assert "two listings miss it" in answer.out


async def test_what_cannot_be_swept_is_one_line(home: LocalServices) -> None:
    unknown = sweep(home, "--connection", "nope")
    assert (unknown.code, unknown.error.count("\n")) == (2, 1)
    assert f"no connection 'nope' here; there are: {CONNECTION}" in unknown.error

    connection = await home.connections.get(TENANT, CONNECTION)
    assert connection is not None
    await home.connections.set_status(connection, "paused")
    paused = sweep(home)
    assert (paused.code, paused.error.count("\n")) == (1, 1)
    assert f"{CONNECTION} is paused" in paused.error
    assert (await home.bus.depths())[SOURCE_WORK].active == 0
