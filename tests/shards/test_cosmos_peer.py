"""The Cosmos DB peer through the real SDK: the account, containers, items, conditions, batches, limits and faults."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import aiohttp
import pytest
from azure.core import MatchConditions
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.cosmos import CosmosClient as SyncCosmosClient
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosBatchOperationError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)
from azure.cosmos.partition_key import PartitionKey as SdkPartitionKey
from cosmos_peer import (
    PRECONDITION_FAILED,
    UNAVAILABLE,
    CosmosPeer,
    CosmosPeerProcess,
    Delay,
    DropAfter,
    DropBefore,
    Fault,
    Hang,
    Refuse,
)
from cosmos_peer.partition_keys import KeyDefinition, murmur3_128
from cosmos_peer_rig import database_of, new_container, new_database, partition_key, rows
from hypothesis import given
from hypothesis import strategies as st

from shards.cosmos_containers import VectorDefinition, containers

ACME = ["acme", "i1"]


@pytest.fixture(scope="module")
def peer() -> Iterator[CosmosPeer]:
    with CosmosPeer() as running:
        yield running


@pytest.fixture(autouse=True)
def healed(peer: CosmosPeer) -> Iterator[None]:
    yield
    peer.heal()


@pytest.fixture
async def container(peer: CosmosPeer) -> AsyncIterator[ContainerProxy]:
    async with new_container(peer, default_ttl=-1) as made:
        yield made


def item(number: int, tenant: str = "acme", **fields: Any) -> dict[str, Any]:
    return {"id": f"i{number}", "tenantId": tenant, "number": number, **fields}


def own(document: dict[str, Any]) -> dict[str, Any]:
    """A document without what the service adds."""
    return {name: value for name, value in document.items() if not name.startswith("_")}


def unconditional(etag: str) -> dict[str, Any]:
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified}


# Where items live

COMPONENTS = st.one_of(
    st.text(max_size=40), st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False)
)


@given(st.lists(COMPONENTS, min_size=1, max_size=3))
def test_effective_keys_are_those_of_the_sdk(components: list[Any]) -> None:
    paths = [f"/p{number}" for number in range(len(components))]
    ours = KeyDefinition(tuple((path[1:],) for path in paths), hierarchical=len(paths) > 1).value(components)
    theirs = SdkPartitionKey(path=paths if len(paths) > 1 else paths[0])
    assert ours.epk == theirs._get_effective_partition_key_string(components)


@pytest.mark.parametrize(
    ("data", "halves"),
    [(b"\x08", (0xDFA3A1B71AF6E07E, 0x6A63D2CF33E52BDB)), (b"\x08asdf", (0x05EE6EB149D83908, 0x498D89FE394B068D))],
)
def test_hashes_are_those_that_are_published(data: bytes, halves: tuple[int, int]) -> None:
    assert murmur3_128(data) == halves


# The account and its containers


async def test_the_account_is_session_consistent_in_one_region(peer: CosmosPeer) -> None:
    async with peer.connect() as client:
        account = await client._get_database_account()
    assert account.ConsistencyPolicy == {"defaultConsistencyLevel": "Session"}
    assert [location["databaseAccountEndpoint"] for location in account.WritableLocations] == [peer.endpoint]


async def test_a_request_must_be_signed_with_the_key(peer: CosmosPeer) -> None:
    client = CosmosClient(peer.endpoint, "d3Jvbmc=")
    with pytest.raises(CosmosHttpResponseError) as refused:
        await client.__aenter__()
    await client.close()
    assert refused.value.status_code == 401
    async with aiohttp.ClientSession() as plain, plain.get(peer.endpoint) as answer:
        assert answer.status == 401


async def test_databases_and_containers_are_made_once(peer: CosmosPeer) -> None:
    async with peer.connect() as client:
        database = await client.create_database("made once")
        with pytest.raises(CosmosResourceExistsError):
            await client.create_database("made once")
        assert "made once" in [found["id"] async for found in client.list_databases()]
        await database.create_container("things", PartitionKey("/id"), offer_throughput=400)
        with pytest.raises(CosmosResourceExistsError):
            await database.create_container("things", PartitionKey("/id"))
        again = await database.create_container_if_not_exists("things", PartitionKey("/id"))
        assert (await again.get_throughput()).offer_throughput == 400
        assert [found["id"] async for found in database.list_containers()] == ["things"]
        await database.delete_container("things")
        with pytest.raises(CosmosResourceNotFoundError):
            await again.read()
        await client.delete_database("made once")
        with pytest.raises(CosmosResourceNotFoundError) as missing:
            await again.read_item("x", "x")
        assert missing.value.sub_status == 1003


async def test_the_definitions_of_the_store_are_legal(peer: CosmosPeer) -> None:
    async with new_database(peer) as database:
        for definition in containers("model", 256):
            options: dict[str, Any] = {
                "indexing_policy": definition.indexing_policy,
                "default_ttl": definition.time_to_live,
                "vector_embedding_policy": definition.vector_embedding_policy,
                "full_text_policy": definition.full_text_policy,
            }
            made = await database.create_container(
                definition.name,
                partition_key(definition.partition_key),
                **cast(Any, {name: policy for name, policy in options.items() if policy is not None}),
            )
            found = await made.read()
            for name, value in definition.resource.items():
                if name != "indexingPolicy":
                    assert found[name] == value
            assert (definition.indexing_policy or {}).items() <= {
                **found["indexingPolicy"],
                "excludedPaths": [p for p in found["indexingPolicy"]["excludedPaths"] if "_etag" not in p["path"]],
            }.items()


EMBEDDING = VectorDefinition(4096).embedding
EVERYTHING = [{"path": "/*"}]


def vector_index(kind: str, path: str = "/vector") -> dict[str, Any]:
    return {
        "indexing_policy": {
            "includedPaths": EVERYTHING,
            "excludedPaths": [{"path": "/vector/*"}],
            "vectorIndexes": [{"path": path, "type": kind}],
        },
        "vector_embedding_policy": {"vectorEmbeddings": [EMBEDDING]},
    }


@pytest.mark.parametrize(
    ("policies", "why"),
    [
        ({"indexing_policy": {"includedPaths": [{"path": "/a"}], "excludedPaths": EVERYTHING}}, "must end in"),
        ({"indexing_policy": {"includedPaths": [{"path": "/a/?"}], "excludedPaths": []}}, "mandatory indexing path"),
        ({"indexing_policy": {"includedPaths": EVERYTHING, "compositeIndexes": [[{"path": "/a"}]]}}, "2 to 8 paths"),
        (vector_index("flat"), "more than the 505"),
        (vector_index("hnsw"), "is none of"),
        (vector_index("diskANN", "/other"), "does not match any"),
        (vector_index("diskANN", "/*"), "wildcards"),
        ({"vector_embedding_policy": {"vectorEmbeddings": [{**EMBEDDING, "dimensions": 4097}]}}, "1 and 4096"),
        ({"full_text_policy": {"defaultLanguage": "xx-XX", "fullTextPaths": []}}, "not supported"),
        (
            {
                "full_text_policy": {"defaultLanguage": "en-US", "fullTextPaths": []},
                "indexing_policy": {"includedPaths": EVERYTHING, "fullTextIndexes": [{"path": "/text"}]},
            },
            "not in the Full Text Policy",
        ),
        ({"default_ttl": 0}, "nonzero"),
    ],
)
async def test_an_illegal_definition_is_refused(peer: CosmosPeer, policies: dict[str, Any], why: str) -> None:
    with pytest.raises(CosmosHttpResponseError, match=why) as refused:
        async with new_container(peer, **policies):
            pass
    assert refused.value.status_code == 400


async def test_a_container_keeps_its_key_and_its_vectors_for_life(peer: CosmosPeer) -> None:
    vectors = {"vectorEmbeddings": [{**EMBEDDING, "dimensions": 3}]}
    async with new_database(peer) as database:
        made = await database.create_container("things", PartitionKey("/id"), vector_embedding_policy=vectors)
        await database.replace_container(made, PartitionKey("/id"), default_ttl=7, vector_embedding_policy=vectors)
        assert (await made.read())["defaultTtl"] == 7
        with pytest.raises(CosmosHttpResponseError, match="partition key cannot be changed"):
            await database.replace_container(made, PartitionKey("/other"), vector_embedding_policy=vectors)
        with pytest.raises(CosmosHttpResponseError, match="can't be modified"):
            await database.replace_container(made, PartitionKey("/id"))


async def test_the_synchronous_sdk_is_answered_too(peer: CosmosPeer) -> None:
    def talk() -> list[Any]:
        client = SyncCosmosClient(peer.endpoint, peer.key)
        database = client.create_database("synchronous")
        made = database.create_container("things", PartitionKey(["/tenantId", "/id"]))
        for number in range(3):
            made.create_item(item(number))
        found = list(made.query_items("SELECT VALUE c.number FROM c", partition_key=["acme"]))
        client.close()
        return found

    assert sorted(await asyncio.to_thread(talk)) == [0, 1, 2]


# Items


async def test_items_are_kept_under_their_full_key(container: ContainerProxy) -> None:
    await container.create_item(item(1, of="acme"))
    await container.create_item(item(1, "globex", of="globex"))
    assert (await container.read_item("i1", ACME))["of"] == "acme"
    with pytest.raises(CosmosResourceExistsError):
        await container.create_item(item(1))
    with pytest.raises(CosmosResourceNotFoundError):
        await container.read_item("i1", ["initech", "i1"])
    await container.delete_item("i1", ACME)
    with pytest.raises(CosmosResourceNotFoundError):
        await container.delete_item("i1", ACME)
    assert (await container.read_item("i1", ["globex", "i1"]))["of"] == "globex"


@pytest.mark.parametrize(
    "value",
    [
        {"text": "\u0000\u2028 ünï 😀 \\ \"'", "nested": [1, -0.5, 1e-7, True, None, {"": []}]},
        {"whole": 9007199254740992, "large": 1e300, "small": 5e-324},
        {"": "an empty name", "_own": 1, "$type": 2},
    ],
)
async def test_values_come_back_as_they_were(container: ContainerProxy, value: dict[str, Any]) -> None:
    await container.create_item(item(1, value=value))
    assert own(await container.read_item("i1", ACME)) == item(1, value=value)


async def test_numbers_are_doubles(container: ContainerProxy) -> None:
    await container.create_item(item(1, large=2**53 + 1, whole=2.0))
    found = await container.read_item("i1", ACME)
    assert found["large"] == 2**53
    assert (found["whole"], type(found["whole"])) == (2, int)


async def test_the_service_adds_its_own_properties(container: ContainerProxy) -> None:
    made = await container.create_item(item(1, _ts=1, _etag="mine", _rid="mine"))
    assert {"_rid", "_self", "_etag", "_ts", "_attachments"} <= made.keys()
    assert made["_etag"] != "mine"
    assert abs(made["_ts"] - time.time()) < 60
    assert made.get_response_headers()["etag"] == made["_etag"]
    again = await container.upsert_item(item(1))
    assert again["_etag"] != made["_etag"]
    assert again["_rid"] == made["_rid"]


@pytest.mark.parametrize(
    "identity", ["ä ö", "100%", "a+b", "q=1&r=2", "emoji 😀", "x" * 1023, "it's", "a.b,c;d:e@f$g!"]
)
async def test_ids_may_have_every_legal_character(container: ContainerProxy, identity: str) -> None:
    await container.create_item({"id": identity, "tenantId": "acme"})
    assert (await container.read_item(identity, ["acme", identity]))["id"] == identity
    assert await rows(container, "SELECT VALUE c.id FROM c WHERE c.id = @id", parameters={"@id": identity}) == [
        identity
    ]
    await container.delete_item(identity, ["acme", identity])


@pytest.mark.parametrize("identity", ["a/b", "a\\b", "a?b", "a#b", "", "x" * 1024, 7, None])
async def test_other_ids_are_refused(peer: CosmosPeer, container: ContainerProxy, identity: Any) -> None:
    # The SDK stops most of them itself: the batch takes them to the service.
    with pytest.raises((CosmosBatchOperationError, CosmosHttpResponseError)) as refused:
        await container.execute_item_batch([("create", ({"id": identity, "tenantId": "acme"},))], ["acme", identity])
    assert refused.value.status_code == 400


async def test_the_key_must_be_that_of_the_item(container: ContainerProxy) -> None:
    await container.create_item(item(1))
    for key in (["acme"], ["globex", "i1"], ["acme", "i1", "more"]):
        with pytest.raises(CosmosBatchOperationError if len(key) == 2 else CosmosHttpResponseError) as refused:
            await container.execute_item_batch([("upsert", (item(1),))], key)
        assert refused.value.status_code == 400
    with pytest.raises(CosmosHttpResponseError) as refused:
        await container.read_item("i1", ["acme"])
    assert (refused.value.status_code, refused.value.sub_status) == (400, 1001)
    # The SDK takes the key from the body: in another partition there is no such item.
    with pytest.raises(CosmosResourceNotFoundError):
        await container.replace_item("i1", item(2))
    with pytest.raises(CosmosBatchOperationError) as differs:
        await container.execute_item_batch([("replace", ("i1", {**item(1), "id": "i2"}))], ACME)
    assert differs.value.status_code == 400


async def test_an_item_has_two_megabytes_at_most(container: ContainerProxy) -> None:
    room = 2 * 1024 * 1024 - len(json.dumps(item(1, text=""), separators=(",", ":")))
    await container.create_item(item(1, text="x" * room))
    assert len((await container.read_item("i1", ACME))["text"]) == room
    with pytest.raises(CosmosHttpResponseError) as refused:
        await container.upsert_item(item(1, text="x" * (room + 1)))
    assert refused.value.status_code == 413
    with pytest.raises(CosmosHttpResponseError) as refused:
        await container.upsert_item(item(1, text="語" * (room // 3 + 1)))
    assert refused.value.status_code == 413


async def test_a_compact_client_may_send_what_escapes_would_make_too_large(peer: CosmosPeer) -> None:
    text = "語" * 600_000
    async with new_container(peer) as plain:
        with pytest.raises(CosmosHttpResponseError) as refused:
            await plain.create_item(item(1, text=text))
        assert refused.value.status_code == 413
    compact = CosmosClient(peer.endpoint, peer.key, enable_compact_utf8_item_writes=True)
    async with new_container(peer, client=compact) as container:
        await container.create_item(item(1, text=text))


async def test_a_write_can_do_without_the_echo(container: ContainerProxy) -> None:
    made = await container.create_item(item(1), no_response=True)
    assert dict(made) == {}
    assert made.get_response_headers()["etag"] == (await container.read_item("i1", ACME))["_etag"]


# Conditions


async def test_writes_on_a_condition_fail_once_it_no_longer_holds(container: ContainerProxy) -> None:
    first = (await container.create_item(item(1)))["_etag"]
    second = (await container.replace_item("i1", item(1, n=2), **unconditional(first)))["_etag"]
    for write in (
        container.replace_item("i1", item(1, n=3), **unconditional(first)),
        container.upsert_item(item(1, n=3), **unconditional(first)),
        container.delete_item("i1", ACME, **unconditional(first)),
        container.patch_item("i1", ACME, [{"op": "set", "path": "/n", "value": 3}], **unconditional(first)),
    ):
        with pytest.raises(CosmosAccessConditionFailedError):
            await write
    assert (await container.read_item("i1", ACME))["n"] == 2
    await container.delete_item("i1", ACME, **unconditional(second))
    with pytest.raises(CosmosResourceNotFoundError):
        await container.replace_item("i1", item(1), **unconditional(second))


async def test_of_racing_writers_one_wins(container: ContainerProxy) -> None:
    etag = (await container.create_item(item(1)))["_etag"]
    outcomes = await asyncio.gather(
        *(container.replace_item("i1", item(1, by=n), **unconditional(etag)) for n in range(8)), return_exceptions=True
    )
    won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert [own(outcome) for outcome in won] == [own(await container.read_item("i1", ACME))]
    assert sum(isinstance(outcome, CosmosAccessConditionFailedError) for outcome in outcomes) == 7


# Patches


async def test_a_patch_does_its_operations_in_order(container: ContainerProxy) -> None:
    await container.create_item(item(1, list=[1, 2], of={"a": 1}, n=5))
    patched = await container.patch_item(
        "i1",
        ACME,
        [
            {"op": "add", "path": "/list/1", "value": 9},
            {"op": "add", "path": "/list/-", "value": 3},
            {"op": "set", "path": "/of/b", "value": {"c": None}},
            {"op": "replace", "path": "/of/a", "value": 2},
            {"op": "remove", "path": "/list/0"},
            {"op": "incr", "path": "/n", "value": -1.5},
            {"op": "incr", "path": "/new", "value": 3},
            {"op": "move", "from": "/of/b", "path": "/moved"},
        ],
    )
    assert own(patched) == item(1, list=[9, 2, 3], of={"a": 2}, n=3.5, new=3, moved={"c": None})


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/none", "value": 1},
        {"op": "remove", "path": "/none"},
        {"op": "incr", "path": "/text", "value": 1},
        {"op": "set", "path": "/none/deeper", "value": 1},
        {"op": "set", "path": "/tenantId", "value": "globex"},
        {"op": "set", "path": "/id", "value": "i2"},
        {"op": "set", "path": "/_ts", "value": 1},
        {"op": "test", "path": "/text", "value": 1},
    ],
)
async def test_a_patch_that_can_t_be_is_refused_as_a_whole(container: ContainerProxy, operation: Any) -> None:
    await container.create_item(item(1, text="x"))
    with pytest.raises(CosmosHttpResponseError) as refused:
        await container.patch_item("i1", ACME, [{"op": "set", "path": "/n", "value": 1}, operation])
    assert refused.value.status_code == 400
    assert own(await container.read_item("i1", ACME)) == item(1, text="x")


async def test_a_patch_may_be_guarded(container: ContainerProxy) -> None:
    await container.create_item(item(1, version=3))
    change = [{"op": "set", "path": "/version", "value": 5}]
    await container.patch_item("i1", ACME, change, filter_predicate="FROM c WHERE c.version < 5")
    with pytest.raises(CosmosAccessConditionFailedError):
        await container.patch_item("i1", ACME, change, filter_predicate="FROM c WHERE c.version < 5")
    with pytest.raises(CosmosHttpResponseError, match="1 to 10"):
        await container.patch_item("i1", ACME, change * 11)


# Batches


async def test_a_batch_is_done_as_a_whole(peer: CosmosPeer) -> None:
    async with new_container(peer, "/tenantId") as container:
        await container.create_item(item(1))
        await container.create_item(item(2, list=[]))
        results = await container.execute_item_batch(
            [
                ("create", (item(3),)),
                ("upsert", (item(1, n=1),)),
                ("read", ("i3",)),
                ("replace", ("i3", item(3, n=3))),
                ("patch", ("i2", [{"op": "add", "path": "/list/-", "value": 1}])),
                ("delete", ("i1",)),
            ],
            "acme",
        )
        assert [result["statusCode"] for result in results] == [201, 200, 200, 200, 200, 204]
        assert own(results[2]["resourceBody"]) == item(3)
        stored = await rows(container, "SELECT * FROM c", partition_key="acme")
        assert [own(found) for found in stored] == [item(2, list=[1]), item(3, n=3)]


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (("create", (item(2),)), 409),
        (("delete", ("i9",)), 404),
        (("replace", ("i2", item(2)), {"if_match_etag": '"stale"'}), 412),
        (("patch", ("i2", [{"op": "remove", "path": "/none"}])), 400),
        (("upsert", (item(2, text="x" * 2_097_152),)), 413),
    ],
)
async def test_a_batch_that_fails_leaves_nothing(peer: CosmosPeer, last: Any, status: int) -> None:
    async with new_container(peer, "/tenantId") as container:
        for number in (1, 2):
            await container.create_item(item(number))
        before = await rows(container, "SELECT * FROM c", partition_key="acme")
        feed = container.query_items_change_feed(start_time="Beginning")
        changes = [change async for change in feed]
        failing = [("delete", ("i1",)), ("create", (item(3),)), ("upsert", (item(2, n=1),)), last]
        with pytest.raises((CosmosBatchOperationError, CosmosHttpResponseError)) as refused:
            await container.execute_item_batch(failing, "acme")
        assert refused.value.status_code == status
        if isinstance(refused.value, CosmosBatchOperationError):
            assert refused.value.error_index == 3
            responses = refused.value.operation_responses
            assert [response["statusCode"] for response in responses] == [424, 424, 424, status]
        assert await rows(container, "SELECT * FROM c", partition_key="acme") == before
        feed = container.query_items_change_feed(start_time="Beginning")
        assert [change async for change in feed] == changes


async def test_a_batch_has_a_hundred_operations_at_most(container: ContainerProxy) -> None:
    await container.execute_item_batch([("upsert", (item(1),))] * 100, ACME)
    with pytest.raises(CosmosHttpResponseError, match="more operations") as refused:
        await container.execute_item_batch([("upsert", (item(1),))] * 101, ACME)
    assert refused.value.status_code == 400


# Times to live


async def test_items_expire_when_their_time_is_over(peer: CosmosPeer, container: ContainerProxy) -> None:
    await container.create_item(item(1, ttl=60))
    await container.create_item(item(2))
    assert len(await rows(container, "SELECT * FROM c")) == 2
    peer.advance(61)
    assert await rows(container, "SELECT VALUE c.id FROM c") == ["i2"]
    with pytest.raises(CosmosResourceNotFoundError):
        await container.read_item("i1", ACME)
    feed = container.query_items_change_feed(start_time="Beginning")
    assert [change["id"] async for change in feed] == ["i2"]
    await container.create_item(item(1))


@pytest.mark.parametrize("ttl", [0, -2, 1.5, "60", 2**31])
async def test_other_times_to_live_are_refused(container: ContainerProxy, ttl: Any) -> None:
    with pytest.raises(CosmosHttpResponseError, match="nonzero") as refused:
        await container.create_item(item(1, ttl=ttl))
    assert refused.value.status_code == 400


async def test_nothing_expires_where_the_container_does_not_say_so(peer: CosmosPeer) -> None:
    async with new_container(peer) as forever:
        await forever.create_item(item(1, ttl=1))
        peer.advance(2)
        assert (await forever.read_item("i1", ACME))["ttl"] == 1
    async with new_container(peer, default_ttl=5) as shortly:
        await shortly.create_item(item(1))
        await shortly.create_item(item(2, ttl=-1))
        peer.advance(6)
        assert await rows(shortly, "SELECT VALUE c.id FROM c") == ["i2"]


# Sessions and partitions


async def test_a_session_token_from_the_future_is_not_served(container: ContainerProxy) -> None:
    made = await container.create_item(item(1))
    token = made.get_response_headers()["x-ms-session-token"]
    identity, lsn = token.split(":-1#")
    assert (await container.read_item("i1", ACME, session_token=token))["number"] == 1
    with pytest.raises(CosmosResourceNotFoundError) as refused:
        await container.read_item("i1", ACME, session_token=f"{identity}:-1#{int(lsn) + 1}")
    assert refused.value.sub_status == 1002


async def test_clients_follow_a_partition_that_splits(peer: CosmosPeer, container: ContainerProxy) -> None:
    for number in range(20):
        await container.create_item(item(number))
    assert len(peer.partitions_of(database_of(container), "things", ["acme"])) == 1
    everything = "SELECT VALUE c.number FROM c"
    assert sorted(await rows(container, everything, partition_key=["acme"])) == list(range(20))
    peer.split(database_of(container), "things", ["acme"])
    assert len(peer.partitions_of(database_of(container), "things", ["acme"])) == 2
    assert sorted(await rows(container, everything, partition_key=["acme"])) == list(range(20))
    assert await rows(container, everything + " ORDER BY c.number") == list(range(20))
    assert (await container.read_item("i7", ["acme", "i7"]))["number"] == 7
    await container.upsert_item(item(7, n=1))


async def test_a_container_that_was_made_anew_is_not_taken_for_the_old_one(peer: CosmosPeer) -> None:
    async with new_database(peer) as database:
        made = await database.create_container("things", PartitionKey("/id"))
        await made.create_item(item(1))
        async with peer.connect() as other:
            there = other.get_database_client(database.id)
            await there.delete_container("things")
            await there.create_container("things", PartitionKey("/id"))
        with pytest.raises(CosmosResourceNotFoundError):
            await made.read_item("i1", "i1")
        await made.create_item(item(1))


# Faults


async def test_throttled_calls_say_when_to_come_back(peer: CosmosPeer, container: ContainerProxy) -> None:
    peer.fail(Fault(Refuse(429, 3200, 1), operations=("create",), times=3))
    await container.create_item(item(1))
    assert peer.counts().statuses("create", container="things")[429] >= 3
    peer.fail(Fault(Refuse(429, 3200, 1), operations=("read",), containers=("things",)))
    async with CosmosClient(peer.endpoint, peer.key, retry_throttle_total=0) as impatient:
        there = impatient.get_database_client(database_of(container)).get_container_client("things")
        with pytest.raises(CosmosHttpResponseError) as refused:
            await there.read_item("i1", ACME)
    assert (refused.value.status_code, refused.value.sub_status) == (429, 3200)
    assert refused.value.headers["x-ms-retry-after-ms"] == "1"


async def test_a_share_of_the_calls_is_hit_and_always_the_same_ones(
    peer: CosmosPeer, container: ContainerProxy
) -> None:
    async def hit() -> list[int]:
        peer.heal()
        peer.fail(Fault(Refuse(449), operations=("upsert",), share=1 / 3, seed=5))
        refused = []
        for number in range(30):
            try:
                await container.upsert_item(item(number))
            except CosmosHttpResponseError as error:
                assert error.status_code == 449
                refused.append(number)
        return refused

    first = await hit()
    assert 4 < len(first) < 16
    assert await hit() == first


async def test_every_kth_call_is_hit(peer: CosmosPeer, container: ContainerProxy) -> None:
    peer.fail(Fault(Refuse(449), operations=("create",), every=3))
    outcomes = await asyncio.gather(*(container.create_item(item(n)) for n in range(9)), return_exceptions=True)
    assert sum(isinstance(outcome, CosmosHttpResponseError) for outcome in outcomes) == 3


async def test_the_first_conditional_write_of_each_item_can_fail(peer: CosmosPeer, container: ContainerProxy) -> None:
    made = [(await container.create_item(item(n)))["_etag"] for n in (1, 2)]
    peer.fail(Fault(PRECONDITION_FAILED, first_write_of_each=True))
    await container.upsert_item(item(3))
    for number, etag in zip((1, 2), made, strict=True):
        with pytest.raises(CosmosAccessConditionFailedError):
            await container.replace_item(f"i{number}", item(number), **unconditional(etag))
        await container.replace_item(f"i{number}", item(number), **unconditional(etag))
    peer.fail(Fault(PRECONDITION_FAILED, operations=("batch",), times=1))
    current = (await container.read_item("i3", ["acme", "i3"]))["_etag"]
    batch: list[Any] = [("read", ("i3",)), ("replace", ("i3", item(3)), {"if_match_etag": current})]
    with pytest.raises(CosmosBatchOperationError) as refused:
        await container.execute_item_batch([(*batch[0],), (*batch[1][:2], dict(batch[1][2]))], ["acme", "i3"])
    assert (refused.value.status_code, refused.value.error_index) == (412, 1)


async def test_a_write_whose_answer_is_lost_is_done(peer: CosmosPeer) -> None:
    # By itself the SDK sends it again, and is told that the item is there.
    async with CosmosClient(peer.endpoint, peer.key, retry_total=0, retry_connect=0, retry_read=0) as client:
        await client.create_database("lost answers")
        database = client.get_database_client("lost answers")
        container = await database.create_container("things", partition_key(["/tenantId", "/id"]))
        peer.fail(Fault(DropAfter(), operations=("create",), times=1))
        with pytest.raises((CosmosResourceExistsError, ServiceResponseError, ServiceRequestError)):
            await container.create_item(item(1))
        assert (await container.read_item("i1", ACME))["number"] == 1
        peer.fail(Fault(DropBefore(), operations=("upsert",)))
        with pytest.raises((ServiceResponseError, ServiceRequestError)):
            await container.upsert_item(item(1, n=2))
        peer.heal()
        assert "n" not in await container.read_item("i1", ACME)


async def test_answers_can_be_late_or_never_come(peer: CosmosPeer, container: ContainerProxy) -> None:
    await container.create_item(item(1))
    peer.fail(Fault(Delay(0.05), operations=("read",), times=1))
    assert (await container.read_item("i1", ACME))["number"] == 1
    peer.fail(Fault(Hang(), operations=("create",)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await container.create_item(item(2))
    peer.heal()
    with pytest.raises(CosmosResourceNotFoundError):
        await container.read_item("i2", ["acme", "i2"])


async def test_a_service_that_is_away_says_so(peer: CosmosPeer, container: ContainerProxy) -> None:
    peer.fail(Fault(UNAVAILABLE, operations=("create",)))
    with pytest.raises(CosmosHttpResponseError) as refused:
        await container.create_item(item(1))
    assert refused.value.status_code == 503


# Charges


async def test_what_was_asked_is_counted(peer: CosmosPeer, container: ContainerProxy) -> None:
    peer.reset_counts()
    made = await container.create_item(item(1, text="x" * 1000))
    read = await container.read_item("i1", ACME)
    counts = peer.counts()
    assert counts.operations("create", container="things") == 1
    assert counts.operations(container="things") >= 2
    charged = float(made.get_response_headers()["x-ms-request-charge"])
    assert counts.request_units("create") == pytest.approx(charged, abs=0.01)
    assert float(read.get_response_headers()["x-ms-request-charge"]) == pytest.approx(1, abs=0.2)
    assert peer.stored_bytes(database_of(container)) == {"things": len(json.dumps(read, separators=(",", ":")))}


async def test_requests_that_may_wait_are_counted(peer: CosmosPeer, container: ContainerProxy) -> None:
    peer.reset_counts()
    await container.create_item(item(1), priority="Low")
    await container.upsert_item(item(1), throughput_bucket=3)
    await container.upsert_item(item(1), priority="High")
    assert peer.counts().yielding(container="things") == 2
    with pytest.raises(CosmosHttpResponseError, match="between 1 and 5"):
        await container.upsert_item(item(1), throughput_bucket=7)


async def test_what_is_not_indexed_costs_less_to_write(peer: CosmosPeer) -> None:
    document = item(1, vector=[0.5] * 256, fields={f"f{n}": n for n in range(20)})
    charges = {}
    bare = {"includedPaths": [{"path": "/tenantId/?"}], "excludedPaths": [{"path": "/*"}]}
    some = {"includedPaths": [{"path": "/*"}], "excludedPaths": [{"path": "/vector/*"}]}
    for name, policy in {"bare": bare, "some": some, "all": None}.items():
        async with new_container(peer, indexing_policy=policy) as container:
            made = await container.create_item(document)
            charges[name] = float(made.get_response_headers()["x-ms-request-charge"])
    assert 5 < charges["bare"] < charges["some"] < charges["all"]
    assert charges["all"] > 30


# In a process of its own


async def test_the_peer_runs_in_a_process_of_its_own() -> None:
    with CosmosPeerProcess() as other:
        async with new_container(other, default_ttl=-1) as container:
            await container.create_item(item(1, ttl=5))
            other.fail(Fault(Refuse(449), operations=("create",), times=1))
            with pytest.raises(CosmosHttpResponseError):
                await container.create_item(item(2))
            other.advance(6)
            assert await rows(container, "SELECT * FROM c") == []
            assert other.counts().statuses("create", container="things") == {201: 1, 449: 1}
            other.split(database_of(container), "things", ["acme"])
            with pytest.raises(ValueError, match="starts at"):
                other.split(database_of(container), "things", ["acme"])
