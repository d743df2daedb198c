"""What a record asks of Cosmos DB: what has not changed costs one read, and the rest no more than it needs."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chain_rig import Rig, current, event, id_of
from cosmos_databases import connect_to
from cosmos_peer import CosmosPeer

from processors.models.embedding import StaticEmbeddingModel
from shards.cosmos_containers import containers
from shards.cosmos_provisioning import provision
from shards.cosmos_store import CosmosShardStore

DATABASE = "costs"
MANY = 50


@pytest.fixture(scope="module")
def peer() -> Iterator[CosmosPeer]:
    with CosmosPeer() as running:
        yield running


@pytest.fixture
async def rig(peer: CosmosPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """The chain with its store on Cosmos DB."""
    monkeypatch.setattr("processors.blueprint.services", current.get)
    connect, model = connect_to(peer), StaticEmbeddingModel()
    async with connect() as client:
        await provision(client, DATABASE, containers(model.name, model.dimensions))
        made = Rig(tmp_path)
        store = CosmosShardStore(connect, DATABASE, model=model.name, dimensions=model.dimensions, clock=made.clock)
        made.services = replace(made.services, store=store)
        # What a process asks once.
        await made.run(event("Account", 0, 0, Name="first"))
        yield made
        await store.close()
        await made.close()
        await client.delete_database(DATABASE)


def asked(peer: CosmosPeer) -> dict[str, int]:
    """What was asked for since the last time, by container and operation."""
    counts = {f"{tally.container} {tally.operation}": tally.operations for tally in peer.counts().tallies}
    peer.reset_counts()
    return counts


def accounts(version: float, *, read_at: float, count: int = 1, **fields: Any) -> list[Any]:
    return [
        event("Account", number, version, read_at=read_at, Name=f"Account {number}", **fields)
        for number in range(1, count + 1)
    ]


async def test_a_record_that_has_not_changed_costs_one_read(rig: Rig, peer: CosmosPeer) -> None:
    await rig.run(*accounts(10, read_at=11))
    asked(peer)
    await rig.run(*accounts(10, read_at=20))
    assert asked(peer) == {"shards read": 1}
    assert rig.handled("normalize") == 3


async def test_a_record_that_was_overtaken_costs_one_read(rig: Rig, peer: CosmosPeer) -> None:
    await rig.run(*accounts(10, read_at=11))
    asked(peer)
    await rig.run(*accounts(5, read_at=6, Description="old"))
    assert asked(peer) == {"shards read": 1}


async def test_a_batch_that_has_not_changed_costs_one_query_and_less_than_a_read_each(
    rig: Rig, peer: CosmosPeer
) -> None:
    await rig.run(*accounts(10, read_at=11, count=MANY))
    asked(peer)
    await rig.run(*accounts(10, read_at=20, count=MANY))
    assert peer.counts().request_units() < MANY
    assert asked(peer) == {"shards query": 1}


async def test_a_version_that_moves_costs_a_read_and_a_write(rig: Rig, peer: CosmosPeer) -> None:
    await rig.run(*accounts(10, read_at=11))
    asked(peer)
    await rig.run(*accounts(12, read_at=20))
    assert asked(peer) == {"shards read": 1, "shards replace": 1}


async def test_a_new_record_is_written_once_its_chunk_twice_and_its_progress_once_a_stage(
    rig: Rig, peer: CosmosPeer
) -> None:
    asked(peer)
    await rig.run(*accounts(10, read_at=11, Description="word " * 20))
    counts = asked(peer)
    chunks = next(name for name in counts if name.startswith("chunks")).split()[0]
    writes = {name: count for name, count in counts.items() if name.split()[1] not in ("read", "query")}
    assert writes == {"shards create": 1, "progress create": 1, "progress replace": 3, f"{chunks} batch": 2}
    shard = await rig.services.store.get("acme", id_of("Account", 1))
    assert shard is not None
    assert len(await rig.services.store.chunks("acme", shard.id)) == 1
