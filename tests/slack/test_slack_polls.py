"""Polls, sweeps, the first load and exports, against the simulator through the vendor's own SDK."""

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from chain_rig import TENANT
from slack_rig import TEAM, SlackRig

from api.status import pipeline_status
from connections.slack_connection import SlackAuth, SlackConnection
from ingestion.connecting import check
from ingestion.errors import BudgetExhaustedError, CredentialError, TransientError
from ingestion.first_load import FirstLoadPorts, note_asked
from ingestion.history_memory import load_memory
from ingestion.slack.errors import RefusedError, error_of
from ingestion.source import Finding, Position
from messaging.contracts import IngestionEvent, SourceWork
from messaging.queues import INGESTION_EVENTS, SOURCE_WORK
from messaging.times import to_text

EXPORT = Path(__file__).parents[1] / "samples" / "slack" / "export" / "slack_export_traveling-sailor.zip"


async def load(rig: SlackRig) -> list[IngestionEvent]:
    """All pages of the history, in order."""
    events: list[IngestionEvent] = []
    page = await rig.source.history(rig.connection, None)
    while True:
        events += page.events
        if page.next_position is None:
            assert not page.estimated
            return events
        page = await rig.source.history(rig.connection, page.next_position)


def untold(rig: SlackRig) -> None:
    """Let the app hear of nothing."""
    rig.simulator.sender.lose_next(1_000_000)


async def contents(rig: SlackRig, *messages: tuple[str, str]) -> list[str | None]:
    shards = [await rig.slack_shard("message", f"{channel}:{ts}") for channel, ts in messages]
    return [shard.structured_data.get("content") if shard else None for shard in shards]


async def test_a_poll_finds_what_no_event_has_told(rig: SlackRig, deal: str) -> None:
    untold(rig)
    slack = rig.workspace
    first = slack.post(deal, "first", user="U0ANN")
    await rig.ask("poll")
    assert await contents(rig, (deal, first)) == ["first"]
    second, reply = slack.post(deal, "second", user="U0BOB"), slack.post(deal, "reply", user="U0BOB", thread_ts=first)
    slack.edit(deal, first, "first, edited")
    slack.rename_channel(deal, "deal-renamed")
    await rig.ask("poll")
    found = await contents(rig, (deal, first), (deal, second), (deal, reply))
    assert found == ["first, edited", "second", "reply"]
    assert (await rig.channel(deal)).name == "deal-renamed"
    assert await rig.parked() == []


async def test_a_poll_that_finds_nothing_new_sends_and_writes_nothing(rig: SlackRig, deal: str) -> None:
    root = rig.workspace.post(deal, "root", user="U0ANN")
    rig.workspace.post(deal, "reply", user="U0BOB", thread_ts=root)
    await rig.deliver()
    await rig.ask("poll")
    shards = [await rig.channel(deal), await rig.message(deal, root)]
    calls = len(rig.simulator.api.calls)
    await rig.ask("poll")
    assert [await rig.channel(deal), await rig.message(deal, root)] == shards
    made = [call.method for call in rig.simulator.api.calls][calls:]
    assert made == ["conversations.list", "conversations.history"]


async def test_dropped_events_are_caught_up_with_from_their_minute_on(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    old = slack.post(deal, "old root", user="U0ANN", ts=f"{int(rig.now.timestamp()) - 60 * 86_400}.000100")
    await rig.deliver()
    await rig.ask("poll")
    rig.simulator.sender.lose_next(2)
    lost, late = slack.post(deal, "lost", user="U0ANN"), slack.post(deal, "late", user="U0BOB", thread_ts=old)
    rig.simulator.sender.send_rate_limited()
    await rig.deliver()
    assert await contents(rig, (deal, lost)) == [None], "the minute is not over"
    rig.wait(180)
    await rig.settle()
    assert await contents(rig, (deal, lost), (deal, late)) == ["lost", "late"]


async def test_public_channels_are_joined_where_the_connection_says_so(rig: SlackRig) -> None:
    channel = rig.workspace.create_channel("open", user="U0ANN").id
    ts = rig.workspace.post(channel, "before the bot came", user="U0ANN")
    await rig.deliver()
    await rig.ask("poll")
    assert (await rig.channel(channel)).name == "open", "a channel is known before it is read"
    assert await contents(rig, (channel, ts)) == [None]
    await rig.connect(join_public=True)
    await rig.ask("poll")
    assert await contents(rig, (channel, ts)) == ["before the bot came"]


@pytest.mark.parametrize("deep", [False, True])
async def test_a_channel_that_can_be_read_only_now_is_read_from_its_beginning_once_it_can(
    rig: SlackRig, deal: str, deep: bool
) -> None:
    slack = rig.workspace
    await rig.ask("poll")
    untold(rig)
    channel = slack.create_channel("open", user="U0ANN").id
    long_ago = f"{int(rig.now.timestamp()) - 400 * 86_400}.000100"
    ts = slack.post(channel, "long ago", user="U0ANN", ts=long_ago)
    slack.join(channel)
    rig.simulator.api.faults.add("internal-error", path=f"channel={channel}", times=None)
    ids = {"since": ["1"]} if deep else {}
    for _ in range(3):
        await rig.ask("poll", ids=ids)
        await pass_time(rig, minutes=2)
    assert (await rig.depth(SOURCE_WORK)).active == 0, "nothing is asked for that can't be had"
    assert await rig.parked() == []
    rig.simulator.api.faults.clear()
    await rig.ask("poll", ids=ids)
    assert await contents(rig, (channel, ts)) == ["long ago"]


async def test_a_channel_that_is_listed_no_more_is_closed_and_not_deleted(rig: SlackRig, deal: str) -> None:
    ts = rig.workspace.post(deal, "figures", user="U0ANN")
    await rig.deliver()
    untold(rig)
    channel = rig.workspace.channels.pop(deal)
    await rig.ask("poll")
    shard, message = await rig.channel(deal), await rig.message(deal, ts)
    assert (shard.status, shard.acl.principals, message.status) == ("active", (), "active")
    assert await rig.store.readable_scopes(TENANT, [message.acl.scope], frozenset({"tenant"})) == set()
    rig.workspace.channels[deal] = channel
    await rig.ask("poll")
    message = await rig.message(deal, ts)
    assert await rig.store.readable_scopes(TENANT, [message.acl.scope], frozenset({"tenant"})) == {message.acl.scope}


async def test_a_membership_that_no_event_told_is_found(rig: SlackRig) -> None:
    slack = rig.workspace
    channel = slack.create_channel("board", user="U0ANN", members=["U0BOB", slack.bot_user_id], private=True).id
    await rig.deliver()
    await rig.ask("poll")
    assert "user:bob@acme.example" in (await rig.channel(channel)).acl.principals
    untold(rig)
    slack.leave(channel, "U0BOB")
    await rig.ask("poll")
    assert (await rig.channel(channel)).acl.principals == ("user:ann@acme.example",)


async def test_a_sweep_finds_messages_that_are_gone(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    kept, gone = slack.post(deal, "kept", user="U0ANN"), slack.post(deal, "gone", user="U0ANN")
    root = slack.post(deal, "root", user="U0ANN")
    reply = slack.post(deal, "reply", user="U0ANN", thread_ts=root)
    await rig.deliver()
    untold(rig)
    slack.delete_message(deal, gone)
    await rig.ask("sweep")
    assert await contents(rig, (deal, kept), (deal, root), (deal, reply)) == ["kept", "root", "reply"]
    assert (await rig.message(deal, gone)).status == "deleted"
    assert (await rig.slack_shard("user", "U0BOB")) is not None, "users are compared, too"


@pytest.mark.parametrize("work", ["sweep", "catch-up"])
async def test_replies_that_were_edited_or_deleted_untold_are_found(rig: SlackRig, deal: str, work: str) -> None:
    slack = rig.workspace
    root = slack.post(deal, "root", user="U0ANN")
    said = [(deal, slack.post(deal, f"reply {number}", user="U0BOB", thread_ts=root)) for number in range(5)]
    await rig.deliver()
    await rig.connect(history_page=2)
    await rig.ask("poll")
    untold(rig)
    slack.edit(deal, said[1][1], "reply 1, edited")
    for gone in (said[2], said[4]):
        slack.delete_message(*gone)
    await (rig.ask("sweep") if work == "sweep" else rig.ask("poll", ids={"since": ["1"]}))
    assert await contents(rig, *said) == ["reply 0", "reply 1, edited", None, "reply 3", None]
    assert [(await rig.message(*one)).status for one in said].count("deleted") == 2
    calls = len(rig.simulator.api.calls_of("conversations.replies"))
    await rig.ask("poll")
    assert len(rig.simulator.api.calls_of("conversations.replies")) == calls, "an ordinary poll reads no thread again"


@pytest.mark.parametrize(("work", "told"), [("sweep", False), ("sweep", True), ("catch-up", False)])
async def test_the_last_reply_of_a_thread_that_was_deleted_untold_is_found(
    rig: SlackRig, deal: str, work: str, told: bool
) -> None:
    slack = rig.workspace
    root = slack.post(deal, "root", user="U0ANN")
    reply = slack.post(deal, "only reply", user="U0BOB", thread_ts=root)
    await rig.deliver()
    await rig.ask("poll")
    await rig.ask("read", ids={"message": [f"{deal}:{root}"]})
    assert (await rig.message(deal, root)).structured_data["replyCount"] == 1
    rig.simulator.sender.lose_next(1 if told else 2)
    slack.delete_message(deal, reply)
    await rig.deliver()
    assert ("replyCount" in (await rig.message(deal, root)).structured_data) is not told
    await (rig.ask("sweep") if work == "sweep" else rig.ask("poll", ids={"since": ["1"]}))
    assert await contents(rig, (deal, root), (deal, reply)) == ["root", None]


async def test_a_sweep_of_a_broken_listing_deletes_nothing(rig: SlackRig, deal: str) -> None:
    made = [rig.workspace.post(deal, f"message {number}", user="U0ANN") for number in range(60)]
    await rig.deliver()
    untold(rig)
    for ts in made:
        rig.workspace.delete_message(deal, ts)
    await rig.ask("sweep")
    assert (await rig.store.counts(TENANT)).deleted == 0, "so many at once are for people to look at"


async def test_the_first_load_brings_everything_page_by_page(rig: SlackRig, deal: str) -> None:
    untold(rig)
    await rig.connect(history_page=2, join_public=True)
    slack = rig.workspace
    root = slack.post(deal, "root", user="U0ANN")
    replies = [slack.post(deal, f"reply {number}", user="U0BOB", thread_ts=root) for number in range(5)]
    others = [slack.post(deal, f"message {number}", user="U0ANN") for number in range(5)]
    private = slack.create_channel("board", user="U0ANN", members=[slack.bot_user_id], private=True).id
    secret = slack.post(private, "secret", user="U0ANN")
    unseen = slack.create_channel("hidden", user="U0ANN", private=True).id
    rig.simulator.api.cursors.short_pages = True
    events = await load(rig)
    assert {event.object_type for event in events} == {"user", "channel", "message"}
    await rig.run(*events)
    wanted = [(deal, ts) for ts in (root, *replies, *others)]
    assert None not in await contents(rig, *wanted, (private, secret))
    assert (await rig.message(private, secret)).acl.scope == f"slack:{TEAM}:{private}"
    assert await rig.slack_shard("channel", unseen) is None
    assert await rig.parked() == []


async def test_a_first_load_goes_on_when_its_cursor_has_died(rig: SlackRig, deal: str) -> None:
    await rig.connect(history_page=2)
    made = [rig.workspace.post(deal, f"message {number}", user="U0ANN") for number in range(5)]
    events: list[IngestionEvent] = []
    died = False
    page = await rig.source.history(rig.connection, None)
    while position := page.next_position:
        if not died and position.get("opened") and position.get("cursor"):
            position, died = {**position, "cursor": "dead"}, True
        page = await rig.source.history(rig.connection, position)
        events += page.events
    assert died
    await rig.run(*events)
    assert None not in await contents(rig, *((deal, ts) for ts in made))


async def test_an_export_loads_as_slack_does_and_never_wins_over_it(rig: SlackRig) -> None:
    connection = SlackConnection(
        connection_id="slack-export",
        tenant_id=TENANT,
        name="Export",
        auth=SlackAuth(bot_token=f"secret:{TENANT}/a", signing_secret=f"secret:{TENANT}/b"),
    )
    pages = rig.source.history_of_export(connection, [EXPORT])
    events: list[IngestionEvent] = []
    page = await pages(None)
    events += page.events
    while page.next_position is not None:
        page = await pages(page.next_position)
        events += page.events
    assert {event.object_type for event in events} == {"user", "channel", "message"}
    message = next(event for event in events if event.object_type == "message" and event.record.get("text"))
    live = message.model_copy(
        update={
            "instance": "T0LIVE",
            "payload": {**message.record, "text": "what Slack says now"},
            "read_at": "2026-01-01T00:00:00.000Z",
        }
    )
    stale = message.model_copy(update={"instance": "T0LIVE"})
    await rig.run(live)
    await rig.run(stale)
    shard = await rig.slack_shard("message", message.source_id, "T0LIVE")
    assert shard is not None and shard.structured_data["content"] == "what Slack says now"


@pytest.mark.parametrize(
    "code", ["invalid_auth", "account_inactive", "token_revoked", "missing_scope", "accesslimited"]
)
def test_what_only_people_can_mend_says_how(code: str) -> None:
    answer = {"ok": False, "error": code, "needed": "channels:read", "provided": "x"}
    error = error_of("conversations.list", 200, answer)
    assert isinstance(error, CredentialError)
    assert "channels:read" in str(error) or code != "missing_scope"


@pytest.mark.parametrize("code", ["request_timeout", "service_unavailable", "internal_error", "fatal_error"])
def test_what_passes_is_tried_again(code: str) -> None:
    assert isinstance(error_of("users.list", 200, {"ok": False, "error": code}), TransientError)
    assert isinstance(error_of("users.list", 200, {"ok": False, "error": "channel_not_found"}), RefusedError)


@pytest.mark.parametrize("kind", ["unavailable-html", "bad-gateway-html", "html-200", "internal-error", "server-error"])
async def test_bad_days_of_slack_are_waited_for(rig: SlackRig, deal: str, kind: str) -> None:
    ts = rig.workspace.post(deal, "after all", user="U0ANN")
    untold(rig)
    rig.simulator.api.faults.add(kind, times=2)
    await rig.ask("poll")
    assert await contents(rig, (deal, ts)) == ["after all"]


async def test_a_scope_that_is_missing_is_said_in_plain_words(rig: SlackRig) -> None:
    checked = await rig.source.check(rig.connection)
    assert checked.is_usable and checked.instance == TEAM
    assert checked.found == {"bot_user": rig.workspace.bot_user_id, "bot_id": rig.workspace.bot_id}
    rig.simulator.credentials.scopes -= {"users:read.email", "groups:read"}
    checked = await rig.source.check(rig.connection)
    assert not checked.is_usable
    told = {finding.state: finding for finding in checked.findings if finding.what == "scopes"}
    assert "users:read.email is missing" in told["error"].detail and "OAuth & Permissions" in told["error"].remedy
    assert "private channels can't be seen" in told["warning"].detail
    rig.workspace.revoke_token()
    with pytest.raises(CredentialError, match="install the app"):
        await rig.source.check(rig.connection)


async def findings(rig: SlackRig, **changes: Any) -> list[Finding]:
    """What a test of the connection, changed so, tells of channels."""
    connection = msgspec.structs.replace(rig.connection, **changes)
    checked = await check(connection, rig.services.ingestion)
    assert checked.is_usable and checked.instance == TEAM
    return [one for one in checked.findings if one.what == "channels"]


async def test_a_channel_that_is_named_and_can_not_be_read_is_named_by_the_test(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    mine, hidden = (slack.create_channel(name, user="U0ANN", private=name == "board").id for name in ("mine", "board"))
    found = await findings(rig, channels=(deal, "C0NOWHERE1", mine, hidden))
    assert [one.state for one in found] == ["warning", "warning", "warning", "ok"]
    unknown, not_in, unseen, sample = (one.detail for one in found)
    assert unknown.startswith("C0NOWHERE1 ") and unseen.startswith(f"{hidden} ")
    assert mine in not_in and "#deal-hollis" in sample
    assert all("/invite" in one.remedy for one in found[:3])
    [only] = await findings(rig, channels=("C0NOWHERE1",))
    assert only.state == "warning" and "C0NOWHERE1" in only.detail
    [joins] = await findings(rig, channels=(mine,), join_public=True)
    assert joins.state == "ok"


async def test_a_channel_is_read_as_a_sample_wherever_it_stands_in_the_list(rig: SlackRig) -> None:
    slack = rig.workspace
    for number in range(201):
        slack.create_channel(f"c{number}", user="U0ANN", channel_id=f"C0A{number:05d}")
    slack.create_channel("last", user="U0ANN", members=[slack.bot_user_id], channel_id="C0ZZZZZZZ")
    [finding] = await findings(rig)
    assert finding.state == "ok" and "#last" in finding.detail


async def test_a_connection_can_be_tested_while_no_call_is_left(rig: SlackRig, deal: str) -> None:
    by_the_minute = {"calls_per_minute": {"conversations.history": 1}}
    assert [one.state for one in await findings(rig, **by_the_minute)] == ["ok"]
    [finding] = await findings(rig, **by_the_minute)
    assert finding.state == "warning" and "conversations.history" in finding.detail


async def test_a_closed_method_keeps_no_other_back(rig: SlackRig, deal: str) -> None:
    rig.simulator.api.faults.add("ratelimited", headers={"Retry-After": "30"})
    client = rig.source._clients.of(rig.connection)
    with pytest.raises(BudgetExhaustedError) as caught:
        await client.call("conversations.members", channel=deal)
    assert caught.value.until == rig.now + timedelta(seconds=30)
    calls = len(rig.simulator.api.calls)
    with pytest.raises(BudgetExhaustedError):
        await client.call("conversations.members", channel=deal)
    assert len(rig.simulator.api.calls) == calls, "it is not even asked"
    await client.call("conversations.info", channel=deal)
    other_worker: Any = type(rig.source)(rig.services.source_ports, simulator=rig.simulator.base_url)
    with pytest.raises(BudgetExhaustedError):
        await other_worker._clients.of(rig.connection).call("conversations.members", channel=deal)
    other_worker.close()
    rig.wait(31)
    await client.call("conversations.members", channel=deal)


async def test_a_call_a_minute_is_learnt_from_a_refusal_and_forgotten_again(rig: SlackRig, deal: str) -> None:
    slack_clock = rig.simulator.workspace.clock
    slack_clock.freeze(rig.now)
    rig.simulator.api.limits.restricted = True
    client = rig.source._clients.of(rig.connection)
    await client.call("conversations.history", channel=deal)
    with pytest.raises(BudgetExhaustedError):
        await client.call("conversations.history", channel=deal)
    assert client.budget.history_page("conversations.history") == 15
    assert client.budget.history_page("conversations.replies") == rig.connection.history_page
    for _ in range(3):
        rig.wait(61)
        slack_clock.freeze(rig.now)
        await client.call("conversations.history", channel=deal)
        with pytest.raises(BudgetExhaustedError):
            await client.call("conversations.history", channel=deal)
    refused = [call for call in rig.simulator.api.calls_of("conversations.history") if call.status == 429]
    assert len(refused) == 1, "after the first refusal Slack is not asked too often again"
    rig.simulator.api.limits.restricted = False
    rig.wait(3700)
    slack_clock.freeze(rig.now)
    for _ in range(5):
        await client.call("conversations.history", channel=deal)
    assert client.budget.history_page("conversations.history") == rig.connection.history_page


async def test_a_poll_goes_on_where_its_time_ran_out(rig: SlackRig) -> None:
    slack = rig.workspace
    channels = [slack.create_channel(f"c{number}", user="U0ANN", members=[slack.bot_user_id]).id for number in range(3)]
    made = [(channel, slack.post(channel, "hello", user="U0ANN")) for channel in channels]
    untold(rig)
    work = _poll(rig)
    report = await rig.source.run(rig.connection, work, rig.now - timedelta(seconds=1))
    assert not report.finished and report.errors == {}
    calls = len(rig.simulator.api.calls_of("conversations.list"))
    report = await rig.source.run(rig.connection, work, rig.now + timedelta(minutes=1))
    assert report.finished and report.events
    assert len(rig.simulator.api.calls_of("conversations.list")) == calls, "channels are not listed again"
    await rig.drain()
    assert await contents(rig, *made) == ["hello"] * 3
    assert (await rig.depth(INGESTION_EVENTS)).active == 0


async def test_an_export_shares_nothing_of_a_channel_that_has_turned_private_since(
    rig: SlackRig, deal: str, tmp_path: Path
) -> None:
    export = tmp_path / "export"
    (export / "deal-hollis").mkdir(parents=True)
    (export / "users.json").write_text("[]")
    (export / "channels.json").write_text(f'[{{"id": "{deal}", "name": "deal-hollis", "members": []}}]')
    said = '[{"type": "message", "user": "U0ANN", "text": "figures", "ts": "1600000000.000100"}]'
    (export / "deal-hollis" / "2020-09-13.json").write_text(said)
    rig.workspace.channel(deal).is_private = True
    await rig.ask("read", ids={"channel": [deal]})
    pages = rig.source.history_of_export(rig.connection, [export])
    page = await pages(None)
    while page.next_position is not None:
        await rig.run(*page.events)
        page = await pages(page.next_position)
    await rig.run(*page.events)
    scope = (await rig.message(deal, "1600000000.000100")).acl.scope
    assert await rig.store.readable_scopes(TENANT, [scope], frozenset({"tenant"})) == set()
    assert await rig.store.readable_scopes(TENANT, [scope], frozenset({"user:ann@acme.example"})) == {scope}


async def run_by_a_call_a_minute(rig: SlackRig, *works: SourceWork) -> None:
    """Run *works* in turn, a minute between two tries, until each has come to its end."""
    left = list(works)
    for _ in range(40):
        work = left.pop(0)
        try:
            report = await rig.source.run(rig.connection, work, rig.now + timedelta(seconds=30))
        except BudgetExhaustedError:
            left.append(work)
        else:
            left += [] if report.finished else [work]
        if not left:
            return await rig.settle()
        rig.wait(60)
    raise AssertionError(f"{left} make no progress")


async def test_polls_and_sweeps_come_to_their_end_by_a_call_a_minute(rig: SlackRig, deal: str) -> None:
    await rig.connect(calls_per_minute={"conversations.history": 1, "conversations.replies": 1}, history_page=2)
    slack = rig.workspace
    untold(rig)
    made = [(deal, slack.post(deal, f"message {number}", user="U0ANN")) for number in range(5)]
    made += [(deal, slack.post(deal, f"reply {number}", user="U0BOB", thread_ts=made[0][1])) for number in range(5)]
    await run_by_a_call_a_minute(rig, _poll(rig))
    assert None not in await contents(rig, *made)
    slack.delete_message(deal, made[2][1])
    await run_by_a_call_a_minute(rig, _work(rig, "sweep"))
    assert (await rig.message(*made[2])).status == "deleted"


@pytest.mark.parametrize("work", ["poll", "sweep"])
async def test_a_membership_is_followed_though_the_messages_have_to_wait_for_their_call(
    rig: SlackRig, work: Literal["poll", "sweep"]
) -> None:
    await rig.connect(calls_per_minute={"conversations.history": 1})
    slack = rig.workspace
    members = ["U0BOB", slack.bot_user_id]
    boards = [slack.create_channel(one, user="U0ANN", members=members, private=True).id for one in ("board", "crew")]
    await rig.deliver()
    await run_by_a_call_a_minute(rig, _work(rig, work))
    untold(rig)
    for board in boards:
        slack.leave(board, "U0BOB")
    await run_by_a_call_a_minute(rig, _work(rig, work))
    assert [(await rig.channel(board)).acl.principals for board in boards] == [("user:ann@acme.example",)] * 2


async def test_a_reply_that_is_gone_untold_keeps_no_sweep_from_its_end_by_a_call_a_minute(
    rig: SlackRig, deal: str
) -> None:
    slack = rig.workspace
    root = slack.post(deal, "root", user="U0ANN")
    replies = [slack.post(deal, f"reply {number}", user="U0BOB", thread_ts=root) for number in range(3)]
    await rig.deliver()
    await rig.connect(calls_per_minute={"conversations.history": 1, "conversations.replies": 1})
    untold(rig)
    for ts in replies[:2]:
        slack.delete_message(deal, ts)
    rig.wait(60)
    await run_by_a_call_a_minute(rig, _work(rig, "sweep"))
    statuses = [(await rig.message(deal, ts)).status for ts in (root, *replies)]
    assert statuses == ["active", "deleted", "deleted", "active"]


@pytest.mark.parametrize("stage", ["messages", "thread"])
async def test_a_first_load_whose_cursor_has_died_goes_on_by_a_call_a_minute(
    rig: SlackRig, deal: str, stage: str
) -> None:
    slack = rig.workspace
    root = slack.post(deal, "root", user="U0ANN")
    for number in range(5):
        slack.post(deal, f"message {number}", user="U0ANN", thread_ts=root if stage == "thread" else None)
    await rig.connect(calls_per_minute={"conversations.history": 1, "conversations.replies": 1}, history_page=3)
    position: Position | None = None
    told: list[str] = []
    has_died = False
    for _ in range(40):
        rig.wait(61)
        try:
            page = await rig.source.history(rig.connection, position)
        except BudgetExhaustedError:
            continue
        told += [str(event.record["text"]) for event in page.events if event.object_type == "message"]
        position = page.next_position
        if position is None:
            break
        if not has_died and position.get("threadCursor" if stage == "thread" else "cursor"):
            rig.simulator.api.cursors.expire()
            has_died = True
    assert has_died and position is None
    expected = {"root", *(f"message {number}" for number in range(5))}
    assert set(told) >= expected
    if stage == "messages":
        assert len(told) == len(set(told)), "what comes before the cursor is not read again"


async def test_two_catch_ups_do_not_break_each_other_off(rig: SlackRig, deal: str) -> None:
    await rig.connect(calls_per_minute={"conversations.history": 1}, history_page=2)
    untold(rig)
    made = [(deal, rig.workspace.post(deal, f"message {number}", user="U0ANN")) for number in range(5)]
    first = _work(rig, "poll", since="1")
    rig.wait(60)
    await run_by_a_call_a_minute(rig, first, _work(rig, "poll", since="2"))
    assert None not in await contents(rig, *made)


async def test_two_sweeps_do_not_break_each_other_off(rig: SlackRig, deal: str) -> None:
    await rig.connect(calls_per_minute={"conversations.history": 1}, history_page=2)
    slack = rig.workspace
    made = [(deal, slack.post(deal, f"message {number}", user="U0ANN")) for number in range(5)]
    await rig.deliver()
    untold(rig)
    slack.delete_message(*made[2])
    first = _work(rig, "sweep")
    rig.wait(60)
    await run_by_a_call_a_minute(rig, first, _work(rig, "sweep"))
    assert (await rig.message(*made[2])).status == "deleted"


async def test_threads_are_read_again_by_a_call_a_minute(rig: SlackRig, deal: str) -> None:
    await rig.connect(calls_per_minute={"conversations.replies": 1}, history_page=2)
    untold(rig)
    slack = rig.workspace
    roots = [slack.post(deal, f"root {number}", user="U0ANN") for number in range(3)]
    replies = [(deal, slack.post(deal, "reply", user="U0BOB", thread_ts=root)) for root in roots for _ in range(3)]
    await rig.ask("read", ids={"thread": [f"{deal}:{root}" for root in roots]})
    for _ in range(30):
        rig.wait(60)
        await rig.settle()
    assert None not in await contents(rig, *replies)


async def test_what_slack_refuses_as_a_whole_is_said_and_asked_again(rig: SlackRig, deal: str) -> None:
    refusal = '{"ok": false, "error": "invalid_arguments"}'
    rig.simulator.api.faults.add("internal-error", body=refusal, times=None)
    report = await rig.source.run(rig.connection, _poll(rig), rig.now + timedelta(seconds=30))
    assert report.failed and "invalid_arguments" in report.errors["workspace"]
    with pytest.raises(TransientError, match="invalid_arguments"):
        await rig.source.history(rig.connection, None)


async def test_an_app_that_may_not_read_private_channels_reads_the_others(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    slack.create_channel("board", user="U0ANN", members=[slack.bot_user_id], private=True)
    rig.simulator.credentials.scopes.discard("groups:history")
    untold(rig)
    ts = slack.post(deal, "hello", user="U0ANN")
    await rig.ask("poll")
    assert await contents(rig, (deal, ts)) == ["hello"]
    assert (await rig.stored_connection()).status == "active"


async def test_a_channel_that_always_fails_is_set_aside_and_holds_up_no_other(rig: SlackRig) -> None:
    slack = rig.workspace
    bad, good, last = (
        slack.create_channel(name, user="U0ANN", members=[slack.bot_user_id], channel_id=channel_id).id
        for name, channel_id in (("bad", "C0AAAAAAA"), ("good", "C0BBBBBBB"), ("last", "C0CCCCCCC"))
    )
    await rig.ask("poll")
    untold(rig)
    made = [(channel, slack.post(channel, "hello", user="U0ANN")) for channel in (bad, good, last)]
    rig.simulator.api.faults.add("internal-error", path=f"channel={bad}", times=None)
    await rig.ask("poll")
    assert await contents(rig, *made) == [None, "hello", "hello"], "the others do not wait for it"
    await pass_time(rig, minutes=5)
    told = await sync_error(rig)
    assert bad in told and "internal_error" in told and "leftOut" in told
    assert good not in told
    # More that is missed meanwhile, in a channel that goes on and in the one that does not.
    made += [(channel, slack.post(channel, "later", user="U0ANN")) for channel in (bad, good)]
    rig.wait(60)
    await rig.ask("poll")
    await pass_time(rig, minutes=2)
    assert await contents(rig, *made) == [None, "hello", "hello", None, "later"]
    assert bad in await sync_error(rig)
    rig.simulator.api.faults.clear()
    await rig.ask("poll")
    assert await contents(rig, *made) == ["hello", "hello", "hello", "later", "later"], "nothing of it is lost"
    assert await sync_error(rig) == ""


@pytest.mark.parametrize("work", ["sweep", "catch-up"])
async def test_what_a_deep_walk_leaves_out_of_a_failing_channel_is_owed_to_it(rig: SlackRig, work: str) -> None:
    slack = rig.workspace
    bad, good = (
        slack.create_channel(name, user="U0ANN", members=[slack.bot_user_id], channel_id=channel_id).id
        for name, channel_id in (("bad", "C0AAAAAAA"), ("good", "C0BBBBBBB"))
    )
    old = f"{int(rig.now.timestamp()) - 20 * 86_400}.000100"
    roots = [(channel, slack.post(channel, "root", user="U0ANN", ts=old)) for channel in (bad, good)]
    gone = [(channel, slack.post(channel, "gone", user="U0ANN")) for channel in (bad, good)]
    await rig.deliver()
    await rig.ask("poll")
    untold(rig)
    late = [(channel, slack.post(channel, "late", user="U0BOB", thread_ts=root)) for channel, root in roots]
    for channel, ts in gone:
        slack.delete_message(channel, ts)
    rig.simulator.api.faults.add("server-error", path=f"channel={bad}", times=None)
    await (rig.ask("sweep") if work == "sweep" else rig.ask("poll", ids={"since": ["1"]}))
    await pass_time(rig, minutes=6)
    assert await contents(rig, *late) == [None, "late"]
    assert bad in await sync_error(rig)
    rig.simulator.api.faults.clear()
    if work == "sweep":
        assert [(await rig.message(*one)).status for one in gone] == ["active", "deleted"]
        await rig.ask("sweep")
        assert [(await rig.message(*one)).status for one in gone] == ["deleted", "deleted"]
    else:
        await rig.ask("poll")
    assert await contents(rig, *late) == ["late", "late"]
    assert await sync_error(rig) == ""


async def test_a_first_load_goes_on_beside_a_channel_that_fails_and_ends_with_it(rig: SlackRig) -> None:
    slack = rig.workspace
    untold(rig)
    channels = [
        slack.create_channel(name, user="U0ANN", members=[slack.bot_user_id], channel_id=channel_id).id
        for name, channel_id in (("bad", "C0AAAAAAA"), ("good", "C0BBBBBBB"), ("last", "C0CCCCCCC"))
    ]
    made = [(channel, slack.post(channel, "hello", user="U0ANN")) for channel in channels]
    rig.simulator.api.faults.add("fatal-error", path=f"channel={channels[0]}", times=None)
    await note_asked(rig.connection, _load_ports(rig))
    await rig.ask("history")
    assert await contents(rig, *made) == [None, "hello", "hello"]
    notes = (await load_memory(rig.connection, rig.services.states)).metadata
    assert notes.finished_at is None and notes.waiting_for is not None
    assert channels[0] in notes.waiting_for and "leftOut" in notes.waiting_for
    rig.simulator.api.faults.clear()
    await pass_time(rig, minutes=10)
    assert await contents(rig, *made) == ["hello"] * 3
    notes = (await load_memory(rig.connection, rig.services.states)).metadata
    assert notes.finished_at is not None and notes.waiting_for is None


async def test_a_slack_that_is_away_as_a_whole_sets_no_channel_aside(rig: SlackRig) -> None:
    slack = rig.workspace
    made = [slack.create_channel(f"c{number}", user="U0ANN", members=[slack.bot_user_id]).id for number in range(6)]
    untold(rig)
    written = [(channel, slack.post(channel, "hello", user="U0ANN")) for channel in made]
    rig.simulator.api.faults.add("unavailable-html", path="/api/conversations.history", times=None)
    with pytest.raises(TransientError, match="channel C"):
        await rig.source.run(rig.connection, _poll(rig), rig.now + timedelta(minutes=1))
    tries = len(rig.simulator.api.calls_of("conversations.history"))
    assert tries <= 8, "two channels tell enough"
    rig.simulator.api.faults.clear()
    await rig.ask("poll")
    assert await contents(rig, *written) == ["hello"] * 6


def _load_ports(rig: SlackRig) -> FirstLoadPorts:
    return FirstLoadPorts(rig.bus, rig.services.states, lambda: rig.now)


async def pass_time(rig: SlackRig, *, minutes: int) -> None:
    """Let so much time pass, doing what is due in it."""
    for _ in range(minutes * 2):
        rig.wait(30)
        await rig.settle()


async def sync_error(rig: SlackRig) -> str:
    """What ``status`` says of the connection's work."""
    status = await pipeline_status(rig.services)
    [told] = [one for one in status["connections"] if one["connectionId"] == rig.connection.connection_id]
    return str(told["error"] or "")


def _work(rig: SlackRig, work: Literal["poll", "sweep"], since: str | None = None) -> SourceWork:
    return SourceWork(
        tenant_id=TENANT,
        connection_id=rig.connection.connection_id,
        work=work,
        due_at=to_text(rig.now),
        ids={"since": [since]} if since else {},
    )


def _poll(rig: SlackRig) -> SourceWork:
    return SourceWork(
        tenant_id=TENANT, connection_id=rig.connection.connection_id, work="poll", due_at=to_text(rig.now)
    )


async def test_a_slack_that_does_not_answer_is_told_of_by_nobody_but_the_app(
    rig: SlackRig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.simulator.stop()
    with pytest.raises(TransientError):
        await rig.source.check(rig.connection)
    assert not [record.name for record in caplog.records if record.name.startswith("slack_sdk")]
