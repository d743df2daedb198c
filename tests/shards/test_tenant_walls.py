"""A tenant never shows in another's answers, and what a reader may not see shows in none of his."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shard_samples import ACME, GLOBEX, id_of
from tenant_walls import READERS, Record, keep, operators_picture, picture, readers_picture, records

from shards.identity import chunk_id
from shards.sqlite_store import SqliteShardStore

type_of_store = Callable[[], AbstractAsyncContextManager[Any]]

_numbers = count()


def sqlite_stores(folder: Path) -> type_of_store:
    @asynccontextmanager
    async def opened() -> AsyncIterator[SqliteShardStore]:
        store = SqliteShardStore(folder / f"{next(_numbers)}.db")
        yield store
        await store.close()

    return opened


@pytest.fixture(scope="module", params=["sqlite"])
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> type_of_store:
    return sqlite_stores(tmp_path_factory.mktemp("walls"))


of_both = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@of_both
@given(mine=records(), theirs=records())
def test_another_tenants_somechange_no_answer(stores: type_of_store, mine: list[Record], theirs: list[Record]) -> None:
    async def told() -> tuple[Any, Any]:
        async with stores() as store:
            await keep(store, store, ACME, mine)
            before = (await picture(store, store), await operators_picture(store, store))
            await keep(store, store, GLOBEX, theirs)
            after = (await picture(store, store), await operators_picture(store, store))
            return before, after

    before, after = asyncio.run(told())
    assert after == before
    assert len(before[0]["get_many"]) == len(mine)


@of_both
@given(kept=records(), reader=st.sampled_from([reader for reader in READERS if reader is not None]))
def test_a_reader_neither_sees_nor_counts_what_is_in_a_scope_of_others(
    stores: type_of_store, kept: list[Record], reader: frozenset[str]
) -> None:
    # A merged record leads to the one it was merged into, whoever may read either.
    all_of_them = [replace(record, redirect=None) for record in kept]
    readable = [record for record in all_of_them if reader.intersection(record.acl.principals)]

    async def seen(some: list[Record]) -> dict[str, Any]:
        async with stores() as store:
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
