"""Source work as the queue does it: due times, the lease, the budget, and what ends where someone can see it."""

import asyncio
import logging
import platform
from dataclasses import replace
from datetime import timedelta
from typing import Literal

import msgspec
import pytest
from polled_org import CONNECTION, TENANT, PolledOrg

from connections.lease import Lease
from connections.state import state_shard_id
from ingestion.asking import enqueue_due
from ingestion.connection_memory import connection_key, memory_of
from ingestion.work import handle_source_work
from messaging import codec
from messaging.bus import ReceivedMessage
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import to_text
from processors.outcome import DONE, Later, Outcome, Park
from shards.store import ShardQuery, ShardWrite
from shards.types import validate


def work(org: PolledOrg, kind: Literal["poll", "sweep"] = "poll", connection: str = CONNECTION) -> SourceWork:
    """Work due now."""
    return SourceWork(
        tenant_id=TENANT,
        connection_id=connection,
        work=kind,
        due_at=to_text(org.clock()),
    )


async def asked_for(org: PolledOrg) -> list[SourceWork]:
    """Run the timer and take what it asked for."""
    await enqueue_due(org.work_ports)
    messages: list[ReceivedMessage] = await org.bus.receive(SOURCE_WORK, max_messages=10)
    await org.bus.complete(messages)
    return [SourceWork.from_bytes(message.body) for message in messages]


async def run(org: PolledOrg, one: SourceWork) -> Outcome:
    """Do the work and take the events."""
    outcome = await handle_source_work(one, org.work_ports)
    await org.drain()
    return outcome


async def test_a_new_connection_is_due_at_once_and_then_by_its_interval(org: PolledOrg) -> None:
    [first] = await asked_for(org)
    assert (first.work, first.connection_id) == ("poll", CONNECTION)
    assert await asked_for(org) == []
    assert await run(org, first) == DONE
    assert await asked_for(org) == []

    org.pass_time(timedelta(seconds=61))

    [second] = await asked_for(org)
    assert second.due_at > first.due_at


async def test_work_that_is_done_already_costs_nothing(org: PolledOrg) -> None:
    one = work(org)
    await run(org, one)
    calls = len(org.api.calls)

    assert await run(org, one) == DONE
    assert len(org.api.calls) == calls


async def test_the_sweep_is_due_by_its_own_interval_and_soon_again_to_confirm(org: PolledOrg) -> None:
    made = [org.org.create("Contact", {"LastName": f"P{index}"}) for index in range(5)]
    org.pass_time(timedelta(minutes=5))
    await run(org, work(org))
    org.org.hard_delete("Contact", made[0])
    org.pass_time(timedelta(hours=25))
    kinds = {one.work: one for one in await asked_for(org)}
    assert kinds.keys() == {"poll", "sweep"}

    assert await run(org, kinds["sweep"]) == DONE
    assert made[0] in org.seen.records("Contact")
    org.pass_time(timedelta(minutes=11))
    [confirming] = [one for one in await asked_for(org) if one.work == "sweep"]
    assert await run(org, confirming) == DONE

    assert org.seen.records("Contact").keys() == org.truth().keys()
    org.pass_time(timedelta(hours=1))
    assert [one.work for one in await asked_for(org)] == ["poll"]


async def test_a_paused_connection_is_left_alone(org: PolledOrg) -> None:
    await org.connect(status="paused")

    assert await asked_for(org) == []
    assert await run(org, work(org)) == DONE
    assert not org.api.calls


async def test_two_workers_at_once_read_each_page_once(org: PolledOrg) -> None:
    await org.connect(page_size=10)
    for index in range(45):
        org.org.create("Contact", {"LastName": f"P{index}"})

    outcomes = await asyncio.gather(*(handle_source_work(work(org), org.work_ports) for _ in range(3)))
    await org.drain()

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Done", "Later", "Later"]
    assert org.seen.records("Contact").keys() == org.truth().keys()
    assert len(org.queries()) == len(set(org.queries())) == 5


async def test_a_lease_that_has_run_out_or_whose_owner_is_dead_is_taken_over(org: PolledOrg) -> None:
    connection = await org.connection()
    alive = Lease(owner="another-machine|boot/ns/1/1|x", expires_at=to_text(org.clock() + timedelta(minutes=3)))
    dead = Lease(owner=f"{platform.node()}|boot/ns/1/1|x", expires_at=to_text(org.clock() + timedelta(minutes=3)))
    for lease, expected in ((alive, Later), (dead, type(DONE))):
        saved = await memory_of(connection, org.states)
        await org.states.save(
            TENANT, connection_key(connection), saved, msgspec.structs.replace(saved.value, lease=lease)
        )
        assert isinstance(await run(org, work(org)), expected)

    assert (await org.connection_memory()).lease is None


async def test_out_of_time_the_work_goes_on_in_a_copy(org: PolledOrg) -> None:
    org.org.create("Contact", {"LastName": "P"})
    hurried = replace(org.work_ports, run_for=timedelta(0))
    one = work(org)

    outcome = await handle_source_work(one, hurried)

    assert outcome == Later(timedelta(0), "there is more to read")
    assert await run(org, one) == DONE
    assert org.seen.records("Contact").keys() == org.truth().keys()


async def test_the_budget_stops_before_the_limit_and_polling_resumes_where_it_was(org: PolledOrg) -> None:
    await org.connect(page_size=10)
    for index in range(100):
        org.org.create("Contact", {"LastName": f"P{index}"})
    org.api.daily_limit = 50
    org.api.use_calls(38)
    one = work(org)

    outcome = await run(org, one)

    assert isinstance(outcome, Later)
    assert outcome.delay > timedelta(minutes=10)
    assert org.api.used_calls() == 45
    assert (await org.connection_memory()).last_sync_status == "partial"
    assert isinstance(await run(org, one), Later)
    assert org.api.used_calls() == 45
    before = len(org.seen.records("Contact"))
    assert 0 < before < 100

    org.pass_time(timedelta(hours=25))
    assert await run(org, one) == DONE

    assert org.seen.records("Contact").keys() == org.truth().keys()
    assert org.seen.repeated == 0


async def test_a_share_of_the_calls_is_kept_over_polls(org: PolledOrg) -> None:
    await org.connect(api_budget_share=0.1)
    org.api.daily_limit = 100
    outcomes = []
    for _ in range(12):
        outcomes.append(await run(org, work(org)))
        org.pass_time(timedelta(seconds=90))

    assert outcomes[:9] == [DONE] * 9
    assert isinstance(outcomes[-1], Later)
    assert org.api.used_calls() == 10


async def test_the_orgs_own_refusal_waits_long(org: PolledOrg) -> None:
    org.api.faults.add("request-limit", times=None)

    outcome = await run(org, work(org))

    assert isinstance(outcome, Later)
    assert timedelta(minutes=29) < outcome.delay <= timedelta(minutes=30)
    calls = len(org.api.calls)
    assert isinstance(await run(org, work(org)), Later)
    assert len(org.api.calls) == calls
    org.api.faults.clear()
    org.pass_time(outcome.delay)
    assert await run(org, work(org)) == DONE


async def test_an_outage_backs_off_and_the_timer_does_not_pile_up_work(org: PolledOrg) -> None:
    org.api.faults.add("unavailable-html", times=None)
    one = work(org)
    delays = []
    for _ in range(4):
        outcome = await run(org, one)
        assert isinstance(outcome, Later)
        delays.append(outcome.delay)
        org.pass_time(outcome.delay)
        assert await asked_for(org) == []

    assert delays == sorted(set(delays))
    assert "503" in str((await org.connection_memory()).error_message)
    org.api.faults.clear()
    assert await run(org, one) == DONE
    memory = await org.connection_memory()
    assert (memory.last_sync_status, memory.error_message) == ("success", None)


async def test_wrong_credentials_fail_the_connection_with_a_remedy_and_stop_asking(org: PolledOrg) -> None:
    org.simulator.credentials.run_as_user = False

    assert await run(org, work(org)) == DONE

    connection = await org.connection()
    assert connection.status == "failed"
    assert "Run As user" in str(connection.error_message)
    org.pass_time(timedelta(hours=2))
    assert await asked_for(org) == []

    org.simulator.credentials.run_as_user = True
    await org.registry.set_status(connection, "active")
    [again] = [one for one in await asked_for(org) if one.work == "poll"]
    assert await run(org, again) == DONE
    assert (await org.connection()).error_message is None


async def test_only_a_poll_that_read_something_is_a_sync(org: PolledOrg) -> None:
    org.simulator.credentials.run_as_user = False
    await run(org, work(org))
    assert (await org.connection_memory()).last_sync_at is None, "a connection that never logged in"

    org.simulator.credentials.run_as_user = True
    await org.registry.set_status(await org.connection(), "active")
    await run(org, work(org))
    synced = (await org.connection_memory()).last_sync_at
    assert synced is not None

    org.pass_time(timedelta(minutes=5))
    await run(org, work(org, "sweep"))
    org.api.faults.add("unavailable-html", times=None)
    await run(org, work(org))
    org.api.faults.clear()
    org.api.faults.add("insufficient-access", path="/query", times=None)
    await run(org, work(org))
    assert (await org.connection_memory()).last_sync_status == "failed"
    assert (await org.connection_memory()).last_sync_at == synced
    assert str((await org.memory()).last_sync_at) <= synced

    org.api.faults.clear()
    await run(org, work(org))
    assert str((await org.connection_memory()).last_sync_at) > synced


async def test_a_connection_whose_objects_have_no_rows_has_nothing_to_mend(org: PolledOrg) -> None:
    await org.connect("Contact", "User")

    assert await run(org, work(org)) == DONE

    query = ShardQuery(TENANT, shard_type_ids=("integration.state",))
    states = [shard.structured_data for shard in (await org.store.query(query)).items]
    assert len(states) == 4, "of the connection, its two objects and the org's calls"
    assert [state["errorMessage"] for state in states if "errorMessage" in state] == []


async def test_one_object_that_fails_makes_the_run_partial(org: PolledOrg) -> None:
    await org.connect("Contact", "Nope__c")

    assert await run(org, work(org)) == DONE

    memory = await org.connection_memory()
    assert memory.last_sync_status == "partial"
    assert "Nope__c" in str(memory.error_message)


async def test_a_state_of_another_version_is_told_and_asked_for_again_by_the_clock(org: PolledOrg) -> None:
    await run(org, work(org))
    shard = await org.store.get(TENANT, state_shard_id(TENANT, f"{CONNECTION}/Contact"))
    assert shard is not None
    other = {**shard.structured_data, "cursor": "of another version"}
    assert all(
        await org.store.write_many([ShardWrite(msgspec.structs.replace(shard, structured_data=other), shard.etag)])
    )
    org.pass_time(timedelta(minutes=2))

    [again] = await asked_for(org)
    assert await run(org, again) == DONE

    memory = await org.connection_memory()
    assert memory.last_sync_status == "failed"
    assert f"{CONNECTION}/Contact" in str(memory.error_message)
    assert await asked_for(org) == []
    org.pass_time(timedelta(minutes=2))
    assert len(await asked_for(org)) == 1


async def test_a_connection_that_cannot_be_read_holds_no_other_back(org: PolledOrg) -> None:
    broken = msgspec.structs.replace(await org.connection(), connection_id="broken")
    await org.registry.save(broken)
    shard = await org.store.get(TENANT, broken.shard_id)
    assert shard is not None
    shard.structured_data.pop("settings")
    assert all(await org.store.write_many([ShardWrite(shard, shard.etag)]))

    assert [one.connection_id for one in await asked_for(org)] == [CONNECTION]
    outcome = await run(org, work(org, connection="broken"))

    assert isinstance(outcome, Park)
    assert "settings" in outcome.detail


async def test_work_of_an_unknown_connection_is_parked(org: PolledOrg) -> None:
    outcome = await run(org, work(org, connection="nope"))

    assert isinstance(outcome, Park)
    assert outcome.reason == "connection-unknown"


async def test_no_credential_is_in_any_log_state_or_error(org: PolledOrg, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    credentials = org.simulator.credentials
    texts: list[str] = []
    for auth in (
        org.auth(),
        org.auth(
            flow="username-password",
            domain="login",
            username=credentials.username,
            password=f"secret:{TENANT}/sf-password",
            security_token=f"secret:{TENANT}/sf-token",
        ),
    ):
        for broken in (False, True):
            await org.connect(auth=auth, status="active", error_message=None)
            org.clients.drop(await org.connection())
            if broken:
                credentials.user_state = "locked"
            texts.append(repr(await run(org, work(org))))
            credentials.user_state = "active"
            session = org.clients.of(await org.connection())
            texts.append(repr(vars(session).get("_headers")))
            org.pass_time(timedelta(seconds=70))

    async def everything() -> bytes:
        shards = (await org.store.query(ShardQuery(TENANT), limit=500)).items
        assert len(shards) >= 4
        return codec.encode(shards)

    told = caplog.text + "".join(texts) + (await everything()).decode()
    for secret in org.planted:
        assert secret not in told
    assert "00D" not in caplog.text.replace(org.org.org_id, "")


async def test_states_and_connections_fit_their_shard_types(org: PolledOrg) -> None:
    org.org.create("Contact", {"LastName": "P"})
    await run(org, work(org))
    await run(org, work(org, "sweep"))
    shards = (await org.store.query(ShardQuery(TENANT), limit=500)).items
    kept = [shard for shard in shards if shard.shard_type_id.startswith("integration.")]

    assert {shard.shard_type_id for shard in kept} == {"integration.connection", "integration.state"}
    for shard in kept:
        validate(shard.shard_type_id, shard.structured_data)
        assert shard.acl.principals == ()
