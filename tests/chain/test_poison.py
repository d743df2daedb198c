"""One poison message among a thousand: parked with its reason, in nobody's way, and back once its cause is mended."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from chain_rig import BATCH, ORG, TENANT, HostedRig, Rig, event, record_id
from shardline_command import shardline

from connections.salesforce_connection import SalesforceAuth, SalesforceConnection
from local.home import prepare_home
from messaging.contracts import EventType, IngestionEvent
from messaging.queues import INGESTION_EVENTS, QUEUES
from operations.replay import replay
from processors.delivery import MAX_ATTEMPTS, backoff
from processors.mapping import Mapped, map_record

THOUSAND = 1_000
POISON = 389
"""Somewhere in the middle of a batch."""


def thousand(poison: IngestionEvent) -> list[IngestionEvent]:
    events = [event("Account", number, 1, Name=f"Account {number}") for number in range(THOUSAND)]
    events[POISON] = poison
    return events


async def all_but_the_poison_are_done(rig: Rig) -> None:
    counts = await rig.store.counts(TENANT)
    assert counts.shards["c_account"] == THOUSAND - 1
    assert counts.vectors == counts.chunks == THOUSAND - 1
    assert await rig.find("Account", POISON) is None


async def test_a_record_that_cannot_be_placed_waits_parked_for_its_connection(
    tmp_path: Path, chain_functions: None
) -> None:
    """The whole way: the host's own worker, then the operator at the command line."""
    data = tmp_path / "data"
    prepare_home(data)
    rig = HostedRig(data)
    await rig.run(*thousand(event("Account", POISON, 1, Name="Poison", instance=None)))
    await all_but_the_poison_are_done(rig)
    assert rig.handled("normalize") == THOUSAND, "each message was handled once"
    depth = await rig.depth(INGESTION_EVENTS)
    assert (depth.active, depth.locked, depth.scheduled, depth.dead_lettered) == (0, 0, 0, 0)

    [parked] = shardline("parked", "--json", "--data", data).lines
    assert (parked["reason"], parked["queue"], parked["tenantId"]) == ("instance-unknown", INGESTION_EVENTS, TENANT)
    assert record_id("Account", POISON) in parked["body"]

    await rig.services.connections.save(
        SalesforceConnection(
            connection_id="main",
            tenant_id=TENANT,
            system="salesforce",
            name="Org",
            auth=SalesforceAuth(
                flow="client-credentials", domain="acme.my", consumer_key="k", consumer_secret=f"secret:{TENANT}/org"
            ),
            instance=ORG,
        )
    )
    answer = shardline("replay", parked["id"], "--json", "--data", data)
    assert (answer.code, answer.json) == (0, {"selected": 1, "replayed": 1, "dryRun": False})
    await rig.drain()
    assert (await rig.shard("Account", POISON)).structured_data["name"] == "Poison"
    assert (await rig.store.counts(TENANT)).vectors == THOUSAND
    assert shardline("parked", "--json", "--data", data).lines == []
    await rig.close()


async def test_a_defect_that_one_record_brings_out_holds_back_no_other(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poison breaks the whole batch it is in; the clock stands still until the others are done."""

    def defective(
        source: str,
        object_type: str | None,
        payload: Mapping[str, Any],
        event_type: EventType,
        source_id: str | None = None,
        **options: Any,
    ) -> Mapped:
        if payload["Id"] == record_id("Account", POISON):
            raise ZeroDivisionError("a defect")
        return map_record(source, object_type, payload, event_type, source_id, **options)

    with monkeypatch.context() as patch:
        patch.setattr("processors.normalization.map_record", defective)
        began = rig.now
        await rig.run(*thousand(event("Account", POISON, 1, Name="Poison")))
        assert rig.now == began
        await all_but_the_poison_are_done(rig)
        assert (await rig.depth(INGESTION_EVENTS)).scheduled == 1
        for attempt in range(1, MAX_ATTEMPTS):
            assert await rig.parked() == []
            rig.wait(backoff(attempt).total_seconds())
            await rig.drain()
        [parked] = await rig.parked()
        assert parked.reason == "failed"
        assert "ZeroDivisionError: a defect" in parked.detail
        assert rig.now - began < timedelta(minutes=10)

    await replay(rig.services.replay, [parked])
    await rig.drain()
    assert await rig.parked() == []
    assert (await rig.store.counts(TENANT)).vectors == THOUSAND


async def test_a_message_that_ends_its_process_is_parked_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time the poison comes up its process ends, and all that it holds comes again, in ever smaller batches."""
    ends = 0

    class EndedError(BaseException):
        pass

    def deadly(*arguments: Any, **options: Any) -> Mapped:
        if arguments[2]["Id"] == record_id("Account", POISON):
            raise EndedError
        return map_record(*arguments, **options)

    await rig.send(*thousand(event("Account", POISON, 1, Name="Poison")))
    with monkeypatch.context() as patch:
        patch.setattr("processors.normalization.map_record", deadly)
        while messages := await rig.receive(INGESTION_EVENTS, max_messages=BATCH):
            try:
                await rig.call(INGESTION_EVENTS, messages)
            except EndedError:
                ends += 1
                await rig.bus.abandon(messages)
            else:
                await rig.bus.complete(messages)
        assert ends == QUEUES[INGESTION_EVENTS].max_delivery_count - 2
        [parked] = await rig.parked()
        assert parked.reason == "delivered-too-often"
        await rig.drain()
        await all_but_the_poison_are_done(rig)
    await replay(rig.services.replay, [parked])
    await rig.drain()
    assert await rig.parked() == []
    assert (await rig.store.counts(TENANT)).vectors == THOUSAND
