"""The HTTP API as its readers meet it: through the door of a running app."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
import requests
from running_app import RunningApp

from api.tokens import TokenKey, TokenRules, local_key
from messaging.times import to_text, utc_now
from shards.identity import shard_id
from shards.model import Acl, Chunk, ExternalRelationship, Shard
from shards.sqlite_store import SqliteShardStore
from shards.store import ShardWrite

pytestmark = pytest.mark.xdist_group("reading")

ANN = "ann@larkmoor.example"
RULES = TokenRules("shardline-local", "shardline")
BRACKWATER_RENEWAL = "006Nq000000Y0HUIA0"


def problem(response: requests.Response) -> str:
    """The stable part of a problem document's type."""
    assert response.headers["Content-Type"].startswith("application/problem+json")
    body = response.json()
    assert body["status"] == response.status_code
    assert body["title"]
    assert "Traceback" not in body["detail"]
    return str(body["type"]).removeprefix("urn:shardline:problem:")


@pytest.fixture(scope="module")
def ann(running: RunningApp) -> str:
    """A token of a reader of the company."""
    return running.token(ANN)


def test_health_is_open(running: RunningApp) -> None:
    answer = running.get("health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_status_needs_the_function_key(running: RunningApp) -> None:
    refused = running.get("status")
    assert refused.status_code == 401
    assert problem(refused) == "function-key-needed"
    key = (running.data / "function.key").read_text()
    answer = requests.get(f"{running.address}/status", headers={"x-functions-key": key}, timeout=60)
    assert answer.status_code == 200
    state = answer.json()
    assert state["tenants"][running.tenant]["shards"]["c_account"] == 61
    assert state["queues"]["ingestion-events"]["active"] == 0
    [connection] = state["connections"]
    assert connection["state"] == "active"
    assert connection["lagSeconds"] is not None


def test_search_finds_by_words_and_cites_the_source(running: RunningApp, ann: str) -> None:
    answer = running.search(ann, {"query": "Brackwater Curlew renewal 2027-2029", "limit": 3})
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    best = answer.json()["hits"][0]
    assert best["source"]["externalId"] == BRACKWATER_RENEWAL
    assert best["shardTypeId"] == "c_opportunity"
    assert "Martin Eccles" in best["text"]


def test_search_is_narrowed_by_type_account_and_date(running: RunningApp, ann: str) -> None:
    by_type = running.search(ann, {"query": "renewal", "types": ["c_contact"], "limit": 20}).json()["hits"]
    assert by_type
    assert {hit["shardTypeId"] for hit in by_type} == {"c_contact"}
    renewal = running.get(f"shards/{BRACKWATER_RENEWAL}", ann).json()
    account = renewal["structuredData"]["accountId"]
    near = running.search(ann, {"query": "renewal", "account": account, "limit": 50}).json()["hits"]
    assert BRACKWATER_RENEWAL in {hit["source"]["externalId"] for hit in near}
    account_shard = running.get(f"shards/{account}", ann).json()["id"]
    for hit in near:
        shard = running.get(f"shards/{hit['shardId']}", ann).json()
        # A link to an account that was merged away leads to the one that stands for it.
        targets = {
            running.get(f"shards/{link['targetShardId']}", ann).json()["id"] for link in shard["internal_relationships"]
        }
        assert account_shard in targets | {shard["id"]}
    assert running.search(ann, {"query": "renewal", "before": "2001-01-01"}).json()["hits"] == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "invalid-json"),
        (b"[]", "invalid-request"),
        ({}, "invalid-request"),
        ({"query": ""}, "invalid-request"),
        ({"query": "x", "limit": 0}, "invalid-request"),
        ({"query": "x", "limit": 101}, "invalid-request"),
        ({"query": "x", "tenantId": "other"}, "invalid-request"),
        ({"query": "x", "after": "soon"}, "invalid-request"),
        ({"query": "x", "account": "001000000000000AAA"}, "invalid-request"),
    ],
)
def test_a_wrong_search_is_told_what_is_wrong(running: RunningApp, ann: str, body: Any, kind: str) -> None:
    answer = running.search(ann, body)
    assert answer.status_code == 400
    assert problem(answer) == kind


def test_a_body_beyond_the_limit_is_refused(running: RunningApp, ann: str) -> None:
    answer = running.search(ann, {"query": "x" * 70_000})
    assert answer.status_code == 413
    assert problem(answer) == "body-too-large"


@pytest.mark.parametrize("query", ['"', "*", "NEAR(", "a AND OR", "-", "\x00", "😀 ' ; DROP TABLE", "(" * 500, "name:"])
def test_no_words_break_the_search(running: RunningApp, ann: str, query: str) -> None:
    assert running.search(ann, {"query": query}).status_code == 200


def test_readers_prove_who_they_are(running: RunningApp, ann: str) -> None:
    key = TokenKey(local_key(running.data / "token.key"), RULES)
    now = datetime.now(UTC)
    stale = key.sign(running.tenant, ANN, now=now - timedelta(days=2))
    foreign = TokenKey(b"x" * 32, RULES).sign(running.tenant, ANN, now=now)
    other_issuer = TokenKey(key.key, TokenRules("somebody", "shardline")).sign(running.tenant, ANN, now=now)
    other_audience = TokenKey(key.key, TokenRules("shardline-local", "else")).sign(running.tenant, ANN, now=now)
    assert problem(running.search(None, {"query": "x"})) == "token-missing"
    refused = {
        stale: "the token has expired: ask for a new one",
        foreign: "the token has a wrong signature",
        other_issuer: "the token names a wrong issuer",
        other_audience: "the token names a wrong audience",
        ann[:-4] + "AAAA": "the token has a wrong signature",
        "nonsense": "the token is malformed",
        jwt.encode({"iss": RULES.issuer, "aud": RULES.audience}, key.key): "the token lacks the claim exp",
        jwt.encode(
            {"iss": RULES.issuer}, key.key * 2, algorithm="HS512"
        ): "the token is signed in another way than HS256",
    }
    for token, why in refused.items():
        answer = running.search(token, {"query": "x"})
        assert answer.status_code == 401
        assert problem(answer) == "token-invalid"
        assert answer.json()["detail"].startswith(why)
        assert token not in answer.text


def test_another_tenants_reader_sees_nothing(running: RunningApp) -> None:
    key = TokenKey(local_key(running.data / "token.key"), RULES)
    stranger = key.sign("elsewhere", "eve@elsewhere.example", now=datetime.now(UTC))
    assert running.search(stranger, {"query": "renewal"}).json()["hits"] == []
    assert running.get(f"shards/{BRACKWATER_RENEWAL}", stranger).status_code == 404
    assert running.get("shards", stranger).json() == {"items": [], "cursor": None}


def test_a_shard_is_found_by_either_id_with_its_links(running: RunningApp, ann: str) -> None:
    by_external = running.get(f"shards/{BRACKWATER_RENEWAL}", ann).json()
    by_own = running.get(f"shards/{by_external['id']}", ann).json()
    assert by_own["id"] == by_external["id"]
    assert "_etag" not in by_own
    assert {link["relationshipType"] for link in by_own["internal_relationships"]} >= {"opportunity_for", "has_owner"}
    account = running.get(f"shards/{by_own['structuredData']['accountId']}", ann).json()
    assert by_own["id"] in {link["sourceShardId"] for link in account["incoming"]}
    assert running.get(f"shards/{BRACKWATER_RENEWAL[:15]}", ann).json() == by_external
    for chunk in by_own["chunks"]:
        assert chunk["hasVector"] is True
        assert "vector" not in chunk
        assert chunk["shardId"] == by_own["id"]


def test_an_unknown_shard_is_not_found(running: RunningApp, ann: str) -> None:
    for name in ("sh_" + "0" * 40, "nothing", "006000000000000AAA"):
        answer = running.get(f"shards/{name}", ann)
        assert answer.status_code == 404
        assert problem(answer) == "shard-not-found"


def test_shards_are_listed_in_pages(running: RunningApp, ann: str) -> None:
    seen: list[str] = []
    cursor: str | None = None
    while True:
        parameters = {"type": "c_account", "limit": "25"} | ({"cursor": cursor} if cursor else {})
        page = running.get("shards", ann, **parameters).json()
        assert len(page["items"]) <= 25
        seen += [item["id"] for item in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 61


@pytest.mark.parametrize(
    "parameters", [{"limit": "none"}, {"limit": "0"}, {"cursor": "garbage"}, {"after": "yesterday"}, {"tenant": "x"}]
)
def test_a_wrong_listing_is_told_what_is_wrong(running: RunningApp, ann: str, parameters: dict[str, str]) -> None:
    answer = running.get("shards", ann, **parameters)
    assert answer.status_code == 400
    assert problem(answer) == "invalid-request"


def test_a_reader_without_the_scope_neither_sees_nor_finds(running: RunningApp) -> None:
    secret = asyncio.run(_store_private_shard(running))
    bea, cem = running.token("bea@larkmoor.example"), running.token("cem@larkmoor.example")
    words = {"query": "zanzibar cartography expedition", "limit": 5}
    assert secret in {hit["shardId"] for hit in running.search(bea, words).json()["hits"]}
    assert secret not in {hit["shardId"] for hit in running.search(cem, words).json()["hits"]}
    assert running.get(f"shards/{secret}", bea).status_code == 200
    assert running.get(f"shards/{secret}", cem).status_code == 404
    listed = running.get("shards", cem, source="test", externalId="private").json()
    assert listed["items"] == []


async def _store_private_shard(running: RunningApp) -> str:
    """A shard that only Bea may read, as an integration would write it."""
    store = SqliteShardStore(running.data / "store.db")
    try:
        now = to_text(utc_now())
        acl = Acl.of("user:bea@larkmoor.example")
        identifier = shard_id(running.tenant, "test", "here", "file", "private")
        shard = Shard(
            id=identifier,
            tenant_id=running.tenant,
            shard_type_id="c_file",
            structured_data={"name": "Zanzibar cartography", "provider": "gdrive", "externalId": "private"},
            external_relationships=[
                ExternalRelationship(
                    system="test", instance="here", system_type="storage", object_type="file", external_id="private"
                )
            ],
            acl=acl,
            written_by="integration",
            created_at=now,
            updated_at=now,
        )
        chunk = Chunk(
            id=f"{identifier}.00000",
            tenant_id=running.tenant,
            shard_id=identifier,
            shard_type_id="c_file",
            ordinal=0,
            text="Zanzibar cartography expedition notes",
            hash="h",
            acl_scope=acl.scope,
            updated_at=now,
        )
        await store.write_many([ShardWrite(shard, None)])
        await store.put_chunks(running.tenant, [chunk])
    finally:
        await store.close()
    return identifier


def test_a_change_at_the_source_is_read_within_ten_seconds(running: RunningApp, ann: str) -> None:
    before = running.get(f"shards/{BRACKWATER_RENEWAL}", ann).json()
    running.change(
        operation="update", object="Opportunity", id=BRACKWATER_RENEWAL, fields={"NextStep": "Sign on the quay"}
    )
    until = time.monotonic() + 100
    after = before
    while after["revision"] == before["revision"] and time.monotonic() < until:
        time.sleep(0.2)
        after = running.get(f"shards/{BRACKWATER_RENEWAL}", ann).json()
    assert after["structuredData"]["nextStep"] == "Sign on the quay"
    assert after["revision"] == before["revision"] + 1
    assert after["createdAt"] == before["createdAt"]
