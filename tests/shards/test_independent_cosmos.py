"""What the independent Cosmos DB server can do, by the real SDK, and what it can't: other tests lean on both."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.async_paging import AsyncPageIterator
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosBatchOperationError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)
from independent_cosmos import IndependentCosmos
from node_process import require_node_peers

from messaging.process_identity import is_dead, process_identity

STARTING_IT = """
import time
from independent_cosmos import IndependentCosmos

print(IndependentCosmos().pid, flush=True)
time.sleep(3600)
"""

OF_ACME: list[dict[str, object]] = [{"name": "@tenant", "value": "acme"}]


@pytest.fixture(scope="module")
def cosmos() -> Iterator[IndependentCosmos]:
    require_node_peers()
    server = IndependentCosmos()
    yield server
    server.end()


@pytest.fixture
async def container(cosmos: IndependentCosmos, request: pytest.FixtureRequest) -> AsyncIterator[ContainerProxy]:
    async with cosmos.connect() as client:
        database = await client.create_database_if_not_exists("shardline")
        key = PartitionKey(path=["/tenantId", "/id"], kind="MultiHash")
        yield await database.create_container(request.node.name, key)


async def items(container: ContainerProxy, query: str, **options: Any) -> list[Any]:
    return [item async for item in container.query_items(query, parameters=OF_ACME, **options)]


def item(number: int, tenant: str = "acme", **fields: Any) -> dict[str, Any]:
    return {"id": f"i{number}", "tenantId": tenant, "number": number, **fields}


async def test_items_are_kept_under_their_full_key(container: ContainerProxy) -> None:
    await container.create_item(item(1, of="acme"))
    await container.create_item(item(1, "globex", of="globex"))

    assert (await container.read_item("i1", ["acme", "i1"]))["of"] == "acme"
    with pytest.raises(CosmosResourceExistsError):
        await container.create_item(item(1))
    with pytest.raises(CosmosResourceNotFoundError):
        await container.read_item("i1", ["initech", "i1"])
    await container.delete_item("i1", ["acme", "i1"])
    with pytest.raises(CosmosResourceNotFoundError):
        await container.delete_item("i1", ["acme", "i1"])
    assert (await container.read_item("i1", ["globex", "i1"]))["of"] == "globex"


async def test_writes_on_a_condition_fail_once_it_no_longer_holds(container: ContainerProxy) -> None:
    first = (await container.create_item(item(1)))["_etag"]
    condition = {"etag": first, "match_condition": MatchConditions.IfNotModified}

    second = (await container.replace_item("i1", item(1, again=True), **condition))["_etag"]

    assert second != first
    for write in (
        container.replace_item("i1", item(1), **condition),
        container.upsert_item(item(1), **condition),
        container.delete_item("i1", ["acme", "i1"], **condition),
    ):
        with pytest.raises(CosmosAccessConditionFailedError):
            await write


async def test_queries_that_name_the_tenant_come_in_order_and_pages(container: ContainerProxy) -> None:
    for number in (3, 1, 2, 5, 4):
        await container.create_item(item(number))
        await container.create_item(item(number, "globex"))

    ordered = "SELECT * FROM c WHERE c.tenantId = @tenant ORDER BY c.number"
    assert [found["number"] for found in await items(container, ordered, max_item_count=2)] == [1, 2, 3, 4, 5]
    assert await items(container, "SELECT VALUE COUNT(1) FROM c WHERE c.tenantId = @tenant") == [5]
    first = container.query_items(ordered, parameters=OF_ACME, max_item_count=2).by_page()
    assert isinstance(first, AsyncPageIterator)
    assert [found["number"] async for found in await anext(first)] == [1, 2]
    rest = container.query_items(ordered, parameters=OF_ACME, max_item_count=2).by_page(first.continuation_token)
    assert [found["number"] async for found in await anext(rest)] == [3, 4]


async def test_a_querys_partition_key_is_ignored(container: ContainerProxy) -> None:
    await container.create_item(item(1))
    await container.create_item(item(1, "globex"))

    found = [one async for one in container.query_items("SELECT * FROM c", partition_key=["acme", "i1"])]

    assert {one["tenantId"] for one in found} == {"acme", "globex"}


async def test_a_batch_creates_and_undoes_nothing(container: ContainerProxy) -> None:
    with pytest.raises(CosmosBatchOperationError):
        await container.execute_item_batch(
            [("create", (item(1),)), ("create", (item(1),))], partition_key=["acme", "i1"]
        )

    assert (await container.read_item("i1", ["acme", "i1"]))["number"] == 1
    with pytest.raises(CosmosHttpResponseError) as refused:
        await container.execute_item_batch([("upsert", (item(1),))], partition_key=["acme", "i1"])
    assert refused.value.status_code == 500


async def test_the_change_feed_goes_on_from_nowhere(container: ContainerProxy) -> None:
    for number in (1, 2):
        await container.create_item(item(number))

    feed = container.query_items_change_feed(start_time="Beginning")
    assert [change["id"] async for change in feed] == ["i1", "i2"]
    position = container.client_connection.last_response_headers["etag"]
    await container.create_item(item(3))
    assert [change async for change in container.query_items_change_feed(continuation=position)] == []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM c WHERE c.tenantId = @tenant ORDER BY c.number, c.id",
        "SELECT c.number, COUNT(1) AS n FROM c WHERE c.tenantId = @tenant GROUP BY c.number",
        "SELECT DISTINCT VALUE c.number FROM c WHERE c.tenantId = @tenant",
        "SELECT * FROM c WHERE c.tenantId = @tenant OFFSET 1 LIMIT 1",
        "SELECT TOP 2 * FROM c WHERE c.tenantId = @tenant ORDER BY VectorDistance(c.vector, [1, 0])",
        "SELECT TOP 2 * FROM c WHERE c.tenantId = @tenant ORDER BY RANK FullTextScore(c.text, 'owl')",
    ],
    ids=["two orders", "group by", "distinct", "offset", "vector", "full text"],
)
async def test_it_refuses_queries_it_does_not_know(container: ContainerProxy, query: str) -> None:
    with pytest.raises(CosmosHttpResponseError) as refused:
        await items(container, query)

    assert refused.value.status_code == 400


async def test_it_knows_no_patch_and_no_limit_of_size(container: ContainerProxy) -> None:
    await container.create_item(item(1, text="x" * 2_200_000))

    with pytest.raises(CosmosHttpResponseError) as refused:
        await container.patch_item("i1", ["acme", "i1"], [{"op": "set", "path": "/text", "value": ""}])

    assert refused.value.status_code == 400


def test_it_ends_with_a_starter_that_was_killed() -> None:
    require_node_peers()
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", STARTING_IT], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    ) as starter:
        assert starter.stdout is not None
        server = process_identity(int(starter.stdout.readline()))
        starter.kill()

    until = time.monotonic() + 60
    while not is_dead(server) and time.monotonic() < until:
        time.sleep(0.02)
    assert is_dead(server)
