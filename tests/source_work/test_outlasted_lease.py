"""Work that a slow org keeps beyond its lease: another worker takes it over, and both come to their ends."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from chain_rig import current
from salesforce_source_rig import SalesforceSourceRig
from source_rig import Key

from ingestion.asking import ask
from ingestion.salesforce.client import QueryPage, SalesforceClient
from ingestion.work import LEASE_FOR
from local.salesforce.schema import Field
from messaging.contracts import Recurring

pytestmark = pytest.mark.usefixtures("source_functions", "without_waiting")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[SalesforceSourceRig]:
    async with SalesforceSourceRig(tmp_path / "data") as made:
        yield made


@pytest.mark.parametrize(("kind", "asked"), [("poll", 0), ("sweep", 1), ("refresh", 0)])
async def test_nothing_is_lost_or_stored_twice(
    rig: SalesforceSourceRig, kind: Recurring, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.org.add_field("Account", Field("Health__c", "double", calculated=True))
    kept = [await rig.create(f"A{number}") for number in range(3)]
    gone = await rig.create("Gone")
    await rig.connect()
    await rig.settle()
    rig.wait(3600)
    for key in kept:
        await rig.change(key, "changed")
    if kind != "poll":
        await rig.catch_up()
        await rig.destroy(gone)
        for key in kept:
            rig.org.drift("Account", key.external_id, {"Health__c": 5})
    before = await _revisions(rig, kept)

    other = rig.another_worker()
    query, calls = SalesforceClient.query, 0

    async def slow(client: SalesforceClient, soql: str, *, object_type: str, deleted_too: bool = True) -> QueryPage:
        nonlocal calls
        number, calls = calls, calls + 1
        page = await query(client, soql, object_type=object_type, deleted_too=deleted_too)
        if number == asked:
            rig.wait(LEASE_FOR.total_seconds() + 60)
            assert await rig.work(other) > 0, "the other worker takes the work over, and ends it"
            current.set(rig.services)
        return page

    monkeypatch.setattr(SalesforceClient, "query", slow)
    # For a sweep a record is gone once a second listing misses it, too.
    for number in range(2):
        calls = 0
        rig.wait(700)
        await ask([await rig.connection()], kind, rig.services.ingestion)
        await rig.settle()
        assert number == 1 or calls > asked + 1, "the slow call was the last"
    for source in other.sources.values():
        source.close()
    await other.close()

    stored = [await rig.stored(key) for key in kept]
    assert [one.structured_data["name"] for one in stored if one is not None] == ["changed"] * 3
    changed = 0 if kind == "sweep" else 1
    assert await _revisions(rig, kept) == [one + changed for one in before]
    if kind == "refresh":
        assert all(one is not None and one.structured_data["customFields"] == {"Health__c": 5} for one in stored)
    shard = await rig.stored(gone)
    assert shard is not None
    assert shard.is_live == (kind != "sweep")
    memory = await rig.memory()
    assert (memory.lease, memory.error_message) == (None, None)


async def _revisions(rig: SalesforceSourceRig, keys: list[Key]) -> list[int]:
    shards = [await rig.stored(key) for key in keys]
    return [one.revision for one in shards if one is not None]
