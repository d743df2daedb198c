"""A channel that two workspaces share through Slack Connect, both of them connected to one tenant."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

import msgspec
import pytest
from chain_rig import TENANT
from slack_rig import TEAM, SlackRig

from connections.slack_connection import SlackConnection
from ingestion.slack.source import SlackSource
from local.slack.server import SlackSimulator
from local.slack.workspace import Workspace
from messaging.contracts import SourceWork
from messaging.times import to_text
from shards.model import Shard
from shards.store import ShardQuery

OTHER, PARTNER = "T0OTHER001", "T0PARTNER1"
SHARED = "C0SHARED01"


@dataclass
class OtherSide:
    """The other workspace, connected to the same tenant. What happens in it waits until :meth:`deliver`."""

    rig: SlackRig
    workspace: Workspace
    source: SlackSource
    connection: SlackConnection
    told: list[dict[str, object]]

    async def run(self, work: Literal["poll", "sweep"]) -> None:
        due_at = to_text(self.rig.now)
        asked = SourceWork(tenant_id=TENANT, connection_id=self.connection.connection_id, work=work, due_at=due_at)
        report = await self.source.run(self.connection, asked, self.rig.now.replace(year=2100))
        assert report.finished and report.errors == {}
        await self.rig.drain()

    async def deliver(self) -> None:
        told, self.told[:] = list(self.told), []
        for number, event in enumerate(told):
            asked = SourceWork(
                tenant_id=TENANT,
                connection_id=self.connection.connection_id,
                work="push",
                due_at=to_text(self.rig.now),
                push={"type": "event_callback", "team_id": OTHER, "event": event},
                event_id=f"slack|EvOther{number}",
            )
            await self.source.take(self.connection, asked)
        await self.rig.settle()


@pytest.fixture
async def other(rig: SlackRig) -> AsyncIterator[OtherSide]:
    workspace = Workspace(OTHER, domain="other", email_domain="other.example")
    workspace.put_user({"id": "U0CAT", "name": "cat", "real_name": "Cat Moe"})
    told: list[dict[str, object]] = []
    with SlackSimulator(workspace) as simulator:
        simulator.api.limits.scale = None
        simulator.credentials.bot_token = rig.simulator.credentials.bot_token
        workspace.listeners.append(lambda one: told.append(dict(one.event)))
        source = SlackSource(rig.services.source_ports, simulator=simulator.base_url)
        connection = msgspec.structs.replace(
            rig.connection,
            connection_id="slack-other",
            instance=OTHER,
            base_url="https://other.slack.com/",
            bot_user=workspace.bot_user_id,
            bot_id=workspace.bot_id,
        )
        await rig.services.connections.save(connection)
        yield OtherSide(rig, workspace, source, connection, told)
        source.close()


def share(rig: SlackRig, other: OtherSide, home: str, *, private: bool = False) -> str:
    """The channel on both sides, with one message of Cat's; its ts. Each side's people are in it on its own side."""
    ts = ""
    for workspace, people in ((rig.workspace, ["U0ANN"]), (other.workspace, ["U0CAT"])):
        members = [*people[1:], workspace.bot_user_id]
        channel = workspace.create_channel("joint", user=people[0], members=members, private=private, channel_id=SHARED)
        channel.home_team, channel.teams = home, [one for one in (TEAM, OTHER, PARTNER) if one != home]
        team = None if workspace is other.workspace else OTHER
        ts = workspace.post(SHARED, "joint merger", ts="1700000000.000100", user="U0CAT", user_team=team)
    return ts


async def messages(rig: SlackRig) -> list[Shard]:
    page = await rig.store.query(ShardQuery(TENANT, shard_type_ids=("c_message",)), limit=100)
    return [one for one in page.items if one.structured_data.get("content") == "joint merger"]


async def both_read(rig: SlackRig, other: OtherSide) -> None:
    """Polls, sweeps and deliveries of both sides."""
    await rig.deliver()
    await other.deliver()
    for work in ("poll", "sweep"):
        await rig.ask(work)
        await other.run("poll" if work == "poll" else "sweep")
    for connection, source in ((rig.connection, rig.source), (other.connection, other.source)):
        page = await source.history(connection, None)
        while page.next_position is not None:
            await rig.run(*page.events)
            page = await source.history(connection, page.next_position)
        await rig.run(*page.events)


@pytest.mark.parametrize(("home", "reads"), [(TEAM, "slack-main"), (OTHER, "slack-other"), (PARTNER, "slack-other")])
async def test_a_channel_that_two_connections_share_is_one_set_of_shards(
    rig: SlackRig, other: OtherSide, home: str, reads: str
) -> None:
    share(rig, other, home)
    await both_read(rig, other)
    [message] = await messages(rig)
    [source] = message.external_relationships
    assert (source.instance, source.connection_id) == (home, reads)
    revisions = [one.revision for one in await messages(rig)]
    await both_read(rig, other)
    assert [one.revision for one in await messages(rig)] == revisions, "neither takes back what the other tells"
    assert await rig.parked() == []


@pytest.mark.parametrize("end", ["left", "deleted"])
@pytest.mark.parametrize("home", [TEAM, OTHER])
async def test_the_end_of_a_shared_channel_on_one_side_ends_nothing_at_its_home(
    rig: SlackRig, other: OtherSide, home: str, end: str
) -> None:
    share(rig, other, home, private=True)
    await both_read(rig, other)
    [message] = await messages(rig)
    guests, reader = other.workspace, "user:ann@acme.example"
    if home == OTHER:
        guests, reader = rig.workspace, "user:cat@other.example"
    assert reader in (await channel(rig, home)).acl.principals
    if end == "left":
        guests.leave(SHARED, guests.bot_user_id)
    else:
        guests.delete_channel(SHARED)
    await asyncio.to_thread(rig.simulator.sender.wait_until_idle)
    await rig.deliver()
    await other.deliver()
    if home == TEAM:
        await other.run("poll")
        await other.run("sweep")
    else:
        await rig.ask("poll")
        await rig.ask("sweep")
    [kept] = await messages(rig)
    assert (kept.status, kept.acl) == ("active", message.acl)
    assert await rig.store.readable_scopes(TENANT, [kept.acl.scope], frozenset({reader})) == {kept.acl.scope}
    assert await rig.parked() == []


async def test_what_slack_tells_one_side_alone_is_taken_by_the_other_that_reads_the_channel(
    rig: SlackRig, other: OtherSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(rig, other, OTHER)
    await both_read(rig, other)
    ts = other.workspace.post(SHARED, "joint papers", user="U0CAT")
    other.told.clear()
    told = {"type": "message", "channel": SHARED, "channel_type": "channel", "user": "U0CAT", "text": "joint papers"}
    monkeypatch.setitem(rig.services.sources, "slack", Sides(rig.source, other.source))
    await rig.push({**told, "ts": ts, "event_ts": ts})
    shard = await rig.slack_shard("message", f"{SHARED}:{ts}", OTHER)
    assert shard is not None and shard.external_relationships[0].connection_id == "slack-other"
    assert shard.structured_data["author"]["email"] == "cat@other.example"


async def test_a_shared_channel_that_its_home_leaves_out_is_read_by_the_other(rig: SlackRig, other: OtherSide) -> None:
    other.connection = msgspec.structs.replace(other.connection, left_out=(SHARED,))
    await rig.services.connections.save(other.connection)
    share(rig, other, OTHER)
    await both_read(rig, other)
    [message] = await messages(rig)
    assert message.external_relationships[0].connection_id == "slack-main"


class Sides:
    """The sources of both workspaces: a simulator is one workspace's."""

    def __init__(self, mine: SlackSource, others: SlackSource) -> None:
        self._mine, self._others = mine, others

    async def take(self, connection: SlackConnection, work: SourceWork) -> int:
        return await (self._others if connection.instance == OTHER else self._mine).take(connection, work)

    def close(self) -> None:
        self._mine.close()


async def test_a_channel_whose_sharing_has_ended_is_each_sides_own(rig: SlackRig, other: OtherSide) -> None:
    share(rig, other, OTHER)
    await both_read(rig, other)
    for workspace in (rig.workspace, other.workspace):
        mine = workspace.channel(SHARED)
        mine.home_team, mine.teams = workspace.team_id, []
    await rig.push({"type": "channel_unshared", "channel": SHARED, "previously_connected_team_id": OTHER})
    rig.workspace.post(SHARED, "ours alone", user="U0ANN")
    await rig.deliver()
    page = await rig.store.query(ShardQuery(TENANT, shard_type_ids=("c_message",)), limit=100)
    [ours] = [one for one in page.items if one.structured_data.get("content") == "ours alone"]
    assert ours.external_relationships[0].instance == TEAM
    [message] = [one for one in await messages(rig) if one.external_relationships[0].instance == OTHER]
    assert message.status == "active"


async def test_what_was_hosted_by_a_company_that_shares_no_more_is_read_anew_as_ones_own(rig: SlackRig) -> None:
    slack = rig.workspace
    members = [slack.bot_user_id, "U0BOB"]
    shared = slack.create_channel("joint", user="U0ANN", members=members, private=True, channel_id=SHARED)
    shared.home_team, shared.teams = PARTNER, [TEAM]
    slack.post(SHARED, "joint merger", user="U0ANN")
    await rig.deliver()
    await rig.ask("poll")
    [before] = await messages(rig)
    assert before.external_relationships[0].instance == PARTNER
    await rig.ask("poll")
    assert [one.revision for one in await messages(rig)] == [before.revision]
    slack.unshare_channel(SHARED, PARTNER)
    await rig.deliver()
    slack.leave(SHARED, "U0BOB")
    await rig.deliver()
    await rig.ask("poll")
    [message] = await messages(rig)
    assert message.external_relationships[0].instance == TEAM
    assert (await channel(rig, PARTNER)).status == "deleted"
    for name, reads in (("ann", True), ("bob", False)):
        reader = frozenset({f"user:{name}@acme.example", "tenant"})
        assert bool(await rig.store.readable_scopes(TENANT, [message.acl.scope], reader)) is reads


async def channel(rig: SlackRig, home: str) -> Shard:
    found = await rig.slack_shard("channel", SHARED, home)
    assert found is not None
    return found
