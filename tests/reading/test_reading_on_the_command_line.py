"""The commands that read, on the folder of a running app."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from running_app import RunningApp

from messaging import codec

pytestmark = pytest.mark.xdist_group("reading")

BRACKWATER_RENEWAL = "006Nq000000Y0HUIA0"
CHUNK_FIELDS = [
    "id",
    "tenantId",
    "shardId",
    "shardTypeId",
    "ordinal",
    "text",
    "hash",
    "aclScope",
    "model",
    "dimensions",
    "vector",
    "updatedAt",
    "place",
]


def test_search_prints_hits_for_people_and_for_scripts(running: RunningApp) -> None:
    answer = running.json("search", "Brackwater Curlew renewal", "--limit", "2")
    assert answer["query"] == "Brackwater Curlew renewal"
    [best, _] = answer["hits"]
    assert best.keys() == {"shardId", "shardTypeId", "name", "score", "text", "source", "updatedAt"}
    told = running.cli("search", "Brackwater Curlew renewal", "--limit", "2")
    assert told.code == 0
    assert best["name"] in told.out


def test_an_unknown_person_sees_only_what_is_open_to_anyone(running: RunningApp) -> None:
    assert running.json("search", "renewal", "--principal", "nobody@else.example")["hits"] == []
    assert running.json("search", "renewal", "--principal", "marcus.bell@larkmoor.example")["hits"]


def test_show_tells_links_both_ways_chunks_and_history(running: RunningApp) -> None:
    document = running.json("show", BRACKWATER_RENEWAL)
    assert document["external_relationships"][0]["externalId"] == BRACKWATER_RENEWAL
    assert document["chunks"]
    assert document["progress"]["embedded"] == document["revision"]
    told = running.cli("show", document["id"])
    assert told.code == 0
    for words in (document["structuredData"]["name"], "opportunity_for"):
        assert words in told.out
    [history] = [line for line in told.out.splitlines() if line.startswith("History: ")]
    read = document["external_relationships"][0]["readAt"]
    assert history == (
        f"History: active, revision {document['revision']}, created {document['createdAt']}, "
        f"updated {document['updatedAt']}, read {read}, deleted never"
    )


def test_show_gives_whole_chunks(running: RunningApp) -> None:
    document = running.json("show", BRACKWATER_RENEWAL)
    for chunk in document["chunks"]:
        assert list(chunk) == CHUNK_FIELDS
        assert (chunk["tenantId"], chunk["shardId"]) == (running.tenant, document["id"])
        assert len(chunk["vector"]) == chunk["dimensions"]
        assert float(sum(number * number for number in chunk["vector"])) == pytest.approx(1, abs=1e-3)


def test_a_salesforce_id_of_15_characters_finds_its_record(running: RunningApp) -> None:
    by_18 = running.json("show", BRACKWATER_RENEWAL)
    assert running.json("show", BRACKWATER_RENEWAL[:15]) == by_18
    account = by_18["structuredData"]["accountId"]
    near = running.json("search", "renewal", "--account", account[:15])
    assert near["hits"]
    assert near == running.json("search", "renewal", "--account", account)
    assert running.cli("show", BRACKWATER_RENEWAL[:15].lower()).code == 2, "letters count as they stand"


def test_a_merged_record_shows_what_stands_for_it(running: RunningApp) -> None:
    merged = [shard for shard in _lines(running, "export", "shards") if shard.get("redirectTo")]
    assert len(merged) == 2
    for loser in merged:
        assert loser["structuredData"] == {}
        external = loser["external_relationships"][0]["externalId"]
        assert running.json("show", external)["id"] == loser["redirectTo"]
        assert running.json("show", loser["id"])["id"] == loser["redirectTo"]


def test_export_gives_whole_shards_and_links_between_records(running: RunningApp) -> None:
    shards = {shard["id"]: shard for shard in _lines(running, "export", "shards")}
    links = _lines(running, "export", "links")
    [link] = [
        link
        for link in links
        if link["from"]["externalId"] == BRACKWATER_RENEWAL and link["relationshipType"] == "opportunity_for"
    ]
    deal = shards[link["from"]["shardId"]]
    assert link["to"] == {
        "system": "salesforce",
        "objectType": "Account",
        "externalId": deal["structuredData"]["accountId"],
        "shardId": link["to"]["shardId"],
    }
    assert link["method"] == "structured-field"
    assert link["evidence"] == {"field": "AccountId"}
    assert str(link["confidence"]) == "0.9"


def test_status_counts_what_there_is(running: RunningApp) -> None:
    state = running.json("status")
    counts = state["tenants"][running.tenant]
    assert counts["shards"]["c_opportunity"] == 152
    assert counts["deleted"] == 5
    assert set(state["stagesBehind"]) == {"enriched", "prepared", "embedded"}
    assert running.cli("status").code == 0


def test_connections_tells_their_state(running: RunningApp) -> None:
    [connection] = _lines(running, "connections")
    assert connection["status"] == "active"
    assert connection["auth"]["consumerSecret"].startswith("secret:")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", " "], "TEXT is empty"),
        (["search", "x", "--limit", "0"], "limit"),
        (["search", "x", "--tenant", "nobody"], "no tenant 'nobody'"),
        (["search", "x", "--after", "soon"], "--after"),
        (["search", "x", "--account", "001"], "--account"),
        (["search"], "TEXT"),
        (["show", "nothing"], "no shard 'nothing'"),
        (["export", "everything"], "everything"),
        (["replay"], "say what to replay"),
        (["replay", "pk_none"], "no parked message"),
        (["token", "--user", "ann"], "no e-mail address"),
        (["frobnicate"], "frobnicate"),
        (["connections", "--add", "x.json"], "--tenant"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(running: RunningApp, arguments: list[str], words: str) -> None:
    done = running.cli(*arguments)
    [line] = done.error.strip().splitlines()
    assert (done.code, done.out) == (2, "")
    assert line.startswith("shardline: ")
    assert words in line


README = Path(__file__).parents[2] / "README.md"


def test_every_command_in_the_readme_does_its_work(running: RunningApp) -> None:
    fenced = "\n".join(re.findall(r"^```\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL))
    commands = re.findall(r"^(?:\.venv/bin/)?shardline (.+)$", fenced, re.MULTILINE)
    assert len(commands) >= 3
    for words in commands:
        done = running.cli(*shlex.split(words, comments=True))
        assert (done.code, done.error) == (0, ""), words
        assert done.out.strip(), words


def _lines(running: RunningApp, *arguments: str) -> list[dict[str, Any]]:
    json = () if arguments[0] == "export" else ("--json",)
    done = running.cli(*arguments, *json)
    assert done.code == 0, done.error
    return [codec.decode(line) for line in done.out.splitlines()]
