"""The app's manifest asks for what the code uses, and for nothing else."""

import re
from pathlib import Path

import pytest
from slack_rig import SlackRig

from ingestion.slack.checking import NEEDED, WANTED

CONNECT = Path(__file__).parents[2] / "docs" / "connect"
MANIFEST = (CONNECT / "slack-app-manifest.yaml").read_text()


def listed(name: str) -> list[str]:
    section = re.search(rf"^ +{name}:\n((?: +- .*\n)+)", MANIFEST, re.MULTILINE)
    assert section, f"the manifest has no {name}"
    return re.findall(r"- (\S+)", section[1])


def test_the_scopes_are_those_that_a_connection_is_tested_for() -> None:
    assert sorted(listed("bot")) == sorted({*NEEDED, *WANTED, "channels:join"})
    page = (CONNECT / "slack.md").read_text()
    assert all(f"`{scope}`" in page for scope in listed("bot"))


@pytest.mark.parametrize("subscription", listed("bot_events"))
async def test_each_subscription_is_an_event_that_is_known(rig: SlackRig, subscription: str) -> None:
    kind = subscription.partition(".")[0]
    channel = rig.workspace.create_channel("any", user="U0ANN", members=[rig.workspace.bot_user_id]).id
    event = {
        "type": kind,
        "channel": channel,
        "old_channel_id": "C0OLD00001",
        "new_channel_id": channel,
        "user": {"id": "U0ANN", "name": "ann"} if kind in ("user_change", "team_join") else "U0ANN",
        "ts": "1700000000.000100",
        "event_ts": "1700000000.000100",
        "text": "hello",
    }
    await rig.push(event)
    assert await rig.parked() == []
