"""The Cosmos DB peer and a server that others wrote, asked the same by the real SDK: where both answer, they agree."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import CosmosHttpResponseError
from cosmos_peer import CosmosPeer
from cosmos_peer_conditions import FALSE, ONE, QUERIES, TRUE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from independent_cosmos import IndependentCosmos
from node_process import require_node_peers

TENANTS = ("acme", "globex")
IDS = ("a", "b", "ä c")
KNOWN_TO_DIFFER = {"REPLACE('aba', 'a', 'x') = 'xbx'"}
"""The other server replaces the first occurrence alone."""

_numbers = count(1)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[CosmosPeer, IndependentCosmos]]:
    require_node_peers()
    independent = IndependentCosmos()
    try:
        with CosmosPeer() as peer:
            yield peer, independent
    finally:
        independent.end()


@asynccontextmanager
async def both(servers: tuple[CosmosPeer, IndependentCosmos]) -> AsyncIterator[list[ContainerProxy]]:
    """The same empty container on either."""
    name = f"database{next(_numbers)}"
    peer, independent = servers
    async with peer.connect() as one, independent.connect() as other:
        made = []
        for client in (one, other):
            database = await client.create_database(name)
            key = PartitionKey(path=["/tenantId", "/id"], kind="MultiHash")
            made.append(await database.create_container("things", key))
        yield made


def own(value: Any) -> Any:
    """A value without what the service adds to items."""
    if isinstance(value, dict):
        return {name: own(part) for name, part in value.items() if not name.startswith("_")}
    return [own(part) for part in value] if isinstance(value, list) else value


async def outcome(call: Awaitable[Any]) -> tuple[int, Any]:
    """The status of what was refused, or what was answered."""
    try:
        answered = await call
    except CosmosHttpResponseError as error:
        return int(error.status_code or 0), None
    return 200, None if answered is None else own(dict(answered))


async def asked(container: ContainerProxy, query: str, **options: Any) -> list[Any] | None:
    """The rows of a query, None where it is refused."""
    try:
        return [own(row) async for row in container.query_items(query, **options)]
    except CosmosHttpResponseError as error:
        assert error.status_code == 400
        return None


# Items

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "read", "upsert", "replace", "delete", "replace over", "delete over"]),
        st.sampled_from(TENANTS),
        st.sampled_from(IDS),
        VALUES,
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


class Client:
    """Does the steps of one story on one container; *etags* are the newest and the first of each item."""

    def __init__(self, container: ContainerProxy) -> None:
        self._container = container
        self._etags: dict[tuple[str, str], list[str]] = {}

    async def do(self, verb: str, tenant: str, identity: str, value: Any, stale: bool) -> tuple[int, Any]:
        place = (tenant, identity)
        item = {"id": identity, "tenantId": tenant, "value": value}
        key = [tenant, identity]
        etags = self._etags.get(place, ['"none"'])
        condition: dict[str, Any] = {
            "etag": etags[0 if stale else -1],
            "match_condition": MatchConditions.IfNotModified,
        }
        calls: dict[str, Any] = {
            "create": lambda: self._container.create_item(item),
            "read": lambda: self._container.read_item(identity, key),
            "upsert": lambda: self._container.upsert_item(item),
            "replace": lambda: self._container.replace_item(identity, item),
            "replace over": lambda: self._container.replace_item(identity, item, **condition),
            "delete": lambda: self._container.delete_item(identity, key),
            "delete over": lambda: self._container.delete_item(identity, key, **condition),
        }
        answer = await outcome(calls[verb]())
        if answer[0] == 200:
            if verb.startswith("delete"):
                self._etags.pop(place, None)
            else:
                now = (await self._container.read_item(identity, key))["_etag"]
                self._etags.setdefault(place, []).append(now)
        return answer


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS)
async def test_the_same_calls_have_the_same_outcomes(servers: tuple[CosmosPeer, IndependentCosmos], steps: Any) -> None:
    async with both(servers) as containers:
        clients = [Client(container) for container in containers]
        for step in steps:
            ours, theirs = await asyncio.gather(*(client.do(*step) for client in clients))
            assert ours == theirs, step
        ours_left, theirs_left = [
            sorted([own(item) async for item in container.read_all_items()], key=lambda i: (i["tenantId"], i["id"]))
            for container in containers
        ]
        assert ours_left == theirs_left


# Queries


async def test_queries_have_the_same_answers(servers: tuple[CosmosPeer, IndependentCosmos]) -> None:
    agreed = 0
    async with both(servers) as containers:
        for container in containers:
            await container.create_item(ONE)
        wanted = [f"SELECT VALUE c.id FROM c WHERE {c}" for c in (*TRUE, *FALSE) if c not in KNOWN_TO_DIFFER]
        for query in (*wanted, *(query for query, _ in QUERIES)):
            ours, theirs = [await asked(container, query, partition_key=["acme", "one"]) for container in containers]
            if theirs is not None:
                assert ours == theirs, query
                agreed += 1
    assert agreed > 40


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM c WHERE c.tenantId = 'acme'",
        "SELECT c.id, c.number FROM c WHERE c.tenantId = 'globex' AND c.number > 2",
        "SELECT VALUE c.number FROM c ORDER BY c.number DESC",
        "SELECT TOP 3 VALUE c.number FROM c WHERE c.tenantId = 'acme' ORDER BY c.number",
        "SELECT VALUE c.mixed FROM c WHERE c.tenantId = 'acme' ORDER BY c.mixed",
        "SELECT VALUE COUNT(1) FROM c",
        "SELECT VALUE MAX(c.number) FROM c WHERE c.tenantId = 'acme'",
        "SELECT VALUE l FROM c JOIN l IN c.list WHERE c.tenantId = 'acme' AND l = 2",
        "SELECT VALUE c.number FROM c WHERE EXISTS(SELECT VALUE l FROM l IN c.list WHERE l > c.number)",
    ],
)
async def test_queries_over_partitions_have_the_same_answers(
    servers: tuple[CosmosPeer, IndependentCosmos], query: str
) -> None:
    mixed = [None, True, False, 3, "b", "a", -1.5]
    async with both(servers) as containers:
        for container in containers:
            for tenant in TENANTS:
                for number in range(7):
                    item = {"id": f"i{number}", "tenantId": tenant, "number": number, "list": [number, 2]}
                    await container.create_item({**item, "mixed": mixed[number]})
        ours, theirs = [await asked(container, query) for container in containers]
        assert ours is not None
        assert theirs is not None
        if "ORDER BY" in query:
            assert ours == theirs
        else:
            assert sorted(ours, key=repr) == sorted(theirs, key=repr)
