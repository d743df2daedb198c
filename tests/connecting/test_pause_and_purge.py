"""Pausing and resuming a connection, ending it, taking away what it brought, and connecting it again."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from commands_of_rig import CommandsOfRig, complaint
from drive_source_rig import DriveSourceRig
from source_rig import TENANT, SourceRig
from working_rig import POLL

from connections.connection import CONNECTION_TYPE, ConnectionStatus
from connections.stored_connection import connection_data
from ingestion.errors import CredentialError, SourceError
from ingestion.first_load import FirstLoadPorts, LoadStep, load_pages, note_asked
from ingestion.history_memory import HistoryNotes, history_key, new_history_memory
from ingestion.purge import PurgePorts, note_purge, purge
from ingestion.source import HistoryPage, Position
from ingestion.work import NOT_ACTIVE
from messaging import codec
from messaging.contracts import SourceWork
from messaging.queues import INGESTION_EVENTS, SOURCE_WORK
from messaging.times import to_text
from shards.store import ShardQuery, ShardWrite

ONE_SOURCE = pytest.mark.parametrize("rig", ["salesforce"], indirect=True)
SOON = timedelta(minutes=5)


async def names(rig: SourceRig) -> str:
    """All that the live shards of the source tell."""
    return " ".join(str(shard.structured_data) for shard in await rig.live())


async def begun(rig: SourceRig, *texts: str) -> str:
    """A connection that has read records of *texts*; its id."""
    for text in texts:
        await rig.create(text)
        rig.wait(1)
    connection = await rig.connect()
    await rig.load_history()
    await rig.catch_up()
    told = await names(rig)
    assert all(text in told for text in texts)
    return connection.connection_id


async def test_a_paused_connection_reads_nothing_and_a_resumed_one_at_once(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    of = await begun(rig, "before")
    assert (await shardline("connections", "--pause", of)).code == 0
    assert (await shardline.status())[of]["state"] == "paused"
    await rig.create("meanwhile")
    # The poll that was asked for before the pause comes to nothing, and its due time stays the same.
    rig.wait(POLL.total_seconds())
    calls = rig.calls()
    await rig.tick()
    await rig.settle()
    assert rig.calls() == calls

    rig.wait(1)
    answer = await shardline("connections", "--resume", of)
    assert answer.code == 0, answer.error
    await rig.settle(within=timedelta(seconds=10))
    assert rig.calls() > calls
    if rig.system != "slack":  # whose polls compare what events missed, and the event itself is told below
        assert "meanwhile" in await names(rig)


@ONE_SOURCE
async def test_what_was_pushed_to_a_paused_connection_waits_and_comes_with_it(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    of = await begun(rig, "before")
    await rig.deliver()
    await rig.settle()
    await shardline("connections", "--pause", of)
    rig.wait(60)
    await rig.create("pushed")
    assert await rig.deliver() > 0
    await rig.settle()
    assert {message.reason for message in await rig.parked()} == {NOT_ACTIVE}

    answer = await shardline("connections", "--resume", of)
    assert "Replayed what waited for the connection: 1 parked message." in answer.out
    await rig.settle()
    assert await rig.parked() == []
    assert "pushed" in await names(rig)


@ONE_SOURCE
@pytest.mark.parametrize("again", [["connect", "salesforce", "--tenant", TENANT, "--id"], ["connections", "--add"]])
async def test_what_waited_for_a_connection_comes_however_it_is_made_active(
    rig: SourceRig, shardline: CommandsOfRig, again: list[str], tmp_path: Path
) -> None:
    of = await begun(rig, "before")
    await rig.deliver()
    await rig.settle()
    described = tmp_path / "connection.json"
    described.write_bytes(codec.encode(connection_data(await rig.connection())))
    await shardline("connections", "--pause", of)
    rig.wait(60)
    await rig.create("pushed")
    assert await rig.deliver() > 0
    await rig.settle()
    assert len(await rig.parked()) == 1

    words = [*again, described, "--tenant", TENANT] if again[0] == "connections" else [*again, of]
    answer = await shardline(*words)
    assert answer.code == 0, answer.error
    assert "1 parked message" in answer.out
    assert await rig.parked() == []


@pytest.mark.parametrize("rig", ["gdrive"], indirect=True)
async def test_a_permission_that_ends_during_a_pause_is_taken_back_after_it(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    assert isinstance(rig, DriveSourceRig)
    of = await begun(rig, "before")
    note = await rig.create("note")
    ends = to_text(rig.now + timedelta(hours=1))
    late = {"type": "user", "role": "reader", "emailAddress": "late@acme.example", "expirationTime": ends}
    rig.drive.share(note.external_id, late)
    await rig.catch_up()

    async def readers() -> tuple[str, ...]:
        shard = await rig.stored(note)
        assert shard is not None
        return shard.acl.principals

    assert "user:late@acme.example" in await readers()
    await shardline("connections", "--pause", of)
    rig.wait(3700)
    await rig.settle()
    assert "user:late@acme.example" in await readers(), "nothing is asked of the source"
    await shardline("connections", "--resume", of)
    await rig.settle()
    assert "user:late@acme.example" not in await readers()
    assert await rig.parked() == []


@pytest.mark.parametrize("rig", ["slack"], indirect=True)
async def test_what_changed_while_it_was_disconnected_comes_with_the_next_connect(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    key = await rig.create("before")
    of = await begun(rig, "another")
    assert "before" in await names(rig)
    rig.wait(200 * 86_400)
    await rig.create("much later")
    await rig.deliver()
    await rig.catch_up()
    assert (await shardline("disconnect", of)).code == 0
    await rig.change(key, "edited since")
    await rig.pushes()
    rig.wait(60)

    answer = await shardline("connect", rig.system, "--tenant", TENANT, "--id", of)
    assert answer.code == 0, answer.error
    await rig.settle()
    assert await rig.texts([key]) == ["edited since"]


async def test_a_failed_connection_says_why_and_goes_on_once_it_is_mended(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    of = await begun(rig, "before")
    rig.revoke_credentials()
    await rig.catch_up()
    row = (await shardline.status())[of]
    assert row["state"] == "failed"
    assert row["error"]
    said = complaint(await shardline("backfill", of), 1)
    assert row["error"] in said
    rig.restore_credentials()
    rig.wait(30)
    assert (await shardline("connections", "--resume", of)).code == 0
    await rig.settle()
    await rig.catch_up()
    assert (await shardline.status())[of]["state"] == "active"
    assert ((await rig.memory()).error_message, (await rig.connection()).error_message) == (None, None)


@ONE_SOURCE
async def test_a_first_load_that_a_pause_broke_off_goes_on(rig: SourceRig, shardline: CommandsOfRig) -> None:
    of = await begun(rig, "before")
    connection, services = await rig.connection(), rig.services
    await note_asked(connection, FirstLoadPorts(services.bus, services.states, services.clock), anew=True)
    await shardline("connections", "--pause", of)
    assert (await shardline.status())[of]["firstLoad"]["waitingFor"] == "its turn"
    rig.wait(5)
    await shardline("connections", "--resume", of)
    await rig.settle()
    assert (await shardline.status())[of]["firstLoad"]["finishedAt"]


@ONE_SOURCE
async def test_a_load_from_the_command_line_ends_with_the_pause_of_its_connection(
    rig: SourceRig, shardline: CommandsOfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await begun(rig, "before")
    calls = 0

    async def paused_meanwhile(*_: object, **__: object) -> LoadStep:
        nonlocal calls
        calls += 1
        assert calls == 1, "it goes on"
        await rig.services.connections.set_status(await rig.connection(), "paused")
        return LoadStep(HistoryNotes(), timedelta(0))

    monkeypatch.setattr("cli.backfilling.load_pages", paused_meanwhile)
    said = complaint(await shardline("backfill", of), 1)
    assert f"{of} is paused: 'shardline connections --resume {of}' lets it go on" in said


@ONE_SOURCE
async def test_what_people_have_paused_stays_so_though_work_under_way_is_let_in_no_more(
    rig: SourceRig, shardline: CommandsOfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await begun(rig, "before")

    async def refused(*_: object) -> None:
        await shardline("connections", "--pause", of)
        raise CredentialError("nobody is let in")

    monkeypatch.setattr(rig.source, "run", refused)
    rig.wait(POLL.total_seconds() + 1)
    await rig.tick()
    await rig.work()
    assert (await shardline.status())[of]["state"] == "paused"


@ONE_SOURCE
async def test_a_load_that_stands_still_with_its_connection_is_told_without_a_pace(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    of = await begun(rig, "before")
    connection, states = await rig.connection(), rig.services.states
    empty = new_history_memory(connection)
    half = HistoryNotes(asked_at=to_text(rig.now), began_at=to_text(rig.now), records=500, total=2000, seconds=50)
    saved = await states.load(TENANT, history_key(connection), empty)
    await states.save(TENANT, history_key(connection), saved, msgspec.structs.replace(empty, metadata=half))
    assert "500 records of 2,000 (25 %), 10 a second, some 2 min left" in (await shardline("status")).out

    await shardline("connections", "--pause", of)

    told = (await shardline("status")).out
    assert "500 records of 2,000 (25 %); waiting for the connection to be active" in told
    assert "left" not in told


async def test_a_purge_takes_away_all_and_only_its_own_and_it_can_be_connected_again(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    of = await begun(rig, "first", "second")
    other = msgspec.structs.replace(await rig.connection(), connection_id="other", instance="")
    await rig.services.connections.save(msgspec.structs.replace(other, status="paused"))
    parked = SourceWork(tenant_id=TENANT, connection_id="other", work="push", due_at=to_text(rig.now), event_id="p")
    await rig.services.bus.send(SOURCE_WORK, [parked.to_message(SOURCE_WORK)])
    await rig.settle()

    assert "--yes" in complaint(await shardline("disconnect", of, "--purge"), 2)
    assert (await shardline("disconnect", of, "--purge", "--yes")).code == 0
    row = (await shardline.status())[of]
    assert (row["state"], row["purge"]["finishedAt"], row["purge"]["waitingFor"]) == ("disconnected", None, "its turn")
    assert "taken away so far" in (await shardline("status")).out
    again = await shardline("connections", "--tenant", TENANT, "--resume", of)
    assert "is disconnected" in complaint(again, 1)
    connection = next(one for one in await rig.services.connections.of_tenant(TENANT) if one.connection_id == of)
    words = ["connect", rig.system, "--tenant", TENANT, "--id", of, "--backfill"]
    assert "still being taken away" in complaint(await shardline(*words), 1)

    await rig.settle(within=SOON)
    await rig.drain()
    assert await rig.live() == []
    row = (await shardline.status())[of]
    assert row["purge"]["finishedAt"]
    assert row["purge"]["records"] >= 2
    assert "stays" not in (await shardline("disconnect", of)).out
    assert row["firstLoad"] is None
    assert [message.reason for message in await rig.parked()] == [NOT_ACTIVE], "of the other connection"

    rig.wait(1)
    assert (await shardline(*words)).code == 0
    await rig.settle()
    assert "first" in await names(rig)
    assert "second" in await names(rig)
    row = (await shardline.status())[of]
    assert (row["state"], row["purge"]) == ("active", None)
    assert connection.instance == row["instance"]


@ONE_SOURCE
@pytest.mark.parametrize("status", ["active", "paused"])
async def test_what_another_connection_reads_too_comes_back(
    rig: SourceRig, shardline: CommandsOfRig, status: ConnectionStatus
) -> None:
    of = await begun(rig, "shared")
    twin = msgspec.structs.replace(await rig.connection(), connection_id="twin", status=status)
    await rig.services.connections.save(twin)
    await shardline("disconnect", of, "--purge", "--yes")
    await rig.settle(within=SOON)
    if status == "paused":
        assert await rig.live() == []
        await shardline("connections", "--resume", "twin")
        await rig.settle(within=SOON)
    assert "shared" in await names(rig)
    [shard] = await rig.live()
    assert {relationship.connection_id for relationship in shard.external_relationships} == {"twin"}


@ONE_SOURCE
async def test_a_purge_waits_for_the_work_that_was_under_way_and_goes_on_where_it_was(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    of = await begun(rig, "one")
    connection, services = await rig.connection(), rig.services

    async def page(position: Position | None) -> HistoryPage:
        # In the middle of a first load the connection is ended, and its purge is tried.
        await shardline("disconnect", of, "--purge", "--yes")
        ended = await services.connections.get(TENANT, of)
        assert ended is not None
        ports = PurgePorts(services.bus, services.store, services.states, services.store, rig.clock)
        step = await purge(ended, ports, deadline=rig.now)
        assert step.again_in is not None
        assert "under way" in str(step.notes.waiting_for)
        return HistoryPage([], None)

    loading = FirstLoadPorts(services.bus, services.states, services.clock)
    await note_asked(connection, loading, anew=True)
    await load_pages(connection, page, loading, deadline=rig.now + timedelta(seconds=5))
    await rig.settle(within=SOON)
    assert await rig.live() == []


@ONE_SOURCE
async def test_a_purge_finds_what_was_just_being_taken_when_the_connection_was_ended(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    of = await begun(rig, "one")
    connection = await rig.connection()
    await rig.create("taken late")
    await shardline("disconnect", of, "--purge", "--yes")
    await rig.settle(within=timedelta(seconds=20))
    assert await rig.live() == []
    assert not (await shardline.status())[of]["purge"]["finishedAt"]

    history = await rig.services.sources[rig.system].history(connection, None)
    await rig.services.bus.send(INGESTION_EVENTS, [event.to_message(INGESTION_EVENTS) for event in history.events])
    await rig.settle(within=SOON)
    assert (await shardline.status())[of]["purge"]["finishedAt"]
    assert await rig.live() == []


async def test_nothing_is_left_running_at_the_source(rig: SourceRig, shardline: CommandsOfRig) -> None:
    of = await begun(rig, "before")
    answer = await shardline("disconnect", of, "--json")
    assert answer.json == {"tenantId": TENANT, "connectionId": of, "purge": False, "left": None}
    await rig.create("afterwards")
    rig.wait(2)
    if rig.system == "gdrive":
        assert await rig.pushes() == [], "its channels are stopped"
    await rig.catch_up()
    assert "afterwards" not in await names(rig)
    assert "before" in await names(rig)


@ONE_SOURCE
async def test_it_is_ended_though_the_source_is_out_of_reach(
    rig: SourceRig, shardline: CommandsOfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await begun(rig, "before")

    async def stop(*_: object) -> None:
        raise CredentialError("the channel x stays until it expires")

    monkeypatch.setattr("ingestion.salesforce.source.SalesforceSource.stop", stop)
    answer = await shardline("disconnect", of)
    assert answer.code == 0
    assert "Left at the source: the channel x stays" in answer.out
    assert (await shardline.status())[of]["state"] == "disconnected"
    assert issubclass(CredentialError, SourceError)


@ONE_SOURCE
async def test_a_connection_that_cannot_be_read_hides_no_other_and_can_be_connected_anew(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    of = await begun(rig, "before")
    connection = await rig.connection()
    await rig.services.connections.save(msgspec.structs.replace(connection, connection_id="sound"))
    [stored] = [
        shard
        for shard in (await rig.store.query(ShardQuery(TENANT, shard_type_ids=(CONNECTION_TYPE,)), limit=9)).items
        if shard.id == connection.shard_id
    ]
    broken = {**stored.structured_data, "pollIntervalSeconds": "often"}
    await rig.store.write_many([ShardWrite(msgspec.structs.replace(stored, structured_data=broken), stored.etag)])

    rows = await shardline.status()
    assert {name: row["state"] for name, row in rows.items()} == {of: "invalid", "sound": "active"}
    assert "pollSeconds" in rows[of]["error"]
    listed = await shardline("connections", "--tenant", TENANT, "--json")
    assert {one["connectionId"]: one["status"] for one in listed.lines} == {of: "invalid", "sound": "active"}
    assert "connect it again" in complaint(await shardline("disconnect", of), 1)
    words = ["--flow", "client-credentials", "--domain", "acme.my", "--consumer-secret", "sf-consumer"]
    key = connection.auth.consumer_key  # type: ignore[attr-defined]  # Salesforce's
    again = await shardline("connect", "salesforce", "--tenant", TENANT, "--id", of, *words, "--consumer-key", key)
    assert again.code == 0, again.error
    assert (await shardline.status())[of]["state"] == "active"


@ONE_SOURCE
async def test_which_connection_is_meant_is_told_apart_by_tenant(rig: SourceRig, shardline: CommandsOfRig) -> None:
    of = await begun(rig, "before")
    await rig.connect("beta")
    assert f"name one with --tenant ({TENANT}, beta)" in complaint(await shardline("disconnect", of), 2)
    assert f"there are: {of}" in complaint(await shardline("connections", "--pause", "nope"), 2)
    there = [(one["tenantId"], one["connectionId"]) for one in (await shardline("connections", "--json")).lines]
    ended = await shardline("disconnect", of, "--tenant", "beta")
    assert ended.code == 0
    assert f"'shardline disconnect {of} --tenant beta --purge' takes it away" in ended.out
    again = (await shardline("connections", "--tenant", TENANT, "--pause", of, "--resume", of)).out
    assert again.count(of) >= 1
    listed = (await shardline("connections", "--json")).lines
    assert [(one["tenantId"], one["connectionId"]) for one in listed] == there == sorted(there), "a list stays in order"
    connection = await rig.services.connections.get("beta", of)
    assert connection is not None
    assert connection.status == "disconnected"
    assert (await rig.connection()).status == "active"
    await note_purge(connection, rig.services.states, rig.now)
