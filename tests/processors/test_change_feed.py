"""Shards that others than the chain have written are prepared from the change feed, and the chain's own are not."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from chain_rig import TENANT, Rig, current, event, moment

from messaging.bus import BusUnavailableError, Message
from messaging.queues import EMBEDDING_JOBS, ENRICHMENT_JOBS
from operations.reconciliation import reconcile
from processors.change_feed import prepare_changes
from shards.identity import shard_id
from shards.model import Acl, Shard, Writer, encode_shard
from shards.store import ShardWrite, StoreUnavailableError


@pytest.fixture
async def rig(tmp_path: Path, chain_functions: None) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "data")
    try:
        yield made
    finally:
        await made.close()


def project(number: int, *, description: str, revision: int = 1, written_by: Writer = "integration") -> Shard:
    return Shard(
        id=shard_id(TENANT, "notion", "workspace", "page", f"page-{number}"),
        tenant_id=TENANT,
        shard_type_id="c_account",
        revision=revision,
        structured_data={"name": f"Page {number}", "description": description},
        acl=Acl.of("tenant"),
        written_by=written_by,
        created_at=moment(0),
        updated_at=moment(revision),
    )


async def write(rig: Rig, shard: Shard) -> Shard:
    standing = await rig.store.get(TENANT, shard.id)
    [etag] = await rig.store.write_many([ShardWrite(shard, standing.etag if standing else None)])
    assert etag is not None
    return shard


def documents(*shards: Shard) -> func.DocumentList:
    """The changes as the trigger hands them over."""
    return func.DocumentList(func.Document.from_dict(json.loads(encode_shard(shard))) for shard in shards)


async def feed(rig: Rig, changes: func.DocumentList) -> None:
    """The app's own function on *changes*."""
    [function] = rig.index.feeds
    current.set(rig.services)
    await function.call(changes)


async def texts(rig: Rig, shard: Shard) -> list[tuple[bool, bool]]:
    return [(shard.name in chunk.text, chunk.vector is not None) for chunk in await rig.store.chunks(TENANT, shard.id)]


async def test_what_an_integration_wrote_gets_chunks_and_vectors(rig: Rig) -> None:
    page = await write(rig, project(1, description="The renewal is at risk."))
    await feed(rig, documents(page))
    assert (await rig.depth(EMBEDDING_JOBS)).active == 1
    await rig.drain()
    assert await texts(rig, page) == [(True, True)]
    rig.wait(600)
    assert await reconcile(rig.services.reconciliation, after=rig.now - rig.now) == 0


async def test_the_chains_own_writes_start_nothing(rig: Rig) -> None:
    await rig.run(event("Account", 1, 1, Name="Acme"))
    page = await rig.store.changes(after=None, limit=100)
    assert page.shards
    before = await rig.store.stages_behind()
    await feed(rig, documents(*page.shards))
    assert {queue: depth.active for queue, depth in (await rig.bus.depths()).items() if depth.active} == {}
    assert await rig.store.stages_behind() == before
    assert (await rig.store.changes(after=page.position, limit=100)).shards == []


async def test_preparing_changes_makes_no_change(rig: Rig) -> None:
    page = await write(rig, project(1, description="One."))
    position = (await rig.store.changes(after=None, limit=100)).position
    await feed(rig, documents(page))
    await rig.drain()
    assert (await rig.store.changes(after=position, limit=100)).shards == []


async def test_the_same_changes_twice_are_prepared_once_and_newer_text_again(rig: Rig) -> None:
    page = await write(rig, project(1, description="One."))
    await feed(rig, documents(page, page))
    await feed(rig, documents(page))
    await rig.drain()
    assert rig.handled("embed") == 1
    newer = await write(rig, project(1, description="Two.", revision=2))
    await feed(rig, documents(newer))
    await rig.drain()
    assert rig.handled("embed") == 2
    assert await texts(rig, newer) == [(True, True)]


async def test_a_shard_that_was_deleted_since_leaves_no_chunks(rig: Rig) -> None:
    page = await write(rig, project(1, description="One."))
    await feed(rig, documents(page))
    await rig.drain()
    gone = project(1, description="", revision=2)
    gone.status, gone.deleted_at = "deleted", moment(2)
    await write(rig, gone)
    await feed(rig, documents(gone))
    await rig.drain()
    assert await texts(rig, gone) == []


async def test_one_that_fails_goes_on_as_a_job_and_holds_back_no_other(rig: Rig) -> None:
    good, bad = await write(rig, project(1, description="Good.")), await write(rig, project(2, description="Bad."))
    real = rig.store.get_many

    async def get_many(tenant_id: str, shard_ids: Any) -> dict[str, Shard]:
        if bad.id in shard_ids:
            raise RuntimeError("cannot be prepared")
        return await real(tenant_id, shard_ids)

    rig.store.get_many = get_many  # type: ignore[method-assign]
    await feed(rig, documents(good, bad))
    assert (await rig.depth(EMBEDDING_JOBS)).active == 1
    assert (await rig.depth(ENRICHMENT_JOBS)).active == 1
    for _ in range(8):
        await rig.drain()
        rig.wait(600)
    parked = await rig.parked()
    assert [(message.queue, message.reason) for message in parked] == [(ENRICHMENT_JOBS, "failed")]
    assert bad.id in parked[0].body
    assert await texts(rig, good) == [(True, True)]


class Away:
    """A bus that does not answer."""

    async def send(self, queue: str, messages: list[Message], *, delay: object = None) -> None:
        raise BusUnavailableError("away")


async def test_an_outage_raises_so_that_the_changes_come_again(rig: Rig) -> None:
    page = await write(rig, project(1, description="One."))
    ports = rig.services.change_feed
    away: Any = Away()
    with pytest.raises(BusUnavailableError):
        await prepare_changes(documents(page), replace(ports, preparation=replace(ports.preparation, bus=away)))
    real = rig.store.advance

    async def advance(*_: Any) -> None:
        raise StoreUnavailableError("away")

    failing: Any = advance
    rig.store.advance = failing  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailableError):
        await feed(rig, documents(page))
    rig.store.advance = real  # type: ignore[method-assign]
    await feed(rig, documents(page))
    await rig.drain()
    assert await texts(rig, page) == [(True, True)]


async def test_what_is_no_shard_is_passed_by_and_a_broken_one_is_parked(rig: Rig) -> None:
    broken = {"id": "sh_broken", "tenantId": TENANT, "shardTypeId": "c_account", "writtenBy": "user", "revision": "x"}
    await feed(rig, func.DocumentList([func.Document.from_dict({"id": "scope", "tenantId": TENANT})]))
    await feed(rig, func.DocumentList([func.Document.from_dict(broken)]))
    [parked] = await rig.parked()
    assert (parked.reason, parked.tenant_id) == ("invalid-shard", TENANT)
    assert "revision" in parked.detail
    await feed(rig, func.DocumentList())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("revision", 0),
        ("tenantId", ""),
        ("tenantId", "t" * 257),
        ("tenantId", "@unknown"),
        ("shardTypeId", ""),
        ("revision", None),
    ],
)
async def test_a_shard_that_no_job_can_be_made_of_holds_back_no_other(rig: Rig, field: str, value: object) -> None:
    """What raises is fed again for ever, and everything behind it with it."""
    good = await write(rig, project(1, description="Good."))
    broken = json.loads(encode_shard(project(2, description="Bad."))) | {field: value}
    await feed(rig, func.DocumentList([func.Document.from_dict(broken), *documents(good)]))
    assert [message.reason for message in await rig.parked()] == ["invalid-shard"]
    await rig.drain()
    assert await texts(rig, good) == [(True, True)]
