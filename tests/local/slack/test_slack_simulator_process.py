"""The simulator in a process of its own: the control route, what it refuses, and how it ends."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from slack_receiver import SlackReceiver
from slack_sdk.errors import SlackApiError

from local.sandbox import POLL_SECONDS
from local.simulator_process import SimulatorError
from local.slack.server import SlackSimulator, SlackSimulatorProcess
from local.slack.workspace import Workspace

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "tests" / "samples" / "slack" / "export" / "slack_export_traveling-sailor.zip"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlackSimulatorProcess]:
    company = tmp_path_factory.mktemp("company")
    (company / "slack").mkdir()
    shutil.copy(SAMPLE, company / "slack")
    with SlackSimulatorProcess(["--company", company, "--unlimited"]) as running:
        yield running


def test_everything_is_changed_by_the_control_route(process: SlackSimulatorProcess, receiver: SlackReceiver) -> None:
    control, client = process.control, process.client()
    bot = control("")["botUserId"]
    assert client.auth_test()["user_id"] == bot
    assert control("/subscription", {"url": receiver.url}) == {"url": receiver.url}
    control("/delivery", {"retryScale": 0, "concurrency": 1, "loseNext": 1})
    results = control(
        "/changes",
        [
            {"operation": "addUser", "name": "cyd", "fields": {"real_name": "Cyd"}},
            {"operation": "createChannel", "name": "deal", "members": [bot]},
            {"operation": "post", "channel": "deal", "text": "hello"},
            {"operation": "renameChannel", "channel": "deal", "name": "deal-2"},
            {"operation": "setTopic", "channel": "deal-2", "value": "Q3"},
            {"operation": "setPurpose", "channel": "deal-2", "value": "to win"},
            {"operation": "archiveChannel", "channel": "deal-2"},
            {"operation": "unarchiveChannel", "channel": "deal-2"},
            {"operation": "shareChannel", "channel": "deal-2", "team": "T0OTHER"},
            {"operation": "unshareChannel", "channel": "deal-2", "team": "T0OTHER"},
            {"operation": "changeChannelId", "channel": "deal-2", "id": "C0NEW00001"},
            {"operation": "leave", "channel": "C0NEW00001"},
            {"operation": "join", "channel": "C0NEW00001"},
            {"operation": "changeHistory", "channel": "C0NEW00001"},
        ],
    )["results"]
    user, channel, ts, *_ = results
    assert (user[0], channel[0]) == ("U", "C")
    thread = control("/changes", {"operation": "post", "channel": "deal-2", "text": "so", "threadTs": ts, "user": user})
    (reply,) = thread["results"]
    control(
        "/changes",
        [
            {"operation": "edit", "channel": "deal-2", "ts": reply, "text": "so then"},
            {"operation": "unfurl", "channel": "deal-2", "ts": ts, "attachments": [{"title": "A"}]},
            {"operation": "deleteMessage", "channel": "deal-2", "ts": reply},
            {"operation": "changeUser", "user": user, "fields": {"deleted": True}},
            {"operation": "renameTeam", "name": "Acme"},
            {"operation": "event", "event": {"type": "pin_added"}},
            {"operation": "deleteChannel", "channel": "C0NEW00001"},
        ],
    )
    control("/rate-limited", {"minute": 1518467820})
    deliveries = control("/deliveries")
    while deliveries["pending"]:
        deliveries = control("/deliveries")
    states = [delivery["state"] for delivery in deliveries["deliveries"]]
    assert states == ["lost"] + ["delivered"] * (len(states) - 1)
    types = [one.payload.get("event", one.payload)["type"] for one in receiver.received]
    assert [delivery["type"] for delivery in deliveries["deliveries"]][1:] == types
    assert {"channel_id_changed", "channel_left", "channel_history_changed", "user_change", "pin_added"} < set(types)
    assert types[-1] == "app_rate_limited"

    control(
        "/settings", {"rateScale": 1, "shortPages": True, "pageCap": 5, "cursorSeconds": 60, "scopes": ["team:read"]}
    )
    with pytest.raises(SlackApiError, match="missing_scope"):
        client.conversations_list()
    control("/faults", {"kind": "internal-error", "times": 1})
    with pytest.raises(SlackApiError, match="internal_error"):
        client.team_info()
    control("/faults", method="DELETE")
    control("/cursors/expire", {})
    assert control("/clock", {"freeze": "2026-05-06T12:00:00+00:00"})["now"] == "2026-05-06T12:00:00+00:00"
    control("/clock", {"advance": 60})
    control("/clock", {"run": True})
    assert control("/calls")["errors"] == {"missing_scope": 1, "fault": 1}
    control("/calls", method="DELETE")
    assert control("")["calls"] == 0
    control("/changes", {"operation": "revokeToken"})
    with pytest.raises(SlackApiError, match="token_revoked"):
        client.auth_test()
    control("/changes", [{"operation": "uninstall"}, {"operation": "reinstall"}])
    assert client.auth_test()["ok"]
    control("/subscription", method="DELETE")
    assert control("")["url"] is None


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/changes", {"operation": "explode"}, "no operation explode"),
        ("/changes", {"operation": "post", "channel": "nowhere"}, "there is no channel nowhere"),
        ("/changes", {"operation": "post"}, "'channel' is missing"),
        ("/changes", {"operation": "createChannel", "name": "Two Words"}, "is no channel name"),
        ("/changes", {"operation": "createChannel", "name": "taken"}, "the name taken is taken"),
        ("/changes", {"operation": "edit", "channel": "taken", "ts": "1.0", "text": ""}, "there is no message 1.0"),
        ("/changes", {"operation": "join", "channel": "taken", "user": "U0NONE"}, "there is no user U0NONE"),
        ("/subscription", {"url": "http://192.0.2.1/"}, "events go nowhere else"),
        ("/clock", {}, "freeze, advance or run"),
        ("/faults", {"kind": "meteor"}, "no fault 'meteor'"),
        ("/settings", {"colour": 1}, "no setting colour"),
        ("/delivery", {"colour": 1}, "no setting colour"),
        ("/nowhere", {}, "there is no POST /_control/nowhere"),
    ],
)
def test_the_control_route_says_what_is_wrong(
    workspace: Workspace, simulator: SlackSimulator, path: str, body: dict[str, object], said: str
) -> None:
    workspace.create_channel("taken")
    answer = requests.post(f"{simulator.base_url}/_control{path}", json=body, timeout=10)
    assert answer.status_code in {400, 404}
    assert said in answer.json()["error"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_the_control_route_refuses_other_hosts(simulator: SlackSimulator, host: str) -> None:
    answer = requests.get(simulator.base_url + "/_control", headers={"Host": host}, timeout=10)
    assert answer.status_code in {400, 403}
    assert "channels" not in answer.text


def test_it_ends_when_its_input_closes(tmp_path: Path) -> None:
    simulator = SlackSimulatorProcess(["--company", tmp_path]).start()
    process = simulator._process
    assert process is not None
    simulator.stop()
    assert process.returncode == 0


def test_a_company_that_can_not_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "slack").mkdir()
    with pytest.raises(SimulatorError) as caught:
        SlackSimulatorProcess(["--company", tmp_path]).start()
    assert str(caught.value).startswith(f"slack: {tmp_path}/slack: no Slack export in it;")


def test_a_bad_argument_is_one_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "local.slack"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "the following arguments are required: --company" in ended.stderr


def test_an_idle_connection_outlives_the_pause_between_two_polls() -> None:
    """One that the server closed while the next call was on its way would fail that call, at every so many polls."""
    assert SlackSimulator(Workspace("T06LRKMR4WQ")).server().config.timeout_keep_alive > 2 * POLL_SECONDS
