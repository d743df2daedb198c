"""The Cosmos DB store keeps the contracts on four physical partitions and on one, and what is its own."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from azure.core.pipeline.transport import AioHttpTransport
from azure.cosmos.aio import CosmosClient
from cosmos_databases import (
    ACCOUNT,
    SEARCH,
    Connect,
    account_clients,
    connect_to,
    definitions,
    new_database,
    new_store,
    store_on,
)
from cosmos_peer import FORBIDDEN, READS, WRITES, CosmosPeer, Fault
from cosmos_peer.counters import Counts
from parked_messages_contract import ParkedMessagesContract
from parked_messages_contract import message as parked_message
from shard_samples import ACME, DIMENSIONS, GLOBEX, MODEL, chunk_of, id_of, link, make, unit, write, write_with_text
from shard_store_contract import ShardStoreContract, changed, found

from messaging.times import to_text, utc_now
from shards.cosmos_connection import cosmos_client
from shards.cosmos_containers import ContainerDefinition, chunks_container, containers
from shards.cosmos_provisioning import Provisioned, ProvisioningError, provision
from shards.cosmos_queries import Query
from shards.cosmos_store import CosmosShardStore
from shards.identity import chunk_id, shard_id
from shards.model import Acl, Shard
from shards.request_charges import yielding
from shards.store import (
    InvalidCursorError,
    ItemTooLargeError,
    SearchQuery,
    ShardQuery,
    ShardStore,
    ShardWrite,
    Stage,
    StoreRefusedError,
    StoreUnavailableError,
)

ANN, BOB = "user:ann@acme.example", "user:bob@acme.example"


@pytest.fixture(scope="module")
def peer() -> Iterator[CosmosPeer]:
    with CosmosPeer() as running:
        yield running


@pytest.fixture(autouse=True)
def without_faults(peer: CosmosPeer) -> Iterator[None]:
    yield
    peer.heal()


@pytest.fixture
def connect(peer: CosmosPeer) -> Connect:
    return connect_to(peer) if ACCOUNT is None else account_clients(ACCOUNT)


@pytest.fixture
async def store(connect: Connect) -> AsyncIterator[CosmosShardStore]:
    async with new_store(connect) as opened:
        yield opened


@pytest.fixture
def parked(store: CosmosShardStore) -> CosmosShardStore:
    return store


@pytest.fixture
async def on_peer(peer: CosmosPeer) -> AsyncIterator[CosmosShardStore]:
    """A store for what no account does on demand."""
    async with new_store(connect_to(peer)) as opened:
        yield opened
        peer.heal()


class TestCosmosShardStore(ShardStoreContract):
    """The contract."""


class TestCosmosParkedMessages(ParkedMessagesContract):
    """The contract of parked messages."""


# Provisioning


async def test_containers_are_made_once_and_never_changed(connect: Connect) -> None:
    async with new_database(connect) as database, connect() as client:
        again = await provision(client, database, definitions())
        assert again == [Provisioned(definition.name, made=False) for definition in definitions()]


@pytest.mark.skipif(not SEARCH, reason="containers are made without their policies")
async def test_what_is_other_than_defined_is_told(peer: CosmosPeer) -> None:
    connect = connect_to(peer)
    async with new_database(connect) as database, connect() as client:
        await provision(client, database, containers(MODEL, DIMENSIONS))
        home = client.get_database_client(database)
        properties = await home.get_container_client("shards").read()
        policy = properties["indexingPolicy"]
        policy["includedPaths"] = [
            *(path for path in policy["includedPaths"] if path["path"] != "/shardTypeId/?"),
            {"path": "/fingerprint/?"},
        ]
        await home.replace_container("shards", properties["partitionKey"], indexing_policy=policy)
        shards, *_ = containers(MODEL, DIMENSIONS)
        chunks = replace(containers(MODEL, DIMENSIONS + 1)[2], name=chunks_container(MODEL, DIMENSIONS))
        parked = ContainerDefinition("parked", ("/tenantId",), indexed=containers(MODEL, 3)[3].indexed)
        told = await provision(client, database, [shards, chunks, parked])
        assert told[0] == Provisioned(
            "shards",
            made=False,
            differences=[
                "the time to live is None instead of -1",
                "not indexed: /shardTypeId/?",
                "indexed for nothing: /fingerprint/?",
            ],
        )
        assert "the vector policy is" in told[1].differences[0]
        assert "the partition key is" in told[2].differences[0]


async def test_a_refused_container_says_what_to_do(peer: CosmosPeer) -> None:
    async with connect_to(peer)() as client:
        peer.fail(Fault(FORBIDDEN))
        with pytest.raises(
            ProvisioningError, match=r"database refused can't be read: .*Forbidden.* use the account's key"
        ):
            await provision(client, "refused", containers(MODEL, DIMENSIONS))


async def test_a_store_without_its_containers_says_which_command_makes_them(connect: Connect) -> None:
    store = store_on(connect, "there-is-none")
    with pytest.raises(StoreUnavailableError, match=r"no container shards in the database there-is-none.*provision"):
        await store.get(ACME, "sh_1")
    await store.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.get(ACME, "sh_1")


async def test_an_identity_without_its_role_is_told_which_it_needs(peer: CosmosPeer, on_peer: CosmosShardStore) -> None:
    await write(on_peer, make("A"))
    peer.fail(Fault(FORBIDDEN))
    with pytest.raises(StoreUnavailableError, match=r"container shards \(403\).* role Cosmos DB Built-in Data Contrib"):
        await on_peer.get(ACME, id_of("A"))


# Items


LEGAL_IDS = ["sh_ü 日本 🦉", "sh_'\"`^|<>{}[]()", "sh_%2F%20", "sh_&+=;:@$,!~*.-_", "sh_" + "x" * 900]


@pytest.mark.parametrize("identifier", LEGAL_IDS, ids=range(len(LEGAL_IDS)))
async def test_an_id_may_have_every_character_that_items_can_have(store: ShardStore, identifier: str) -> None:
    shard = make("A", links=[link("A", "B")])
    shard.id = shard.internal_relationships[0].target_shard_id = identifier
    [etag] = await store.write_many([ShardWrite(shard, None)])
    assert await store.write_many([ShardWrite(shard, etag)]) != [None]
    await store.put_chunks(ACME, [chunk_of(shard, "owl")])
    await store.put_vectors(ACME, [(chunk_id(identifier, 0), "owl")], unit(1)[np.newaxis], model=MODEL)
    for stage in Stage:
        await store.advance(ACME, stage, [(identifier, "c_account", 1)])
    assert [one.id for one in (await store.get_many(ACME, [identifier, "a", "b", "c"])).values()] == [identifier]
    assert [one.source_shard_id for one in (await store.incoming(ACME, identifier)).items] == [identifier]
    assert [hit.shard.id for hit in await store.search(SearchQuery(ACME, "owl", unit(1)))] == [identifier]
    assert (await store.progress(ACME, [identifier]))[identifier].embedded == 1
    assert [chunk.shard_id for chunk in await store.chunks(ACME, identifier)] == [identifier]
    await store.delete_chunks(ACME, [chunk_id(identifier, 0)])
    assert await store.chunks(ACME, identifier) == []


@pytest.mark.parametrize("identifier", ["", "a/b", "a\\b", "a?b", "a#b", " a", "a\n", "x" * 1024])
async def test_an_id_that_no_item_can_have_is_of_nothing_and_is_not_written(store: ShardStore, identifier: str) -> None:
    assert await store.get(ACME, identifier) is None
    assert await store.get_many(ACME, [identifier] * 2) == {}
    assert await store.resolve(ACME, identifier) is None
    assert await store.chunks(ACME, identifier) == []
    assert await store.progress(ACME, [identifier]) == {}
    shard = make("A")
    shard.id = identifier
    with pytest.raises(ValueError, match="can be no item's id"):
        await store.write_many([ShardWrite(shard, None)])
    with pytest.raises(ValueError, match="can be no item's id"):
        await store.advance(ACME, Stage.PREPARED, [(identifier, "c_account", 1)])


async def test_tenants_may_have_every_name_but_none(store: CosmosShardStore) -> None:
    names = ["a/b\\c?d#e", "*", "ü 🦉", "unknown", " "]
    for name in names:
        await write(store, make("A", tenant=name))
        await store.park([parked_message(1, tenant=name)])
    assert await store.tenants() == sorted(names)
    for name in names:
        assert [shard.id for shard in (await store.query(ShardQuery(name))).items] == [id_of("A", name)]
        assert len((await store.parked(name)).items) == 1
    with pytest.raises(ValueError, match="a tenant has a name"):
        await write(store, make("A", tenant=""))


def with_data(name: str, size: int) -> Shard:
    shard = make(name)
    shard.structured_data = {"name": name, "text": "ü" * (size // 2)}
    return shard


async def test_a_shard_of_nearly_two_megabytes_is_kept_and_a_larger_one_is_refused(store: ShardStore) -> None:
    large = with_data("large", 2_090_000)
    await write(store, large)
    stored = await store.get(ACME, large.id)
    assert stored is not None
    assert stored.structured_data == large.structured_data
    with pytest.raises(ItemTooLargeError, match=rf"shard {id_of('larger')}, a c_account, has 2,1\d\d,\d{{3}} bytes"):
        await write(store, make("small"), with_data("larger", 2_110_000))
    assert await store.get(ACME, id_of("small")) is None, "what can't be kept is seen before anything is written"


async def test_a_shard_with_thousands_of_links_is_kept_and_one_with_ten_thousand_is_refused(store: ShardStore) -> None:
    def linked(count: int) -> Shard:
        return make("hub", links=[link("hub", f"T{number}") for number in range(count)])

    await write(store, linked(3_500))
    page = await store.incoming(ACME, id_of("T3499"))
    assert [item.source_name for item in page.items] == ["hub"]
    assert (await store.counts(ACME)).links_pending == 3_500
    with pytest.raises(ItemTooLargeError, match="Cosmos DB keeps items of up to 2,097,152"):
        await write(store, linked(10_000))


async def test_a_file_may_have_five_thousand_chunks(store: ShardStore) -> None:
    shard = make("file")
    await write(store, shard)
    chunks = [chunk_of(shard, f"text {number}", ordinal=number) for number in range(5_000)]
    await store.advance(ACME, Stage.NORMALIZED, [(shard.id, shard.shard_type_id, 1)])
    await store.put_chunks(ACME, chunks)
    assert await store.shards_without_vectors(ACME, [shard.id, id_of("other")]) == {shard.id}
    vectors = np.tile(unit(0, 1), (5_000, 1))
    for start in range(0, 5_000, 1_000):
        part = slice(start, start + 1_000)
        references = [(chunk.id, chunk.hash) for chunk in chunks[part]]
        await store.put_vectors(ACME, references, vectors[part], model=MODEL)
    assert await store.shards_without_vectors(ACME, [shard.id]) == set()
    states = await store.chunk_states(ACME, [shard.id])
    assert len(states[shard.id]) == 5_000
    await write_with_text(store, make("note"), "text 17", unit(1, 1))
    assert await found(store, SearchQuery(ACME, "text", unit(0, 1))) == ["file", "note"]
    await store.delete_chunks(ACME, [chunk.id for chunk in chunks])
    assert await store.chunk_states(ACME, [shard.id]) == {}


async def test_chunks_in_text_of_many_bytes_go_in_batches_that_the_service_takes(store: ShardStore) -> None:
    shard = make("file")
    chunks = [chunk_of(shard, f"{number} {'語' * 100_000}", ordinal=number) for number in range(8)]
    await store.put_chunks(ACME, chunks)
    assert [chunk.text for chunk in await store.chunks(ACME, shard.id)] == [chunk.text for chunk in chunks]


async def test_vectors_of_another_length_or_model_are_refused(store: ShardStore) -> None:
    chunk = await write_with_text(store, make("A"), "owl")
    wide = np.ones((1, DIMENSIONS + 1), np.float32)
    with pytest.raises(ValueError, match=rf"chunks-test-model-{DIMENSIONS} has vectors of {DIMENSIONS} numbers, not"):
        await store.put_vectors(ACME, [(chunk.id, chunk.hash)], wide, model=MODEL)
    with pytest.raises(ValueError, match="the vectors of test-model, not of another"):
        await store.put_vectors(ACME, [(chunk.id, chunk.hash)], unit(1)[np.newaxis], model="another")
    with pytest.raises(ValueError, match="vectors of"):
        await store.search(SearchQuery(ACME, "owl", wide[0]))


async def test_tombstones_end_and_redirects_stay(peer: CosmosPeer) -> None:
    async with new_store(connect_to(peer), tombstone_days=30) as store:
        await write(
            store,
            make("live"),
            make("dead", status="deleted"),
            make("merged", redirect_to=id_of("live")),
            make("revived", status="deleted"),
        )
        await write(store, make("revived"))
        peer.advance(timedelta(days=31).total_seconds())
        page = await store.query(ShardQuery(ACME, include_deleted=True))
        assert sorted(shard.name for shard in page.items) == ["live", "merged", "revived"]


# Chunks and progress


async def test_a_chunk_that_others_rewrote_meanwhile_is_written_over_what_they_left(connect: Connect) -> None:
    async with new_database(connect) as database:
        stores = [store_on(connect, database) for _ in range(3)]
        shard = make("A")
        await write(stores[0], shard)
        ordinals = range(5)

        async def rewrite(number: int, store: ShardStore) -> None:
            for turn in range(4):
                await store.put_chunks(
                    ACME, [chunk_of(shard, f"{number} {turn}", ordinal=ordinal) for ordinal in ordinals]
                )

        await asyncio.gather(*(rewrite(number, store) for number, store in enumerate(stores)))
        chunks = await stores[0].chunks(ACME, shard.id)
        assert [chunk.ordinal for chunk in chunks] == list(ordinals)
        assert {chunk.text.split()[1] for chunk in chunks} == {"3"}
        await asyncio.gather(*(store.close() for store in stores))


async def test_progress_of_many_writers_is_the_furthest_of_each(connect: Connect) -> None:
    async with new_database(connect) as database:
        stores = [store_on(connect, database) for _ in range(3)]
        ids = [id_of(str(number)) for number in range(4)]

        async def move(store: ShardStore, stage: Stage) -> None:
            for revision in range(1, 4):
                await store.advance(ACME, stage, [(one, "c_account", revision) for one in ids])

        await asyncio.gather(*(move(store, stage) for store in stores for stage in Stage))
        progress = await stores[0].progress(ACME, ids)
        assert {(one.normalized, one.enriched, one.prepared, one.embedded) for one in progress.values()} == {(3,) * 4}
        assert await stores[0].lagging(before=to_text(utc_now() + timedelta(minutes=1))) == []
        await asyncio.gather(*(store.close() for store in stores))


async def test_a_shard_that_was_embedded_while_its_chunks_were_written_is_behind_again(
    store: CosmosShardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = make("A")
    finished = [(shard.id, shard.shard_type_id, 1)]
    await write_with_text(store, shard, "first", unit(1))
    for stage in Stage:
        await store.advance(ACME, stage, finished)
    write_chunks = store._put_chunks_of

    async def embedded_meanwhile(*arguments: object) -> bool:
        await store.advance(ACME, Stage.EMBEDDED, finished)
        return await write_chunks(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(store, "_put_chunks_of", embedded_meanwhile)
    await store.put_chunks(ACME, [chunk_of(shard, "second")])
    assert (await store.progress(ACME, [shard.id]))[shard.id].embedded == 0


# Queries on several partitions


async def test_answers_hold_when_a_tenants_partition_is_split(peer: CosmosPeer) -> None:
    for partitions in (1, 4):
        with CosmosPeer(partitions=partitions) as own:
            connect = connect_to(own)
            async with new_database(connect) as database:
                store = store_on(connect, database)
                names = [f"{number:02d}" for number in range(24)]
                for number, name in enumerate(names):
                    shard = make(name, updated_at=f"2026-01-01T00:00:{number:02d}.000Z", links=[link(name, "hub")])
                    await write_with_text(store, shard, f"owl {name}", unit(1, number / 10))
                first = await store.query(ShardQuery(ACME), limit=5)
                links = await store.incoming(ACME, id_of("hub"), limit=5)
                feed = await store.changes(after=None, limit=5)
                for container in ("shards", "progress", chunks_container(MODEL, DIMENSIONS)):
                    own.split(database, container, [ACME])
                rest = await store.query(ShardQuery(ACME), limit=100, cursor=first.cursor)
                assert [shard.name for shard in first.items + rest.items] == names
                more = await store.incoming(ACME, id_of("hub"), limit=100, cursor=links.cursor)
                assert sorted(item.source_name for item in links.items + more.items) == names
                behind, _ = await changed(store, feed.position)
                assert sorted({shard.name for shard in feed.shards + behind}) == names
                assert (await store.counts(ACME)).chunks == 24
                hits = await found(store, SearchQuery(ACME, "", unit(1, 0), limit=3))
                assert hits == ["00", "01", "02"]
                assert await found(store, SearchQuery(ACME, "owl 07", None, limit=1)) == ["07"]
                await store.close()


async def test_a_cursor_of_another_listing_is_refused(store: ShardStore) -> None:
    await write(store, *(make(str(number), links=[link(str(number), "hub")]) for number in range(3)))
    of_query = (await store.query(ShardQuery(ACME), limit=1)).cursor
    of_links = (await store.incoming(ACME, id_of("hub"), limit=1)).cursor
    assert of_query is not None
    assert of_links is not None
    with pytest.raises(InvalidCursorError):
        await store.query(ShardQuery(ACME, system="crm"), cursor=of_query)
    with pytest.raises(InvalidCursorError):
        await store.query(ShardQuery(GLOBEX), cursor=of_query)
    with pytest.raises(InvalidCursorError):
        await store.incoming(ACME, id_of("other"), cursor=of_links)
    with pytest.raises(InvalidCursorError):
        await store.export_links(ACME, cursor=of_links)
    with pytest.raises(InvalidCursorError):
        await store.changes(after=of_query)


async def test_a_position_of_a_container_that_was_made_anew_is_refused(connect: Connect) -> None:
    async with new_store(connect) as old, new_store(connect) as new:
        await write(old, make("A"))
        _, position = await changed(old, None)
        with pytest.raises(InvalidCursorError):
            await changed(new, position)


# Search and access


async def test_words_count_by_their_tenants_own_texts(store: ShardStore) -> None:
    async def order() -> list[str]:
        return await found(store, SearchQuery(ACME, "owl lark", None))

    await write_with_text(store, make("1", title="first"), "one owl here")
    await write_with_text(store, make("2", title="second"), "one lark here")
    await write_with_text(store, make("3", title="third"), "one lark there")
    before = await order()
    assert before[0] == "first", "the rarer word counts more"
    for number in range(20):
        await write_with_text(store, make(f"{number}", tenant=GLOBEX), "one owl here")
    assert await order() == before


async def test_a_reader_of_more_scopes_than_a_list_holds_sees_them_all(
    store: ShardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.cosmos_shard_reads.MAX_LISTED", 2)
    monkeypatch.setattr("shards.cosmos_container.MAX_LISTED", 2)
    for number in range(7):
        shard = make(str(number), acl=Acl(f"folder {number}", (ANN,)), updated_at=f"2026-01-01T00:00:0{number}.000Z")
        await write_with_text(store, shard, "owl", unit(1, number))
    await write_with_text(store, make("hidden", acl=Acl.of(BOB)), "owl", unit(1, 0))
    reader = frozenset({ANN, "tenant", "anyone"})
    query = ShardQuery(ACME, principals=reader)
    first = await store.query(query, limit=4)
    second = await store.query(query, limit=4, cursor=first.cursor)
    assert [shard.name for shard in first.items + second.items] == list("0123456")
    hits = await found(store, SearchQuery(ACME, "owl", unit(1, 0), principals=reader))
    assert sorted(hits) == list("0123456")
    assert hits[0] == "0"


async def test_of_many_shards_that_pass_the_best_chunks_are_looked_at_until_enough_do(
    store: ShardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.cosmos_search.MAX_CHOSEN", 3)
    monkeypatch.setattr("shards.cosmos_search.CHUNKS_AT_ONCE", 2)
    for number in range(12):
        system = "chat" if number % 3 else "crm"
        await write_with_text(store, make(f"{number:02d}", system=system), "owl", unit(1, number))
    query = SearchQuery(ACME, "owl", unit(1, 0), systems=("crm",))
    assert sorted(await found(store, query)) == ["00", "03", "06", "09"]
    assert (await found(store, query))[0] == "00"


async def test_a_scope_that_is_a_set_of_principals_is_written_once(peer: CosmosPeer, on_peer: CosmosShardStore) -> None:
    await write(on_peer, make("A"))
    peer.reset_counts()
    await on_peer.write_many([ShardWrite(make(str(number)), None) for number in range(5)])
    assert peer.counts().operations("create", container="shards") == 5
    assert peer.counts().operations(container="progress") == 0


# What it costs


def of_items(counts: Counts) -> dict[tuple[str, str], int]:
    """How many operations there were on items, by operation and container."""
    return {
        (tally.operation, tally.container): tally.operations
        for tally in counts.tallies
        if tally.operation in (*WRITES, *READS)
    }


async def test_what_is_charged_is_what_the_service_says(peer: CosmosPeer, on_peer: CosmosShardStore) -> None:
    await write(on_peer, make("opens the containers"))
    await on_peer.counts(ACME)
    peer.reset_counts()
    before = sum(charge.request_units for charge in on_peer.charges.charges())
    await write_with_text(on_peer, make("A", links=[link("A", "B")]), "owl", unit(1, 0))
    await on_peer.advance(ACME, Stage.NORMALIZED, [(id_of("A"), "c_account", 1)])
    assert await on_peer.write_many([ShardWrite(make("A"), None)]) == [None]
    await on_peer.search(SearchQuery(ACME, "owl", unit(1, 0)))
    await on_peer.counts(ACME)
    await changed(on_peer, None)
    charged = sum(charge.request_units for charge in on_peer.charges.charges()) - before
    counts = peer.counts()
    assert {operation for operation, _ in of_items(counts)} >= {"batch", "create", "query", "change-feed"}
    assert charged == pytest.approx(counts.request_units(), rel=0.01)


async def test_a_read_is_one_read_and_a_write_one_write(peer: CosmosPeer, on_peer: CosmosShardStore) -> None:
    [etag] = await write(on_peer, make("A"))
    peer.reset_counts()
    await on_peer.get(ACME, id_of("A"))
    assert of_items(peer.counts()) == {("read", "shards"): 1}
    peer.reset_counts()
    await on_peer.write_many([ShardWrite(make("A", title="again"), etag)])
    assert of_items(peer.counts()) == {("replace", "shards"): 1}


async def test_what_is_asked_of_one_shard_is_asked_of_its_partition_alone(peer: CosmosPeer) -> None:
    container = chunks_container(MODEL, DIMENSIONS)
    async with new_database(connect_to(peer)) as database:
        store = store_on(connect_to(peer), database)
        shard, other = make("A"), make("B")
        chunks = [chunk_of(shard, f"text {ordinal}", ordinal=ordinal) for ordinal in range(5)]
        peer.split(database, container, [ACME])
        assert len(peer.partitions_of(database, container, [ACME])) == 2
        await store.put_chunks(ACME, [*chunks, chunk_of(other, "text")])

        async def queries(call: Awaitable[object]) -> int:
            peer.reset_counts()
            await call
            return peer.counts().operations("query", container=container)

        assert await queries(store.chunk_states(ACME, [shard.id, other.id])) == 2
        assert await queries(store.chunk_states(ACME, [shard.id])) == 1
        assert await queries(store.shards_without_vectors(ACME, [shard.id])) == 1
        assert await queries(store.chunks_by_id(ACME, [chunk.id for chunk in chunks])) == 1
        assert await queries(store.put_chunks(ACME, chunks)) == 1
        assert (await store.chunk_states(ACME, [shard.id])).keys() == {shard.id}
        assert await store.shards_without_vectors(ACME, [shard.id]) == {shard.id}
        await store.close()


async def test_a_flood_gives_way_in_every_request(peer: CosmosPeer) -> None:
    said: list[tuple[str | None, str | None]] = []

    class Watched(AioHttpTransport):  # type: ignore[misc]  # its package gives it out untyped
        async def send(self, request: Any, **options: Any) -> Any:
            headers = request.headers
            said.append((headers.get("x-ms-thinclient-proxy-resource-type"), headers.get("x-ms-cosmos-priority-level")))
            return await super().send(request, **options)

    def connect() -> CosmosClient:
        return cosmos_client(peer.endpoint, peer.key, transport=Watched())

    async with new_store(connect) as store:
        await write_with_text(store, make("A"), "owl", unit(1))
        assert await store.search(SearchQuery(ACME, "owl", unit(1)))
        assert {priority for _, priority in said} == {None}
        said.clear()
        with yielding():
            await write_with_text(store, make("B"), "owl", unit(1))
            await store.get(ACME, id_of("B"))
            await store.delete_chunks(ACME, [chunk_id(id_of("B"), 0)])
            await store.search(SearchQuery(ACME, "owl", unit(1)))
            await changed(store, None)
        # The SDK says nothing of importance when it asks for a query's plan, which costs nothing.
        assert said.count(("docs", None)) == 1
        assert said.count(("docs", "Low")) > 20


async def test_an_unforeseen_answer_is_no_other_error(store: CosmosShardStore) -> None:
    with pytest.raises(
        StoreRefusedError, match=r"refuses this query of container shards, .* \(400, .*activity "
    ) as told:
        await store._shards.rows(ACME, Query("SELECT FROM"))
    assert "\n" not in str(told.value)


def test_ids_of_records_are_legal() -> None:
    identifier = shard_id(ACME, "gdrive", "C01/#?", "file", secrets.token_urlsafe() + "/\\?#")
    assert identifier.startswith("sh_")
