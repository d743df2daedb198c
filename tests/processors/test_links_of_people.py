"""Enrichment brings in step what fields tell, and leaves alone what people and other methods have said."""

from decimal import Decimal

import pytest
from chain_rig import TENANT, Rig, event, id_of, moment, record_id

from messaging.contracts import ShardEmission
from messaging.queues import ENRICHMENT_JOBS, INGESTION_EVENTS, SHARD_EMISSION
from shards.identity import link_id
from shards.model import InternalRelationship, LinkSource, Shard
from shards.store import ShardWrite


def link(shard: Shard, kind: str, target: str, made_by: LinkSource, method: str) -> InternalRelationship:
    return InternalRelationship(
        id=link_id(shard.id, kind, target),
        target_shard_id=target,
        target_shard_type_id="c_account",
        relationship_type=kind,
        status="active",
        confidence=Decimal("0.5"),
        source=made_by,
        method=method,
        evidence={"note": "kept"},
        created_at=moment(0),
        created_by="ann@acme.example",
    )


async def change_links(rig: Rig, shard: Shard, links: list[InternalRelationship]) -> None:
    """Write the shard's links as another writer would, over its etag."""
    shard.internal_relationships = links
    [etag] = await rig.store.write_many([ShardWrite(shard, shard.etag)])
    assert etag is not None


async def test_a_moved_reference_moves_its_link(rig: Rig) -> None:
    await rig.run(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.run(event("Opportunity", 1, 2, Name="Deal", AccountId=record_id("Account", 2)))
    shard = await rig.shard("Opportunity", 1)
    assert [link.target_shard_id for link in shard.internal_relationships] == [id_of("Account", 2)]
    await rig.run(event("Opportunity", 1, 3, Name="Deal"))
    assert (await rig.shard("Opportunity", 1)).internal_relationships == []


async def test_links_change_the_etag_and_not_the_revision(rig: Rig) -> None:
    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.drain(INGESTION_EVENTS)
    await change_links(rig, await rig.shard("Opportunity", 1), [])
    written = await rig.shard("Opportunity", 1)
    await rig.drain(SHARD_EMISSION)
    linked = await rig.shard("Opportunity", 1)
    assert written.internal_relationships == []
    assert len(linked.internal_relationships) == 1
    assert linked.revision == written.revision == 1
    assert linked.etag != written.etag
    assert linked.fingerprint == written.fingerprint


async def test_a_shard_comes_with_the_links_that_its_fields_tell(rig: Rig) -> None:
    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.drain(INGESTION_EVENTS)
    written = await rig.shard("Opportunity", 1)
    assert [link.relationship_type for link in written.internal_relationships] == ["opportunity_for"]
    await rig.drain(SHARD_EMISSION)
    assert (await rig.shard("Opportunity", 1)).etag == written.etag


async def test_a_second_enrichment_writes_nothing(rig: Rig) -> None:
    await rig.run(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    before = await rig.shard("Opportunity", 1)
    await rig.emit_again("Opportunity", 1, generation=7)
    await rig.drain()
    assert (await rig.shard("Opportunity", 1)).etag == before.etag


async def test_links_that_people_made_stay(rig: Rig) -> None:
    await rig.run(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    shard = await rig.shard("Opportunity", 1)
    mine = link(shard, "references", id_of("Account", 5), "manual", "by-hand")
    await change_links(rig, shard, [*shard.internal_relationships, mine])
    await rig.run(event("Opportunity", 1, 2, Name="Renamed", AccountId=record_id("Account", 2)))
    links = {one.id: one for one in (await rig.shard("Opportunity", 1)).internal_relationships}
    assert links[mine.id] == mine
    assert {one.target_shard_id for one in links.values()} == {id_of("Account", 2), id_of("Account", 5)}


async def test_a_link_that_a_person_rejected_is_never_made_again(rig: Rig) -> None:
    await rig.run(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    shard = await rig.shard("Opportunity", 1)
    [told] = shard.internal_relationships
    told.status = "rejected"
    await change_links(rig, shard, [told])
    await rig.run(event("Opportunity", 1, 2, Name="Renamed", AccountId=record_id("Account", 1)))
    [kept] = (await rig.shard("Opportunity", 1)).internal_relationships
    assert kept.status == "rejected"
    # Away and back again: still rejected.
    await rig.run(event("Opportunity", 1, 3, Name="Renamed", AccountId=record_id("Account", 2)))
    await rig.run(event("Opportunity", 1, 4, Name="Renamed", AccountId=record_id("Account", 1)))
    links = {one.target_shard_id: one.status for one in (await rig.shard("Opportunity", 1)).internal_relationships}
    assert links == {id_of("Account", 1): "rejected"}


async def test_links_of_other_methods_stay(rig: Rig) -> None:
    await rig.run(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    shard = await rig.shard("Opportunity", 1)
    found = link(shard, "mentions", id_of("Account", 6), "llm", "entity-match")
    await change_links(rig, shard, [*shard.internal_relationships, found])
    await rig.run(event("Opportunity", 1, 2, Name="Renamed"))
    assert (await rig.shard("Opportunity", 1)).internal_relationships == [found]


async def test_a_deleted_shard_keeps_only_what_people_said(rig: Rig) -> None:
    await rig.run(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    shard = await rig.shard("Opportunity", 1)
    mine = link(shard, "references", id_of("Account", 5), "manual", "by-hand")
    found = link(shard, "mentions", id_of("Account", 6), "llm", "entity-match")
    await change_links(rig, shard, [*shard.internal_relationships, mine, found])
    await rig.run(event("Opportunity", 1, 2, event_type="delete"))
    assert (await rig.shard("Opportunity", 1)).internal_relationships == [mine]


async def test_a_field_that_holds_no_id_makes_no_link(rig: Rig) -> None:
    await rig.run(event("Account", 1, 1, Name="Own parent", ParentId=record_id("Account", 1)))
    assert (await rig.shard("Account", 1)).internal_relationships == []


async def test_an_emission_of_a_shard_that_is_not_there_is_parked(rig: Rig) -> None:
    lost = ShardEmission(
        tenant_id=TENANT, shard_id="sh_nothing", shard_type_id="c_account", revision=1, change_type="update"
    )
    await rig.bus.send(SHARD_EMISSION, [lost.to_message(SHARD_EMISSION)])
    await rig.drain()
    [parked] = await rig.parked()
    assert (parked.reason, parked.queue, parked.tenant_id) == ("shard-missing", SHARD_EMISSION, TENANT)
    assert "sh_nothing" in parked.detail
    assert (await rig.depth(ENRICHMENT_JOBS)).active == 0


async def test_a_shard_that_others_keep_changing_is_enriched_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.send(event("Opportunity", 1, 1, Name="Deal", AccountId=record_id("Account", 1)))
    await rig.drain(INGESTION_EVENTS)
    await change_links(rig, await rig.shard("Opportunity", 1), [])
    real = rig.store.write_many
    interfering = True

    async def changed_before(writes: list[ShardWrite]) -> list[str | None]:
        if interfering:
            other = await rig.shard("Opportunity", 1)
            await real([ShardWrite(other, other.etag)])
        return await real(writes)

    monkeypatch.setattr(rig.store, "write_many", changed_before)
    await rig.step(SHARD_EMISSION)
    assert (await rig.shard("Opportunity", 1)).internal_relationships == []
    assert (await rig.depth(SHARD_EMISSION)).scheduled == 1
    interfering = False
    rig.wait(5)
    await rig.drain()
    assert len((await rig.shard("Opportunity", 1)).internal_relationships) == 1
    assert await rig.parked() == []
