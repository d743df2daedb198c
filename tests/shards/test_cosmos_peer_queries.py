"""Queries, pages and the change feed of the Cosmos DB peer, through the real SDK, over one and several partitions."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import CosmosHttpResponseError
from cosmos_peer import CosmosPeer
from cosmos_peer.container_definitions import container_definition
from cosmos_peer.query_plan import query_plan
from cosmos_peer.sql_evaluation import QueryContext
from cosmos_peer.sql_parser import parse_query
from cosmos_peer_conditions import FALSE, ONE, QUERIES, TRUE
from cosmos_peer_rig import database_of, new_container, new_database, pages, rows
from cosmos_query_examples import example_queries
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.cosmos_containers import containers

SUPPORTED = frozenset({
    "Aggregate", "CompositeAggregate", "Distinct", "MultipleOrderBy", "OffsetAndLimit", "OrderBy", "Top",
    "NonStreamingOrderBy", "HybridSearch", "CountIf", "WeightedRankFusion",
})  # fmt: skip
"""What the SDK says that it can merge."""


@pytest.fixture(scope="module")
def peer() -> Iterator[CosmosPeer]:
    with CosmosPeer() as running:
        yield running


@pytest.fixture(scope="module")
def database_with_one(peer: CosmosPeer) -> str:
    async def fill() -> str:
        async with new_container(peer) as made:
            await made.create_item(ONE)
            return database_of(made)

    return asyncio.run(fill())


@pytest.fixture
async def single(peer: CosmosPeer, database_with_one: str) -> AsyncIterator[ContainerProxy]:
    """A container with :data:`ONE` alone."""
    async with peer.connect() as client:
        yield client.get_database_client(database_with_one).get_container_client("things")


@pytest.fixture
async def container(peer: CosmosPeer) -> AsyncIterator[ContainerProxy]:
    async with new_container(peer) as made:
        yield made


async def fill(container: ContainerProxy, *tenants: str, each: int = 12) -> None:
    await asyncio.gather(
        *(
            container.create_item({"id": f"i{n}", "tenantId": tenant, "number": n, "third": n % 3})
            for tenant in tenants
            for n in range(each)
        )
    )


# What an expression is worth


@pytest.mark.parametrize("condition", TRUE)
async def test_a_condition_holds(single: ContainerProxy, condition: str) -> None:
    query = f"SELECT VALUE c.id FROM c WHERE {condition}"
    assert await rows(single, query, partition_key=["acme", "one"]) == ["one"]


@pytest.mark.parametrize("condition", FALSE)
async def test_a_condition_does_not_hold(single: ContainerProxy, condition: str) -> None:
    assert await rows(single, f"SELECT VALUE c.id FROM c WHERE {condition}", partition_key=["acme", "one"]) == []


@pytest.mark.parametrize(("query", "expected"), QUERIES)
async def test_a_query_says(single: ContainerProxy, query: str, expected: list[Any]) -> None:
    assert await rows(single, query, partition_key=["acme", "one"]) == expected


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELECT * FROM c WHERE c.a == 1", "Syntax error"),
        ("SELECT * FROM c WHERE x.a = 1", "could not be resolved"),
        ("SELECT * FROM c WHERE c.a = @none", "not given"),
        ("SELECT * FROM c WHERE REGEXMATCH(c.a, 'x')", "not a recognized built-in function"),
        ("SELECT * FROM c JOIN l IN c.links", "single input set"),
        ("SELECT c.a, c.b AS a FROM c", "more than once"),
        ("SELECT c.id FROM c" + "".join(f" JOIN l{n} IN c.links" for n in range(11)), "11 JOINs"),
        ("SELECT TOP -1 * FROM c", "Syntax error"),
        ("SELECT TOP 1 DISTINCT c.a FROM c", "Syntax error"),
        ("SELECT * FROM c ORDER BY c.a, c.b", "composite index"),
        ("SELECT * FROM c ORDER BY LOWER(c.a)", "document path"),
        ("SELECT * FROM c LIMIT 5", "Syntax error"),
        ("SELECT * FROM c WHERE COUNT(1) > 1", "only allowed in the SELECT"),
        ("SELECT VALUE FullTextScore(c.text, 'x') FROM c", "ORDER BY RANK"),
        ("SELECT * FROM c WHERE FullTextContains(c.text, 'x')", "Full Text Policy"),
        ("SELECT TOP 1 * FROM c ORDER BY VectorDistance(c.vector, [1])", "Vector Embedding Policy"),
        ("SELECT * FROM c WHERE c.text LIKE '[a-z]%'", "does not know"),
        ("SELECT * FROM c WHERE udf.x(c)", "could not be resolved"),
        ("UPDATE c SET c.a = 1", "Syntax error"),
        ("SELECT * FROM c WHERE c.a = 'unfinished", "Syntax error"),
        ("SELECT (SELECT VALUE l FROM l IN c.links) AS x FROM c", "greater than one"),
    ],
)
async def test_what_is_no_query_is_refused(single: ContainerProxy, query: str, why: str) -> None:
    with pytest.raises(CosmosHttpResponseError, match=why) as refused:
        await rows(single, query, partition_key=["acme", "one"])
    assert refused.value.status_code == 400


async def test_parameters_take_values_of_any_type(single: ContainerProxy) -> None:
    for name in ("number", "text", "flag", "nothing", "list", "of"):
        query = f"SELECT VALUE c.id FROM c WHERE c.{name} = @value"
        found = await rows(single, query, parameters={"@value": ONE[name]}, partition_key=["acme", "one"])
        assert found == ["one"]


@pytest.mark.parametrize("name", sorted(example_queries()))
async def test_every_query_of_the_store_is_understood(peer: CosmosPeer, name: str) -> None:
    query = example_queries()[name]
    context = QueryContext(
        container_definition(_container_of(name)),
        {str(p["name"]): p["value"] for p in query.parameters},
    )
    plan = query_plan(parse_query(query.text), context, SUPPORTED)
    # None of them asks more than its tenant.
    assert plan["queryRanges"] != [{"min": "", "max": "FF", "isMinInclusive": True, "isMaxInclusive": False}]


def _container_of(name: str) -> dict[str, Any]:
    shards, progress, chunks, parked, _ = containers("model", 2)
    if "parked" in name:
        return parked.resource
    if name in ("progress_of", "lagging", "count_behind", "scopes_of", "tenant_directory"):
        return progress.resource
    return chunks.resource if "chunk" in name or name == "shards_waiting" else shards.resource


# Over partitions


async def test_a_query_without_a_key_asks_all_partitions(container: ContainerProxy) -> None:
    await fill(container, "acme", "globex", "initech", "umbrella")
    assert sorted(await rows(container, "SELECT VALUE c.number FROM c WHERE c.third = 1")) == sorted([1, 4, 7, 10] * 4)
    assert await rows(container, "SELECT VALUE COUNT(1) FROM c") == [48]
    assert await rows(container, "SELECT VALUE SUM(c.number) FROM c WHERE c.third = 0") == [4 * 18]
    assert await rows(container, "SELECT VALUE MIN(c.number) FROM c WHERE c.number > 2") == [3]
    assert await rows(container, "SELECT VALUE AVG(c.number) FROM c") == [5.5]
    assert sorted(await rows(container, "SELECT DISTINCT VALUE c.third FROM c")) == [0, 1, 2]
    ordered = await rows(container, "SELECT c.number, c.tenantId FROM c WHERE c.third = 0 ORDER BY c.number DESC")
    assert [row["number"] for row in ordered] == [9] * 4 + [6] * 4 + [3] * 4 + [0] * 4
    assert await rows(container, "SELECT TOP 5 VALUE c.number FROM c ORDER BY c.number") == [0, 0, 0, 0, 1]
    assert await rows(container, "SELECT VALUE c.number FROM c ORDER BY c.number OFFSET 3 LIMIT 3") == [0, 1, 1]
    assert len(await rows(container, "SELECT TOP 7 * FROM c")) == 7
    assert await rows(container, "SELECT DISTINCT VALUE c.third FROM c ORDER BY c.third") == [0, 1, 2]


async def test_what_the_client_can_t_merge_is_refused(container: ContainerProxy) -> None:
    await fill(container, "acme", each=2)
    for query in ("SELECT c.third, COUNT(1) AS n FROM c GROUP BY c.third", "SELECT COUNT(1) AS n FROM c"):
        with pytest.raises(CosmosHttpResponseError, match="which the calling client does not support"):
            await rows(container, query)


async def test_a_prefix_sees_what_is_under_it_alone(peer: CosmosPeer, container: ContainerProxy) -> None:
    await fill(container, "acme", "globex", "initech")
    for split in (False, True):
        if split:
            for tenant in ("acme", "globex"):
                peer.split(database_of(container), "things", [tenant])
        for tenant in ("acme", "globex", "initech"):
            found = await rows(container, "SELECT c.tenantId, c.number FROM c", partition_key=[tenant])
            assert sorted(row["number"] for row in found) == list(range(12))
            assert {row["tenantId"] for row in found} == {tenant}
            assert await rows(container, "SELECT VALUE COUNT(1) FROM c", partition_key=[tenant]) == [12]
        assert await rows(container, "SELECT * FROM c", partition_key=["umbrella"]) == []


async def test_the_sdk_joins_what_the_partitions_of_a_prefix_order(peer: CosmosPeer, container: ContainerProxy) -> None:
    await fill(container, "acme", each=30)
    query = "SELECT TOP 4 VALUE c.number FROM c ORDER BY c.number"
    assert await rows(container, query, partition_key=["acme"]) == [0, 1, 2, 3]
    peer.split(database_of(container), "things", ["acme"])
    joined = await rows(container, query, partition_key=["acme"])
    assert len(joined) == 8
    assert joined != sorted(joined)
    # With the tenant in the conditions alone, the SDK asks for a plan and merges by it.
    merged = "SELECT TOP 4 VALUE c.number FROM c WHERE c.tenantId = 'acme' ORDER BY c.number"
    assert await rows(container, merged) == [0, 1, 2, 3]


async def test_a_query_of_a_single_partition_key_is_served_at_once(peer: CosmosPeer, container: ContainerProxy) -> None:
    await fill(container, "acme")
    peer.reset_counts()
    query = "SELECT TOP 1 VALUE c.number FROM c WHERE c.tenantId = 'acme' AND c.id = 'i7' ORDER BY c.number"
    assert await rows(container, query) == [7]
    assert await rows(container, "SELECT VALUE c.number FROM c", partition_key=["acme", "i7"]) == [7]
    assert peer.counts().operations("query-plan") == 0
    assert peer.counts().operations("query") == 2


async def test_many_items_are_read_by_their_keys(container: ContainerProxy) -> None:
    await fill(container, "acme", "globex")
    wanted = [(f"i{n}", ["acme", f"i{n}"]) for n in (3, 1, 99)] + [("i2", ["globex", "i2"])]
    found = await container.read_items(wanted)
    assert [(item["tenantId"], item["id"]) for item in found] == [("acme", "i3"), ("acme", "i1"), ("globex", "i2")]


async def test_all_items_can_be_read(container: ContainerProxy) -> None:
    await fill(container, "acme", "globex", "initech", each=40)
    assert len([item async for item in container.read_all_items(max_item_count=7)]) == 120


# Orders


async def test_an_order_of_mixed_types(peer: CosmosPeer) -> None:
    values = [None, False, True, -1, 2.5, 10, "", "A", "a", "ä"]
    async with new_container(peer, "/tenantId") as container:
        for number, value in enumerate([*reversed(values)]):
            await container.create_item({"id": str(number), "tenantId": "acme", "value": value})
        await container.create_item({"id": "without", "tenantId": "acme"})
        query = "SELECT VALUE c.value FROM c ORDER BY c.value"
        assert await rows(container, query, partition_key="acme") == values
        assert await rows(container, query + " DESC", partition_key="acme") == values[::-1]


async def test_an_index_of_the_path_itself_has_items_without_it(peer: CosmosPeer) -> None:
    policy = {"includedPaths": [{"path": "/*"}, {"path": "/value/?"}, {"path": "/tenantId/?"}], "excludedPaths": []}
    async with new_container(peer, "/tenantId", indexing_policy=policy) as container:
        await container.create_item({"id": "with", "tenantId": "acme", "value": 1})
        await container.create_item({"id": "without", "tenantId": "acme"})
        query = "SELECT VALUE c.id FROM c ORDER BY c.value"
        assert await rows(container, query, partition_key="acme") == ["without", "with"]


async def test_an_order_needs_its_index(peer: CosmosPeer) -> None:
    policy = {
        "includedPaths": [{"path": "/a/?"}, {"path": "/b/?"}],
        "excludedPaths": [{"path": "/*"}],
        "compositeIndexes": [[{"path": "/a", "order": "ascending"}, {"path": "/b", "order": "descending"}]],
    }
    async with new_container(peer, indexing_policy=policy) as container:
        for number in range(6):
            document = {"id": f"i{number}", "tenantId": "acme", "a": number % 2, "b": number, "c": number}
            await container.create_item(document)
        both = "SELECT VALUE c.b FROM c ORDER BY c.a {}, c.b {}"
        assert await rows(container, both.format("ASC", "DESC")) == [4, 2, 0, 5, 3, 1]
        assert await rows(container, both.format("DESC", "ASC")) == [1, 3, 5, 0, 2, 4]
        for wrong in (both.format("ASC", "ASC"), "SELECT * FROM c ORDER BY c.b DESC, c.a"):
            with pytest.raises(CosmosHttpResponseError, match="composite index"):
                await rows(container, wrong)
        with pytest.raises(CosmosHttpResponseError, match="is excluded"):
            await rows(container, "SELECT * FROM c ORDER BY c.c")
        assert len(await rows(container, "SELECT * FROM c ORDER BY c.id")) == 6


# Pages


async def numbers(paging: AsyncIterator[Any]) -> list[int]:
    """The next page."""
    return [number async for number in await anext(paging)]


@pytest.mark.parametrize(
    "query", ["SELECT VALUE c.number FROM c", "SELECT VALUE c.number FROM c ORDER BY c.number DESC"]
)
async def test_pages_follow_each_other(peer: CosmosPeer, query: str) -> None:
    async with new_container(peer, "/tenantId") as container:
        await fill(container, "acme", "globex", each=23)
        found = await pages(container, query, partition_key="acme", max_item_count=5)
        assert [len(page) for page in found] == [5, 5, 5, 5, 3]
        everything = [number for page in found for number in page]
        assert sorted(everything) == list(range(23))
        if "ORDER" in query:
            assert everything == list(range(22, -1, -1))


async def test_a_continuation_goes_on_where_it_was_while_items_come_and_go(peer: CosmosPeer) -> None:
    async with new_container(peer, "/tenantId") as container:
        await fill(container, "acme")
        query = "SELECT VALUE c.number FROM c ORDER BY c.number"
        paging = container.query_items(query, partition_key="acme", max_item_count=4).by_page()
        assert await numbers(paging) == [0, 1, 2, 3]
        token = paging.continuation_token  # type: ignore[attr-defined]  # AsyncPageIterator has it
        await container.create_item({"id": "between", "tenantId": "acme", "number": 1.5})
        await container.delete_item("i2", "acme")
        again = container.query_items(query, partition_key="acme", max_item_count=4).by_page(token)
        assert await numbers(again) == [4, 5, 6, 7]
        other = container.query_items(query + " DESC", partition_key="acme").by_page(token)
        with pytest.raises(CosmosHttpResponseError, match="Invalid Continuation Token"):
            await anext(other)


async def test_a_limit_counts_over_pages(peer: CosmosPeer) -> None:
    async with new_container(peer, "/tenantId") as container:
        await fill(container, "acme")
        for query in ("SELECT TOP 7 VALUE c.number FROM c", "SELECT TOP 7 VALUE c.number FROM c ORDER BY c.number"):
            found = await pages(container, query, partition_key="acme", max_item_count=3)
            assert [len(page) for page in found] == [3, 3, 1]
        query = "SELECT VALUE c.number FROM c ORDER BY c.number OFFSET 2 LIMIT 7"
        found = await pages(container, query, partition_key="acme", max_item_count=3)
        assert [number for page in found for number in page] == list(range(2, 9))
        query = "SELECT DISTINCT VALUE c.third FROM c"
        found = await pages(container, query, partition_key="acme", max_item_count=2)
        assert [len(page) for page in found] == [2, 1]


async def test_a_page_has_four_megabytes_at_most(peer: CosmosPeer) -> None:
    async with new_container(peer, "/tenantId") as container:
        for number in range(3):
            await container.create_item({"id": f"i{number}", "tenantId": "acme", "text": "x" * 1_900_000})
        found = await pages(container, "SELECT * FROM c", partition_key="acme")
        assert [len(page) for page in found] == [2, 1]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=4),
    size=st.integers(1, 12),
    ordered=st.booleans(),
    prefix=st.booleans(),
)
async def test_pages_lose_and_double_nothing(
    peer: CosmosPeer, counts: list[int], size: int, ordered: bool, prefix: bool
) -> None:
    async with new_container(peer) as container:
        for tenant, each in enumerate(counts):
            await fill(container, f"t{tenant}", each=each)
            peer.split(database_of(container), "things", [f"t{tenant}"])
        key = {"partition_key": ["t0"]} if prefix else {}
        query = "SELECT * FROM c" + " ORDER BY c.number" * ordered
        found = [item for page in await pages(container, query, max_item_count=size, **key) for item in page]
        wanted = {
            (f"t{tenant}", n) for tenant, each in enumerate(counts) for n in range(each) if tenant == 0 or not prefix
        }
        assert len(found) == len(wanted)
        assert {(item["tenantId"], item["number"]) for item in found} == wanted


# The change feed


async def changes(container: ContainerProxy, **options: Any) -> list[Any]:
    return [change async for change in container.query_items_change_feed(**options)]


async def test_the_feed_has_the_newest_state_of_each_item_in_order(container: ContainerProxy) -> None:
    for number in (1, 2, 3):
        await container.create_item({"id": f"i{number}", "tenantId": "acme", "n": 1})
    await container.upsert_item({"id": "i1", "tenantId": "acme", "n": 2})
    await container.delete_item("i2", ["acme", "i2"])
    found = await changes(container, start_time="Beginning")
    assert [(change["id"], change["n"]) for change in found] == [("i3", 1), ("i1", 2)]
    assert found[0]["_lsn"] < found[1]["_lsn"]
    assert await changes(container, start_time="Now") == []
    assert len(await changes(container, start_time=datetime.now(UTC) - timedelta(minutes=5))) == 2
    assert await changes(container, start_time=datetime.now(UTC) + timedelta(minutes=5)) == []


async def test_the_feed_goes_on_range_by_range(peer: CosmosPeer, container: ContainerProxy) -> None:
    await fill(container, "acme", "globex", "initech")
    seen: list[tuple[str, int]] = []
    tokens = {}
    ranges = [feed_range async for feed_range in container.read_feed_ranges()]
    assert len(ranges) == 4
    for number, feed_range in enumerate(ranges):
        feed = container.query_items_change_feed(feed_range=feed_range, start_time="Beginning", max_item_count=5)
        async for page in feed.by_page():
            found = [change async for change in page]
            assert len(found) <= 5
            seen += [(change["tenantId"], change["number"]) for change in found]
        tokens[number] = container.client_connection.last_response_headers["etag"]
    assert sorted(seen) == [(tenant, n) for tenant in ("acme", "globex", "initech") for n in range(12)]
    await container.upsert_item({"id": "i1", "tenantId": "globex", "number": 1, "again": True})
    peer.split(database_of(container), "things", ["globex"])
    await container.upsert_item({"id": "i2", "tenantId": "globex", "number": 2, "again": True})
    behind = [change for token in tokens.values() for change in await changes(container, continuation=token)]
    assert [change["number"] for change in behind] == [1, 2] or [change["number"] for change in behind] == [2, 1]


async def test_the_feed_of_a_key_is_of_it_alone(container: ContainerProxy) -> None:
    await fill(container, "acme", "globex")
    assert [
        change["number"] for change in await changes(container, start_time="Beginning", partition_key=["acme", "i3"])
    ] == [3]
    found = await changes(container, start_time="Beginning", partition_key=["globex"])
    assert {change["tenantId"] for change in found} == {"globex"}
    assert len(found) == 12


async def test_what_a_batch_wrote_comes_in_one_page(peer: CosmosPeer) -> None:
    async with new_container(peer, "/tenantId") as container:
        for start in (0, 10):
            operations = [("create", ({"id": f"i{n}", "tenantId": "acme"},)) for n in range(start, start + 10)]
            await container.execute_item_batch(operations, "acme")
        feed = container.query_items_change_feed(start_time="Beginning", partition_key="acme", max_item_count=3)
        assert [len([change async for change in page]) async for page in feed.by_page()] == [10, 10]


async def test_all_versions_are_not_offered(container: ContainerProxy) -> None:
    with pytest.raises(CosmosHttpResponseError, match="does not know"):
        await changes(container, start_time="Now", mode="AllVersionsAndDeletes")


# Query plans, as they are published


def plan_of(query: str, **parameters: Any) -> dict[str, Any]:
    definition = container_definition(
        {
            "id": "things",
            "partitionKey": {"paths": ["/key"], "kind": "Hash", "version": 2},
            "vectorEmbeddingPolicy": {
                "vectorEmbeddings": [
                    {"path": f"/{name}", "dataType": "float32", "dimensions": 3, "distanceFunction": distance}
                    for name, distance in (("image", "cosine"), ("far", "euclidean"))
                ]
            },
            "fullTextPolicy": {"defaultLanguage": "en-US", "fullTextPaths": [{"path": "/text"}]},
            "indexingPolicy": {
                "includedPaths": [{"path": "/*"}],
                "excludedPaths": [],
                "fullTextIndexes": [{"path": "/text"}],
            },
        }
    )
    context = QueryContext(definition, {f"@{name}": value for name, value in parameters.items()})
    return query_plan(parse_query(query), context, SUPPORTED)


@pytest.mark.parametrize(
    ("query", "rewritten"),
    [
        ("SELECT * FROM Root r ORDER BY r.blah",
         'SELECT r._rid, [{"item": r.blah}] AS orderByItems, r AS payload\n'
         "FROM r\nWHERE ({documentdb-formattableorderbyquery-filter})\nORDER BY r.blah"),
        ("SELECT VALUE c.blah FROM c ORDER BY c.key",
         'SELECT c._rid, [{"item": c.key}] AS orderByItems, c.blah AS payload\n'
         "FROM c\nWHERE (({documentdb-formattableorderbyquery-filter}) AND IS_DEFINED(c.blah))\nORDER BY c.key"),
        ('SELECT TOP 70 r["a"] FROM r ORDER BY r.key DESC',
         'SELECT TOP 70 r._rid, [{"item": r.key}] AS orderByItems, {"a": r["a"]} AS payload\n'
         "FROM r\nWHERE ({documentdb-formattableorderbyquery-filter})\nORDER BY r.key DESC"),
        ("SELECT * FROM c WHERE c.blah = 5 OFFSET 1 LIMIT 2", "SELECT *\nFROM c\nWHERE (c.blah = 5)\nOFFSET 0 LIMIT 3"),
        ("SELECT VALUE AVG(c.blah) FROM c",
         'SELECT VALUE [{"item": {"sum": SUM(c.blah), "count": COUNT(c.blah)}}]\nFROM c'),
        ("SELECT VALUE MIN(c.blah + 1) FROM c WHERE c.key = 1",
         'SELECT VALUE [{"item": MIN((c.blah + 1)), "item2": {"min": MIN((c.blah + 1)), "count": COUNT((c.blah + 1))}}]'
         "\nFROM c\nWHERE (c.key = 1)"),
        ("SELECT * FROM c WHERE c.key = 5 OFFSET 1 LIMIT 2", ""),
        ("SELECT DISTINCT c.blah FROM c", ""),
    ],
)  # fmt: skip
def test_a_plan_rewrites_as_published(query: str, rewritten: str) -> None:
    assert plan_of(query)["queryInfo"]["rewrittenQuery"] == rewritten


def test_a_plan_for_likeness_is_as_published() -> None:
    query = "SELECT TOP 10 c.title AS Title FROM c ORDER BY VectorDistance(c.{}, @vector, true)"
    info = plan_of(query.format("image"), vector=[1, 2, 3])["queryInfo"]
    assert info["hasNonStreamingOrderBy"]
    assert (info["top"], info["orderBy"]) == (10, ["Descending"])
    assert info["rewrittenQuery"] == (
        'SELECT TOP 10 c._rid, [{"item": VectorDistance(c.image, @vector, true)}] AS orderByItems,'
        ' {"Title": c.title} AS payload'
        "\nFROM c\nWHERE ({documentdb-formattableorderbyquery-filter})\n"
        "ORDER BY VectorDistance(c.image, @vector, true)"
    )
    assert plan_of(query.format("far"), vector=[1, 2, 3])["queryInfo"]["orderBy"] == ["Ascending"]


def test_a_plan_for_ranks_is_as_published() -> None:
    plan = plan_of('SELECT TOP 10 * FROM c ORDER BY RANK RRF(FullTextScore(c.text, "swim", "run"), '
                   "VectorDistance(c.image, [1, 2, 3]))")["hybridSearchQueryInfo"]  # fmt: skip
    assert (plan["take"], plan["skip"], plan["requiresGlobalStatistics"]) == (10, None, True)
    assert plan["globalStatisticsQuery"] == (
        'SELECT COUNT(1) AS documentCount, [{"totalWordCount": SUM(_FullTextWordCount(c.text)), "hitCounts":'
        ' [COUNTIF(FullTextContains(c.text, "swim")), COUNTIF(FullTextContains(c.text, "run"))]}]'
        " AS fullTextStatistics\nFROM c"
    )
    score = (
        '_FullTextScore(c.text, ["swim", "run"], {documentdb-formattablehybridsearchquery-totaldocumentcount},'
        " {documentdb-formattablehybridsearchquery-totalwordcount-0},"
        " {documentdb-formattablehybridsearchquery-hitcountsarray-0})"
    )
    likeness = "_VectorScore(c.image, [1, 2, 3])"
    text, vector = plan["componentQueryInfos"]
    payload = (
        f'{{"payload": c, "componentScores": [({score} ?? -1), ({likeness} ?? -1.79769e+308)]}} AS payload\nFROM c\n'
        "WHERE ({documentdb-formattableorderbyquery-filter})\nORDER BY "
    )
    assert text["rewrittenQuery"] == (
        f'SELECT TOP 120 c._rid, [{{"item": {score}}}] AS orderByItems, {payload}{score} DESC'
    )
    assert vector["rewrittenQuery"] == (
        f'SELECT TOP 120 c._rid, [{{"item": {likeness}}}] AS orderByItems, {payload}{likeness}'
    )
    assert [info["orderBy"] for info in (text, vector)] == [["Descending"], ["Descending"]]


def test_a_plan_says_where_the_items_are() -> None:
    one = plan_of("SELECT * FROM c WHERE c.key = 'a' AND c.n > 1")["queryRanges"]
    three = plan_of("SELECT * FROM c WHERE c.key IN ('a', 'b', 'c')")["queryRanges"]
    every = plan_of("SELECT * FROM c WHERE c.key = 'a' OR c.n > 1")["queryRanges"]
    assert (len(one), len(three)) == (1, 3)
    assert one[0] in three
    assert (every[0]["min"], every[0]["max"]) == ("", "FF")


async def test_a_database_in_between_is_no_hindrance(peer: CosmosPeer) -> None:
    """Two containers with the same items answer for themselves."""
    async with new_database(peer) as database:
        for name in ("a", "b"):
            made = await database.create_container(name, PartitionKey("/id"))
            await made.create_item({"id": "x", "of": name})
        assert await rows(database.get_container_client("b"), "SELECT VALUE c.of FROM c") == ["b"]
