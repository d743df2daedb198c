"""Every function of the app, run by Microsoft's own worker library through its request path, on a local home.

The test plays the host by hand: it receives from the home's queues and hands over what it received.
"""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from chain_rig import OTHER_ORG, event, id_of, record_id
from functions_host.environment import ROOT, worker_python
from functions_host.trigger_data import (
    QueueMessage,
    TriggerValue,
    batch_of_messages,
    changed_documents,
    http_request,
    single_message,
    timer_tick,
)
from functions_host.worker import Invocation, Worker, returned_body

from composition import LocalServices, build_local
from connections.salesforce_connection import SalesforceAuth, SalesforceConnection
from local.home import DEFAULT_SCHEDULES
from messaging.bus import ReceivedMessage
from messaging.contracts import IngestionEvent, SourceWork
from messaging.queues import (
    EMBEDDING_JOBS,
    ENRICHMENT_JOBS,
    INGESTION_EVENTS,
    INGESTION_EVENTS_BULK,
    QUEUES,
    SHARD_EMISSION,
    SOURCE_WORK,
)
from messaging.times import to_text, utc_now
from settings import Settings
from shards.model import encode_shard
from shards.parked import ParkedMessage
from shards.store import ShardWrite

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("real worker")]

FUNCTION_OF_QUEUE = {
    INGESTION_EVENTS: "normalize_events",
    INGESTION_EVENTS_BULK: "normalize_bulk_events",
    SHARD_EMISSION: "enrich_shards",
    ENRICHMENT_JOBS: "prepare_shards",
    EMBEDDING_JOBS: "embed_chunks",
    SOURCE_WORK: "work_on_source",
}
BATCHES = [queue for queue in QUEUES if queue != SOURCE_WORK]


class LocalWorker:
    """A worker on a local home, and that home as this process sees it."""

    def __init__(self, worker: Worker, home: LocalServices) -> None:
        self.worker = worker
        self.home = home

    async def run(self, name: str, trigger: TriggerValue) -> Invocation:
        """Run a function that must succeed."""
        done = await self.worker.invoke(self.worker.functions[name], trigger)
        assert done.succeeded, done.stack
        return done

    async def run_batch(self, queue: str, messages: Sequence[QueueMessage]) -> Invocation:
        """Run the function of a queue that takes batches."""
        batch = batch_of_messages(messages, as_bytes=True, capabilities=self.worker.capabilities)
        return await self.run(FUNCTION_OF_QUEUE[queue], batch)

    async def step(self, queue: str) -> int:
        """One batch of *queue*; how many messages it had."""
        held = await self.home.queues.receive(queue, max_messages=100)
        if held:
            await self.run_batch(queue, [as_received(message) for message in held])
            await self.home.queues.complete(held)
        return len(held)

    async def ask(self, name: str, method: str, path: str, **parts: Any) -> tuple[int, Any]:
        """What an HTTP function answers: status and document, where it is one."""
        url = f"http://localhost/api/{path}"
        given: dict[str, Any] = {"route": {}, "headers": {}, "body": b"", **parts}
        status, _, body = returned_body(await self.run(name, http_request(method, url, **given)))
        return status, json.loads(body) if body.startswith((b"{", b"[")) else body

    async def parked(self, reason: str) -> list[ParkedMessage]:
        """The parked messages of this reason."""
        return [one for one in (await self.home.store.parked(limit=1000)).items if one.reason == reason]


def as_received(message: ReceivedMessage) -> QueueMessage:
    """What the home's own queue gave out, as Service Bus gives out messages."""
    return QueueMessage(
        message.body,
        message.message_id,
        sequence_number=message.sequence_number,
        correlation_id=message.correlation_id,
        properties=message.properties,
        delivery_count=message.delivery_count,
        enqueued_at=message.enqueued_at,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalWorker]:
    """A worker on a new home."""
    folder = tmp_path_factory.mktemp("worker")
    home = build_local(Settings(home="local", data_dir=folder / "data"))
    settings = {**DEFAULT_SCHEDULES, "SHARDLINE_HOME": "local", "SHARDLINE_DATA_DIR": str(folder / "data")}
    worker = await Worker.start(worker_python(), ROOT, settings, folder / "worker.log")
    yield LocalWorker(worker, home)
    await worker.stop()
    await home.close()


def account(number: int, **fields: Any) -> IngestionEvent:
    """The event of an account whose reading lies before now."""
    return event("Account", number, 0.0, Name=f"Account {number}", Description="A pump station.", **fields)


@pytest.mark.parametrize(("lane", "number"), [(INGESTION_EVENTS, 1), (INGESTION_EVENTS_BULK, 2)])
async def test_an_event_becomes_a_shard_with_vectors(local: LocalWorker, lane: str, number: int) -> None:
    await local.home.bus.send(lane, [account(number).to_message(lane)])
    for queue in (lane, SHARD_EMISSION, ENRICHMENT_JOBS, EMBEDDING_JOBS):
        assert await local.step(queue) == 1, queue
    chunks = await local.home.store.chunks("acme", id_of("Account", number))
    assert chunks
    assert all(chunk.vector is not None for chunk in chunks)


async def test_what_came_with_a_message_is_kept_when_it_is_parked(local: LocalWorker) -> None:
    message = QueueMessage(
        b"no JSON",
        "id-7",
        sequence_number=7,
        correlation_id="story-7",
        properties={"tenantId": "acme", "generation": 2, "replayed": True},
        delivery_count=3,
    )
    await local.run_batch(INGESTION_EVENTS, [message, replace(message, message_id="id-8", correlation_id="story-8")])
    parked = {one.message_id: one for one in await local.parked("invalid-message")}
    assert [parked[name].correlation_id for name in ("id-7", "id-8")] == ["story-7", "story-8"]
    assert (parked["id-7"].delivery_count, parked["id-7"].body) == (3, "no JSON")
    assert parked["id-7"].properties == {"tenantId": "acme", "generation": 2, "replayed": True}


async def test_ids_that_the_host_has_moved_up_are_given_to_nobody(local: LocalWorker) -> None:
    """One of a batch has no ids, as a foreign producer may send it; the host leaves nothing in its place."""
    lost = QueueMessage(b"?", None, sequence_number=41)
    known = QueueMessage(b"??", "known", sequence_number=42, correlation_id="story-42")
    await local.run_batch(INGESTION_EVENTS, [lost, known])
    parked = {one.body: one for one in await local.parked("invalid-message")}
    assert [parked[body].message_id for body in ("?", "??")] == ["ingestion-events/41", "ingestion-events/42"]
    assert [parked[body].correlation_id for body in ("?", "??")] == [None, None]


async def test_a_message_that_ended_its_worker_too_often_is_parked_untried(local: LocalWorker) -> None:
    last = QUEUES[INGESTION_EVENTS].max_delivery_count - 1
    body = account(3).to_bytes()
    await local.run_batch(INGESTION_EVENTS, [QueueMessage(body, "weary", delivery_count=last)])
    assert [one.message_id for one in await local.parked("delivered-too-often")] == ["weary"]
    assert await local.home.store.get("acme", id_of("Account", 3)) is None


@pytest.mark.parametrize("queue", BATCHES)
async def test_each_body_of_a_batch_has_its_own_end(local: LocalWorker, queue: str) -> None:
    bodies = [b"", b"\xff\xfe", b"[]", b'{"tenantId": "acme"}', b'{"tenantId": "acme", "schemaVersion": 99}']
    messages = [
        QueueMessage(body, f"{queue}-{number}", sequence_number=number + 1) for number, body in enumerate(bodies)
    ]
    await local.run_batch(queue, messages)
    ends = {one.message_id: one.reason for one in (await local.home.store.parked(limit=1000)).items}
    assert [ends[message.message_id] for message in messages if message.message_id] == ["invalid-message"] * 5


@pytest.mark.parametrize("queue", BATCHES)
async def test_an_empty_batch_returns(local: LocalWorker, queue: str) -> None:
    await local.run_batch(queue, [])


async def test_work_for_a_source_that_is_gone_ends(local: LocalWorker) -> None:
    work = SourceWork(tenant_id="acme", connection_id="gone", work="poll", due_at=to_text(utc_now()))
    message = work.to_message(SOURCE_WORK)
    given = QueueMessage(message.body, message.message_id, properties=message.properties)
    await local.run("work_on_source", single_message(given, as_bytes=True))
    await local.run("work_on_source", single_message(QueueMessage(b"?", "no work"), as_bytes=True))
    assert "no work" in {one.message_id for one in await local.parked("invalid-message")}


async def test_the_poll_timer_asks_for_connections_that_are_due(local: LocalWorker) -> None:
    saved = await local.home.connections.save(
        SalesforceConnection(
            connection_id="due",
            tenant_id="globex",
            system="salesforce",
            name="Due",
            instance=OTHER_ORG,
            auth=SalesforceAuth(
                flow="client-credentials", domain="globex.my", consumer_key="key", consumer_secret="secret:globex/due"
            ),
        )
    )
    await local.run("poll_due", timer_tick(last=utc_now(), due=utc_now()))
    held = await local.home.queues.receive(SOURCE_WORK, max_messages=10)
    assert [SourceWork.from_bytes(message.body).connection_id for message in held] == [saved.connection_id]
    await local.home.queues.complete(held)


@pytest.mark.parametrize("name", ["reconcile_stages", "expire_payloads", "sweep_file_texts"])
async def test_each_other_timer_runs(local: LocalWorker, name: str) -> None:
    await local.run(name, timer_tick(last=utc_now(), due=utc_now(), past_due=True))


async def test_what_others_write_is_prepared_from_the_change_feed(local: LocalWorker) -> None:
    await local.home.bus.send(INGESTION_EVENTS, [account(5).to_message(INGESTION_EVENTS)])
    await local.step(INGESTION_EVENTS)
    written = await local.home.store.get("acme", id_of("Account", 5))
    assert written is not None
    theirs = msgspec.structs.replace(written, written_by="integration", revision=written.revision + 1)
    [etag] = await local.home.store.write_many([ShardWrite(theirs, written.etag)])
    assert etag is not None
    documents = [
        json.loads(encode_shard(shard))
        for shard in (theirs, msgspec.structs.replace(theirs, id="sh_other", written_by="chain"))
    ]
    await local.run("prepare_changed_shards", changed_documents(documents))
    assert await local.home.store.chunks("acme", theirs.id)
    held = await local.home.queues.receive(EMBEDDING_JOBS, max_messages=10)
    assert len(held) == 1
    await local.home.queues.complete(held)


async def test_each_route_answers(local: LocalWorker) -> None:
    assert await local.ask("health", "GET", "health") == (200, {"status": "ok"})
    assert (await local.ask("status", "GET", "status"))[0] == 200
    assert (await local.ask("search", "POST", "search", body=b'{"query": "pump"}'))[0] == 401
    assert (await local.ask("shards", "GET", "shards"))[0] == 401
    assert (await local.ask("shard", "GET", "shards/x", route={"id": "x"}))[0] == 401
    address = {"connectionId": "nobody", "secret": "s"}
    path = "webhooks/salesforce/nobody/s"
    assert (await local.ask("receive_salesforce", "POST", path, route=address, body=b"{}"))[0] == 404
    assert (await local.ask("receive_slack", "POST", "webhooks/slack", body=b"{}"))[0] == 401
    assert (await local.ask("receive_gdrive", "POST", "webhooks/gdrive", body=b""))[0] == 404


async def test_a_reader_reads_what_the_worker_wrote(local: LocalWorker) -> None:
    await local.home.bus.send(INGESTION_EVENTS, [account(6).to_message(INGESTION_EVENTS)])
    for queue in (INGESTION_EVENTS, SHARD_EMISSION, ENRICHMENT_JOBS, EMBEDDING_JOBS):
        await local.step(queue)
    token = local.home.token_key.sign("acme", "ann@acme.example", now=utc_now())
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    status, found = await local.ask("search", "POST", "search", headers=headers, body=b'{"query": "Account 6"}')
    assert (status, found["hits"][0]["shardId"]) == (200, id_of("Account", 6))
    identifier = record_id("Account", 6)
    status, listed = await local.ask("shards", "GET", f"shards?externalId={identifier}", headers=headers)
    assert (status, [item["id"] for item in listed["items"]]) == (200, [id_of("Account", 6)])
    route = {"id": id_of("Account", 6)}
    status, shown = await local.ask("shard", "GET", f"shards/{route['id']}", headers=headers, route=route)
    assert (status, shown["structuredData"]["name"]) == (200, "Account 6")


async def test_no_function_is_left_untried(local: LocalWorker) -> None:
    """The functions that this module runs are all there are."""
    assert local.worker.functions.keys() == {
        *FUNCTION_OF_QUEUE.values(),
        "poll_due",
        "reconcile_stages",
        "expire_payloads",
        "sweep_file_texts",
        "prepare_changed_shards",
        "health",
        "status",
        "search",
        "shards",
        "shard",
        "receive_gdrive",
        "receive_salesforce",
        "receive_slack",
    }


async def test_each_line_of_the_log_names_its_invocation(local: LocalWorker) -> None:
    batch = batch_of_messages([QueueMessage(b"?", "logged")], as_bytes=True, capabilities=local.worker.capabilities)
    done = await local.run("normalize_events", batch)
    [line] = [line for line in done.logs if line.level == "WARNING"]
    assert (line.category, line.invocation) == ("processors.delivery", done.id)
    assert "logged" in line.message
