"""Likeness and full text on the Cosmos DB peer, through the real SDK, held against plain arithmetic."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import CosmosHttpResponseError
from cosmos_peer import CosmosPeer
from cosmos_peer.full_text import K1, B, contains, words
from cosmos_peer_rig import database_of, new_container, rows

WORDS = ("owl", "pump", "valve", "invoice", "audit", "crane")
DIMENSIONS = 8


def policies(distance: str = "cosine") -> dict[str, Any]:
    embedding = {"path": "/vector", "dataType": "float32", "dimensions": DIMENSIONS, "distanceFunction": distance}
    return {
        "indexing_policy": {
            "includedPaths": [{"path": "/*"}],
            "excludedPaths": [{"path": "/vector/*"}, {"path": "/text/?"}],
            "vectorIndexes": [{"path": "/vector", "type": "quantizedFlat"}],
            "fullTextIndexes": [{"path": "/text"}],
        },
        "vector_embedding_policy": {"vectorEmbeddings": [embedding]},
        "full_text_policy": {
            "defaultLanguage": "en-US",
            "fullTextPaths": [{"path": "/text", "language": "en-US"}],
        },
    }


def made_up(tenant: str, count: int, *, seed: int = 3) -> list[dict[str, Any]]:
    choose = random.Random(f"{tenant}{seed}")
    return [
        {
            "id": f"i{number}",
            "tenantId": tenant,
            "text": " ".join(choose.choices(WORDS, k=choose.randrange(3, 30))).capitalize(),
            "vector": [round(choose.uniform(-1, 1), 4) for _ in range(DIMENSIONS)],
        }
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def peer() -> Iterator[CosmosPeer]:
    with CosmosPeer() as running:
        yield running


@pytest.fixture
async def container(peer: CosmosPeer) -> AsyncIterator[ContainerProxy]:
    async with new_container(peer, **policies()) as made:
        yield made


async def put(container: ContainerProxy, items: list[dict[str, Any]]) -> None:
    await asyncio.gather(*(container.create_item(item) for item in items))


def nearest(items: list[dict[str, Any]], vector: list[float], distance: str) -> list[tuple[str, str]]:
    """Tenant and id, the most alike first."""
    asked = np.array(vector)

    def order(item: dict[str, Any]) -> float:
        stored = np.array(item["vector"])
        if distance == "euclidean":
            return float(np.linalg.norm(stored - asked))
        product = float(stored @ asked)
        return (
            -product if distance == "dotproduct" else -product / float(np.linalg.norm(stored) * np.linalg.norm(asked))
        )

    return [(item["tenantId"], item["id"]) for item in sorted(items, key=order)]


def bm25(items: list[dict[str, Any]], terms: list[str]) -> dict[tuple[str, str], float]:
    """The scores of the items among themselves."""
    lengths = {id(item): len(words(item["text"])) for item in items}
    average = sum(lengths.values()) / len(items)
    scores = {}
    for item in items:
        total = 0.0
        for term in terms:
            having = sum(contains(other["text"], term) for other in items)
            frequency = words(item["text"]).count(term)
            weight = math.log(1 + (len(items) - having + 0.5) / (having + 0.5))
            damped = frequency + K1 * (1 - B + B * lengths[id(item)] / average)
            total += weight * frequency * (K1 + 1) / damped
        scores[(item["tenantId"], item["id"])] = total
    return scores


# Likeness


@pytest.mark.parametrize("distance", ["cosine", "dotproduct", "euclidean"])
async def test_the_most_alike_come_first(peer: CosmosPeer, distance: str) -> None:
    items = [*made_up("acme", 30), *made_up("globex", 30)]
    vector = [0.3, -0.2, 0.9, 0.1, -0.5, 0.4, 0.0, 0.7]
    likeness = "VectorDistance(c.vector, @vector)"
    select = f"SELECT TOP 15 c.tenantId, c.id, {likeness} AS likeness FROM c"
    async with new_container(peer, **policies(distance)) as container:
        await put(container, items)
        for where, among, key in (
            ("", items, None),
            (" WHERE c.tenantId = 'acme'", items[:30], None),
            ("", items[:30], ["acme"]),
        ):
            options = {} if key is None else {"partition_key": key}
            query = f"{select}{where} ORDER BY {likeness}"
            found = await rows(container, query, parameters={"@vector": vector}, **options)
            assert [(row["tenantId"], row["id"]) for row in found] == nearest(among, vector, distance)[:15]
            scores = [row["likeness"] for row in found]
            assert scores == sorted(scores, reverse=distance != "euclidean")


async def test_what_has_no_fitting_vector_is_not_alike(container: ContainerProxy) -> None:
    [first, second, third] = made_up("acme", 3)
    second["vector"] = second["vector"][:-1]
    del third["vector"]
    await put(container, [first, second, third])
    likeness = "VectorDistance(c.vector, @vector)"
    query = f"SELECT TOP 5 VALUE c.id FROM c ORDER BY {likeness}"
    assert await rows(container, query, parameters={"@vector": first["vector"]}) == ["i0"]
    with pytest.raises(CosmosHttpResponseError, match="array of 8 numbers") as refused:
        await rows(container, query, parameters={"@vector": [1, 2]})
    assert refused.value.status_code == 400
    with pytest.raises(CosmosHttpResponseError, match="neither ASC nor DESC"):
        await rows(container, query + " DESC", parameters={"@vector": first["vector"]}, partition_key=["acme", "i0"])


async def test_likeness_needs_a_limit(container: ContainerProxy) -> None:
    query = "SELECT c.id FROM c ORDER BY VectorDistance(c.vector, @vector)"
    with pytest.raises(ValueError, match="without TOP or LIMIT"):
        await rows(container, query, parameters={"@vector": [1.0] * DIMENSIONS})


# Full text


async def test_words_are_found_without_case_and_phrases_in_order(container: ContainerProxy) -> None:
    texts = {"a": "The red Bicycle, leaning", "b": "a bicycle that is red", "c": "Ünser Fahrrad; rot", "d": 7}
    for name, text in texts.items():
        await container.create_item({"id": name, "tenantId": "acme", "text": text})

    async def having(condition: str) -> list[str]:
        return sorted(await rows(container, f"SELECT VALUE c.id FROM c WHERE {condition}", partition_key=["acme"]))

    assert await having("FullTextContains(c.text, 'BICYCLE')") == ["a", "b"]
    assert await having("FullTextContains(c.text, 'red bicycle')") == ["a"]
    assert await having("FullTextContainsAll(c.text, 'red', 'bicycle')") == ["a", "b"]
    assert await having("FullTextContainsAny(c.text, 'leaning', 'ünser')") == ["a", "c"]
    assert await having("NOT FullTextContains(c.text, 'red')") == ["c"]
    assert await having("FullTextContains(c.text, 'bicy')") == []


@pytest.mark.parametrize("as_parameters", [True, False])
async def test_texts_are_ranked_by_the_words_of_the_whole_container(
    container: ContainerProxy, as_parameters: bool
) -> None:
    items = [*made_up("acme", 40), *made_up("globex", 40)]
    await put(container, items)
    terms = ["owl", "crane"]
    scores = bm25(items, terms)
    named = {"@a": terms[0], "@b": terms[1]} if as_parameters else None
    listed = "@a, @b" if as_parameters else "'owl', 'crane'"
    query = f"SELECT TOP 20 c.tenantId, c.id FROM c ORDER BY RANK FullTextScore(c.text, {listed})"
    found = [(row["tenantId"], row["id"]) for row in await rows(container, query, parameters=named)]
    assert len(found) == 20
    ranked = [scores[place] for place in found]
    assert ranked == sorted(ranked, reverse=True)
    assert ranked[-1] >= sorted(scores.values(), reverse=True)[19] - 1e-12


async def test_a_tenant_s_texts_can_be_ranked_by_its_own_words(peer: CosmosPeer, container: ContainerProxy) -> None:
    mine = made_up("acme", 30)
    query = "SELECT TOP 10 c.id FROM c WHERE c.tenantId = 'acme' ORDER BY RANK FullTextScore(c.text, 'owl', 'audit')"
    await put(container, mine)
    alone = await rows(container, query, partition_key=["acme"], full_text_score_scope="Local")
    scores = bm25(mine, ["owl", "audit"])
    ranked = [scores[("acme", row["id"])] for row in alone]
    assert ranked == sorted(ranked, reverse=True)
    # Another tenant's words on the same physical partition change nothing.
    home = peer.partitions_of(database_of(container), "things", ["acme"])
    names = (f"other{n}" for n in range(1000))
    neighbour = next(n for n in names if peer.partitions_of(database_of(container), "things", [n]) == home)
    flood = made_up(neighbour, 40)
    for item in flood:
        item["text"] = "owl " * 50
    await put(container, flood)
    assert await rows(container, query, partition_key=["acme"], full_text_score_scope="Local") == alone


async def test_ranks_are_fused(container: ContainerProxy) -> None:
    items = made_up("acme", 40)
    await put(container, items)
    vector = items[7]["vector"]
    likeness = nearest(items, vector, "cosine")
    by_words = bm25(items, ["owl"])
    levels = sorted(set(by_words.values()), reverse=True)

    def fused(text_weight: float, vector_weight: float) -> list[str]:
        totals = {
            place: text_weight / (60 + 1 + levels.index(score)) + vector_weight / (60 + 1 + likeness.index(place))
            for place, score in by_words.items()
        }
        return [identity for _, identity in sorted(totals, key=lambda place: -totals[place])]

    query = (
        "SELECT TOP 3 VALUE c.id FROM c ORDER BY RANK RRF(FullTextScore(c.text, 'owl'), VectorDistance(c.vector, {}){})"
    )
    for weights, text_weight, vector_weight in (("", 1, 1), (", [3, 1]", 3, 1), (", [1, 10]", 1, 10)):
        found = await rows(container, query.format(vector, weights))
        assert found == fused(text_weight, vector_weight)[:3]
        named = await rows(container, query.format("@vector", weights), parameters={"@vector": vector})
        assert named == found


@pytest.mark.parametrize(
    ("ranking", "why"),
    [
        ("FullTextScore(c.other, 'owl')", "Full Text Index"),
        ("FullTextScore(c.text, ['owl'])", "literals or parameters"),
        ("RRF(FullTextScore(c.text, 'owl'))", "at least two"),
        ("RRF(FullTextScore(c.text, 'owl'), VectorDistance(c.vector, [1]))", "8 numbers"),
        ("RRF(FullTextScore(c.text, 'owl'), FullTextScore(c.text, 'crane'), [1])", "weights"),
        ("c.id", "takes one"),
    ],
)
async def test_other_ranks_are_refused(container: ContainerProxy, ranking: str, why: str) -> None:
    with pytest.raises(CosmosHttpResponseError, match=why) as refused:
        await rows(container, f"SELECT TOP 3 c.id FROM c ORDER BY RANK {ranking}")
    assert refused.value.status_code == 400
