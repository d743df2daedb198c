"""The functions beside the chain, run by the real worker on the home on Azure: HTTP, timers and the change feed."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from azure_home import AzureHome
from chain_rig import TENANT, event, id_of
from cosmos_peer import FORBIDDEN, Fault

from messaging.queues import QUEUES
from messaging.times import utc_now
from shards.identity import shard_id
from shards.model import Chunk, Shard
from shards.store import ShardWrite

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("azure functions")]

FEED = "prepare_changed_shards"


async def an_account(home: AzureHome, number: int) -> Shard:
    """An account that came through the chain."""
    await home.send([event("Account", number, 0.0, Name=f"Account {number}", Description="A pump station.")])
    await home.until_idle()
    shard = await home.services.store.get(TENANT, id_of("Account", number))
    assert shard is not None
    return shard


async def written_by_others(home: AzureHome, like: Shard, name: str) -> Shard:
    """A shard that the general integration system has written: nothing of it is on a queue."""
    shard = msgspec.structs.replace(
        like,
        id=shard_id(TENANT, "notion", "workspace", "page", name),
        structured_data={"name": name, "description": f"What {name} is about."},
        internal_relationships=[],
        written_by="integration",
        fingerprint=name,
        etag=None,
    )
    [etag] = await home.services.store.write_many([ShardWrite(shard, None)])
    assert etag is not None
    return shard


async def embedded(home: AzureHome, shard: Shard) -> list[Chunk]:
    """The chunks of a shard, once they are there with their vectors."""
    async with asyncio.timeout(100):
        while True:
            chunks = await home.services.store.chunks(shard.tenant_id, shard.id)
            if chunks and all(chunk.vector is not None for chunk in chunks):
                return chunks
            await asyncio.sleep(0.05)


async def ask(home: AzureHome, method: str, path: str, *, user: str = "", body: Any = None) -> tuple[int, Any]:
    """What the app answers to a reader, or to nobody: status and document."""
    headers = {"Content-Type": "application/json"}
    if user:
        assert home.services.token_key is not None
        headers["Authorization"] = f"Bearer {home.services.token_key.sign(TENANT, user, now=utc_now())}"
    content = b"" if body is None else json.dumps(body).encode()
    status, _, answer = await home.host.request(method, path, headers=headers, body=content)
    return status, json.loads(answer)


async def test_readers_find_what_came_through_the_chain(home: AzureHome) -> None:
    shard = await an_account(home, 1)
    reader = "ann@acme.example"
    status, found = await ask(home, "POST", "search", user=reader, body={"query": "pump station"})
    assert (status, [hit["shardId"] for hit in found["hits"]]) == (200, [shard.id])
    status, shown = await ask(home, "GET", f"shards/{shard.id}", user=reader)
    assert (status, shown["structuredData"]["name"]) == (200, "Account 1")
    status, listed = await ask(home, "GET", "shards?type=c_account", user=reader)
    assert (status, [item["id"] for item in listed["items"]]) == (200, [shard.id])


async def test_nobody_reads_without_a_token(home: AzureHome) -> None:
    assert (await ask(home, "POST", "search", body={"query": "pump"}))[0] == 401
    assert (await ask(home, "GET", "shards"))[0] == 401
    assert await ask(home, "GET", "health") == (200, {"status": "ok"})


async def test_the_status_tells_of_every_queue(home: AzureHome) -> None:
    status, told = await ask(home, "GET", "status")
    assert status == 200
    assert told["queues"].keys() == QUEUES.keys()


@pytest.mark.parametrize("name", ["poll_due", "reconcile_stages", "expire_payloads", "sweep_file_texts"])
async def test_each_timer_runs(home: AzureHome, name: str) -> None:
    await home.host.fire(name)


async def test_what_others_write_gets_chunks_and_vectors_from_the_change_feed(home: AzureHome) -> None:
    like = await an_account(home, 2)
    shards = [await written_by_others(home, like, f"page-{number}") for number in range(3)]
    for shard in shards:
        [chunk] = await embedded(home, shard)
        assert shard.structured_data["name"] in chunk.text
    await home.until_idle()
    assert (await home.parked(), home.dead_letters()) == ([], [])


async def test_the_chains_own_writes_make_no_work_for_the_change_feed(home: AzureHome) -> None:
    before = home.bus.state.counters().of("embedding-jobs", "send").messages
    shard = await an_account(home, 3)
    [feed] = home.host.feeds
    await feed.caught_up()
    await home.until_idle()
    assert shard.written_by == "chain"
    assert home.bus.state.counters().of("embedding-jobs", "send").messages == before + 1


async def test_changes_that_the_store_could_not_take_are_tried_again_and_not_passed_over(home: AzureHome) -> None:
    like = await an_account(home, 4)
    chunks = Fault(FORBIDDEN, operations=("create", "upsert", "replace", "batch"))
    [feed] = home.host.feeds
    shard = await written_by_others(home, like, "held-up")
    home.cosmos.fail(chunks)
    async with asyncio.timeout(100):
        while not feed.failed:  # noqa: ASYNC110 - the pump tells nobody
            await asyncio.sleep(0.02)
    home.cosmos.heal()
    assert await embedded(home, shard)
    assert feed.passed_over == 0


async def test_a_lost_instance_takes_no_change_along(home: AzureHome) -> None:
    like = await an_account(home, 5)
    shards = [await written_by_others(home, like, f"late-{number}") for number in range(5)]
    await home.lose_instance()
    for shard in shards:
        assert await embedded(home, shard)
