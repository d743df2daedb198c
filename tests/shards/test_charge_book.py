"""What a home's functions are charged is known to all of its processes, soon, for some days, and counted once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cosmos_databases import connect_to, new_database, store_on
from cosmos_peer import UNAVAILABLE, CosmosPeer, Fault
from shard_samples import ACME, id_of, make

from shards.cosmos_charge_book import CosmosChargeBook
from shards.cosmos_connection import CosmosConnection
from shards.cosmos_container import CosmosContainer
from shards.cosmos_containers import PROGRESS
from shards.cosmos_documents import CHARGES_DAYS
from shards.cosmos_store import CosmosShardStore
from shards.request_charges import Charge, RequestCharges, charged_to
from shards.store import ShardWrite

MONDAY = datetime(2026, 3, 2, 23, 0, tzinfo=UTC)


@pytest.fixture
def peer() -> Iterator[CosmosPeer]:
    with CosmosPeer() as running:
        yield running


@pytest.fixture
async def database(peer: CosmosPeer) -> AsyncIterator[str]:
    async with new_database(connect_to(peer)) as name:
        yield name


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = MONDAY

    def __call__(self) -> datetime:
        return self.now


@asynccontextmanager
async def process(
    peer: CosmosPeer, database: str, *, clock: Clock | None = None, patience: float = 20.0
) -> AsyncIterator[CosmosShardStore]:
    """A process of the home, as its store sees it."""
    store = store_on(connect_to(peer), database, clock=clock or Clock(), patience=patience)
    try:
        yield store
    finally:
        await store.close()


async def read(store: CosmosShardStore, function: str, times: int = 1) -> None:
    """Have *function* charged for as many reads of what is not there, at 1 RU each."""
    await store.get(ACME, id_of("opens the container"))
    with charged_to(function):
        for number in range(times):
            await store.get(ACME, id_of(str(number)))


async def read_by(store: CosmosShardStore) -> dict[str, list[Charge]]:
    """The charges in the book, by day."""
    return {day.day: day.charges for day in await store.charge_book.charges_by_day()}


async def test_a_process_tells_what_all_have_been_charged(peer: CosmosPeer, database: str) -> None:
    async with process(peer, database) as one, process(peer, database) as two, process(peer, database) as status:
        await one.write_many([ShardWrite(make("a"), None)])
        await read(one, "enrich_shards", 2)
        await read(two, "enrich_shards", 3)
        await read(two, "search", 1)
        assert await read_by(status) == {}
        await one.charge_book.report()
        await two.charge_book.report()
        assert await read_by(status) == {
            "2026-03-02": [Charge("enrich_shards", "read", 5, 5.0, 0), Charge("search", "read", 1, 1.0, 0)]
        }
        assert await status.tenants() == [ACME], "the directory is in the same place"


async def test_a_report_says_the_whole_of_a_day_so_it_may_be_written_twice(peer: CosmosPeer, database: str) -> None:
    async with process(peer, database) as store:
        await read(store, "search", 2)
        await store.charge_book.report()
        await read(store, "search", 1)
        peer.fail(Fault(UNAVAILABLE, operations=("upsert",), times=1))
        await store.charge_book.report()
        assert await read_by(store) == {"2026-03-02": [Charge("search", "read", 3, 3.0, 0)]}


async def test_a_report_is_cause_for_none(peer: CosmosPeer, database: str) -> None:
    async with process(peer, database) as store:
        await read(store, "search")
        await store.charge_book.report()
        peer.reset_counts()
        await store.charge_book.report()
        assert peer.counts().operations() == 0


async def test_a_day_has_what_was_charged_on_it(peer: CosmosPeer, database: str) -> None:
    clock = Clock()
    async with process(peer, database, clock=clock) as store:
        await read(store, "search", 2)
        await store.charge_book.report()
        clock.now += timedelta(hours=2)
        await read(store, "search", 1)
        await read(store, "shards", 1)
        await store.charge_book.report()
        kept = await read_by(store)
        assert list(kept) == ["2026-03-03", "2026-03-02"]
        assert kept["2026-03-02"] == [Charge("search", "read", 2, 2.0, 0)]
        assert kept["2026-03-03"] == [Charge("search", "read", 1, 1.0, 0), Charge("shards", "read", 1, 1.0, 0)]


async def test_days_are_kept_for_a_week_and_a_day(peer: CosmosPeer, database: str) -> None:
    async with process(peer, database) as store:
        await read(store, "search")
        await store.charge_book.report()
        peer.advance(CHARGES_DAYS * 86_400 - 60)
        assert list(await read_by(store)) == ["2026-03-02"]
        peer.advance(120)
        assert await read_by(store) == {}


async def test_a_process_that_ends_leaves_what_it_was_charged(peer: CosmosPeer, database: str) -> None:
    async with process(peer, database) as store:
        await read(store, "search")
    async with process(peer, database) as status:
        assert await read_by(status) == {"2026-03-02": [Charge("search", "read", 1, 1.0, 0)]}


async def test_commands_leave_nothing_in_the_book(peer: CosmosPeer, database: str) -> None:
    async with process(peer, database) as store:
        await store.get(ACME, id_of("a"))
    async with process(peer, database) as status:
        assert await read_by(status) == {}


async def test_what_is_charged_is_written_without_being_asked_for(peer: CosmosPeer, database: str) -> None:
    charges = RequestCharges()
    connection = CosmosConnection(connect_to(peer), database, charges=charges)
    container = CosmosContainer(connection, PROGRESS)
    book = CosmosChargeBook(container, charges, Clock(), report_after=0)
    try:
        with charged_to("search"):
            await container.read((ACME, "a"), "a")
        while not (kept := await book.charges_by_day()):  # noqa: ASYNC110 - the book tells nobody
            await asyncio.sleep(0.01)
        assert [charge.function for charge in kept[0].charges] == ["search"] * len(kept[0].charges)
    finally:
        await book.close()
        await connection.close()


async def test_a_store_that_is_away_delays_the_report_and_nothing_else(
    peer: CosmosPeer, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with process(peer, database, patience=0.1) as store:
        await read(store, "search")
        peer.fail(Fault(UNAVAILABLE, operations=("upsert",)))
    assert "what was charged is written with the next report" in caplog.text
    peer.heal()
    async with process(peer, database) as status:
        assert await read_by(status) == {}
