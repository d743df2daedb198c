"""A tenant never shows in another's answers, and what a reader may not see shows in none of his."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import apsw
import pytest
from cosmos_databases import connect_to, new_store
from cosmos_peer import CosmosPeer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parked_messages_contract import message
from shard_samples import ACME, GLOBEX, chunk_of, id_of, link, make, write
from tenant_walls import NAMES, READERS, Record, keep, operators_picture, picture, readers_picture, records

from shards.cosmos_store import CosmosShardStore
from shards.identity import chunk_id
from shards.model import Acl
from shards.sqlite_store import SqliteShardStore
from shards.store import Stage


class Stores(Protocol):
    """Gives empty stores, and tells what was asked of what they stand on: what a caller could tell from their time."""

    def opened(self) -> AbstractAsyncContextManager[Any]: ...

    def forget_work(self) -> None: ...

    def work(self) -> Any: ...


class SqliteStores:
    """Stores in files, which are asked nothing that could be counted (but see the test of steps)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SqliteShardStore]:
        store = SqliteShardStore(self._folder / f"{next(self._numbers)}.db")
        yield store
        await store.close()

    def forget_work(self) -> None: ...

    def work(self) -> None: ...


class CosmosStores:
    """Stores on a Cosmos DB peer; the work is what it was asked and what it charged."""

    def __init__(self, peer: CosmosPeer) -> None:
        self._peer = peer

    def opened(self) -> AbstractAsyncContextManager[CosmosShardStore]:
        return new_store(connect_to(self._peer))

    def forget_work(self) -> None:
        self._peer.reset_counts()

    def work(self) -> list[tuple[str, str, int, float, int]]:
        return sorted(
            (tally.operation, tally.container, tally.operations, round(tally.request_units, 6), tally.bytes_out)
            for tally in self._peer.counts().tallies
        )


@pytest.fixture(scope="module", params=["sqlite", "cosmos"])
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    if request.param == "sqlite":
        yield SqliteStores(tmp_path_factory.mktemp("walls"))
        return
    with CosmosPeer() as peer:
        yield CosmosStores(peer)


ALIKE = [
    Record(name, "owl lark", "wren", Acl.of("tenant"), second, ("one",), None, False, True, 45, True)
    for second, name in enumerate(NAMES)
]

some_examples = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@some_examples
@given(mine=records(), theirs=records())
def test_another_tenants_records_change_no_answer_and_no_work(
    stores: Stores, mine: list[Record], theirs: list[Record]
) -> None:
    async def told(store: Any) -> tuple[Any, Any, Any]:
        stores.forget_work()
        answers = await picture(store, store)
        return answers, stores.work(), await operators_picture(store, store)

    async def before_and_after() -> tuple[Any, Any]:
        async with stores.opened() as store:
            await keep(store, store, ACME, mine)
            # The first time, what is needed for answers is opened and made.
            await told(store)
            before = await told(store)
            await keep(store, store, GLOBEX, theirs)
            return before, await told(store)

    before, after = asyncio.run(before_and_after())
    assert after == before
    assert len(before[0]["get_many"]) == len(mine)


async def test_the_size_of_another_tenant_makes_no_steps_in_a_file(tmp_path: Path) -> None:
    steps = statements = 0

    def step() -> bool:
        nonlocal steps
        steps += 1
        return False

    def begun(_: object) -> None:
        nonlocal statements
        statements += 1

    async def steps_of_answers(store: SqliteShardStore) -> int:
        nonlocal steps, statements
        # The second time, for what is read once is known then.
        for _ in range(2):
            steps = statements = 0
            await picture(store, store)
        return steps

    async with SqliteStores(tmp_path).opened() as store:
        await keep(store, store, ACME, ALIKE)
        await store._file.run(lambda connection: connection.set_progress_handler(step, 1))
        await store._file.run(lambda connection: connection.trace_v2(apsw.SQLITE_TRACE_STMT, begun))
        before = await steps_of_answers(store)
        shards = [make(f"S{number}", tenant=GLOBEX, links=[link(f"S{number}", "one")]) for number in range(400)]
        await write(store, *shards)
        await store.put_chunks(GLOBEX, [chunk_of(shard, "owl lark wren") for shard in shards])
        await store.advance(GLOBEX, Stage.NORMALIZED, [(shard.id, "c_account", 1) for shard in shards])
        await store.park([message(number, tenant=GLOBEX) for number in range(400)])
        await keep(store, store, GLOBEX, ALIKE)
        # Where a range of rows ends, one step tells a row of another from the end of the table.
        assert abs(await steps_of_answers(store) - before) < statements / 2


@some_examples
@given(kept=records(), reader=st.sampled_from([reader for reader in READERS if reader is not None]))
def test_a_reader_neither_sees_nor_counts_what_is_in_a_scope_of_others(
    stores: Stores, kept: list[Record], reader: frozenset[str]
) -> None:
    # A merged record leads to the one it was merged into, whoever may read either.
    all_of_them = [replace(record, redirect=None) for record in kept]
    readable = [record for record in all_of_them if reader.intersection(record.acl.principals)]

    async def seen(some: list[Record]) -> dict[str, Any]:
        async with stores.opened() as store:
            if some:
                await keep(store, store, ACME, some)
            return await readers_picture(store, reader)

    with_others, alone = asyncio.run(seen(all_of_them)), asyncio.run(seen(readable))
    for what, answer in alone.items():
        if what.startswith("ShardQuery"):
            assert with_others[what] == answer
        else:
            # How frequent a word is counts within the tenant, so it may order anew what a reader may see, and of
            # several words another may be the rare one; but nothing is hidden by what he may not see.
            told = {hit[:2] for hit in with_others[what]}
            assert told <= {(id_of(record.name), chunk_id(id_of(record.name), 0)) for record in readable}
            assert bool(told) == bool(answer)
            if what.startswith("one word"):
                assert told == {hit[:2] for hit in answer}
