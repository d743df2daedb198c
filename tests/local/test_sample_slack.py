"""The sample company's Slack workspace is a sound export: ids, times, threads, and who may read what."""

import csv
import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import local
from local.slack.export import load_workspace

COMPANY = Path(local.__file__).parent / "sample_company"
EXPORT = COMPANY / "slack"
Message = dict[str, Any]

CONFIDENTIAL = re.compile(
    r"598|371,?250|371k|389,000|401,000|585,000|350,?625|\b318\b|318k|137,?280|150,?436|214k|111,?600|flat 20"
    r"|12 December 2025|walk-away|notice agreement|in confidence|car park|Frostwick quote|unopened|second cook-chill",
    re.IGNORECASE,
)
"""What is said in private channels alone: limits, claims, promises and who knew what."""
GUEST_CHANNELS = {"donor-framework", "oostwal-benelux", "ext-angstrom-curlew7"}
SYSTEM = {"channel_join", "channel_topic", "channel_name", "channel_archive", "bot_add"}


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def rows(name: str) -> list[dict[str, str]]:
    with (COMPANY / "salesforce" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def users() -> dict[str, Message]:
    return {user["id"]: user for user in read(EXPORT / "users.json")}


@pytest.fixture(scope="module")
def channels() -> dict[str, Message]:
    public = [channel | {"private": False} for channel in read(EXPORT / "channels.json")]
    private = [channel | {"private": True} for channel in read(EXPORT / "groups.json")]
    return {channel["name"]: channel for channel in public + private}


@pytest.fixture(scope="module")
def messages(channels: dict[str, Message]) -> dict[str, list[Message]]:
    """By channel, the oldest first; files are held to their names and order on the way."""
    found: dict[str, list[Message]] = defaultdict(list)
    for path in sorted(EXPORT.glob("*/*.json")):
        day = read(path)
        assert day and path.parent.name in channels, path
        assert {datetime.fromtimestamp(int(m["ts"].split(".")[0]), UTC).date().isoformat() for m in day} == {path.stem}
        found[path.parent.name] += day
    return found


def test_the_workspace_has_the_size_its_readme_tells(
    users: dict[str, Message], channels: dict[str, Message], messages: dict[str, list[Message]]
) -> None:
    everything = [message for told in messages.values() for message in told]
    assert set(messages) == set(channels) and len(channels) == 25
    assert sum(channel["private"] for channel in channels.values()) == 5
    assert 1400 <= len(everything) <= 1700
    threads = [message["reply_count"] for message in everything if "reply_count" in message]
    assert 150 <= len(threads) <= 230 and max(threads) >= 10
    assert sum("edited" in message for message in everything) >= 5
    assert sum("files" in message for message in everything) >= 40
    assert sum("reactions" in message for message in everything) >= 80
    assert {message.get("subtype") for message in everything} == {
        None,
        "bot_message",
        "file_share",
        "thread_broadcast",
        *SYSTEM,
    }
    assert any("bot_profile" in message for message in everything)
    assert any("&amp;" in message["text"] for message in everything)
    readme = (COMPANY / "README.md").read_text("utf-8")
    assert f"{len(channels)} channels, {len(everything):,} messages, {len(threads)} threads" in readme
    assert all(f"`{name}`" in readme for name in channels)
    assert len(users) == len(read(EXPORT / "users.json"))


def test_ids_and_references_resolve(
    users: dict[str, Message], channels: dict[str, Message], messages: dict[str, list[Message]]
) -> None:
    team = read(COMPANY / "company.json")["slack"]["teamId"]
    bots = {user["profile"]["bot_id"] for user in users.values() if user["is_bot"]}
    records = {row["Id"] for table in ("Account", "Contact", "Opportunity") for row in rows(table)}
    names = {channel["id"]: name for name, channel in channels.items()}
    assert len(names) == len(channels)
    assert all(re.fullmatch(r"[UCB]0[0-9A-Z]{9}", found) for found in (*users, *names, *bots))
    for name, channel in channels.items():
        assert {channel["creator"], *channel["members"]} <= set(users)
        for message in messages[name]:
            assert message.get("user", "") in users or message["bot_id"] in bots
            if message.get("subtype") not in SYSTEM and "user" in message and not users[message["user"]]["is_bot"]:
                assert message["user"] in channel["members"], (name, message["text"])
            assert message.get("team") in {None, users[message["user"]]["team_id"] if "user" in message else team}
            assert set(re.findall(r"<@(\w+)>", message["text"])) <= set(users)
            for linked, spelled in re.findall(r"<#(\w+)\|([^>]+)>", message["text"]):
                assert names[linked] == spelled
            assert set(re.findall(r"lightning/r/\w+/(\w{18})/view", message["text"])) <= records
            for reaction in message.get("reactions", ()):
                assert set(reaction["users"]) <= set(users) and reaction["count"] == len(reaction["users"])


def test_a_channels_times_are_unique_and_in_order(messages: dict[str, list[Message]]) -> None:
    for told in messages.values():
        assert all(re.fullmatch(r"\d{10}\.\d{6}", message["ts"]) for message in told)
        assert all(earlier["ts"] < later["ts"] for earlier, later in pairwise(told))


def test_threads_say_the_same_on_both_ends(messages: dict[str, list[Message]]) -> None:
    late = 0
    for name, told in messages.items():
        by_ts = {message["ts"]: message for message in told}
        replies: dict[str, list[Message]] = defaultdict(list)
        for message in told:
            if message.get("thread_ts", message["ts"]) != message["ts"]:
                replies[message["thread_ts"]].append(message)
        roots = {message["ts"] for message in told if "reply_count" in message}
        assert roots == set(replies), name
        for ts, answers in replies.items():
            root = by_ts[ts]
            assert root["thread_ts"] == ts and root["latest_reply"] == answers[-1]["ts"]
            assert [reply["ts"] for reply in root["replies"]] == [answer["ts"] for answer in answers]
            assert root["reply_count"] == len(answers) and root["reply_users_count"] == len(root["reply_users"])
            assert {answer.get("parent_user_id") for answer in answers} == {root.get("user")}
            late += float(answers[-1]["ts"]) - float(ts) > 14 * 86_400
    assert late >= 5


def test_what_is_confidential_is_told_in_private_channels_alone(
    channels: dict[str, Message], messages: dict[str, list[Message]]
) -> None:
    for name, told in messages.items():
        found = [message["text"] for message in told if CONFIDENTIAL.search(message["text"])]
        assert bool(found) == channels[name]["private"], (name, found)
    for name in GUEST_CHANNELS:
        assert not [message["text"] for message in messages[name] if "$" in message["text"]], name


def test_linked_files_are_in_the_drive_and_restricted_ones_linked_in_private(
    channels: dict[str, Message], messages: dict[str, list[Message]]
) -> None:
    paths = {file["id"]: path for path, file in read(COMPANY / "gdrive" / "gdrive.json")["files"].items()}
    linked = {
        (name, paths[found])
        for name, told in messages.items()
        for message in told
        for found in re.findall(r"https://(?:docs|drive)\.google\.com/\w+/d/([\w-]+)/", message["text"])
    }
    assert len(linked) >= 10
    assert all(channels[name]["private"] for name, path in linked if path.startswith("Restricted/"))


def test_people_are_those_of_salesforce_and_the_readme(users: dict[str, Message], channels: dict[str, Message]) -> None:
    people = {user["profile"]["email"]: user for user in users.values() if not user["is_bot"]}
    staff = {row["Email"]: row["IsActive"] == "true" for row in rows("User")}
    assert all(people[email]["deleted"] is not active for email, active in staff.items())
    contacts = {row["Email"] for row in rows("Contact")}
    outside = {email for email in people if not email.endswith("@larkmoor.example")}
    assert outside and outside <= contacts
    outside_ids = {people[email]["id"] for email in outside}
    assert all(not outside_ids & set(channel["members"]) for channel in channels.values() if channel["private"])
    readme = (COMPANY / "README.md").read_text("utf-8")
    assert all(people[email]["profile"]["real_name"] in readme for email in people if email not in outside)
    first_names = [user["profile"]["first_name"] for user in people.values()]
    assert first_names.count("Tom") == 2


def test_odd_channels_are_there(channels: dict[str, Message]) -> None:
    assert [name for name, channel in channels.items() if channel["is_archived"]] == ["user-day-leeds"]
    assert channels["dunlin-references"]["previous_names"] == ["deal-steinbruck"]
    shared = channels["ext-angstrom-curlew7"]
    assert shared["is_ext_shared"] and len(shared["shared_team_ids"]) == 2


def test_the_answers_in_the_readme_are_where_it_says(messages: dict[str, list[Message]]) -> None:
    readme = (COMPANY / "README.md").read_text("utf-8")
    cited = re.findall(r"`([a-z0-9-]+)` (\d{10}\.\d{6})", readme)
    assert len(cited) >= 15
    for name, ts in cited:
        assert ts in {message["ts"] for message in messages[name]}, (name, ts)


def test_the_simulator_plays_it() -> None:
    assert load_workspace(COMPANY).team_id == read(COMPANY / "company.json")["slack"]["teamId"]
