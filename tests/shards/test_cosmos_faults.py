"""The Cosmos DB store under a service that fails: nothing is lost, nothing is doubled, nothing is misjudged."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import numpy as np
import pytest
from cosmos_databases import connect_to, new_database, new_store, store_on
from cosmos_peer import (
    PRECONDITION_FAILED,
    READS,
    RETRY_WITH,
    THROTTLED,
    TIMED_OUT,
    UNAVAILABLE,
    WRITES,
    CosmosPeer,
    DropAfter,
    DropBefore,
    Fault,
    Refuse,
)
from parked_messages_contract import message as parked_message
from shard_samples import ACME, MODEL, chunk_of, id_of, link, make, unit, write, write_with_text
from shard_store_contract import changed

from shards.cosmos_store import CosmosShardStore
from shards.identity import chunk_id
from shards.model import Acl
from shards.parked import ParkedMessages
from shards.store import (
    SearchQuery,
    ShardQuery,
    ShardStore,
    ShardWrite,
    Stage,
    StoreRefusedError,
    StoreUnavailableError,
)


@pytest.fixture(scope="module")
def peer() -> Iterator[CosmosPeer]:
    with CosmosPeer() as running:
        yield running


@pytest.fixture
async def store(peer: CosmosPeer) -> AsyncIterator[CosmosShardStore]:
    async with new_store(connect_to(peer)) as opened:
        # Containers are open, so that what fails is what a test is about.
        await write_with_text(opened, make("there before"), "owl", unit(1))
        await opened.advance(ACME, Stage.NORMALIZED, [(id_of("there before"), "c_account", 1)])
        await opened.park([parked_message(7)])
        yield opened
        peer.heal()


async def a_records_way(store: CosmosShardStore, name: str) -> None:
    """All that the chain writes of a record, decided on what is read."""
    shard = make(name, title=f"{name} lark", links=[link(name, "hub")], acl=Acl(f"folder {name}", ("tenant",)))
    for revision in (1, 2):
        shard.revision = revision
        while True:
            stored = await store.get(ACME, shard.id)
            if stored is not None and stored.revision >= revision:
                break
            await store.write_many([ShardWrite(shard, None if stored is None else stored.etag)])
        finished = [(shard.id, shard.shard_type_id, revision)]
        await store.advance(ACME, Stage.NORMALIZED, finished)
        await store.advance(ACME, Stage.ENRICHED, finished)
        chunks = [chunk_of(shard, f"{revision} {ordinal}", ordinal=ordinal) for ordinal in range(3 - revision)]
        await store.put_chunks(ACME, chunks)
        await store.advance(ACME, Stage.PREPARED, finished)
        stale = set((await store.chunk_states(ACME, [shard.id]))[shard.id]) - {chunk.id for chunk in chunks}
        await store.delete_chunks(ACME, sorted(stale))
        vectors = np.tile(unit(0, 1), (len(chunks), 1))
        await store.put_vectors(ACME, [(chunk.id, chunk.hash) for chunk in chunks], vectors, model=MODEL)
        # Another worker may just have put the text of the revision before; it goes on to this one itself.
        if not await store.shards_without_vectors(ACME, [shard.id]):
            await store.advance(ACME, Stage.EMBEDDED, finished)


async def expect_whole(store: CosmosShardStore, names: list[str]) -> None:
    """Each record is there once, as a run without faults leaves it."""
    counts = await store.counts(ACME)
    assert counts.shards == {"c_account": len(names) + 1}
    assert (counts.chunks, counts.vectors, counts.links_pending) == (len(names) + 1, len(names) + 1, len(names))
    progress = await store.progress(ACME, [id_of(name) for name in names])
    assert {(one.normalized, one.enriched, one.prepared, one.embedded) for one in progress.values()} == {(2,) * 4}
    assert len(progress) == len(names)
    shards, _ = await changed(store, None)
    assert len(shards) == len(names) + 1
    assert {shard.revision for shard in shards if shard.name != "there before"} == {2}
    page = await store.query(ShardQuery(ACME, principals=frozenset({"tenant"})))
    assert len(page.items) == len(names) + 1
    hits = await store.search(SearchQuery(ACME, "lark", unit(0, 1), limit=50))
    assert len(hits) == len(names)


STORMS = {
    "a third throttled": [Fault(THROTTLED, share=1 / 3, seed=3)],
    "refused at each first write": [Fault(PRECONDITION_FAILED, operations=WRITES, first_write_of_each=True)],
    "connections that break off before": [Fault(DropBefore(), share=0.2, seed=5)],
    "connections that break off after": [Fault(DropAfter(), share=0.2, seed=7)],
    "a bit of everything": [
        Fault(THROTTLED, share=0.15, seed=1),
        Fault(RETRY_WITH, operations=WRITES, share=0.1, seed=2),
        Fault(TIMED_OUT, share=0.05, seed=3),
        Fault(UNAVAILABLE, share=0.05, seed=4),
        Fault(DropAfter(), share=0.1, seed=5),
        Fault(Refuse(404, 1002), operations=("read", "query"), share=0.05, seed=6),
    ],
}


@pytest.mark.parametrize("storm", STORMS)
async def test_records_go_their_whole_way_in_a_storm(peer: CosmosPeer, store: CosmosShardStore, storm: str) -> None:
    peer.fail(*STORMS[storm])
    names = [f"record {number}" for number in range(6)]
    await asyncio.gather(*(a_records_way(store, name) for name in names))
    peer.heal()
    await expect_whole(store, names)


async def test_two_workers_of_the_same_records_leave_each_once(peer: CosmosPeer) -> None:
    async with new_database(connect_to(peer)) as database:
        workers = [store_on(connect_to(peer), database) for _ in range(2)]
        await write_with_text(workers[0], make("there before"), "owl", unit(1))
        peer.fail(Fault(THROTTLED, share=0.2, seed=1), Fault(DropAfter(), share=0.1, seed=2))
        names = [f"record {number}" for number in range(3)]
        try:
            await asyncio.gather(*(a_records_way(worker, name) for worker in workers for name in names))
        finally:
            peer.heal()
        await expect_whole(workers[0], names)
        await asyncio.gather(*(worker.close() for worker in workers))


Write = Callable[[CosmosShardStore], Awaitable[object]]


async def create(store: CosmosShardStore) -> list[str | None]:
    return await store.write_many([ShardWrite(make("new"), None)])


async def replace(store: CosmosShardStore) -> list[str | None]:
    stored = await store.get(ACME, id_of("there before"))
    assert stored is not None
    return await store.write_many([ShardWrite(make("there before", title="again"), stored.etag)])


@pytest.mark.parametrize("outcome", [DropAfter(), DropBefore()])
@pytest.mark.parametrize(("operation", "change"), [("create", create), ("replace", replace)])
async def test_a_write_whose_answer_was_lost_is_known_as_ones_own(
    peer: CosmosPeer, store: CosmosShardStore, outcome: DropAfter | DropBefore, operation: str, change: Write
) -> None:
    peer.fail(Fault(outcome, operations=(operation,), containers=("shards",), times=1))
    written = await change(store)
    [shard] = [one for one in (await changed(store, None))[0] if [one.etag] == written]
    stored = await store.get(ACME, shard.id)
    assert stored is not None
    assert [stored.etag] == written


async def test_a_write_that_others_came_before_is_none(peer: CosmosPeer, store: CosmosShardStore) -> None:
    stored = await store.get(ACME, id_of("there before"))
    assert stored is not None
    await write(store, make("there before", title="theirs"))
    peer.fail(Fault(DropAfter(), operations=("replace",), containers=("shards",), times=1))
    assert await store.write_many([ShardWrite(make("there before", title="mine"), stored.etag)]) == [None]
    assert await store.write_many([ShardWrite(make("there before"), None)]) == [None]
    now = await store.get(ACME, id_of("there before"))
    assert now is not None
    assert now.name == "theirs"


def calls() -> dict[str, Callable[[CosmosShardStore], Awaitable[object]]]:
    """Every call of the store, on the shard that was there before."""
    shard = make("there before")
    chunk = chunk_of(shard, "owl")
    return {
        "get": lambda store: store.get(ACME, shard.id),
        "get_many": lambda store: store.get_many(ACME, [shard.id, "a", "b", "c"]),
        "resolve": lambda store: store.resolve(ACME, shard.id),
        "readable_scopes": lambda store: store.readable_scopes(ACME, ["a channel's"], frozenset({"tenant"})),
        "write_many": lambda store: store.write_many([ShardWrite(make("x"), None)]),
        "query": lambda store: store.query(ShardQuery(ACME, principals=frozenset({"tenant"}))),
        "incoming": lambda store: store.incoming(ACME, shard.id),
        "progress": lambda store: store.progress(ACME, [shard.id]),
        "advance": lambda store: store.advance(ACME, Stage.PREPARED, [(shard.id, "c_account", 9)]),
        "lagging": lambda store: store.lagging(before="2027-01-01T00:00:00Z"),
        "stages_behind": lambda store: store.stages_behind(),
        "chunk_states": lambda store: store.chunk_states(ACME, [shard.id]),
        "put_chunks": lambda store: store.put_chunks(ACME, [chunk_of(shard, "lark")]),
        "delete_chunks": lambda store: store.delete_chunks(ACME, [chunk.id]),
        "chunks": lambda store: store.chunks(ACME, shard.id),
        "chunks_by_id": lambda store: store.chunks_by_id(ACME, [chunk.id]),
        "put_vectors": lambda store: store.put_vectors(ACME, [(chunk.id, "owl")], unit(1)[np.newaxis], model=MODEL),
        "shards_without_vectors": lambda store: store.shards_without_vectors(ACME, [shard.id]),
        "search by words": lambda store: store.search(SearchQuery(ACME, "owl", None)),
        "search by likeness": lambda store: store.search(SearchQuery(ACME, "", unit(1))),
        "changes": lambda store: store.changes(after=None),
        "counts": lambda store: store.counts(ACME),
        "tenants": lambda store: store.tenants(),
        "export_links": lambda store: store.export_links(ACME),
        "park": lambda store: store.park([parked_message(1)]),
        "parked": lambda store: store.parked(),
        "get_parked": lambda store: store.get_parked("pk_7"),
        "remove_parked": lambda store: store.remove_parked(["pk_7"]),
        "parked_counts": lambda store: store.parked_counts(),
    }


def test_every_call_is_named() -> None:
    of_ports = {name for port in (ShardStore, ParkedMessages) for name in vars(port) if not name.startswith("_")}
    assert of_ports - {"close"} == {name.split()[0] for name in calls()}


async def test_a_service_that_is_away_is_a_store_that_is_away(peer: CosmosPeer) -> None:
    async with new_database(connect_to(peer)) as database:
        store = store_on(connect_to(peer), database, patience=0.02)
        await write_with_text(store, make("there before"), "owl", unit(1))
        await store.advance(ACME, Stage.NORMALIZED, [(id_of("there before"), "c_account", 1)])
        await store.park([parked_message(7)])
        for name, call in calls().items():
            # The SDK itself waits a second at each 503.
            peer.fail(Fault(RETRY_WITH, operations=(*READS, *WRITES)))
            with pytest.raises(StoreUnavailableError) as raised:
                await call(store)
            assert raised.value.__cause__ is not None, name
            peer.heal()
            await call(store)
        await store.close()


async def test_what_broke_off_between_chunks_and_progress_is_found_by_the_reconciler(peer: CosmosPeer) -> None:
    async with new_database(connect_to(peer)) as database:
        store = store_on(connect_to(peer), database, patience=0.05)
        shard = make("A")
        finished = [(shard.id, shard.shard_type_id, 1)]
        await write_with_text(store, shard, "first", unit(1))
        for stage in Stage:
            await store.advance(ACME, stage, finished)
        assert await store.lagging(before="2027-01-01T00:00:00Z") == []
        peer.fail(Fault(UNAVAILABLE, operations=("batch",)))
        with pytest.raises(StoreUnavailableError):
            await store.put_chunks(ACME, [chunk_of(shard, "second")])
        peer.heal()
        assert [one.shard_id for one in await store.lagging(before="2027-01-01T00:00:00Z")] == [shard.id]
        assert [chunk.text for chunk in await store.chunks(ACME, shard.id)] == ["first"]
        await store.close()


async def test_a_batch_whose_answer_was_lost_leaves_one_of_each(peer: CosmosPeer, store: CosmosShardStore) -> None:
    shard = make("there before")
    peer.fail(Fault(DropAfter(), operations=("batch",), every=2))
    chunks = [chunk_of(shard, f"text {ordinal}", ordinal=ordinal) for ordinal in range(150)]
    await store.put_chunks(ACME, chunks)
    vectors = np.tile(unit(0, 1), (150, 1))
    await store.put_vectors(ACME, [(chunk.id, chunk.hash) for chunk in chunks], vectors, model=MODEL)
    states = (await store.chunk_states(ACME, [shard.id]))[shard.id]
    assert len(states) == 150
    assert all(state.has_vector for state in states.values())
    await store.delete_chunks(ACME, list(states))
    assert await store.chunk_states(ACME, [shard.id]) == {}
    assert await store.chunks_by_id(ACME, [chunk_id(shard.id, 0)]) == []


async def test_a_listing_of_many_pages_goes_on_where_it_broke_off(
    peer: CosmosPeer, store: CosmosShardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = make("there before")
    await store.put_chunks(ACME, [chunk_of(shard, f"text {ordinal}", ordinal=ordinal) for ordinal in range(90)])
    monkeypatch.setattr("shards.cosmos_container.PAGE_ITEMS", 3)
    peer.fail(Fault(THROTTLED, operations=("query",), share=0.6, seed=1))
    peer.reset_counts()
    assert len((await store.chunk_states(ACME, [shard.id]))[shard.id]) == 90
    # Two and a half requests a page, as many as come through.
    assert peer.counts().operations("query") < 30 * 5


async def test_a_batch_with_what_the_service_can_not_take_is_no_race_that_was_lost(store: CosmosShardStore) -> None:
    shard = make("there before")
    renamed = [{"op": "set", "path": "/id", "value": "another"}]
    with pytest.raises(StoreRefusedError, match=r"refuses this batch of container chunks-.*400"):
        await store._chunks.batch((ACME, shard.id), [("patch", (chunk_id(shard.id, 0), renamed), {})])
