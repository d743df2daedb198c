"""What happens in a workspace, told through signed deliveries, to the stored shards and what search reads."""

import asyncio

import pytest
from chain_rig import TENANT
from slack_rig import TEAM, SlackRig

from api.reading import readable
from local.slack.channel import Channel
from messaging.contracts import SourceWork
from messaging.queues import INGESTION_EVENTS, SOURCE_WORK
from messaging.times import to_text
from shards.model import Acl
from shards.store import SearchQuery

ANN, BOB = frozenset({"user:ann@acme.example", "tenant"}), frozenset({"user:bob@acme.example", "tenant"})
EVE = frozenset({"user:eve@acme.example", "tenant"})


async def texts_of(rig: SlackRig, channel: str, ts: str) -> str:
    return "\n".join(chunk.text for chunk in await rig.slack_chunks("message", f"{channel}:{ts}"))


async def found(rig: SlackRig, words: str, reader: frozenset[str]) -> list[str]:
    hits = await rig.store.search(SearchQuery(TENANT, words, None, principals=reader))
    return [hit.shard.structured_data["content"] for hit in hits if "content" in hit.shard.structured_data]


async def read(rig: SlackRig) -> None:
    """Hand over what has happened, and do the work that follows from it, but not the chain's."""
    await asyncio.to_thread(rig.simulator.sender.wait_until_idle)
    for one in rig.receiver.received:
        await rig.post(one)
    rig.receiver.received.clear()
    await rig.work()


async def read_and_not_stored(rig: SlackRig, channel: str, text: str) -> str:
    """Have a message posted and read, whose event is still on its way through the chain; the message's ``ts``."""
    await rig.deliver()
    ts = rig.workspace.post(channel, text, user="U0ANN")
    await read(rig)
    assert (await rig.depth(INGESTION_EVENTS)).active > 0
    return ts


async def test_a_message_is_stored_with_who_wrote_it_and_where(rig: SlackRig, deal: str) -> None:
    ts = rig.workspace.post(deal, f"Hello <@U0BOB>, see <#{deal}>", user="U0ANN")
    assert {answer.status for answer in await rig.deliver()} == {200}
    shard = await rig.message(deal, ts)
    assert shard.structured_data["content"] == "Hello @Bob Ray, see #deal-hollis"
    assert shard.structured_data["author"] == {"id": "U0ANN", "name": "Ann Lee", "email": "ann@acme.example"}
    assert shard.acl == Acl.of("tenant")
    links = {(link.relationship_type, link.target_shard_id) for link in shard.internal_relationships}
    assert links == {
        ("message_in_channel", rig.id_of("channel", deal)),
        ("references", rig.id_of("channel", deal)),
        ("has_owner", rig.id_of("user", "U0ANN")),
        ("mentions", rig.id_of("user", "U0BOB")),
    }
    assert (await rig.channel(deal)).name == "deal-hollis"
    bob = await rig.slack_shard("user", "U0BOB")
    assert bob is not None and bob.structured_data["email"] == "bob@acme.example"
    assert await rig.parked() == []


async def test_edits_unfurls_and_deletions(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    ts = slack.post(deal, "first words <https://x.example/>", user="U0ANN")
    await rig.deliver()
    slack.unfurl(deal, ts, [{"from_url": "https://x.example/", "text": "a preview"}])
    await rig.deliver()
    assert (await rig.message(deal, ts)).revision == 1, "what Slack shows of a link is nobody's edit"
    slack.edit(deal, ts, "second words")
    await rig.deliver()
    shard = await rig.message(deal, ts)
    assert (shard.revision, shard.structured_data["content"], shard.structured_data["isEdited"]) == (
        2,
        "second words",
        True,
    )
    assert "second words" in await texts_of(rig, deal, ts)
    slack.delete_message(deal, ts)
    await rig.deliver()
    shard = await rig.message(deal, ts)
    assert (shard.status, shard.structured_data) == ("deleted", {})
    assert await rig.slack_chunks("message", f"{deal}:{ts}") == []


async def test_events_in_any_order_and_twice_end_the_same(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    rig.simulator.sender.duplicate_every = 1
    ts = slack.post(deal, "one", user="U0ANN")
    slack.edit(deal, ts, "two")
    gone = slack.post(deal, "gone", user="U0BOB")
    slack.delete_message(deal, gone)
    slack.rename_channel(deal, "deal-other")
    await rig.deliver(reverse=True)
    assert (await rig.message(deal, ts)).structured_data["content"] == "two"
    assert (await rig.message(deal, gone)).status == "deleted"
    assert (await rig.channel(deal)).name == "deal-other"
    assert await rig.parked() == []


async def test_a_late_reply_joins_the_text_of_its_thread(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    slack.message_replied = True
    root = slack.post(deal, "Who signs?", user="U0ANN", ts="1600000000.000100")
    await rig.deliver()
    reply = slack.post(deal, "Bob does.", user="U0BOB", thread_ts=root)
    shown = slack.post(deal, "And everybody knows.", user="U0ANN", thread_ts=root, broadcast=True)
    await rig.deliver()
    shard = await rig.message(deal, reply)
    assert shard.structured_data["parentMessageId"] == shard.structured_data["threadId"] == f"{deal}:{root}"
    assert (await rig.message(deal, shown)).structured_data["messageType"] == "reply"
    text = await texts_of(rig, deal, root)
    assert "Ann Lee: Who signs?" in text and "Bob Ray: Bob does." in text and "And everybody knows." in text
    slack.delete_message(deal, reply)
    await rig.deliver()
    assert "Bob does." not in await texts_of(rig, deal, root)
    slack.delete_message(deal, root)
    await rig.deliver()
    tombstone = await rig.message(deal, root)
    assert (tombstone.status, "author" in tombstone.structured_data) == ("active", False)
    assert "Who signs?" not in await texts_of(rig, deal, root)
    assert "And everybody knows." in await texts_of(rig, deal, root)


async def test_bots_are_read_and_the_app_itself_is_not(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    slack.put_bot("B0BUILD", "Builds")
    new = slack.post(deal, "Build 7 failed", bot_id="B0BUILD")
    classic = slack.post(deal, "Build 8 failed", bot_id="B0BUILD", classic=True)
    mine = slack.post(deal, "I am Shardline", bot_id=slack.bot_id)
    await rig.deliver()
    for ts in (new, classic):
        assert (await rig.message(deal, ts)).structured_data["author"]["name"] == "Builds"
    assert await rig.slack_shard("message", f"{deal}:{mine}") is None
    assert await rig.parked() == []


async def test_a_channel_through_its_life(rig: SlackRig) -> None:
    slack = rig.workspace
    channel = slack.create_channel("proj-a", user="U0ANN").id
    await rig.deliver()
    assert (await rig.channel(channel)).structured_data["type"] == "public"
    slack.rename_channel(channel, "proj-b")
    slack.set_topic(channel, "Signature by May")
    slack.archive_channel(channel)
    await rig.deliver()
    data = (await rig.channel(channel)).structured_data
    assert (data["name"], data["isArchived"], data["topic"]) == ("proj-b", True, "Signature by May")
    slack.unarchive_channel(channel)
    slack.share_channel(channel, "T0PARTNER1")
    await rig.deliver()
    data = (await rig.channel(channel)).structured_data
    assert not data.get("isArchived") and data["customFields"]["is_ext_shared"] is True
    slack.delete_channel(channel)
    await rig.deliver()
    assert (await rig.channel(channel)).status == "deleted"


async def test_a_deleted_channel_takes_its_messages_along(rig: SlackRig, deal: str) -> None:
    ts = rig.workspace.post(deal, "soon gone", user="U0ANN")
    await rig.deliver()
    rig.workspace.delete_channel(deal)
    await rig.deliver()
    assert (await rig.channel(deal)).status == (await rig.message(deal, ts)).status == "deleted"


async def test_a_poll_that_overtakes_the_word_of_a_channels_end_does_not_undo_it(rig: SlackRig, deal: str) -> None:
    ts = rig.workspace.post(deal, "soon gone", user="U0ANN")
    await rig.deliver()
    rig.workspace.delete_channel(deal)
    await read(rig)
    held = await rig.receive(INGESTION_EVENTS)
    await rig.ask("poll")
    assert (await rig.channel(deal)).acl.principals == (), "it is closed, as it can't be seen"
    await rig.bus.abandon(held)
    await rig.settle()
    assert (await rig.channel(deal)).status == (await rig.message(deal, ts)).status == "deleted"


@pytest.mark.parametrize("is_removed", [False, True])
async def test_what_was_on_its_way_when_a_channel_turned_private_is_not_shown_to_all(
    rig: SlackRig, deal: str, is_removed: bool
) -> None:
    ts = await read_and_not_stored(rig, deal, "merger")
    held = await rig.receive(INGESTION_EVENTS)
    rig.workspace.channel(deal).is_private = True
    if is_removed:
        rig.workspace.leave(deal, actor="U0ANN")
    else:
        rig.workspace.post(deal, "now among us", user="U0ANN")
    await rig.deliver()
    await rig.ask("poll")
    await rig.bus.abandon(held)
    await rig.settle()
    rig.wait(120)
    await rig.settle()
    assert not await readable(rig.store, await rig.message(deal, ts), EVE)
    assert await found(rig, "merger", EVE) == []


async def test_what_was_on_its_way_for_hours_as_a_channel_turned_private_is_not_shown_to_all(
    rig: SlackRig, deal: str
) -> None:
    ts = await read_and_not_stored(rig, deal, "merger")
    rig.workspace.channel(deal).is_private = True
    rig.wait(1)
    ids = {"channel": [deal]}
    work = SourceWork(tenant_id=TENANT, connection_id="slack-main", work="read", due_at=to_text(rig.now), ids=ids)
    await rig.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)])
    await rig.work()
    for seconds in (60, 540, 3000, 3600, 3600):
        rig.wait(seconds)
        await rig.work()
    await rig.settle()
    assert await readable(rig.store, await rig.message(deal, ts), EVE), "the chain has it stored as it was read"
    rig.wait(3600)
    await rig.settle()
    assert not await readable(rig.store, await rig.message(deal, ts), EVE)
    assert (await rig.depth(SOURCE_WORK)).scheduled == 0, "all that was on its way is stored: nobody looks any more"


async def test_a_channel_that_is_not_shown_any_more_is_not_named_by_what_others_say(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    away = slack.create_channel("merger-hollis", user="U0ANN", members=[slack.bot_user_id]).id
    await rig.deliver()
    slack.channel(away).is_private = True
    rig.simulator.sender.lose_next(1)
    slack.leave(away, actor="U0ANN")
    await rig.ask("poll")
    ts = slack.post(deal, f"see <#{away}>", user="U0ANN")
    await rig.deliver()
    assert (await rig.message(deal, ts)).structured_data["content"] == f"see #{away}"


async def test_what_comes_late_of_a_channel_that_has_another_id_and_is_hidden_waits_for_nobody(
    rig: SlackRig, deal: str
) -> None:
    slack = rig.workspace
    slack.post(deal, "before", user="U0ANN")
    await rig.deliver()
    slack.change_channel_id(deal, "C0MOVED001")
    moved = slack.channel("C0MOVED001")
    moved.is_private = True
    del moved.members[slack.bot_user_id]
    await rig.deliver()
    late = {"type": "message", "channel": deal, "channel_type": "channel", "user": "U0ANN", "text": "late"}
    await rig.push({**late, "ts": "1700000000.000100", "event_ts": "1700000000.000100"})
    assert (await rig.depth(SOURCE_WORK)).scheduled == 1, "the channel may be read under its new id any moment"
    for _ in range(10):
        rig.wait(900)
        await rig.settle()
    depth = await rig.depth(SOURCE_WORK)
    assert (depth.active, depth.scheduled, await rig.parked()) == (0, 0, [])


async def test_what_was_on_its_way_when_a_channel_was_deleted_does_not_stay(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    waiting = await read_and_not_stored(rig, deal, "waits in the queue")
    held = await rig.receive(INGESTION_EVENTS)
    late = slack.post(deal, "told late", user="U0ANN")
    await asyncio.to_thread(rig.simulator.sender.wait_until_idle)
    told_late, rig.receiver.received = rig.receiver.received, []
    slack.delete_channel(deal)
    await rig.deliver()
    assert (await rig.channel(deal)).status == "deleted"
    rig.receiver.received += told_late
    await rig.deliver()
    assert await rig.slack_shard("message", f"{deal}:{late}") is None
    await rig.bus.abandon(held)
    await rig.settle()
    assert (await rig.message(deal, waiting)).status == "active"
    await rig.ask("poll")
    assert (await rig.message(deal, waiting)).status == "deleted"


async def test_what_was_on_its_way_under_a_channels_old_id_leads_to_the_new_one(rig: SlackRig, deal: str) -> None:
    waiting = await read_and_not_stored(rig, deal, "waits in the queue")
    held = await rig.receive(INGESTION_EVENTS)
    rig.workspace.change_channel_id(deal, "C0NEWID001")
    await rig.deliver()
    await rig.bus.abandon(held)
    await rig.settle()
    await rig.ask("poll")
    assert (await rig.message(deal, waiting)).redirect_to == rig.id_of("message", f"C0NEWID001:{waiting}")


async def test_a_channel_that_gets_another_id_leads_there_with_its_messages(rig: SlackRig, deal: str) -> None:
    ts = rig.workspace.post(deal, "moving", user="U0ANN")
    await rig.deliver()
    rig.workspace.change_channel_id(deal, "C0NEWID001")
    await rig.deliver()
    channel = await rig.store.resolve(TENANT, rig.id_of("channel", deal))
    message = await rig.store.resolve(TENANT, rig.id_of("message", f"{deal}:{ts}"))
    assert channel is not None and channel.id == rig.id_of("channel", "C0NEWID001")
    assert message is not None and message.structured_data["channelId"] == "C0NEWID001"


async def test_an_event_of_a_channels_old_id_that_comes_late_is_of_the_new_one(rig: SlackRig, deal: str) -> None:
    await rig.deliver()
    rig.workspace.change_channel_id(deal, "C0NEWID001")
    ts = rig.workspace.post("C0NEWID001", "moving", user="U0ANN")
    gone = rig.workspace.post("C0NEWID001", "gone", user="U0ANN")
    await rig.deliver()
    late = {"type": "message", "channel": deal, "channel_type": "channel", "user": "U0ANN", "text": "moving"}
    await rig.push({**late, "ts": ts, "event_ts": ts}, "Ev0LATE")
    deleted = {"type": "message", "subtype": "message_deleted", "channel": deal, "channel_type": "channel"}
    await rig.push({**deleted, "deleted_ts": gone, "ts": "2000000000.0001", "event_ts": "2000000000.0001"}, "Ev0GONE")
    assert await rig.slack_shard("message", f"{deal}:{ts}") is None, "it would be there twice"
    assert (await rig.message("C0NEWID001", ts)).structured_data["content"] == "moving"
    assert (await rig.message("C0NEWID001", gone)).status == "deleted"


async def test_a_shared_channel_is_of_the_workspace_that_hosts_it(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    slack.share_channel(deal, "T0PARTNER1", hosted_there=True)
    await rig.deliver()
    ts = slack.post(deal, "from <@U0BOB>", user="U0ANN")
    await rig.deliver()
    shard = await rig.slack_shard("message", f"{deal}:{ts}", "T0PARTNER1")
    assert shard is not None and shard.structured_data["workspaceExternalId"] == TEAM
    targets = {link.relationship_type: link.target_shard_id for link in shard.internal_relationships}
    assert targets["message_in_channel"] == rig.id_of("channel", deal, "T0PARTNER1")
    assert targets["has_owner"] == rig.id_of("user", "U0ANN")


async def private_channel(rig: SlackRig) -> str:
    slack = rig.workspace
    channel = slack.create_channel("board", user="U0ANN", members=["U0BOB"], private=True).id
    slack.join(channel, slack.bot_user_id, inviter="U0ANN")
    return channel


async def test_who_leaves_a_private_channel_reads_none_of_it_any_more(rig: SlackRig) -> None:
    slack = rig.workspace
    channel = await private_channel(rig)
    await rig.deliver()
    ts = slack.post(channel, "The secret merger", user="U0ANN")
    await rig.deliver()
    message = await rig.message(channel, ts)
    assert message.acl.inherited and message.acl.principals == ("user:ann@acme.example", "user:bob@acme.example")
    for reader in (ANN, BOB):
        assert await found(rig, "merger", reader) == ["The secret merger"]
        assert await readable(rig.store, message, reader)
    assert not await readable(rig.store, message, frozenset({"user:eve@acme.example", "tenant", "anyone"}))
    slack.leave(channel, "U0BOB")
    await rig.deliver()
    # A worker that has not heard of it writes another message with the readers that it knows.
    late = slack.post(channel, "The secret merger goes on", user="U0ANN")
    await rig.deliver()
    for old in (message, await rig.message(channel, late)):
        assert not await readable(rig.store, old, BOB)
        assert await readable(rig.store, old, ANN)
    assert await found(rig, "merger", BOB) == []
    assert len(await found(rig, "merger", ANN)) == 2
    assert (await rig.message(channel, ts)).revision == 1, "it is one write of the channel's scope"
    slack.join(channel, "U0BOB", inviter="U0ANN")
    await rig.deliver()
    assert len(await found(rig, "merger", BOB)) == 2


async def test_a_private_channel_is_read_from_the_invitation_on_with_what_was_before(rig: SlackRig) -> None:
    slack = rig.workspace
    channel = slack.create_channel("board", user="U0ANN", private=True).id
    before = slack.post(channel, "said before", user="U0ANN")
    reply = slack.post(channel, "and answered", user="U0ANN", thread_ts=before)
    await rig.deliver()
    assert await rig.slack_shard("channel", channel) is None
    slack.join(channel, slack.bot_user_id, inviter="U0ANN")
    await rig.deliver()
    assert (await rig.message(channel, before)).structured_data["content"] == "said before"
    assert "and answered" in await texts_of(rig, channel, before)
    assert (await rig.message(channel, reply)).acl.scope == f"slack:{TEAM}:{channel}"


async def test_a_private_channel_is_closed_when_the_bot_is_removed(rig: SlackRig) -> None:
    slack = rig.workspace
    channel = await private_channel(rig)
    ts = slack.post(channel, "board papers", user="U0ANN")
    await rig.deliver()
    assert await found(rig, "papers", ANN) == ["board papers"]
    slack.leave(channel, slack.bot_user_id, actor="U0ANN")
    await rig.deliver()
    assert await found(rig, "papers", ANN) == [], "nobody can say any more who may read it"
    assert not await readable(rig.store, await rig.message(channel, ts), ANN)
    slack.join(channel, slack.bot_user_id, inviter="U0ANN")
    await rig.deliver()
    assert await found(rig, "papers", ANN) == ["board papers"]


@pytest.mark.parametrize("private_first", [False, True])
async def test_a_channel_that_turns_private_or_public_takes_its_messages_along(
    rig: SlackRig, deal: str, private_first: bool
) -> None:
    slack = rig.workspace
    channel: Channel = slack.channel(deal)
    channel.is_private = private_first
    ts = slack.post(deal, "figures of March", user="U0ANN")
    await rig.deliver()
    stranger = frozenset({"user:eve@acme.example", "tenant"})
    chunks = await rig.slack_chunks("message", f"{deal}:{ts}")
    assert await found(rig, "figures", stranger) == ([] if private_first else ["figures of March"])
    channel.is_private = not private_first
    await rig.ask("read", ids={"channel": [deal]})
    assert await found(rig, "figures", stranger) == (["figures of March"] if private_first else [])
    assert await found(rig, "figures", ANN) == ["figures of March"]
    shard = await rig.message(deal, ts)
    assert await readable(rig.store, shard, stranger) is private_first
    after = await rig.slack_chunks("message", f"{deal}:{ts}")
    assert [one.vector for one in after] == [one.vector for one in chunks], "nothing is embedded again"


async def test_users_change_and_join(rig: SlackRig) -> None:
    new = rig.workspace.add_user("eve")
    await rig.deliver()
    eve = await rig.slack_shard("user", new)
    assert eve is not None and eve.structured_data["username"] == "eve"


async def test_uninstalling_stops_the_connection_and_says_so(rig: SlackRig, deal: str) -> None:
    await rig.deliver()
    rig.workspace.uninstall()
    await rig.deliver()
    stored = await rig.stored_connection()
    assert stored.status == "failed"
    assert "uninstalled" in str(stored.error_message) or "revoked" in str(stored.error_message)
    assert "install the app" in str(stored.error_message)


async def test_a_late_word_of_a_revoked_token_does_not_stop_an_app_that_is_back(rig: SlackRig) -> None:
    await rig.push({"type": "tokens_revoked", "tokens": {"oauth": [], "bot": ["U0BOT"]}, "event_ts": "1600000000.0"})
    assert (await rig.stored_connection()).status == "active"


async def test_an_unknown_event_is_kept(rig: SlackRig) -> None:
    await rig.push({"type": "brand_new_thing", "event_ts": "1600000000.000000"})
    [parked] = await rig.parked()
    assert (parked.reason, "brand_new_thing" in parked.detail) == ("unknown-event", True)


async def test_channels_left_out_and_direct_conversations_are_not_read(rig: SlackRig, deal: str) -> None:
    await rig.connect(left_out=(deal,))
    rig.workspace.post(deal, "not for us", user="U0ANN")
    await rig.deliver()
    await rig.push({"type": "message", "channel": "D0ANN00001", "channel_type": "im", "ts": "1600000000.000001"})
    assert (await rig.store.counts(TENANT)).shards.get("c_message", 0) == 0
    assert await rig.parked() == []


async def test_what_is_pushed_to_a_failed_connection_waits_for_people(rig: SlackRig, deal: str) -> None:
    await rig.services.connections.set_status(rig.connection, "failed", error_message="x")
    rig.workspace.post(deal, "later", user="U0ANN")
    await rig.deliver()
    assert {one.reason for one in await rig.parked()} == {"connection-not-active"}
    assert (await rig.depth(SOURCE_WORK)).active == 0


async def test_two_replies_prepared_at_once_are_both_in_the_text_of_their_thread(rig: SlackRig, deal: str) -> None:
    """Told by hand, in the worst order: tests/processors/test_threads_at_once.py."""
    slack = rig.workspace
    root = slack.post(deal, "root", user="U0ANN")
    await rig.deliver()
    for words in ("one", "two", "three"):
        slack.post(deal, words, user="U0BOB", thread_ts=root)
    await rig.deliver()
    text = await texts_of(rig, deal, root)
    assert all(words in text for words in ("one", "two", "three"))


async def test_a_deleted_root_that_was_edited_keeps_none_of_its_text(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    root = slack.post(deal, "Who signs?", user="U0ANN", ts="1600000000.000100")
    slack.post(deal, "Bob does.", user="U0BOB", thread_ts=root)
    slack.edit(deal, root, "Who signs for Hollis?")
    await rig.deliver()
    slack.delete_message(deal, root)
    await rig.deliver()
    assert "Hollis" not in (await rig.message(deal, root)).structured_data["content"]
    assert "Hollis" not in await texts_of(rig, deal, root)


async def test_what_is_said_once_a_channel_has_turned_private_is_not_shown_to_all(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    before = slack.post(deal, "figures of March", user="U0ANN")
    await rig.deliver()
    channel: Channel = slack.channel(deal)
    channel.is_private = True
    slack.post(deal, "figures of April", user="U0ANN")
    await rig.deliver()
    stranger = frozenset({"user:eve@acme.example", "tenant"})
    assert await found(rig, "figures", stranger) == []
    assert not await readable(rig.store, await rig.message(deal, before), stranger)
    assert sorted(await found(rig, "figures", ANN)) == ["figures of April", "figures of March"]


async def test_a_private_channel_of_another_workspace_is_closed_after_a_restart_too(rig: SlackRig) -> None:
    slack = rig.workspace
    channel = await private_channel(rig)
    slack.share_channel(channel, "T0PARTNER1", hosted_there=True)
    await rig.deliver()
    slack.post(channel, "terms", user="U0ANN")
    await rig.deliver()
    assert await found(rig, "terms", ANN) == ["terms"]
    rig.source.forget(rig.connection)
    slack.leave(channel, slack.bot_user_id)
    await rig.deliver()
    assert await found(rig, "terms", ANN) == []


async def test_the_root_of_a_late_reply_is_read_where_it_is_not_stored(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    rig.simulator.sender.lose_next(1)
    root = slack.post(deal, "Who signs?", user="U0ANN", ts="1600000000.000100")
    slack.post(deal, "Bob does.", user="U0BOB", thread_ts=root)
    await rig.deliver()
    text = await texts_of(rig, deal, root)
    assert "Who signs?" in text and "Bob does." in text
