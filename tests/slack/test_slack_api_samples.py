"""Every recorded answer of Slack's API, given by the simulator in place of its own, through the SDK."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from slack_rig import SlackRig

from ingestion.errors import CredentialError, TransientError
from ingestion.slack.client import SlackClient
from ingestion.slack.errors import RefusedError, error_of
from local.simulator_faults import Fault
from processors.mapping import map_record
from shards.types import validate

API = Path(__file__).parents[1] / "samples" / "slack" / "api"
SPECS = ["auth.test", "conversations.history", "conversations.info", "conversations.list", "conversations.members"]


@pytest.fixture
def client(rig: SlackRig) -> SlackClient:
    return rig.source._clients.of(rig.connection)


def sample(name: str) -> Any:
    return json.loads((API / name).read_text())


def answer(rig: SlackRig, method: str, *bodies: str, **headers: str) -> None:
    """Let the next calls of *method* be answered with *bodies*."""
    for index, body in enumerate(bodies):
        rig.simulator.api.faults.add(Fault(200, body, headers=headers, path=f"/api/{method}", skip=index))


@pytest.mark.parametrize("method", SPECS)
async def test_examples_are_taken_or_refused_for_their_reason(rig: SlackRig, client: SlackClient, method: str) -> None:
    told = sample(f"{method}.json")
    answer(rig, method, json.dumps(told["ok_example"]), json.dumps(told["error_example"]))
    arguments = {} if method == "auth.test" else {"channel": "C012AB3CD"}
    assert await client.call(method, **arguments) == told["ok_example"]
    with pytest.raises((CredentialError, RefusedError), match=told["error_example"]["error"]):
        await client.call(method, **arguments)
    for code in told["documented_errors"]:
        error = error_of(method, 200, {"ok": False, "error": code})
        assert isinstance(error, CredentialError | RefusedError | TransientError) and str(error)


@pytest.mark.parametrize("name", ["conversations.list.json", "sdk_web_response_conversations_list.json"])
def test_listed_channels_are_mapped(name: str) -> None:
    told = sample(name)
    for raw in told.get("ok_example", told)["channels"]:
        made = map_record("slack", "channel", raw, "update", raw["id"])
        validate(made.shard_type_id, made.structured_data)
        assert made.external_id == raw["id"]


def test_listed_messages_are_mapped() -> None:
    for raw in sample("conversations.history.json")["ok_example"]["messages"]:
        made = map_record("slack", "message", {"channel": "C012AB3CD", **raw}, "update", f"C012AB3CD:{raw['ts']}")
        validate(made.shard_type_id, made.structured_data)


async def test_pages_are_walked_to_their_end(rig: SlackRig, client: SlackClient) -> None:
    names = [f"sdk_web_response_conversations_list_pagination2{part}.json" for part in ("", "_page2")]
    answer(rig, "conversations.list", *((API / name).read_text() for name in names))
    pages = [page async for page in client.pages("conversations.list", limit=1)]
    assert [channel["id"] for page in pages for channel in page["channels"]] == ["C2", "C3"]


async def test_a_recorded_call_tells_the_scopes_of_its_token(rig: SlackRig, client: SlackClient) -> None:
    recorded = (API / "slackruby_auth_test_success.yml").read_text()
    body = re.search(r"string: '(\{\"ok\":true.*\})'", recorded)
    scopes = re.search(r"X-Oauth-Scopes:\s+- (\S+)", recorded)
    assert body and scopes
    answer(rig, "auth.test", body[1], **{"X-OAuth-Scopes": scopes[1]})
    told = await client.call("auth.test")
    assert (told["team_id"], told["bot_id"]) == ("TDEADBEEF", "B0J1L75DY")
    assert sorted(client.scopes or ()) == ["apps", "client", "identify", "post", "read"]


async def test_numbers_are_read_digit_by_digit(rig: SlackRig, client: SlackClient) -> None:
    answer(rig, "auth.test", '{"ok": true, "n": 1773301231.714899123456789}')
    assert str((await client.call("auth.test"))["n"]) == "1773301231.714899123456789"
