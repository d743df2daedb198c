"""What can happen to a record, told to the real chain, with the stored shard as the evidence.

Each story runs twice: batch by batch, and under the local host's own worker.
"""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from chain_rig import ORG, OTHER_ORG, TENANT, HostedRig, Rig, event, id_of, moment, record_id

from connections.salesforce_connection import SalesforceAuth, SalesforceConnection
from messaging.contracts import IngestionEvent
from messaging.queues import EMBEDDING_JOBS, ENRICHMENT_JOBS, INGESTION_EVENTS, INGESTION_EVENTS_BULK, SHARD_EMISSION
from operations.replay import replay
from shards.identity import SHARDLINE_SYSTEM, link_id
from shards.model import ExternalRelationship, InternalRelationship, Shard
from shards.store import SearchQuery, ShardQuery, ShardWrite


@pytest.fixture(params=[Rig, HostedRig], ids=["batches", "worker"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path, chain_functions: None) -> AsyncIterator[Rig]:
    made: Rig = request.param(tmp_path / "data")
    try:
        yield made
    finally:
        await made.close()


def deal(version: float, name: str = "Renewal", *, read_at: float | None = None, account: int = 1) -> IngestionEvent:
    return event(
        "Opportunity",
        1,
        version,
        read_at=read_at,
        Name=name,
        AccountId=record_id("Account", account),
        Description=f"{name}: what the customer wants from us this year.",
    )


def gone(version: float, *, read_at: float | None = None) -> IngestionEvent:
    return event("Opportunity", 1, version, read_at=read_at, event_type="delete")


async def name_of(rig: Rig) -> object:
    return (await rig.shard("Opportunity", 1)).structured_data.get("name")


async def test_the_way_of_one_record(rig: Rig) -> None:
    await rig.run(event("Account", 1, 1, Name="Acme", Industry="Energy"), deal(1))
    shard = await rig.shard("Opportunity", 1)
    assert (shard.shard_type_id, shard.status, shard.revision) == ("c_opportunity", "active", 1)
    assert shard.structured_data["name"] == "Renewal"
    [source] = shard.external_relationships
    assert (source.system, source.instance, source.object_type) == ("salesforce", ORG, "Opportunity")
    assert (source.source_version, source.read_at, source.connection_id) == (moment(1), moment(2), "main")
    [link] = shard.internal_relationships
    assert (link.relationship_type, link.target_shard_id) == ("opportunity_for", id_of("Account", 1))
    assert (link.method, link.evidence, link.confidence) == ("structured-field", {"field": "AccountId"}, Decimal("0.9"))
    [chunk] = await rig.chunks("Opportunity", 1)
    assert chunk.text.startswith("Renewal")
    assert chunk.vector is not None
    assert chunk.acl_scope == shard.acl.scope
    hits = await rig.store.search(SearchQuery(TENANT, "what does the customer want", None, limit=3))
    assert hits[0].shard.id == shard.id


async def test_the_same_event_twice_changes_nothing(rig: Rig) -> None:
    await rig.run(deal(1))
    before = await rig.shard("Opportunity", 1)
    enriched = rig.handled("enrich")
    # Under another message id, as after the duplicate window: the bus does not help here.
    again = deal(1)
    again.event_id = "sent once more"
    await rig.run(again)
    assert rig.handled("normalize") == 2
    assert rig.handled("enrich") == enriched
    after = await rig.shard("Opportunity", 1)
    assert (after.etag, after.revision, after.updated_at) == (before.etag, before.revision, before.updated_at)


async def test_the_same_event_twice_in_one_batch_is_one_revision(rig: Rig) -> None:
    twin = deal(1)
    twin.event_id = "its twin"
    await rig.run(deal(1), twin)
    assert (await rig.shard("Opportunity", 1)).revision == 1
    assert rig.handled("enrich") == 1


async def test_the_bus_drops_the_same_event_within_its_window(rig: Rig) -> None:
    await rig.send(deal(1), deal(1))
    await rig.send(deal(1))
    assert (await rig.depth(INGESTION_EVENTS)).active == 1


async def test_two_versions_in_one_batch_end_as_the_newer_one(rig: Rig) -> None:
    await rig.run(deal(2, "New"), deal(1, "Old"))
    assert await name_of(rig) == "New"
    assert (await rig.shard("Opportunity", 1)).revision == 1


async def test_older_after_newer_is_ignored(rig: Rig) -> None:
    await rig.run(deal(2, "New"))
    before = await rig.shard("Opportunity", 1)
    await rig.run(deal(1, "Old"))
    after = await rig.shard("Opportunity", 1)
    assert after.structured_data["name"] == "New"
    assert after.etag == before.etag


async def test_an_opportunity_before_its_account(rig: Rig) -> None:
    await rig.run(deal(1))
    assert await rig.find("Account", 1) is None, "a link needs no placeholder"
    counts = await rig.store.counts(TENANT)
    assert (counts.links_pending, counts.links) == (1, {})
    before = await rig.shard("Opportunity", 1)
    await rig.run(event("Account", 1, 1, Name="Acme"))
    counts = await rig.store.counts(TENANT)
    assert (counts.links_pending, counts.links) == (0, {"opportunity_for": 1})
    assert (await rig.shard("Opportunity", 1)).etag == before.etag, "the link comes alive by itself"
    [incoming] = (await rig.store.incoming(TENANT, id_of("Account", 1))).items
    assert incoming.source_shard_id == id_of("Opportunity", 1)


async def test_there_and_back_with_the_middle_late(rig: Rig) -> None:
    await rig.run(deal(1, "A"))
    await rig.run(deal(3, "A"))
    await rig.run(deal(2, "B"))
    shard = await rig.shard("Opportunity", 1)
    assert shard.structured_data["name"] == "A"
    assert shard.external_relationships[0].source_version == moment(3)
    assert shard.revision == 1
    [chunk] = await rig.chunks("Opportunity", 1)
    assert chunk.text.startswith("A")


async def test_there_and_back_in_order_counts_each_change(rig: Rig) -> None:
    for version, name in ((1, "A"), (2, "B"), (3, "A")):
        await rig.run(deal(version, name))
    shard = await rig.shard("Opportunity", 1)
    assert (shard.structured_data["name"], shard.revision) == ("A", 3)
    [chunk] = await rig.chunks("Opportunity", 1)
    assert chunk.text.startswith("A")
    assert chunk.vector is not None


async def test_a_stale_update_after_the_delete_brings_nothing_back(rig: Rig) -> None:
    await rig.run(deal(1))
    await rig.run(gone(3))
    await rig.run(deal(2, "Stale"))
    shard = await rig.shard("Opportunity", 1)
    assert (shard.status, shard.structured_data, shard.internal_relationships) == ("deleted", {}, [])
    assert shard.deleted_at is not None
    assert await rig.chunks("Opportunity", 1) == []
    assert await rig.store.search(SearchQuery(TENANT, "customer wants", None)) == []
    counts = await rig.store.counts(TENANT)
    assert (counts.deleted, counts.shards, counts.chunks, counts.links_pending) == (1, {}, 0, 0)


async def test_a_delete_before_the_record_it_deletes_stays_a_delete(rig: Rig) -> None:
    await rig.run(gone(3))
    await rig.run(deal(2))
    assert (await rig.shard("Opportunity", 1)).status == "deleted"


async def test_the_same_delete_twice_changes_nothing(rig: Rig) -> None:
    await rig.run(deal(1))
    await rig.run(gone(2))
    before = await rig.shard("Opportunity", 1)
    await rig.run(gone(2, read_at=50))
    assert (await rig.shard("Opportunity", 1)).etag == before.etag


async def test_an_undelete_brings_the_record_back_whole(rig: Rig) -> None:
    await rig.run(event("Account", 1, 1, Name="Acme"), deal(1))
    alive = await rig.picture("Opportunity", 1)
    await rig.run(gone(2))
    await rig.run(deal(3))
    back = await rig.picture("Opportunity", 1)
    assert back["external_relationships"][0].pop("sourceVersion") == moment(3)
    assert back["external_relationships"][0].pop("readAt") == moment(4)
    for field in ("sourceVersion", "readAt"):
        alive["external_relationships"][0].pop(field)
    assert back == alive
    assert (await rig.shard("Opportunity", 1)).revision == 3


async def test_a_sweep_finds_a_record_gone_at_the_version_it_had(rig: Rig) -> None:
    """A hard delete has no version of its own: the stored one, read later."""
    await rig.run(deal(1, read_at=10))
    await rig.run(gone(1, read_at=20))
    assert (await rig.shard("Opportunity", 1)).status == "deleted"
    await rig.run(deal(1, "Late", read_at=15))
    assert (await rig.shard("Opportunity", 1)).status == "deleted"


async def test_a_sweep_that_read_before_the_last_change_deletes_nothing(rig: Rig) -> None:
    await rig.run(deal(1, read_at=30))
    await rig.run(gone(1, read_at=20))
    assert (await rig.shard("Opportunity", 1)).status == "active"


async def test_the_loser_of_a_merge_leads_to_the_winner(rig: Rig) -> None:
    winner, loser = id_of("Account", 1), id_of("Account", 2)
    await rig.run(
        event("Account", 1, 1, Name="Acme Inc", Description="The one that stays."),
        event("Account", 2, 1, Name="ACME", Description="The one that goes."),
        deal(1, account=2),
    )
    await rig.run(event("Account", 2, 2, event_type="delete", MasterRecordId=record_id("Account", 1)))
    gone_account = await rig.shard("Account", 2)
    assert (gone_account.status, gone_account.redirect_to) == ("deleted", winner)
    [merged] = gone_account.internal_relationships
    assert (merged.relationship_type, merged.target_shard_id) == ("merged_into", winner)
    resolved = await rig.store.resolve(TENANT, loser)
    assert resolved is not None
    assert resolved.id == winner
    assert await rig.chunks("Account", 2) == []
    [incoming] = [
        link
        for link in (await rig.store.incoming(TENANT, winner)).items
        if link.link.relationship_type == "opportunity_for"
    ]
    assert incoming.source_shard_id == id_of("Opportunity", 1)
    counts = await rig.store.counts(TENANT)
    assert counts.links.get("opportunity_for") == 1
    assert counts.links_pending == 0


async def test_a_merge_whose_winner_is_not_known_yet(rig: Rig) -> None:
    await rig.run(event("Account", 2, 2, event_type="delete", MasterRecordId=record_id("Account", 1)))
    assert await rig.store.resolve(TENANT, id_of("Account", 2)) is None
    await rig.run(event("Account", 1, 1, Name="Acme Inc"))
    resolved = await rig.store.resolve(TENANT, id_of("Account", 2))
    assert resolved is not None
    assert resolved.id == id_of("Account", 1)


async def test_a_loser_that_is_undeleted_stands_for_itself_again(rig: Rig) -> None:
    await rig.run(event("Account", 1, 1, Name="Acme Inc"), event("Account", 2, 1, Name="ACME"))
    await rig.run(event("Account", 2, 2, event_type="delete", MasterRecordId=record_id("Account", 1)))
    await rig.run(event("Account", 2, 3, Name="ACME"))
    shard = await rig.shard("Account", 2)
    assert (shard.status, shard.redirect_to, shard.internal_relationships) == ("active", None, [])


async def test_equal_version_and_other_content_read_later_is_applied(rig: Rig) -> None:
    """A formula's value changes without a new SystemModstamp."""
    await rig.run(deal(1, "A", read_at=10))
    await rig.run(deal(1, "B", read_at=20))
    assert await name_of(rig) == "B"
    await rig.run(deal(1, "C", read_at=15))
    assert await name_of(rig) == "B"
    assert (await rig.shard("Opportunity", 1)).revision == 2


async def test_a_newer_version_of_the_same_content_moves_only_the_version(rig: Rig) -> None:
    await rig.run(deal(1))
    before = await rig.shard("Opportunity", 1)
    stages = {stage: rig.handled(stage) for stage in ("enrich", "prepare", "embed")}
    await rig.run(deal(2))
    after = await rig.shard("Opportunity", 1)
    assert after.external_relationships[0].source_version == moment(2)
    assert after.external_relationships[0].read_at == moment(3)
    assert after.etag != before.etag
    assert (after.revision, after.updated_at, after.fingerprint) == (
        before.revision,
        before.updated_at,
        before.fingerprint,
    )
    assert after.internal_relationships == before.internal_relationships
    assert {stage: rig.handled(stage) for stage in stages} == stages
    # And the moved version counts: what lies between the two is old now.
    await rig.run(deal(1.5, "Between"))
    assert await name_of(rig) == "Renewal"


async def change(rig: Rig, shard: Shard) -> None:
    [etag] = await rig.store.write_many([ShardWrite(shard, shard.etag)])
    assert etag is not None


async def test_what_is_not_the_sources_survives_its_updates(rig: Rig) -> None:
    await rig.run(deal(1))
    shard = await rig.shard("Opportunity", 1)
    billing = ExternalRelationship(
        system="billing", instance="eu", system_type="custom", object_type="invoice", external_id="I-7"
    )
    manual = InternalRelationship(
        id=link_id(shard.id, "references", id_of("Account", 9)),
        target_shard_id=id_of("Account", 9),
        target_shard_type_id="c_account",
        relationship_type="references",
        status="active",
        confidence=Decimal(1),
        source="manual",
        method="by-hand",
        evidence={},
        created_at=moment(0),
        created_by="ann@acme.example",
    )
    [told] = shard.internal_relationships
    told.status = "rejected"
    shard.external_relationships.append(billing)
    shard.internal_relationships.append(manual)
    await change(rig, shard)
    for happening in (deal(2, "Renamed"), deal(3, "Renamed"), gone(4), deal(5, "Back")):
        await rig.run(happening)
        now = await rig.shard("Opportunity", 1)
        assert billing in now.external_relationships
        assert len(now.external_relationships) == 2
        links = {link.id: link for link in now.internal_relationships}
        assert links[manual.id] == manual
        assert links[told.id].status == "rejected"


async def register(rig: Rig, connection_id: str, instance: str) -> None:
    await rig.services.connections.save(
        SalesforceConnection(
            connection_id=connection_id,
            tenant_id=TENANT,
            system="salesforce",
            name="Org",
            auth=SalesforceAuth(
                flow="client-credentials",
                domain="acme.my",
                consumer_key="key",
                consumer_secret=f"secret:{TENANT}/org",
            ),
            instance=instance,
        )
    )


def six_fields() -> bytes:
    """An event as any producer must send it, no more."""
    full = event("Opportunity", 1, 1, Name="Six")
    return IngestionEvent(
        tenant_id=full.tenant_id,
        source=full.source,
        source_id=full.source_id,
        event_type="create",
        observed_at=full.observed_at,
        payload=full.payload,
    ).to_bytes()


async def test_six_fields_are_enough_where_the_tenant_has_one_connection(rig: Rig) -> None:
    await register(rig, "main", ORG)
    await rig.send_body(INGESTION_EVENTS, six_fields(), "six")
    await rig.drain()
    assert await rig.parked() == []
    shard = await rig.shard("Opportunity", 1)
    [source] = shard.external_relationships
    assert (source.instance, source.object_type, source.source_version) == (ORG, "Opportunity", moment(1))
    [chunk] = await rig.chunks("Opportunity", 1)
    assert chunk.vector is not None


@pytest.mark.parametrize("connections", [[], [ORG, OTHER_ORG]], ids=["none", "several"])
async def test_six_fields_without_one_connection_are_parked_until_it_is_clear(rig: Rig, connections: list[str]) -> None:
    for number, instance in enumerate(connections):
        await register(rig, f"c{number}", instance)
    await rig.send_body(INGESTION_EVENTS, six_fields(), "six")
    await rig.drain()
    [parked] = await rig.parked()
    assert (parked.reason, parked.queue, parked.tenant_id) == ("instance-unknown", INGESTION_EVENTS, TENANT)
    assert await rig.find("Opportunity", 1) is None


async def test_what_was_parked_for_want_of_a_connection_runs_once_another_process_made_one(
    rig: Rig, tmp_path: Path
) -> None:
    await rig.send_body(INGESTION_EVENTS, six_fields(), "six")
    await rig.drain()
    operator = Rig(tmp_path / "data")
    try:
        await register(operator, "main", ORG)
        await replay(operator.services.replay, await operator.parked())
    finally:
        await operator.close()
    await rig.drain()
    assert await rig.parked() == []
    assert await name_of(rig) == "Six"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": "sharepoint"}, "unknown-source"),
        ({"object_type": "No Such Thing"}, "unknown-object-type"),
        ({"source_id": "not-an-id"}, "invalid-record"),
        ({"observed_at": "yesterday", "read_at": "yesterday"}, "invalid-message"),
        ({"instance": "not-an-org"}, "invalid-record"),
        ({"source_id": record_id("Opportunity", 2)}, "invalid-record"),
        ({"payload": {"Id": record_id("Opportunity", 1), "Amount": "a lot"}}, "invalid-record"),
    ],
    ids=["source", "object type", "id", "time", "instance", "two ids", "value"],
)
async def test_what_cannot_be_understood_is_parked_and_never_dropped(
    rig: Rig, change: dict[str, object], reason: str
) -> None:
    broken = deal(1)
    for field, value in change.items():
        setattr(broken, field, value)
    await rig.run(broken, event("Account", 1, 1, Name="Fine"))
    [parked] = await rig.parked()
    assert (parked.reason, parked.queue) == (reason, INGESTION_EVENTS)
    assert IngestionEvent.from_bytes(parked.body.encode()) == broken
    assert (await rig.shard("Account", 1)).structured_data["name"] == "Fine"


async def test_an_object_type_nobody_named_is_told_by_the_id(rig: Rig) -> None:
    unnamed = deal(1)
    unnamed.object_type = None
    await rig.run(unnamed)
    assert (await rig.shard("Opportunity", 1)).external_relationships[0].object_type == "Opportunity"


async def test_a_shard_with_an_empty_acl_is_closed(rig: Rig) -> None:
    """What no source opened, nobody reads: a connection's shard has no principals."""
    await register(rig, "main", ORG)
    await rig.run(deal(1))
    open_to_tenant = frozenset({"tenant", "anyone", "user:ann@acme.example"})
    seen = await rig.store.query(ShardQuery(TENANT, principals=open_to_tenant))
    assert [shard.shard_type_id for shard in seen.items] == ["c_opportunity"]
    everything = await rig.store.query(ShardQuery(TENANT))
    closed = [shard for shard in everything.items if not shard.acl.principals]
    assert {shard.shard_type_id for shard in closed} == {"integration.connection"}
    assert all(relation.system == SHARDLINE_SYSTEM for shard in closed for relation in shard.external_relationships)
    hits = await rig.store.search(
        SearchQuery(TENANT, "customer wants", None, principals=frozenset({"user:bob@b.example"}))
    )
    assert hits == []


async def test_the_same_record_in_two_tenants_and_two_orgs_is_three_shards(rig: Rig) -> None:
    await rig.run(
        deal(1),
        event("Opportunity", 1, 1, tenant_id="other", Name="Theirs", AccountId=record_id("Account", 1)),
        event("Opportunity", 1, 1, instance=OTHER_ORG, Name="Second org"),
    )
    assert await name_of(rig) == "Renewal"
    assert (await rig.shard("Opportunity", 1, tenant_id="other")).structured_data["name"] == "Theirs"
    assert (await rig.store.counts(TENANT)).shards == {"c_opportunity": 2}
    assert (await rig.store.counts("other")).shards == {"c_opportunity": 1}
    [hit] = await rig.store.search(SearchQuery("other", "Renewal Theirs", None))
    assert hit.shard.tenant_id == "other"


async def test_both_lanes_end_in_the_same_shard(rig: Rig) -> None:
    await rig.send(deal(1, "Old"), queue=INGESTION_EVENTS_BULK)
    await rig.send(deal(2, "New"))
    await rig.drain()
    assert await name_of(rig) == "New"


async def test_correlation_and_trace_reach_the_last_hop(tmp_path: Path, chain_functions: None) -> None:
    rig = Rig(tmp_path / "traced")
    await rig.send(deal(1))
    for queue in (INGESTION_EVENTS, SHARD_EMISSION, ENRICHMENT_JOBS):
        await rig.drain(queue)
    [job] = await rig.receive(EMBEDDING_JOBS)
    assert job.correlation_id == "c0ffee"
    assert job.properties["traceparent"] == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await rig.close()


async def test_two_consumers_race_for_one_shard(tmp_path: Path, chain_functions: None) -> None:
    """Two apps on one folder, each with connections of its own, as two processes have them."""
    one, two = Rig(tmp_path / "raced"), Rig(tmp_path / "raced")
    events = [deal(version, f"Version {version}") for version in range(1, 41)]
    await one.send(*events)
    await one.send(event("Account", 1, 1, Name="Acme"))

    async def consume_all(app: Rig) -> None:
        await app.drain(INGESTION_EVENTS, SHARD_EMISSION, max_messages=1)

    await asyncio.gather(consume_all(one), consume_all(two))
    for app in (one, two):
        app.wait(60)
        await app.drain()
    assert await name_of(one) == "Version 40"
    shard = await one.shard("Opportunity", 1)
    assert shard.external_relationships[0].source_version == moment(40)
    assert len(shard.internal_relationships) == 1
    assert len(shard.external_relationships) == 1
    [chunk] = await one.chunks("Opportunity", 1)
    assert chunk.text.startswith("Version 40")
    assert chunk.vector is not None
    assert (await one.store.counts(TENANT)).shards == {"c_opportunity": 1, "c_account": 1}
    assert await one.parked() == []
    assert one.handled("normalize") > 0
    assert two.handled("normalize") > 0
    await one.close()
    await two.close()
