"""The traps of Slack's interfaces that others have fallen into, one test each."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chain_rig import TENANT
from slack_rig import SlackRig
from slack_sdk.signature import Clock, SignatureVerifier

from ingestion.errors import BudgetExhaustedError
from ingestion.slack.call_budget import CallBudget
from ingestion.slack.errors import RefusedError
from ingestion.slack.signature import claimed
from ingestion.slack.webhook import receive
from ingestion.webhooks import PushRequest
from messaging.bus import BusUnavailableError
from messaging.times import utc_now

SAMPLES = Path(__file__).parents[1] / "samples" / "slack"


async def content_of(rig: SlackRig, channel: str, ts: str) -> str:
    return str((await rig.message(channel, ts)).structured_data["content"])


async def test_trap_1_an_event_is_acknowledged_once_it_is_queued_and_handled_once(
    rig: SlackRig, deal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise BusUnavailableError("away")

    ts = rig.workspace.post(deal, "once", user="U0ANN")
    await asyncio.to_thread(rig.simulator.sender.wait_until_idle)
    [*_, delivery] = rig.receiver.received
    with monkeypatch.context() as patched:
        patched.setattr(rig.services.webhooks.bus, "send", away)
        assert (await rig.post(delivery)).status == 503, "what is not queued is not acknowledged"
    for number in range(4):
        answer = await rig.post(delivery, **({"x-slack-retry-num": str(number)} if number else {}))
        assert answer.status == 200, "each is acknowledged, and none before it is queued"
    assert (await rig.depth("source-work")).active == 1
    await rig.settle()
    assert await content_of(rig, deal, ts) == "once"
    assert (await rig.message(deal, ts)).revision == 1


async def test_trap_2_the_signature_is_over_the_raw_bytes(rig: SlackRig, deal: str) -> None:
    rig.workspace.post(deal, "café / 🚀", user="U0ANN")
    await asyncio.to_thread(rig.simulator.sender.wait_until_idle)
    [*_, delivery] = rig.receiver.received
    assert (await rig.post(delivery)).status == 200
    dumped = PushRequest(delivery.headers, json.dumps(json.loads(delivery.body)).encode())
    assert dumped.body != delivery.body
    assert (await receive(dumped, rig.services.webhooks)).status == 401


def test_trap_3_what_makes_the_sdks_verifier_raise_is_refused() -> None:
    vectors = json.loads((SAMPLES / "signing" / "signature_vectors.json").read_text())
    raised = 0
    for vector in vectors:
        headers = {"x-slack-request-timestamp": vector["timestamp"], "x-slack-signature": vector["signature"]}
        given = {name: value for name, value in headers.items() if value is not None}
        now = vector["now"]
        verifier = SignatureVerifier(vector["signing_secret"], clock=_Clock(now))
        try:
            accepted = verifier.is_valid_request(vector["raw_body"], given)
        except (ValueError, TypeError):
            accepted, raised = False, raised + 1
        signed = claimed(given, datetime.fromtimestamp(now, UTC))
        mine = signed is not None and signed.fits(vector["raw_body"].encode(), vector["signing_secret"])
        assert mine == (vector["expect"] == "accept") == accepted, vector["name"]
    assert raised == 2


class _Clock(Clock):
    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> float:
        return self._now


async def test_trap_4_a_challenge_names_no_team_and_no_event(rig: SlackRig) -> None:
    [challenge] = rig.receiver.challenges
    assert "team_id" not in challenge.payload
    answer = await rig.post(challenge)
    assert (answer.status, answer.body) == (200, challenge.payload["challenge"])
    forged = await rig.post(challenge, **{"x-slack-signature": "v0=" + "0" * 64})
    assert forged.status == 401
    assert challenge.payload["challenge"] not in forged.body


async def test_trap_5_app_rate_limited_is_flat(rig: SlackRig, deal: str) -> None:
    await rig.deliver()
    rig.simulator.sender.lose_next(1)
    lost = rig.workspace.post(deal, "lost", user="U0ANN")
    rig.simulator.sender.send_rate_limited()
    assert {answer.status for answer in await rig.deliver()} == {200}
    rig.wait(180)
    await rig.settle()
    assert await content_of(rig, deal, lost) == "lost"
    nested = json.loads((SAMPLES / "events_shape" / "AppRateLimitedPayload.json").read_text())
    await rig.push(nested["event"], "Ev0NESTED", **{"type": nested["type"]})
    [parked] = await rig.parked()
    assert parked.reason == "unknown-event", "nested under an event, as one shape has it, it is none of Slack's"


async def test_trap_6_a_channel_is_a_text_or_an_object(rig: SlackRig, deal: str) -> None:
    await rig.push({"type": "channel_rename", "channel": {"id": deal, "name": "x"}, "event_ts": "1.0"}, "Ev1")
    await rig.push({"type": "channel_archive", "channel": deal, "user": "U0ANN", "event_ts": "1.1"}, "Ev2")
    assert (await rig.channel(deal)).name == "deal-hollis", "what the event says is read again"
    assert await rig.parked() == []


async def test_trap_7_events_of_a_channel_before_its_creation_make_it(rig: SlackRig) -> None:
    slack = rig.workspace
    channel = slack.create_channel("first", user="U0ANN", members=[slack.bot_user_id]).id
    slack.rename_channel(channel, "second")
    slack.archive_channel(channel)
    await rig.deliver(reverse=True)
    data = (await rig.channel(channel)).structured_data
    assert (data["name"], data["isArchived"]) == ("second", True)
    joined, bot = slack.create_channel("joined", user="U0ANN", private=True).id, slack.bot_user_id
    others = [slack.create_channel(name, user="U0ANN").id for name in ("renamed", "archived")]
    slack.rename_channel(others[0], "renamed-since")
    slack.archive_channel(others[1])
    slack.join(joined, bot, inviter="U0ANN")
    await asyncio.to_thread(rig.simulator.sender.wait_until_idle)
    rig.receiver.received.clear()  # of each of them one event comes, and never its creation
    named = {"channel": {"id": others[0], "name": "renamed-since", "created": 1}}
    await rig.push({"type": "channel_rename", **named, "event_ts": "1.0"}, "Ev1")
    await rig.push({"type": "channel_archive", "channel": others[1], "user": "U0ANN", "event_ts": "1.1"}, "Ev2")
    await rig.push({"type": "member_joined_channel", "channel": joined, "user": bot, "event_ts": "1.2"}, "Ev3")
    assert [(await rig.channel(one)).name for one in (*others, joined)] == ["renamed-since", "archived", "joined"]
    assert await rig.parked() == []


async def test_trap_8_channel_not_found_is_no_proof_of_a_deletion(rig: SlackRig, deal: str) -> None:
    ts = rig.workspace.post(deal, "still here", user="U0ANN")
    await rig.deliver()
    hidden = rig.workspace.channels.pop(deal)
    await rig.push({"type": "channel_rename", "channel": {"id": deal, "name": "x"}, "event_ts": "1.0"})
    await rig.ask("read", ids={"channel": [deal], "message": [f"{deal}:{ts}"]})
    await rig.ask("poll")
    assert (await rig.channel(deal)).status == (await rig.message(deal, ts)).status == "active"
    rig.workspace.channels[deal] = hidden


async def test_trap_9_private_and_archived_channels_are_listed_too(rig: SlackRig) -> None:
    slack = rig.workspace
    private = slack.create_channel("private", user="U0ANN", members=[slack.bot_user_id], private=True).id
    archived = slack.create_channel("archived", user="U0ANN").id
    slack.archive_channel(archived)
    await asyncio.to_thread(rig.simulator.sender.wait_until_idle)
    rig.receiver.received.clear()
    await rig.ask("poll")
    assert (await rig.channel(private)).structured_data["isPrivate"] is True
    assert (await rig.channel(archived)).structured_data["isArchived"] is True
    call = rig.simulator.api.calls_of("conversations.list")[-1]
    assert call.arguments["types"] == "public_channel,private_channel"
    assert call.arguments.get("exclude_archived") in ("0", "false")


async def test_trap_10_updated_is_in_milliseconds_and_created_in_seconds(rig: SlackRig, deal: str) -> None:
    await rig.deliver()
    shard = await rig.channel(deal)
    described = rig.workspace.describe(rig.workspace.channel(deal))
    assert described["updated"] > 10**12 and described["created"] < 10**11
    assert shard.structured_data["customFields"]["created"] == described["created"]
    version = shard.external_relationships[0].source_version
    assert abs(float(version) - utc_now().timestamp()) < 3600, "its version is when it was read, in seconds"


async def test_trap_11_an_organisations_app_is_known_by_both_ids(rig: SlackRig, deal: str) -> None:
    await rig.connect(enterprise="E0OTHER001")
    rig.workspace.post(deal, "of no organisation", user="U0ANN")
    await rig.deliver()
    assert (await rig.store.counts(TENANT)).shards.get("c_message", 0) == 0
    # In a channel that is shared, the event is of another's team, and the authorization names this one's.
    await rig.connect(enterprise=None)
    rig.services.webhooks.directory._read_at = None
    rig.workspace.share_channel(deal, "T0PARTNER1")
    ts = rig.workspace.post(deal, "from the partner", user="U0ANN", user_team="T0PARTNER1")
    await rig.deliver()
    assert await content_of(rig, deal, ts) == "from the partner"


async def test_trap_12_retry_after_is_of_one_method_of_one_workspace(rig: SlackRig, deal: str) -> None:
    rig.simulator.api.faults.add("ratelimited", path="/api/conversations.members", headers={"Retry-After": "60"})
    channel = rig.workspace.create_channel("p", user="U0ANN", members=[rig.workspace.bot_user_id], private=True).id
    kept, waiting = (
        rig.workspace.post(deal, "goes on", user="U0ANN"),
        rig.workspace.post(channel, "waits", user="U0ANN"),
    )
    await rig.deliver()
    assert await content_of(rig, deal, kept) == "goes on"
    assert await rig.slack_shard("message", f"{channel}:{waiting}") is None
    rig.workspace.rename_channel(deal, "other-methods-go-on")
    await rig.deliver()
    assert (await rig.channel(deal)).name == "other-methods-go-on"
    other = msgspec.structs.replace(rig.connection, instance="T0OTHER001")
    await CallBudget(other, rig.services.states, rig.services.clock).take("conversations.members")
    of_another_worker = CallBudget(rig.connection, rig.services.states, rig.services.clock)
    with pytest.raises(BudgetExhaustedError):
        await of_another_worker.take("conversations.members")
    await of_another_worker.take("conversations.info")
    rig.wait(30)
    await rig.settle()
    assert await rig.slack_shard("message", f"{channel}:{waiting}") is None, "half of the pause is none"
    rig.wait(31)
    await rig.settle()
    assert await content_of(rig, channel, waiting) == "waits"


async def test_trap_13_ok_false_comes_with_200(rig: SlackRig, deal: str) -> None:
    ts = rig.workspace.post(deal, "after internal errors", user="U0ANN")
    rig.simulator.api.faults.add("internal-error", times=2)
    await rig.deliver()
    client = rig.source._clients.of(rig.connection)
    with pytest.raises(RefusedError, match="channel_not_found"):
        await client.call("conversations.info", channel="C0NOWHERE1")
    assert rig.simulator.api.calls_of("conversations.info")[-1].status == 200
    assert await content_of(rig, deal, ts) == "after internal errors"
    assert await rig.parked() == []


async def test_trap_14_the_sdk_posts_forms_and_so_does_this(rig: SlackRig, deal: str) -> None:
    client = rig.source._clients.of(rig.connection)
    answer = await client.call("conversations.history", channel=deal, limit=1, inclusive=True, cursor=None)
    assert answer["ok"] is True
    [call] = rig.simulator.api.calls_of("conversations.history")
    assert call.arguments == {"channel": deal, "limit": "1", "inclusive": "1"}


async def test_trap_15_the_apps_own_messages_are_left_out(rig: SlackRig, deal: str) -> None:
    mine = [
        rig.workspace.post(deal, "by its bot", bot_id=rig.workspace.bot_id),
        rig.workspace.post(deal, "by its user", user=rig.workspace.bot_user_id),
    ]
    await rig.deliver()
    await rig.ask("poll")
    assert [await rig.slack_shard("message", f"{deal}:{ts}") for ts in mine] == [None, None]
    told = {"type": "message", "channel": deal, "channel_type": "channel", "text": "by its bot, the old way"}
    await rig.push({**told, "subtype": "bot_message", "bot_id": rig.workspace.bot_id, "ts": "1700000000.000100"})
    assert await rig.slack_shard("message", f"{deal}:1700000000.000100") is None
    await rig.push({**told, "subtype": "bot_message", "bot_id": "B0ANOTHER", "ts": "1700000000.000200"}, "Ev2")
    assert await content_of(rig, deal, "1700000000.000200") == told["text"], "another app's are kept"
