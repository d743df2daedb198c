"""The commands that read, on the folder of a running app."""

from typing import Any

import pytest
from running_app import RunningApp

from messaging import codec

pytestmark = pytest.mark.xdist_group("reading")

BRACKWATER_RENEWAL = "006Nq000000Y0HUIA0"


def test_search_prints_hits_for_people_and_for_scripts(running: RunningApp) -> None:
    answer = running.json("search", "Brackwater Curlew renewal", "--limit", "2")
    assert answer["query"] == "Brackwater Curlew renewal"
    [best, _] = answer["hits"]
    assert best.keys() == {"shardId", "shardTypeId", "name", "score", "text", "source", "updatedAt"}
    told = running.cli("search", "Brackwater Curlew renewal", "--limit", "2")
    assert told.returncode == 0
    assert best["name"] in told.stdout


def test_an_unknown_person_sees_only_what_is_open_to_anyone(running: RunningApp) -> None:
    assert running.json("search", "renewal", "--principal", "nobody@else.example")["hits"] == []
    assert running.json("search", "renewal", "--principal", "marcus.bell@larkmoor.example")["hits"]


def test_show_tells_links_both_ways_chunks_and_history(running: RunningApp) -> None:
    document = running.json("show", BRACKWATER_RENEWAL)
    assert document["external_relationships"][0]["externalId"] == BRACKWATER_RENEWAL
    assert document["chunks"]
    assert document["progress"]["embedded"] == document["revision"]
    told = running.cli("show", document["id"])
    assert told.returncode == 0
    for words in (document["structuredData"]["name"], "opportunity_for", "revision"):
        assert words in told.stdout


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
    assert running.cli("status").returncode == 0


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
    [line] = done.stderr.strip().splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith("shardline: ")
    assert words in line


def _lines(running: RunningApp, *arguments: str) -> list[dict[str, Any]]:
    json = () if arguments[0] == "export" else ("--json",)
    done = running.cli(*arguments, *json)
    assert done.returncode == 0, done.stderr
    return [codec.decode(line) for line in done.stdout.splitlines()]
