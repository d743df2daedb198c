"""What is counted: each metric is on the page, has the attributes it says, and counts what it is named for."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from captured_telemetry import Captured
from chain_rig import Rig, current, event, moment
from file_events import file, kept
from polling_rig import PollingRig

from connections.salesforce_connection import SalesforceConnection
from ingestion.asking import ask_for_sweep
from ingestion.salesforce.memory import new_object_memory, object_key
from messaging.bus import Message, QueueDepth
from messaging.contracts import ChunkReference, EmbeddingJob
from messaging.queues import EMBEDDING_JOBS, INGESTION_EVENTS, QUEUES, SHARD_EMISSION
from messaging.times import to_text, utc_now
from operations.metrics import FRESH_FOR, INTEGRATION_FUNCTIONS, METRICS, Metrics, SourceRun, StageMeter
from operations.text_sweep import sweep_texts
from processors.change_feed import prepare_changes
from processors.delivery import FIRST_DELAY
from processors.outcome import DONE, Later, Park
from shards.model import shard_document
from shards.request_charges import Charge
from shards.store import ShardWrite, StoreUnavailableError

PAGE = Path(__file__).parents[2] / "docs" / "telemetry.md"
ROW = re.compile(r"^\| `(shardline\.[\w.]+)` \| ([\w ]+) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)

QUEUE = "messaging.destination.name"


def points(captured: Captured, name: str, queue: str | None = None, **wanted: str) -> list[Any]:
    """The values of those points of a metric that have the attributes *wanted*."""
    told = {f"shardline.{key}": value for key, value in wanted.items()} | ({QUEUE: queue} if queue else {})
    found = captured.points().get(name, [])
    return [value for attributes, value in found if told.items() <= attributes.items()]


async def run_timer(rig: Rig, name: str) -> None:
    """Let a timer of the app tick."""
    current.set(rig.services)
    [timer] = [timer for timer in rig.index.timers if timer.name == name]
    await timer.call(timer=None)


def test_the_page_has_a_row_for_each_metric_as_the_code_has_it() -> None:
    told = {
        name: (kind, unit.strip(" `"), frozenset(re.findall(r"`([\w.]+)`", attributes)))
        for name, kind, unit, attributes in ROW.findall(PAGE.read_text())
    }
    made = {metric.name: (metric.kind, metric.unit, frozenset(metric.attributes)) for metric in METRICS}
    assert told == made


def take_every_way(metrics: Metrics) -> None:
    """Measure once all there is to measure."""
    job = EmbeddingJob(
        tenant_id="acme",
        shard_id="sh_1",
        shard_type_id="c_account",
        revision=1,
        observed_at=moment(0),
        chunks=[ChunkReference(chunk_id="c", hash="h")],
    )
    now = utc_now()
    contracts = [event("Account", 1, 1), event("Account", 2, 1), None]
    metrics.processed(
        INGESTION_EVENTS, contracts, [DONE, Later(timedelta(1), "x"), Park("failed", "x")], seconds=0.1, at=now
    )
    metrics.processed(EMBEDDING_JOBS, [job], [DONE], seconds=0.1, at=now)
    metrics.embedded(3, None)
    metrics.followed(done=1, failed=1, seconds=0.1)
    metrics.sent(SHARD_EMISSION, [Message(b"", "m")])
    metrics.source_read(SourceRun("acme", "main", "salesforce", "poll", 1, 2, 3, 0.1))
    metrics.budget_left("salesforce", "00D", 9)
    metrics.connection_lag("acme", "main", "salesforce", timedelta(seconds=5))
    metrics.empty_pass("acme", "main", "salesforce", "sweep", "Account")
    metrics.secret_expires("acme", "sf-key", timedelta(days=3))
    metrics.watch_expires("acme", "drive", timedelta(days=3))
    metrics.queues({INGESTION_EVENTS: QueueDepth(1, 0, 0, 0, now)}, now)
    metrics.dead_letters(INGESTION_EVENTS, 2)
    metrics.parked({"failed": 1})
    metrics.behind({"embedded": 1})
    metrics.orphaned_texts(deleted=1, left=1)
    charges = [Charge("normalize_events", "read", 3, 3.5, 1), Charge("prepare_changed_shards", "query", 1, 2.5, 0)]
    metrics.observe_store(lambda: charges)


def test_each_metric_has_the_attributes_it_says(captured: Captured) -> None:
    take_every_way(captured.telemetry.metrics)
    found = captured.points()
    assert found.keys() == {metric.name for metric in METRICS}
    for metric in METRICS:
        for attributes, _ in found[metric.name]:
            assert attributes.keys() == set(metric.attributes), metric.name


def test_what_the_store_charges_is_told_by_function_operation_and_pipeline(captured: Captured, rig: Rig) -> None:
    take_every_way(captured.telemetry.metrics)
    of_events = {"function": "normalize_events", "operation": "read", "pipeline": "events"}
    assert points(captured, "shardline.store.request_units", **of_events) == [3.5]
    assert points(captured, "shardline.store.requests", **of_events) == [3]
    assert points(captured, "shardline.store.throttled", **of_events) == [1]
    assert points(captured, "shardline.store.request_units", pipeline="integration") == [2.5]
    functions = (*rig.index.queues, *rig.index.timers, *rig.index.feeds, *rig.index.http)
    assert {function.name for function in functions} >= INTEGRATION_FUNCTIONS


async def test_the_chain_counts_its_messages_by_what_became_of_them(rig: Rig, captured: Captured) -> None:
    await rig.send_body(INGESTION_EVENTS, b"no JSON", "broken")
    await rig.run(event("Account", 1, 1, Name="Account 1"), event("Account", 2, 1, Name="Account 2"))
    of_events = {"queue": INGESTION_EVENTS, "pipeline": "events"}
    assert points(captured, "shardline.messages", **of_events, stage="normalize", outcome="done") == [2]
    assert points(captured, "shardline.messages", **of_events, outcome="parked") == [1]
    assert points(captured, "shardline.messages", stage="embed", outcome="done") == [2]
    assert points(captured, "shardline.messages.parked", **of_events, reason="invalid-message") == [1]
    assert points(captured, "shardline.batch.size", **of_events) == [(3, 1)]
    assert points(captured, "shardline.vectors", pipeline="events") == [2]
    assert points(captured, "shardline.bus.sent", SHARD_EMISSION, pipeline="events") == [2]
    assert points(captured, "shardline.bus.sends", SHARD_EMISSION) == [1]


async def test_the_lag_is_counted_from_the_moment_of_observation(rig: Rig, captured: Captured) -> None:
    made = event("Account", 1, 1, Name="Account 1")
    await rig.send(made.model_copy(update={"observed_at": to_text(rig.now - timedelta(seconds=90))}))
    await rig.step(INGESTION_EVENTS)
    rig.wait(10)
    await rig.drain()
    assert points(captured, "shardline.lag.stored", pipeline="events") == [(90, 1)]
    assert points(captured, "shardline.lag.embedded", pipeline="events") == [(100, 1)]


@pytest.mark.parametrize(("error", "cause"), [(RuntimeError, "failure"), (StoreUnavailableError, "outage")])
async def test_copies_are_counted_by_their_cause(
    rig: Rig, captured: Captured, monkeypatch: pytest.MonkeyPatch, error: type[Exception], cause: str
) -> None:
    async def fail(*_: object) -> None:
        raise error("x")

    with monkeypatch.context() as broken:
        broken.setattr(rig.store, "get_many", fail)
        await rig.run(event("Account", 1, 1, Name="Account 1"))
    rig.wait(FIRST_DELAY.total_seconds())
    await rig.drain()
    assert points(captured, "shardline.messages.retried", INGESTION_EVENTS, pipeline="events") == [1]
    assert points(captured, "shardline.messages.retried", INGESTION_EVENTS, cause=cause) == [1]
    assert points(captured, "shardline.messages", stage="normalize", outcome="later") == [1]
    assert points(captured, "shardline.messages", stage="normalize", outcome="done") == [1]


async def test_what_others_write_is_counted_for_the_integration_pipeline_up_to_its_vectors(
    rig: Rig, captured: Captured
) -> None:
    await rig.run(event("Account", 1, 1, Name="Account 1"))
    shard = await rig.shard("Account", 1)
    shard.structured_data["name"] = "Account, renamed by an adapter"
    shard.written_by, shard.revision = "integration", shard.revision + 1
    assert all(await rig.store.write_many([ShardWrite(shard, shard.etag)]))
    await prepare_changes([shard_document(await rig.shard("Account", 1))], rig.services.change_feed)
    await rig.drain()
    of_feed = {"queue": "change-feed", "pipeline": "integration"}
    assert points(captured, "shardline.messages", **of_feed, stage="prepare", outcome="done") == [1]
    assert points(captured, "shardline.messages", pipeline="integration", stage="embed", outcome="done") == [1]
    assert points(captured, "shardline.vectors", pipeline="integration") == [1]
    assert points(captured, "shardline.vectors", pipeline="events") == [1]
    assert points(captured, "shardline.bus.sent", EMBEDDING_JOBS, pipeline="integration") == [1]
    [(_, lags)] = points(captured, "shardline.lag.embedded", pipeline="integration")
    assert lags == 1


async def test_the_reconciler_measures_how_the_queues_stand(rig: Rig, captured: Captured) -> None:
    await rig.send(event("Account", 1, 1, Name="Account 1"), event("Account", 2, 1, Name="Account 2"))
    rig.wait(90)
    await run_timer(rig, "reconcile_stages")
    found = captured.points()
    ages = {told[QUEUE]: age for told, age in found["shardline.queue.oldest_age"]}
    assert ages == dict.fromkeys(QUEUES, 0.0) | {INGESTION_EVENTS: 90.0}
    depths = {told["shardline.state"]: count for told, count in found["shardline.queue.depth"] if told[QUEUE] in ages}
    assert depths.keys() == {"active", "locked", "scheduled", "dead-lettered"}
    assert ({QUEUE: INGESTION_EVENTS, "shardline.state": "active", "shardline.pipeline": "events"}, 2) in found[
        "shardline.queue.depth"
    ]


async def test_the_reconciler_tells_dead_letters_parked_messages_and_stages_behind(
    rig: Rig, captured: Captured
) -> None:
    await rig.run(event("Account", 1, 1, Name="Account 1"))
    await rig.send(event("Account", 2, 1, Name="Account 2"))
    await rig.bus.dead_letter(await rig.receive(INGESTION_EVENTS), reason="MaxDeliveryCountExceeded", description="x")
    await run_timer(rig, "reconcile_stages")
    found = captured.points()
    assert [value for _, value in found["shardline.dead_letters"]] == [1]
    assert found["shardline.parked"] == [({"shardline.reason": "dead-lettered"}, 1)]
    assert {told["shardline.stage"]: count for told, count in found["shardline.shards.behind"]} == {
        "enriched": 0,
        "prepared": 0,
        "embedded": 0,
    }


def test_a_measured_value_is_told_until_it_is_old_or_measured_anew(captured: Captured) -> None:
    metrics = captured.telemetry.metrics
    metrics.parked({"failed": 2, "too-large": 1})
    assert points(captured, "shardline.parked", reason="failed") == [2]
    captured.seconds += FRESH_FOR
    assert points(captured, "shardline.parked", reason="failed") == [2]
    metrics.parked({"too-large": 1})
    assert captured.points()["shardline.parked"] == [({"shardline.reason": "too-large"}, 1)]
    captured.seconds += FRESH_FOR + 1
    assert "shardline.parked" not in captured.points()


async def test_a_poll_tells_its_calls_rows_events_and_budget(polling: PollingRig, captured: Captured) -> None:
    for number in range(3):
        polling.org.org.create("Contact", {"LastName": f"P{number}"})
    await polling.poll()
    of_poll = {"tenant_id": "acme", "connection_id": "sf", "system": "salesforce", "work": "poll", "pipeline": "events"}
    assert points(captured, "shardline.source.rows", **of_poll) == [3]
    assert points(captured, "shardline.source.events", **of_poll) == [3]
    [calls] = points(captured, "shardline.source.calls", **of_poll)
    assert calls == polling.org.api.used_calls() == 2
    [(seconds, runs)] = points(captured, "shardline.source.duration", **of_poll)
    assert (seconds > 0, runs) == (True, 1)


async def test_the_budget_left_is_what_neither_the_org_nor_shardline_has_used(
    polling: PollingRig, captured: Captured
) -> None:
    polling.org.api.daily_limit = 1000
    polling.org.org.create("Contact", {"LastName": "Ann"})
    await polling.poll()
    [connection] = await polling.services.connections.all()
    assert isinstance(connection, SalesforceConnection)
    [(told, left)] = captured.points()["shardline.api_budget.left"]
    assert told["shardline.instance"] == polling.org.org.org_id
    used = polling.org.api.used_calls()
    of_org, own = 1000 * (1 - connection.api_reserve_share) - used, 1000 * connection.api_budget_share - used
    assert left == int(min(of_org, own))


async def test_the_lag_of_a_connection_counts_from_its_last_poll_that_read_something(
    polling: PollingRig, captured: Captured
) -> None:
    polling.org.org.create("Contact", {"LastName": "Ann"})
    await polling.poll()
    captured.points()
    polling.wait(3600)
    await run_timer(polling, "poll_due")
    assert points(captured, "shardline.connection.lag", tenant_id="acme", connection_id="sf") == [
        pytest.approx(3600, abs=1)
    ]
    [connection] = await polling.services.connections.all()
    await polling.services.connections.set_status(connection, "failed", error_message="refused")
    polling.wait(3600)
    await run_timer(polling, "poll_due")
    assert points(captured, "shardline.connection.lag", connection_id="sf") == [pytest.approx(7200, abs=1)]
    [connection] = await polling.services.connections.all()
    await polling.services.connections.set_status(connection, "paused")
    captured.seconds += FRESH_FOR + 1
    await run_timer(polling, "poll_due")
    assert points(captured, "shardline.connection.lag") == []


@pytest.mark.parametrize("work", ["poll", "sweep"])
async def test_a_full_pass_that_gives_nothing_of_an_object_that_had_records_is_told(
    polling: PollingRig, captured: Captured, work: str
) -> None:
    made = polling.org.org.create("Contact", {"LastName": "Ann"})
    await polling.poll()
    await polling.drain()
    polling.org.org.hard_delete("Contact", made)
    polling.wait(3600)
    connections = await polling.services.connections.all()
    if work == "poll":
        await _forget_cursor(polling)
    else:
        await ask_for_sweep(connections, polling.services.ingestion)
    await polling.poll()
    [(told, count)] = captured.points()["shardline.full_pass.empty"]
    assert (told["shardline.object_type"], told["shardline.work"], count) == ("Contact", work, 1)


async def _forget_cursor(polling: PollingRig) -> None:
    """Have the next poll read everything."""
    states = polling.services.ingestion.states
    [connection] = await polling.services.connections.all()
    assert isinstance(connection, SalesforceConnection)
    key = object_key(connection, "Contact")
    empty = new_object_memory(connection, "Contact")
    await states.save("acme", key, await states.load("acme", key, empty), empty)


def test_without_a_meter_the_run_is_counted_all_the_same() -> None:
    meter = StageMeter()
    assert not meter.metrics.on
    meter.record(INGESTION_EVENTS, [event("Account", 1, 1), None], [DONE, Park("x", "y")], seconds=0.5, at=utc_now())
    assert meter.messages == {"normalize": 1}
    assert meter.events == {"salesforce": 1}
    assert meter.seconds == {"normalize": 0.5}
    take_every_way(meter.metrics)


async def test_texts_that_nothing_names_are_counted_and_those_that_an_event_may_name(
    rig: Rig, captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations.text_sweep.PAUSE", timedelta(0))
    for version in (1, 2):
        left = await kept(rig, version, "Left behind.")
        os.utime(rig.settings.blob_folder / left, (0, 0))
        if version == 2:
            await rig.send(file(2, left))
        await sweep_texts(rig.services.text_sweep, "")
    assert points(captured, "shardline.texts.orphaned", outcome="deleted") == [1]
    assert points(captured, "shardline.texts.orphaned", outcome="later") == [1]
