"""The sender of events against a request URL: what is told of a change, how it is signed, and what is tried again."""

import json
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from slack_receiver import Received, Reply, SlackReceiver
from slack_sdk.signature import SignatureVerifier

from local.slack.event_sender import SubscriptionError
from local.slack.server import SlackSimulator
from local.slack.workspace import Workspace, WorkspaceError


def told(simulator: SlackSimulator, receiver: SlackReceiver, change: Callable[[], Any]) -> list[dict[str, Any]]:
    """The inner events of what *change* does, in order."""
    simulator.sender.concurrency = 1
    assert simulator.sender.wait_until_idle()
    receiver.received.clear()
    change()
    assert simulator.sender.wait_until_idle()
    return receiver.events()


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [f"{event['type']}/{event['subtype']}" if "subtype" in event else event["type"] for event in events]


def is_signed(simulator: SlackSimulator, one: Received) -> bool:
    return SignatureVerifier(simulator.credentials.signing_secret).is_valid(
        one.body, one.headers["x-slack-request-timestamp"], one.headers["x-slack-signature"]
    )


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("text/plain", "{}"),
        ("application/json", '{{"challenge": "{}"}}'),
        ("application/x-www-form-urlencoded", "challenge={}"),
    ],
)
def test_a_request_url_answers_a_signed_challenge(
    simulator: SlackSimulator, receiver: SlackReceiver, kind: str, form: str
) -> None:
    receiver.challenge_answer = lambda challenge: Reply(
        body=form.format(challenge).encode(), headers=(("Content-Type", kind),)
    )
    simulator.sender.subscribe(receiver.url)
    (challenge,) = receiver.challenges
    assert is_signed(simulator, challenge)
    assert challenge.payload.keys() == {"token", "challenge", "type"}


def test_a_request_url_that_is_not_taken(simulator: SlackSimulator, receiver: SlackReceiver) -> None:
    subscribe = simulator.sender.subscribe
    for answer in (Reply(body=b"no"), Reply(status=500), Reply(302, headers=(("Location", "http://192.0.2.1/"),))):
        receiver.challenge_answer = lambda _, answer=answer: answer  # type: ignore[misc]  # bound at once
        with pytest.raises(SubscriptionError):
            subscribe(receiver.url)
    for url in ("https://example.com/", "http://192.0.2.1/hook", "http://127.0.0.1.example/", "file:///etc/passwd"):
        with pytest.raises(SubscriptionError, match="events go nowhere else"):
            subscribe(url)
    assert simulator.sender.url is None


def test_the_envelope_and_its_raw_bytes(
    simulator: SlackSimulator, workspace: Workspace, subscribed: SlackReceiver, deal: str
) -> None:
    told(simulator, subscribed, lambda: workspace.post(deal, "see https://a.example/b · größer", user="U0ANN"))
    (one,) = subscribed.received
    assert is_signed(simulator, one)
    assert one.body.isascii()
    assert rb"https:\/\/a.example\/b \u00b7 gr\u00f6\u00dfer" in one.body
    assert one.headers["content-type"] == "application/json"
    assert "x-slack-retry-num" not in one.headers
    payload = one.payload
    assert payload.keys() == {
        "token",
        "team_id",
        "context_team_id",
        "context_enterprise_id",
        "api_app_id",
        "event",
        "type",
        "event_id",
        "event_time",
        "authorizations",
        "is_ext_shared_channel",
        "event_context",
    }
    assert (payload["type"], payload["team_id"]) == ("event_callback", workspace.team_id)
    assert payload["event_time"] == int(payload["event"]["ts"].split(".")[0])
    assert payload["authorizations"][0]["user_id"] == workspace.bot_user_id
    assert payload["event"]["channel_type"] == "channel"
    app = simulator.client()
    listed = app.apps_event_authorizations_list(
        event_context=payload["event_context"], token=simulator.credentials.app_token
    )
    assert listed["authorizations"] == payload["authorizations"]


def test_the_life_of_a_channel(simulator: SlackSimulator, workspace: Workspace, subscribed: SlackReceiver) -> None:
    created: list[str] = []
    (event,) = told(simulator, subscribed, lambda: created.append(workspace.create_channel("proj", user="U0ANN").id))
    (channel,) = created
    assert event["type"] == "channel_created"
    assert (event["channel"]["id"], event["channel"]["name"]) == (channel, "proj")
    changes: list[tuple[Callable[[], Any], dict[str, Any]]] = [
        (
            lambda: workspace.rename_channel(channel, "proj-2"),
            {"type": "channel_rename", "channel": {"id": channel, "name": "proj-2"}},
        ),
        (
            lambda: workspace.archive_channel(channel, user="U0ANN"),
            {"type": "channel_archive", "channel": channel, "user": "U0ANN", "is_moved": 0},
        ),
        (
            lambda: workspace.unarchive_channel(channel, user="U0ANN"),
            {"type": "channel_unarchive", "channel": channel, "user": "U0ANN"},
        ),
        (
            lambda: workspace.share_channel(channel, "T0OTHER"),
            {"type": "channel_shared", "channel": channel, "connected_team_id": "T0OTHER"},
        ),
        (
            lambda: workspace.unshare_channel(channel, "T0OTHER"),
            {"type": "channel_unshared", "previously_connected_team_id": "T0OTHER", "is_ext_shared": False},
        ),
        (
            lambda: workspace.change_channel_id(channel, "C0NEW00001"),
            {"type": "channel_id_changed", "old_channel_id": channel, "new_channel_id": "C0NEW00001"},
        ),
        (
            lambda: workspace.delete_channel("C0NEW00001", user="U0ANN"),
            {"type": "channel_deleted", "channel": "C0NEW00001", "actor_id": "U0ANN"},
        ),
    ]
    for change, wanted in changes:
        (event,) = told(simulator, subscribed, change)
        for name, value in wanted.items():
            said = event[name]
            assert (said | value == said) if isinstance(value, dict) else (said == value), name


def test_a_private_channel_is_told_of_once_the_bot_is_in_it(
    simulator: SlackSimulator, workspace: Workspace, subscribed: SlackReceiver
) -> None:
    created: list[str] = []

    def before() -> None:
        created.append(workspace.create_channel("secret", user="U0ANN", private=True).id)
        workspace.post(created[0], "among us", user="U0ANN")
        workspace.rename_channel(created[0], "hidden")

    assert told(simulator, subscribed, before) == []
    (channel,) = created
    joined, said = told(simulator, subscribed, lambda: workspace.join(channel, inviter="U0ANN"))
    assert (joined["type"], joined["user"], joined["inviter"], joined["channel_type"]) == (
        "member_joined_channel",
        workspace.bot_user_id,
        "U0ANN",
        "G",
    )
    assert (said["subtype"], said["channel_type"]) == ("channel_join", "group")
    events = told(simulator, subscribed, lambda: workspace.archive_channel(channel))
    assert kinds(events) == ["message/channel_archive", "group_archive"]
    workspace.unarchive_channel(channel)
    events = told(simulator, subscribed, lambda: workspace.leave(channel, actor="U0ANN"))
    assert [(event["type"], event["actor_id"]) for event in events] == [("group_left", "U0ANN")]
    assert told(simulator, subscribed, lambda: workspace.post(channel, "alone again")) == []
    with pytest.raises(WorkspaceError, match="private; say who invites"):
        workspace.join(channel)


def test_what_is_said_in_a_channel(
    simulator: SlackSimulator, workspace: Workspace, subscribed: SlackReceiver, deal: str
) -> None:
    ts: list[str] = []

    def say(text: str, **how: Any) -> dict[str, Any]:
        (event,) = told(simulator, subscribed, lambda: ts.append(workspace.post(deal, text, **how)))
        assert event["ts"] == ts[-1] == event["event_ts"]
        return event

    root = say("root", user="U0ANN")
    reply = say("reply", user="U0BOB", thread_ts=root["ts"])
    assert (reply["thread_ts"], reply["parent_user_id"]) == (root["ts"], "U0ANN")
    shown = say("shown", user="U0BOB", thread_ts=root["ts"], broadcast=True)
    assert (shown["subtype"], shown["root"]["ts"]) == ("thread_broadcast", root["ts"])
    file = say("file", user="U0ANN", files=[{"name": "a.pdf", "mimetype": "application/pdf"}])
    assert (file["subtype"], file["files"][0]["mimetype"]) == ("file_share", "application/pdf")
    bot = say("beep", bot_id="B0OTHER")
    assert ("subtype" in bot, bot["bot_id"], bot["bot_profile"]["id"]) == (False, "B0OTHER", "B0OTHER")
    assert say("boop", bot_id="B0OTHER", classic=True)["subtype"] == "bot_message"
    (topic,) = told(simulator, subscribed, lambda: workspace.set_topic(deal, "Q3", user="U0ANN"))
    assert (topic["subtype"], topic["topic"]) == ("channel_topic", "Q3")


def test_changes_and_deletions_of_messages(
    simulator: SlackSimulator, workspace: Workspace, subscribed: SlackReceiver, deal: str
) -> None:
    root = workspace.post(deal, "root", user="U0ANN")
    reply = workspace.post(deal, "reply", user="U0BOB", thread_ts=root)
    (edit,) = told(simulator, subscribed, lambda: workspace.edit(deal, reply, "better"))
    assert (edit["subtype"], edit["hidden"], edit["message"]["ts"]) == ("message_changed", True, reply)
    assert (edit["message"]["text"], edit["previous_message"]["text"]) == ("better", "reply")
    assert edit["message"]["edited"]["user"] == "U0BOB"
    assert edit["ts"] > reply
    card = {"from_url": "https://a.example", "title": "A"}
    (unfurl,) = told(simulator, subscribed, lambda: workspace.unfurl(deal, root, [card]))
    assert ("edited" in unfurl["message"], unfurl["message"]["attachments"]) == (False, [card])
    (gone,) = told(simulator, subscribed, lambda: workspace.delete_message(deal, root))
    assert (gone["subtype"], gone["message"]["subtype"], gone["message"]["reply_count"]) == (
        "message_changed",
        "tombstone",
        1,
    )
    events = told(simulator, subscribed, lambda: workspace.delete_message(deal, reply))
    assert [event["deleted_ts"] for event in events] == [reply, root]
    assert kinds(events) == ["message/message_deleted"] * 2
    texts = [message["text"] for message in simulator.client().conversations_history(channel=deal)["messages"]]
    assert not {"root", "reply", "better", "This message was deleted."} & set(texts)


def test_a_shared_channel_and_its_strangers(
    simulator: SlackSimulator, workspace: Workspace, subscribed: SlackReceiver, deal: str
) -> None:
    workspace.share_channel(deal, "T0OTHER")
    told(simulator, subscribed, lambda: workspace.post(deal, "hello", user="U0STRANGER", user_team="T0OTHER"))
    payload = subscribed.received[0].payload
    assert (payload["team_id"], payload["context_team_id"]) == ("T0OTHER", workspace.team_id)
    assert payload["is_ext_shared_channel"] is True
    assert payload["authorizations"][0]["team_id"] == workspace.team_id
    assert payload["event"]["user_team"] == "T0OTHER"


def test_users_and_the_end_of_the_app(
    simulator: SlackSimulator, workspace: Workspace, subscribed: SlackReceiver, deal: str
) -> None:
    (event,) = told(simulator, subscribed, lambda: workspace.change_user("U0ANN", profile={"title": "CFO"}))
    assert event["type"] == "user_change"
    assert event["user"]["profile"] | {"title": "CFO", "email": "ann@sandbox.example"} == event["user"]["profile"]
    (event,) = told(simulator, subscribed, lambda: workspace.add_user("cyd"))
    assert event["type"] == "team_join"
    (event,) = told(simulator, subscribed, lambda: workspace.tell({"type": "function_executed"}))
    assert event["type"] == "function_executed"
    events = told(simulator, subscribed, workspace.uninstall)
    assert kinds(events) == ["tokens_revoked", "app_uninstalled"]
    assert events[0]["tokens"] == {"oauth": [], "bot": [workspace.bot_user_id]}
    assert told(simulator, subscribed, lambda: workspace.post(deal, "after")) == []


def test_only_what_is_subscribed_and_in_scope_is_sent(
    simulator: SlackSimulator, workspace: Workspace, receiver: SlackReceiver, deal: str
) -> None:
    simulator.sender.subscribe(receiver.url, ["message.channels", "channel_rename"])

    def change() -> None:
        workspace.post(deal, "hello")
        workspace.archive_channel(deal)
        workspace.unarchive_channel(deal)
        workspace.rename_channel(deal, "deal-2")

    wanted = ["message", "message/channel_archive", "message/channel_unarchive", "channel_rename"]
    assert kinds(told(simulator, receiver, change)) == [*wanted, "message/channel_name"]
    simulator.credentials.scopes.discard("channels:history")
    assert kinds(told(simulator, receiver, lambda: workspace.rename_channel(deal, "deal-3"))) == ["channel_rename"]


def test_a_refused_delivery_is_tried_three_times_more(
    simulator: SlackSimulator, workspace: Workspace, subscribed: SlackReceiver, deal: str
) -> None:
    subscribed.answer = lambda _: Reply(503)
    told(simulator, subscribed, lambda: workspace.post(deal, "hello"))
    assert [one.headers.get("x-slack-retry-num") for one in subscribed.received] == [None, "1", "2", "3"]
    assert {one.headers.get("x-slack-retry-reason") for one in subscribed.received[1:]} == {"http_error"}
    assert len({one.body for one in subscribed.received}) == 1
    assert all(is_signed(simulator, one) for one in subscribed.received)
    delivery = simulator.sender.deliveries[-1]
    assert (delivery.state, [attempt.status for attempt in delivery.attempts]) == ("failed", [503] * 4)
    subscribed.answer = lambda one: Reply(200 if "x-slack-retry-num" in one.headers else 500)
    told(simulator, subscribed, lambda: workspace.post(deal, "hello"))
    assert (simulator.sender.deliveries[-1].state, len(subscribed.received)) == ("delivered", 2)


def test_no_retry_is_heeded(
    simulator: SlackSimulator, workspace: Workspace, subscribed: SlackReceiver, deal: str
) -> None:
    subscribed.answer = lambda _: Reply(500, headers=(("X-Slack-No-Retry", "1"),))
    assert len(told(simulator, subscribed, lambda: workspace.post(deal, "hello"))) == 1


def test_reasons_of_retries(simulator: SlackSimulator, workspace: Workspace, deal: str) -> None:
    def reasons(receiver: SlackReceiver) -> list[str | None]:
        workspace.post(deal, "hello")
        assert simulator.sender.wait_until_idle()
        return [attempt.reason for attempt in simulator.sender.deliveries[-1].attempts]

    simulator.sender.retry_scale = 0
    with SlackReceiver() as receiver:
        simulator.sender.subscribe(receiver.url)
        receiver.answer = lambda one: Reply(307, headers=(("Location", one.path + "/on"),))
        assert reasons(receiver) == ["too_many_redirects"] * 4
        receiver.answer = lambda one: (
            Reply(200) if one.path.endswith("/on") else Reply(307, headers=(("Location", one.path + "/on"),))
        )
        assert reasons(receiver) == [None]
        receiver.answer = lambda _: Reply(302, headers=(("Location", "http://192.0.2.1/"),))
        assert reasons(receiver) == ["unknown_error"] * 4
        simulator.sender.answer_seconds = 0.05

        def late(_: Received) -> Reply:
            simulator.sender.wait_until_idle(0.15)  # the answer comes after the time limit
            return Reply()

        receiver.answer = late
        assert reasons(receiver) == ["http_timeout"] * 4
        simulator.sender.answer_seconds = 60
    with socket.socket() as silent:
        # Held, so that no other server of this machine takes the port and answers.
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        silent.bind(("127.0.0.1", urlsplit(receiver.url).port or 0))
        assert reasons(receiver) == ["connection_failed"] * 4


def test_bad_days(simulator: SlackSimulator, workspace: Workspace, subscribed: SlackReceiver, deal: str) -> None:
    sender = simulator.sender

    def texts(number: int) -> list[str]:
        def post() -> None:
            for count in range(number):
                workspace.post(deal, str(count))
            sender.release()

        return [event["text"] for event in told(simulator, subscribed, post)]

    sender.duplicate_every = 2
    assert "".join(texts(4)) in {"011233", "001223"}
    assert len({one.payload["event_id"] for one in subscribed.received}) == 4
    sender.duplicate_every = 0
    sender.reorder_window, sender.hold_seconds = 3, 600
    assert texts(7) == ["2", "1", "0", "5", "4", "3", "6"]
    sender.reorder_window = 0
    sender.lose_next(2)
    assert texts(4) == ["2", "3"]
    assert [delivery.state for delivery in sender.deliveries][-4:] == ["lost", "lost", "delivered", "delivered"]


def test_a_rate_limited_app_is_told_flat(
    simulator: SlackSimulator, workspace: Workspace, subscribed: SlackReceiver
) -> None:
    simulator.sender.send_rate_limited(1518467839)
    assert simulator.sender.wait_until_idle()
    (one,) = subscribed.received
    assert is_signed(simulator, one)
    payload = json.loads(one.body)
    assert payload.keys() == {"token", "type", "team_id", "minute_rate_limited", "api_app_id"}
    assert (payload["type"], payload["minute_rate_limited"]) == ("app_rate_limited", 1518467820)


def test_a_reply_is_told_of_at_its_root_without_the_subtype(
    simulator: SlackSimulator, workspace: Workspace, subscribed: SlackReceiver, deal: str
) -> None:
    root = workspace.post(deal, "root")
    workspace.message_replied = True
    reply, replied = told(simulator, subscribed, lambda: workspace.post(deal, "reply", thread_ts=root))
    assert reply["thread_ts"] == root
    assert ("subtype" in replied, replied["message"]["reply_count"], replied["hidden"]) == (False, 1, True)
