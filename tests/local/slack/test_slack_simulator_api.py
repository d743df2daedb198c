"""The Web API as the vendor's own client sees it: paging, scopes, rate limits, errors, and what a channel shows."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from connections.egress import vendor_session
from local.slack.server import SlackSimulator
from local.slack.workspace import Workspace

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)


def refused(call: Any, *args: Any, **arguments: Any) -> Any:
    """The answer of a call that is refused."""
    with pytest.raises(SlackApiError) as caught:
        call(*args, **arguments)
    return caught.value.response


def cursor_of(answer: Any) -> str:
    return str(answer["response_metadata"]["next_cursor"])


def test_the_token_tells_who_the_app_is(client: WebClient, workspace: Workspace) -> None:
    answer = client.auth_test()
    assert (answer["team_id"], answer["user_id"], answer["bot_id"]) == (
        workspace.team_id,
        workspace.bot_user_id,
        workspace.bot_id,
    )
    assert client.team_info()["team"]["id"] == workspace.team_id
    assert client.bots_info(bot=workspace.bot_id)["bot"]["app_id"] == workspace.app_id
    assert refused(client.bots_info, bot="B0NONE")["error"] == "bot_not_found"


@pytest.mark.parametrize("short_pages", [False, True])
def test_a_walk_through_pages_meets_every_channel_once(
    workspace: Workspace, simulator: SlackSimulator, client: WebClient, short_pages: bool
) -> None:
    made = {workspace.create_channel(f"c{number}").id for number in range(13)}
    simulator.api.cursors.short_pages = short_pages
    pages = [page["channels"] for page in client.conversations_list(limit=5)]
    found = [channel["id"] for page in pages for channel in page]
    assert sorted(found) == sorted(made)
    assert ([] in pages) == short_pages
    assert max(map(len, pages)) == (2 if short_pages else 5)


def test_cursors_are_opaque_and_die(workspace: Workspace, simulator: SlackSimulator, client: WebClient) -> None:
    for number in range(4):
        workspace.create_channel(f"c{number}")
    workspace.clock.freeze(NOON)
    cursor = cursor_of(client.conversations_list(limit=3))
    assert base64.b64decode(cursor, validate=True).decode().startswith("team:C0")
    assert len(client.conversations_list(limit=3, cursor=cursor)["channels"]) == 1
    assert refused(client.users_list, cursor=cursor)["error"] == "invalid_cursor"
    made_up = base64.b64encode(b"team:C0").decode()
    assert refused(client.conversations_list, cursor=made_up)["error"] == "invalid_cursor"
    workspace.clock.advance(timedelta(hours=1))
    assert refused(client.conversations_list, limit=3, cursor=cursor)["error"] == "invalid_cursor"
    cursor = cursor_of(client.conversations_list(limit=3))
    simulator.api.cursors.expire()
    assert refused(client.conversations_list, limit=3, cursor=cursor)["error"] == "invalid_cursor"


def test_a_walk_goes_on_where_a_channel_has_gone(workspace: Workspace, client: WebClient) -> None:
    ids = sorted(workspace.create_channel(f"c{number}").id for number in range(5))
    cursor = cursor_of(client.conversations_list(limit=2))
    workspace.delete_channel(ids[2])
    rest = client.conversations_list(limit=10, cursor=cursor)["channels"]
    assert [channel["id"] for channel in rest] == ids[3:]


def test_arguments_come_by_query_form_and_json(simulator: SlackSimulator, deal: str) -> None:
    url = f"{simulator.base_url}/api/conversations.info"
    given = {"channel": deal, "include_num_members": "true"}
    headers = {"Authorization": f"Bearer {simulator.credentials.bot_token}"}
    answers = [
        requests.get(url, given, headers=headers, timeout=10),
        requests.post(url, given, headers=headers, timeout=10),
        requests.post(url, json={"channel": deal, "include_num_members": True}, headers=headers, timeout=10),
        requests.post(url, {**given, "token": simulator.credentials.bot_token}, timeout=10),
    ]
    assert [answer.json()["channel"]["num_members"] for answer in answers] == [3] * 4


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (b"{", "application/json", "invalid_json"),
        (b"[]", "application/json", "json_not_object"),
        (b"<a/>", "text/xml", "invalid_post_type"),
        (b"\xff", "application/x-www-form-urlencoded", "invalid_form_data"),
    ],
)
def test_bodies_that_can_not_be_read(simulator: SlackSimulator, body: bytes, kind: str, error: str) -> None:
    url = f"{simulator.base_url}/api/auth.test"
    answer = requests.post(url, body, headers={"Content-Type": kind}, timeout=10)
    assert (answer.status_code, answer.json()) == (200, {"ok": False, "error": error})


def test_the_app_reaches_it_by_the_address_of_slack(simulator: SlackSimulator) -> None:
    with vendor_session(("slack.com",), simulator=simulator.base_url) as session:
        answer = session.post(
            "https://slack.com/api/auth.test", headers={"Authorization": f"Bearer {simulator.credentials.bot_token}"}
        )
    assert answer.json()["ok"] is True


def test_a_channel_object_has_the_recorded_shape(workspace: Workspace, client: WebClient, deal: str) -> None:
    workspace.clock.freeze(NOON)
    workspace.rename_channel(deal, "deal-hollis-2")
    (listed,) = client.conversations_list()["channels"]
    info = client.conversations_info(channel=deal)["channel"]
    assert listed["num_members"] == 3
    assert "num_members" not in info
    assert info["updated"] == int(NOON.timestamp()) * 1000
    assert info["created"] < info["updated"] / 100
    assert info["previous_names"] == ["deal-hollis"]
    assert info["context_team_id"] == workspace.team_id
    assert (info["is_ext_shared"], info["shared_team_ids"]) == (False, [workspace.team_id])
    workspace.share_channel(deal, "T0OTHER", hosted_there=True)
    info = client.conversations_info(channel=deal)["channel"]
    assert (info["is_ext_shared"], info["shared_team_ids"]) == (True, ["T0OTHER", workspace.team_id])
    workspace.archive_channel(deal)
    info = client.conversations_info(channel=deal, include_num_members=True)["channel"]
    assert (info["is_archived"], info["num_members"]) == (True, 0)


def test_a_list_leaves_private_channels_out_unless_asked_and_archived_ones_in(
    workspace: Workspace, client: WebClient, deal: str
) -> None:
    bot = workspace.bot_user_id
    old = workspace.create_channel("old").id
    workspace.archive_channel(old)
    secret = workspace.create_channel("secret", user="U0ANN", private=True, members=[bot]).id
    unseen = workspace.create_channel("unseen", user="U0ANN", private=True).id

    def listed(**arguments: Any) -> set[str]:
        return {channel["id"] for channel in client.conversations_list(**arguments)["channels"]}

    assert listed() == {deal, old}
    assert listed(types="public_channel,private_channel") == {deal, old, secret}
    assert listed(types="private_channel,public_channel", exclude_archived=True) == {deal, secret}
    assert {channel["id"] for channel in client.users_conversations()["channels"]} == {deal}
    assert refused(client.conversations_info, channel=unseen)["error"] == "channel_not_found"
    assert refused(client.conversations_history, channel=unseen)["error"] == "channel_not_found"
    workspace.join(unseen, inviter="U0ANN")
    assert client.conversations_info(channel=unseen)["channel"]["is_private"] is True


def test_history_is_newest_first_and_leaves_replies_out(workspace: Workspace, client: WebClient, deal: str) -> None:
    root = workspace.post(deal, "root", user="U0ANN")
    reply = workspace.post(deal, "reply", user="U0BOB", thread_ts=root)
    shown = workspace.post(deal, "shown", user="U0BOB", thread_ts=reply, broadcast=True)
    last = workspace.post(deal, "last", user="U0ANN")
    messages = client.conversations_history(channel=deal, oldest=root, inclusive=True)["messages"]
    assert [message["ts"] for message in messages] == [last, shown, root]
    assert (messages[2]["reply_count"], messages[2]["latest_reply"], messages[2]["reply_users"]) == (
        2,
        shown,
        ["U0BOB"],
    )
    assert messages[1]["subtype"] == "thread_broadcast"
    assert "reply_count" not in messages[0]

    def within(**window: Any) -> list[str]:
        return [message["ts"] for message in client.conversations_history(channel=deal, **window)["messages"]]

    assert within(oldest=root, latest=last) == [shown]
    assert within(oldest=root, latest=last, inclusive=True) == [last, shown, root]
    assert within(oldest=last) == []
    assert refused(client.conversations_history, channel=deal, oldest="soon")["error"] == "invalid_ts_oldest"
    assert refused(client.conversations_history, channel=deal, latest="1.2.3")["error"] == "invalid_ts_latest"
    assert refused(client.conversations_history, channel=deal, limit=0)["error"] == "invalid_limit"


@pytest.mark.parametrize("short_pages", [False, True])
def test_pages_of_history_and_replies(
    workspace: Workspace, simulator: SlackSimulator, client: WebClient, deal: str, short_pages: bool
) -> None:
    root = workspace.post(deal, "root")
    replies = [workspace.post(deal, f"r{number}", thread_ts=root) for number in range(9)]
    sent = [root, *(workspace.post(deal, f"m{number}") for number in range(9))]
    simulator.api.cursors.short_pages = short_pages

    walk = client.conversations_history(channel=deal, limit=4, oldest=root, inclusive=True)
    history = [(page["messages"], page["has_more"]) for page in walk]  # the client hands out one object again and again
    assert [message["ts"] for messages, _ in history for message in messages] == sent[::-1]
    assert [more for _, more in history] == [True] * (len(history) - 1) + [False]
    pages = [page["messages"] for page in client.conversations_replies(channel=deal, ts=replies[3], limit=4)]
    assert {page[0]["ts"] for page in pages} == {root}
    assert [message["ts"] for page in pages for message in page[1:]] == replies
    assert refused(client.conversations_replies, channel=deal, ts="1.000001")["error"] == "thread_not_found"


def test_joining_opens_a_public_channel(workspace: Workspace, client: WebClient) -> None:
    channel = workspace.create_channel("open", user="U0ANN").id
    workspace.post(channel, "before")
    assert refused(client.conversations_history, channel=channel)["error"] == "not_in_channel"
    assert client.conversations_join(channel=channel)["channel"]["is_member"] is True
    assert client.conversations_join(channel=channel)["warning"].startswith("already_in_channel")
    assert "before" in [message["text"] for message in client.conversations_history(channel=channel)["messages"]]
    assert set(client.conversations_members(channel=channel)["members"]) == {"U0ANN", workspace.bot_user_id}
    private = workspace.create_channel("mine", private=True, members=[workspace.bot_user_id]).id
    answer = refused(client.conversations_join, channel=private)
    assert answer["error"] == "method_not_supported_for_channel_type"
    workspace.archive_channel(channel)
    assert refused(client.conversations_join, channel=channel)["error"] == "is_archived"


def test_a_missing_scope_is_named(simulator: SlackSimulator, client: WebClient, deal: str) -> None:
    simulator.credentials.scopes = {"channels:read", "users:read"}
    answer = refused(client.conversations_history, channel=deal)
    assert (answer["error"], answer["provided"]) == ("missing_scope", "channels:read,users:read")
    assert "channels:history" in answer["needed"]
    answer = refused(client.conversations_list, types="public_channel,private_channel")
    assert (answer["error"], answer["needed"]) == ("missing_scope", "groups:read")
    assert client.conversations_list().headers["x-oauth-scopes"] == "channels:read,users:read"
    assert "email" not in client.users_info(user="U0ANN")["user"]["profile"]
    simulator.credentials.scopes.add("users:read.email")
    assert client.users_info(user="U0ANN")["user"]["profile"]["email"] == "ann@sandbox.example"
    assert {user["id"] for user in client.users_list()["members"]} >= {"U0ANN", "U0BOB", "USLACKBOT"}


def test_tokens_that_are_not_good(simulator: SlackSimulator, workspace: Workspace) -> None:
    base_url = f"{simulator.base_url}/api/"
    assert refused(WebClient(base_url=base_url).auth_test)["error"] == "not_authed"
    assert refused(WebClient("xoxb-else", base_url=base_url).auth_test)["error"] == "invalid_auth"
    app = WebClient(simulator.credentials.app_token, base_url=base_url)
    assert refused(app.conversations_list)["error"] == "not_allowed_token_type"
    workspace.revoke_token()
    assert refused(simulator.client().auth_test)["error"] == "token_revoked"
    workspace.uninstall()
    assert refused(simulator.client().conversations_list)["error"] == "account_inactive"
    workspace.reinstall()
    assert simulator.client().auth_test()["ok"]
    assert refused(simulator.client().api_call, "chat.dance")["error"] == "unknown_method"


def test_a_rate_limit_hits_one_method(workspace: Workspace, client: WebClient) -> None:
    workspace.clock.freeze(NOON)
    for _ in range(20):
        client.conversations_list()
    answer = refused(client.conversations_list)
    assert (answer.status_code, answer["error"], answer.headers["Retry-After"]) == (429, "ratelimited", "3")
    assert client.users_list()["ok"]
    workspace.clock.advance(timedelta(seconds=3))
    assert client.conversations_list()["ok"]
    assert refused(client.conversations_list).status_code == 429


def test_the_regime_of_one_call_a_minute_and_15_items(
    workspace: Workspace, simulator: SlackSimulator, client: WebClient, deal: str
) -> None:
    workspace.clock.freeze(NOON)
    root = workspace.post(deal, "root")
    for number in range(20):
        workspace.post(deal, f"m{number}")
    simulator.api.limits.restricted = True
    simulator.api.limits.scale = None
    assert len(client.conversations_history(channel=deal, limit=200)["messages"]) == 15
    answer = refused(client.conversations_history, channel=deal)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")
    assert client.conversations_replies(channel=deal, ts=root)["messages"][0]["ts"] == root
    for _ in range(60):
        client.conversations_list()


def test_armed_faults(simulator: SlackSimulator, client: WebClient) -> None:
    simulator.api.faults.add("unavailable-html", path="conversations.list")
    assert client.auth_test()["ok"]
    answer = requests.get(f"{simulator.base_url}/api/conversations.list", timeout=10)
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    simulator.api.faults.add("fatal-error")
    assert refused(client.auth_test)["error"] == "fatal_error"
    simulator.api.faults.add("ratelimited", headers={"Retry-After": "7"})
    assert refused(client.auth_test).headers["Retry-After"] == "7"
    simulator.api.faults.add("slow", delay=60)
    slow = WebClient(simulator.credentials.bot_token, base_url=f"{simulator.base_url}/api/", timeout=0.2)  # type: ignore[arg-type]  # urllib takes fractions
    with pytest.raises(TimeoutError):
        slow.auth_test()
    assert client.auth_test()["ok"]


def test_files_and_links(workspace: Workspace, simulator: SlackSimulator, client: WebClient, deal: str) -> None:
    root = workspace.post(deal, "see file", user="U0ANN", files=[{"name": "notes.txt", "content": "alpha"}])
    reply = workspace.post(deal, "thanks", thread_ts=root)
    (file,) = client.conversations_history(channel=deal, limit=1)["messages"][0]["files"]
    with vendor_session(("slack.com",), simulator=simulator.base_url) as session:
        anyone = session.get(file["url_private"])
        app = session.get(file["url_private"], headers={"Authorization": f"Bearer {simulator.credentials.bot_token}"})
    assert (anyone.status_code, anyone.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert app.content == b"alpha"
    link = client.chat_getPermalink(channel=deal, message_ts=reply)["permalink"]
    assert link == f"https://sandbox.slack.com/archives/{deal}/p{reply.replace('.', '')}?thread_ts={root}&cid={deal}"
    assert refused(client.chat_getPermalink, channel=deal, message_ts="1.000001")["error"] == "message_not_found"
