"""Every recorded event taken by the worker; a shape with blank values is parked for what it lacks."""

import json
from pathlib import Path

from slack_rig import TEAM, SlackRig

SAMPLES = Path(__file__).parents[1] / "samples" / "slack"
BLANK = {
    "AppRateLimitedPayload": "unknown-event",
    **dict.fromkeys(
        (
            "ChannelArchivePayload",
            "ChannelCreatedPayload",
            "ChannelDeletedPayload",
            "ChannelRenamePayload",
            "MemberJoinedChannelPayload",
            "MessageChannelJoinPayload",
        ),
        "invalid-record",
    ),
}
"""Shapes of events, without values; in the first one an event is nested that Slack sends flat."""


async def test_every_recorded_event_is_done_or_parked_for_its_reason(rig: SlackRig) -> None:
    messages = parked = 0
    for path in sorted(SAMPLES.glob("events*/*.json")):
        content = json.loads(path.read_bytes())
        if content["type"] == "url_verification":
            continue  # answered at the door
        whole = "event" in content or content["type"] == "app_rate_limited"
        push = content if whole else {"type": "event_callback", "team_id": TEAM, "event": content}
        await rig.ask("push", push=push, event_id=f"slack|{path.stem}")
        reasons = [one.reason for one in await rig.parked()]
        assert len(reasons) == parked + (path.stem in BLANK), path.stem
        parked = len(reasons)
        assert path.stem not in BLANK or BLANK[path.stem] in reasons, path.stem
        event = push.get("event", {})
        if event.get("type") == "message" and path.stem not in BLANK:
            ts = event.get("deleted_ts") or event.get("previous_message", {}).get("ts") or event["ts"]
            if event["channel"].startswith("D"):
                assert await rig.slack_shard("message", f"{event['channel']}:{ts}") is None, "people among themselves"
                continue
            shard = await rig.message(event["channel"], ts)
            assert (shard.status == "deleted") is (event.get("subtype") == "message_deleted"), path.stem
            messages += 1
    assert (messages, parked) == (5, len(BLANK))


async def test_words_that_are_none_keep_no_message_back(rig: SlackRig) -> None:
    channel = rig.workspace.create_channel("deals", user="U0ANN", members=[rig.workspace.bot_user_id]).id
    event = {"type": "message", "channel": channel, "user": "U0ANN", "text": "still a message"}
    odd_ones: tuple[object, ...] = ({}, [], 7, None)
    for number, odd in enumerate(odd_ones):
        ts = f"1700000000.00010{number}"
        await rig.push({**event, "ts": ts, "channel_type": odd, "subtype": odd}, f"Ev{number}")
        assert (await rig.message(channel, ts)).structured_data["content"] == "still a message", odd
    assert await rig.parked() == []
