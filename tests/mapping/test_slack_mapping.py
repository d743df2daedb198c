"""Slack's channels, messages and users as shards."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.mapping import MappingError, map_record
from processors.mapping.record import Mapped
from processors.mapping.slack_text import in_words
from shards.model import Acl, Shard
from shards.types import validate

SAMPLES = Path(__file__).parents[1] / "samples" / "slack"
HOME = "https://acme.slack.com/"
NAMES = {"U0ANN": "Ann Lee", "C0DEALS": "deals"}


def message(text: str = "hello", **fields: Any) -> dict[str, Any]:
    found = {"names": NAMES, "workspace": HOME, "acl": {"principals": ["tenant"]}, **fields.pop("shardline", {})}
    return {
        "type": "message",
        "channel": "C0DEALS",
        "ts": "1773301231.714899",
        "user": "U0ANN",
        "text": text,
        "shardline": {"author": {"name": "Ann Lee", "email": "ann@acme.example"}, **found},
        **fields,
    }


def mapped(payload: dict[str, Any], object_type: str = "message") -> Mapped:
    made = map_record("slack", object_type, payload, "update", payload.get("id"))
    validate(made.shard_type_id, made.structured_data)
    return made


def data(payload: dict[str, Any]) -> dict[str, Any]:
    return mapped(payload).structured_data


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("plain", "plain"),
        ("<@U0ANN> and <@U0BOB|bob>, <@U0EVE>", "@Ann Lee and @bob, @U0EVE"),
        ("see <#C0DEALS|old-name> or <#C0OTHER|other>", "see #deals or #other"),
        ("<!here> <!subteam^S1|@sales> <!channel> <!date^1^{date}|today>", "@here @sales @channel today"),
        ("a &lt;b&gt; &amp;amp; c &copy;", "a <b> &amp; c &copy;"),
        ("<https://x.example/?a=1&amp;b=2|the page>", "the page (https://x.example/?a=1&b=2)"),
        ("<https://x.example/>", "https://x.example/"),
        ("<mailto:ann@acme.example|ann@acme.example>", "ann@acme.example"),
    ],
)
def test_marks_become_words(written: str, read: str) -> None:
    assert in_words(written, NAMES).text == read


def test_who_and_what_a_text_names_become_links() -> None:
    there = f"{HOME}archives/C0OTHER/p1773301231714899?thread_ts=1773301000.000200&amp;cid=C0OTHER"
    made = data(message(f"<@U0ANN> <@W0BOB> <@U0ANN> <#C0DEALS|x> <{there}> <{HOME}archives/C0THIRD|that channel>"))
    assert made["mentions"] == ["U0ANN", "W0BOB"]
    assert made["referencedChannels"] == ["C0DEALS", "C0THIRD"]
    assert made["referencedMessages"] == ["C0OTHER:1773301231.714899"]
    elsewhere = data(message("<https://other.slack.com/archives/C0OTHER/p1773301231714899>"))
    assert "referencedMessages" not in elsewhere, "another workspace's link is none of this one's messages"


def test_a_message_whole() -> None:
    made = mapped(message("Hello <@U0ANN>\nmore", edited={"user": "U0ANN", "ts": "1773301300.000000"}))
    assert made.structured_data == {
        "name": "Hello @Ann Lee",
        "content": "Hello @Ann Lee\nmore",
        "channelId": "C0DEALS",
        "sentAt": "2026-03-12T07:40:31.714Z",
        "author": {"id": "U0ANN", "name": "Ann Lee", "email": "ann@acme.example"},
        "threadId": "C0DEALS:1773301231.714899",
        "editedAt": "2026-03-12T07:41:40.000Z",
        "isEdited": True,
        "messageType": "message",
        "mentions": ["U0ANN"],
    }
    assert made.external_id == "C0DEALS:1773301231.714899"
    assert made.external_url == f"{HOME}archives/C0DEALS/p1773301231714899"
    assert made.source_version == "1773301300.000000"
    assert made.acl == Acl.of("tenant")


def test_a_reply_knows_its_root() -> None:
    made = mapped(message(thread_ts="1773301000.000200", reply_count=0))
    assert made.structured_data["threadId"] == made.structured_data["parentMessageId"] == "C0DEALS:1773301000.000200"
    assert made.structured_data["messageType"] == "reply"
    assert made.external_url == (f"{HOME}archives/C0DEALS/p1773301231714899?thread_ts=1773301000.000200&cid=C0DEALS")
    root = data(message(thread_ts="1773301231.714899", reply_count=2, latest_reply="1773301240.000000"))
    assert (root["messageType"], root["replyCount"]) == ("thread_starter", 2)
    assert "parentMessageId" not in root


def test_bots_go_by_the_name_they_show() -> None:
    sample = json.loads((SAMPLES / "events" / "bolt_message_bot_with_bot_profile.json").read_text())["event"]
    made = data(sample)
    assert made["author"] == {"id": "UB111", "name": "other-app"}
    assert (made["messageType"], made["customFields"]) == ("bot", {"bot_id": "B999"})
    classic = message("", subtype="bot_message", username="Builds", bot_id="B1", shardline={"author": {}})
    del classic["user"]
    classic["attachments"] = [
        {
            "fallback": "unused",
            "title": "Build 7",
            "text": "failed &amp; stopped",
            "fields": [{"title": "Branch", "value": "main"}],
        }
    ]
    made = data(classic)
    assert made["author"] == {"name": "Builds"}
    assert made["content"] == "Build 7\nfailed & stopped\nBranch: main"


def test_what_is_unfurled_is_not_the_authors() -> None:
    plain = message("see <https://x.example/>")
    unfurled = {**plain, "attachments": [{"from_url": "https://x.example/", "title": "X", "text": "a long preview"}]}
    assert mapped(unfurled) == mapped(plain)


def test_a_message_without_text_says_what_its_blocks_or_files_do() -> None:
    blocks = [
        {"type": "section", "text": {"type": "mrkdwn", "text": "*Deal* won"}},
        {
            "type": "rich_text",
            "elements": [{"type": "rich_text_section", "elements": [{"type": "user", "user_id": "U0ANN"}]}],
        },
    ]
    assert data(message("", blocks=blocks))["content"] == "*Deal* won @Ann Lee"
    made = data(json.loads((SAMPLES / "events" / "bolt_message_file_share.json").read_text())["event"])
    assert (made["content"], made["messageType"], made["hasAttachments"]) == ("Hi there!", "file_share", True)
    assert made["files"] == [
        {
            "id": "F111",
            "name": "file.png",
            "title": "file.png",
            "mimeType": "image/png",
            "size": 92582,
            "url": "https://xxx.slack.com/files/U111/F111/file.png",
        }
    ]
    assert data(message("", files=[{"id": "F1", "mode": "tombstone"}]))["content"] == "F1"


def test_a_private_channel_and_its_messages_have_a_scope_of_their_own() -> None:
    scope = {"scope": "slack:T0ACME:C0DEALS", "principals": ["user:bob@acme.example", "user:ann@acme.example"]}
    channel = mapped(
        {
            "id": "C0DEALS",
            "name": "deals",
            "is_private": True,
            "shardline": {"acl": scope, "members": ["U0BOB", "U0ANN"]},
        },
        "channel",
    )
    readers = ("user:ann@acme.example", "user:bob@acme.example")
    assert channel.acl == Acl("slack:T0ACME:C0DEALS", readers)
    assert channel.structured_data["members"] == ["U0ANN", "U0BOB"]
    assert channel.structured_data["type"] == "private"
    written = mapped(message(shardline={"acl": {**scope, "inherited": True}}))
    assert written.acl == Acl("slack:T0ACME:C0DEALS", readers, inherited=True)
    unknown = message()
    del unknown["shardline"]["acl"]
    assert mapped(unknown).acl == Acl.of(), "closed until it is known who may read"


@pytest.mark.parametrize("sample", ["api/conversations.info.json", "api_shape/conversations.info.json"])
def test_recorded_channels(sample: str) -> None:
    found = json.loads((SAMPLES / sample).read_text())
    channel = found.get("ok_example", found)["channel"]
    made = mapped(channel, "channel")
    assert made.external_id == channel["id"]
    assert made.structured_data["platform"] == "slack"
    # What an app sees of itself in the channel, and what moves without meaning, is no part of it.
    moved = {**channel, "is_member": True, "last_read": "9.9", "updated": 1760000000999, "context_team_id": "T9"}
    assert mapped(moved, "channel").structured_data == made.structured_data


def test_times_of_channels_are_in_seconds_or_milliseconds() -> None:
    made = mapped({"id": "C0DEALS", "name": "d", "created": 1760000000, "updated": 1760000000123}, "channel")
    assert (made.created_at, made.source_version) == ("2025-10-09T08:53:20.000Z", "1760000000")


def test_a_user() -> None:
    user = {
        "id": "U0ANN", "team_id": "T0ACME", "name": "ann", "real_name": "Ann Lee", "tz": "Europe/Paris",
        "deleted": True, "is_bot": False, "updated": 1760000001,
        "profile": {"email": "Ann@Acme.example", "display_name": "annie", "title": "AE", "status_text": "away"},
    }  # fmt: skip
    made = mapped(user, "user")
    assert made.structured_data == {
        "name": "Ann Lee", "email": "ann@acme.example", "username": "ann", "nickname": "annie", "title": "AE",
        "isActive": False, "timeZone": "Europe/Paris", "customFields": {"team_id": "T0ACME"},
    }  # fmt: skip
    assert made.source_version == "1760000001"
    assert mapped({**user, "profile": {**user["profile"], "status_text": "back"}}, "user") == made  # type: ignore[dict-item]


def test_a_deletion_and_a_move_need_the_id_alone() -> None:
    gone = map_record("slack", "message", {}, "delete", "C0DEALS:1773301231.714899")
    assert (gone.deleted, gone.structured_data, gone.acl) == (True, {}, Acl.of())
    moved = map_record("slack", "channel", {"id": "C0OLD", "shardline": {"movedTo": "C0NEW"}}, "delete", "C0OLD")
    assert moved.merged_into_external_id == "C0NEW"


@pytest.mark.parametrize(
    ("object_type", "payload", "reason"),
    [
        ("file", {"id": "F0123"}, "unknown-object-type"),
        (None, {"id": "F0123"}, "unknown-object-type"),
        ("channel", {"id": "no id"}, "invalid-record"),
        ("channel", {"id": "C0DEALS", "name": "deals", "created": -1}, "invalid-record"),
        ("message", {"channel": "C0DEALS", "ts": "yesterday"}, "invalid-record"),
        ("message", {"channel": "C0DEALS", "ts": "99999999999.000000"}, ""),
        ("message", message(files="none"), "invalid-record"),
        ("message", message(edited={"ts": 7}), "invalid-record"),
        ("message", message(shardline={"acl": {"principals": ["everyone"]}}), "invalid-record"),
        ("message", message(shardline={"acl": {"principals": [], "scope": "set_x"}}), "invalid-record"),
    ],
)
def test_what_is_no_record_is_told_with_its_field(
    object_type: str | None, payload: dict[str, Any], reason: str
) -> None:
    if not reason:
        map_record("slack", object_type, payload, "update", None)
        return
    with pytest.raises(MappingError) as caught:
        map_record("slack", object_type, payload, "update", None)
    assert caught.value.reason == reason


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "text",
    "user",
    "files",
    "attachments",
    "blocks",
    "edited",
    "thread_ts",
    "reactions",
    "bot_profile",
    "subtype",
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), junk))
def test_any_payload_is_mapped_or_refused(fields: dict[str, Any]) -> None:
    try:
        mapped(message(**fields) if "text" not in fields else message(fields.pop("text"), **fields))
    except MappingError as error:
        assert error.reason == "invalid-record"


def test_links_of_a_message_reach_users_seen_from_another_workspace() -> None:
    from processors.structured_links import with_structured_links
    from shards.identity import shard_id
    from shards.model import ExternalRelationship

    made = mapped(message("<@U0ANN> <#C0DEALS>", shardline={"seenFrom": "T0ACME"}))
    source = ExternalRelationship("slack", "T0HOST", "messaging", "message", made.external_id)
    shard = Shard(
        id=shard_id("acme", "slack", "T0HOST", "message", made.external_id),
        tenant_id="acme",
        shard_type_id="c_message",
        structured_data=made.structured_data,
        external_relationships=[source],
        acl=made.acl,
        created_at="",
        updated_at="",
    )
    found = {(link.relationship_type, link.target_shard_id) for link in with_structured_links(shard, "")}
    assert found == {
        ("has_owner", shard_id("acme", "slack", "T0ACME", "user", "U0ANN")),
        ("mentions", shard_id("acme", "slack", "T0ACME", "user", "U0ANN")),
        ("message_in_channel", shard_id("acme", "slack", "T0HOST", "channel", "C0DEALS")),
        ("references", shard_id("acme", "slack", "T0HOST", "channel", "C0DEALS")),
    }
