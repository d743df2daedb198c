"""One trace tells a record's way, from the poll that read it to its vectors."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from captured_telemetry import Captured, attributes, captured_telemetry, context, is_child, is_linked
from chain_rig import Rig, event, id_of
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_OFF, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags
from polling_rig import PollingRig

from messaging import codec, tracing
from messaging.contracts import EmbeddingJob, EnrichmentJob, IngestionEvent, ShardEmission
from messaging.queues import EMBEDDING_JOBS, ENRICHMENT_JOBS, INGESTION_EVENTS, SHARD_EMISSION, SOURCE_WORK
from operations.reconciliation import reconcile
from operations.replay import replay
from processors.delivery import FIRST_DELAY

CHAIN = (INGESTION_EVENTS, SHARD_EMISSION, ENRICHMENT_JOBS, EMBEDDING_JOBS)
FOREIGN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""The context that the rig's events come with."""


def processing(captured: Captured, *queues: str) -> list[ReadableSpan]:
    """The spans of single messages, of the chain or of *queues*."""
    return captured.spans(*(f"process {queue}" for queue in queues or CHAIN))


async def test_a_poll_and_what_becomes_of_its_record_are_one_trace(polling: PollingRig, captured: Captured) -> None:
    polling.org.org.create("Contact", {"LastName": "Ann"})
    await polling.poll()
    await polling.drain()

    made = captured.span(f"create {SOURCE_WORK}")
    work = captured.span(f"process {SOURCE_WORK}")
    poll = captured.span("poll salesforce")
    read = captured.span(f"create {INGESTION_EVENTS}")
    normalized, enriched, prepared, embedded = processing(captured)
    way = [made, work, poll, read, normalized, enriched, prepared, embedded]
    assert made.parent is None
    for parent, child in pairwise(way):
        assert is_child(child, parent), (child.name, parent.name)
    assert len({context(span).trace_id for span in way}) == 1
    assert [span.kind for span in way] == [
        SpanKind.PRODUCER,
        SpanKind.CONSUMER,
        SpanKind.INTERNAL,
        SpanKind.PRODUCER,
        *[SpanKind.CONSUMER] * 4,
    ]
    assert attributes(poll)["shardline.events"] == 1
    assert {attributes(span)["shardline.outcome"] for span in (work, normalized, embedded)} == {"done"}
    counts = await polling.store.counts("acme")
    assert (counts.shards["c_contact"], counts.vectors) == (1, 1)


async def test_the_messages_carry_the_trace_in_property_and_envelope(polling: PollingRig, captured: Captured) -> None:
    polling.org.org.create("Contact", {"LastName": "Ann"})
    await polling.poll()
    kinds: dict[str, Any] = {
        INGESTION_EVENTS: IngestionEvent,
        SHARD_EMISSION: ShardEmission,
        ENRICHMENT_JOBS: EnrichmentJob,
        EMBEDDING_JOBS: EmbeddingJob,
    }
    correlation_ids = set()
    for queue, kind in kinds.items():
        [message] = await polling.receive(queue)
        value = kind.from_bytes(message.body)
        assert message.properties["traceparent"] == value.traceparent
        maker = captured.spans()[-1] if queue == INGESTION_EVENTS else processing(captured)[-1]
        assert queue != INGESTION_EVENTS or maker.name == f"send {queue}"
        sent_by = captured.span(f"create {queue}") if queue == INGESTION_EVENTS else maker
        assert value.traceparent == tracing.traceparent_of(context(sent_by))
        correlation_ids.add(message.correlation_id)
        await polling.call(queue, [message])
        await polling.bus.complete([message])
    assert len(correlation_ids) == 1


async def test_many_records_of_one_poll_have_a_trace_each_linked_to_the_poll(
    polling: PollingRig, captured: Captured
) -> None:
    count = tracing.TOGETHER + 1
    for number in range(count):
        polling.org.org.create("Contact", {"LastName": f"P{number}"})
    await polling.poll()
    await polling.drain()

    poll = captured.span("poll salesforce")
    read = captured.spans(f"create {INGESTION_EVENTS}")
    assert len(read) == count
    assert all(span.parent is None and is_linked(span, poll) for span in read)
    traces = [context(span).trace_id for span in read]
    assert len(set(traces)) == count
    for queue in CHAIN:
        of_queue = processing(captured, queue)
        assert sorted(context(span).trace_id for span in of_queue) == sorted(traces), queue


async def test_messages_of_one_batch_go_on_in_the_trace_of_their_own_record(rig: Rig, captured: Captured) -> None:
    events = [event("Account", number, 1, Name=f"Account {number}") for number in range(3)]
    traces = [f"00-{number:032x}-00f067aa0ba902b7-01" for number in (1, 2, 3)]
    await rig.run(*(one.model_copy(update={"traceparent": of}) for one, of in zip(events, traces, strict=True)))

    for before, after in pairwise(CHAIN):
        senders = {context(span).trace_id: span for span in processing(captured, before)}
        assert senders.keys() == {1, 2, 3}
        for span in processing(captured, after):
            assert is_child(span, senders[context(span).trace_id])
    for queue in CHAIN:
        batch = captured.span(f"process_batch {queue}")
        assert (batch.kind, batch.parent) == (SpanKind.CONSUMER, None)
        assert attributes(batch)["messaging.batch.message_count"] == 3
        assert attributes(batch)["shardline.done"] == 3
        assert {link.context.trace_id for link in batch.links} == {1, 2, 3}
        assert all(is_linked(span, batch) for span in processing(captured, queue))


async def test_spans_say_what_the_conventions_ask_for(rig: Rig, captured: Captured) -> None:
    await rig.run(event("Account", 1, 1, Name="Account 1"))
    normalized, *_, embedded = processing(captured)
    told = attributes(normalized)
    assert told["messaging.system"] == "servicebus"
    assert told["messaging.destination.name"] == INGESTION_EVENTS
    assert told["messaging.operation.type"] == told["messaging.operation.name"] == "process"
    assert told["messaging.message.conversation_id"] == "c0ffee"
    assert len(told["messaging.message.id"]) == 40
    assert told["messaging.servicebus.message.delivery_count"] == 1
    assert (told["shardline.tenant_id"], told["shardline.pipeline"]) == ("acme", "events")
    assert attributes(embedded)["shardline.shard_id"] == id_of("Account", 1)
    sent = captured.spans(f"send {SHARD_EMISSION}")[-1]
    assert (sent.kind, attributes(sent)["messaging.batch.message_count"]) == (SpanKind.CLIENT, 1)
    assert is_child(sent, normalized)


async def test_a_retry_stays_in_the_trace(rig: Rig, captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("a detail that must not be told: Acme Ltd")

    with monkeypatch.context() as broken:
        broken.setattr(rig.store, "write_many", fail)
        await rig.run(event("Account", 1, 1, Name="Account 1"))
    rig.wait(FIRST_DELAY.total_seconds())
    await rig.drain()

    failed, again, *_ = processing(captured)
    assert {context(span).trace_id for span in processing(captured)} == {context(failed).trace_id}
    assert failed.parent == again.parent
    assert failed.status.status_code is StatusCode.ERROR
    assert (attributes(failed)["error.type"], attributes(failed)["shardline.cause"]) == ("RuntimeError", "failure")
    assert attributes(failed)["shardline.outcome"] == "later"
    assert attributes(again)["shardline.outcome"] == "done"
    assert again.status.status_code is StatusCode.UNSET
    assert all("Acme Ltd" not in span.to_json() for span in captured.spans())
    assert all(not span.events for span in captured.spans())


async def test_a_parked_message_ends_in_an_error_with_its_reason_and_nothing_of_its_content(
    rig: Rig, captured: Captured
) -> None:
    await rig.send_body(INGESTION_EVENTS, b'{"tenantId":"acme","secretName":"Acme Ltd"}', "m1", traceparent=FOREIGN)
    await rig.run(event("Account", 1, 1, Name=["Acme Ltd"]), event("Account", 2, 1, Name="Account 2"))
    outcomes = {
        attributes(span)["messaging.message.id"]: (
            attributes(span)["shardline.outcome"],
            attributes(span).get("shardline.reason"),
            span.status.description,
        )
        for span in processing(captured, INGESTION_EVENTS)
    }
    assert outcomes.pop("m1") == ("parked", "invalid-message", "invalid-message")
    assert sorted(outcomes.values(), key=str) == [("done", None, None), ("parked", "invalid-record", "invalid-record")]
    assert all("Acme Ltd" not in span.to_json() for span in captured.spans())
    [unread] = [
        span for span in processing(captured, INGESTION_EVENTS) if attributes(span)["messaging.message.id"] == "m1"
    ]
    assert tracing.traceparent_of(context(unread))[:35] == FOREIGN[:35]
    assert attributes(captured.span(f"process_batch {INGESTION_EVENTS}"))["shardline.parked"] == 2


MALFORMED: list[Any] = [
    "",
    "garbage",
    "x" * 100_000,
    "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
    FOREIGN.upper(),
    FOREIGN + "-more",
    "ff" + FOREIGN[2:],
    FOREIGN + "\n",
    7,
    True,
    None,
    {"a": 1},
    ["x"],
    1.5,
]


@pytest.mark.parametrize("malformed", MALFORMED, ids=lambda value: str(value)[:20])
async def test_a_malformed_context_begins_a_trace_and_breaks_nothing(
    rig: Rig, captured: Captured, malformed: Any
) -> None:
    made = event("Account", 1, 1, Name="Account 1").to_message(INGESTION_EVENTS)
    content = IngestionEvent.from_bytes(made.body).model_dump(by_alias=True) | {"traceparent": malformed}
    properties: dict[str, Any] = {"traceparent": malformed} if isinstance(malformed, str | int | bool) else {}
    await rig.send_body(INGESTION_EVENTS, codec.encode(content), "m1", **properties)
    await rig.drain()
    assert await rig.parked() == []
    normalized, *others = processing(captured)
    assert normalized.parent is None
    assert len(others) == 3
    assert {context(span).trace_id for span in others} == {context(normalized).trace_id}


@pytest.mark.parametrize("malformed", MALFORMED, ids=lambda value: str(value)[:20])
async def test_without_an_sdk_a_malformed_context_goes_no_further(
    tmp_path: Any, chain_functions: None, malformed: Any
) -> None:
    rig = Rig(tmp_path / "data")
    try:
        made = event("Account", 1, 1, Name="Account 1").to_message(INGESTION_EVENTS)
        content = IngestionEvent.from_bytes(made.body).model_dump(by_alias=True) | {"traceparent": malformed}
        await rig.send_body(INGESTION_EVENTS, codec.encode(content), "m1")
        await rig.step(INGESTION_EVENTS)
        [message] = await rig.receive(SHARD_EMISSION)
        assert "traceparent" not in message.properties
        assert ShardEmission.from_bytes(message.body).traceparent is None
    finally:
        await rig.close()


async def test_the_property_goes_before_the_envelope_and_azures_own_comes_last(rig: Rig, captured: Captured) -> None:
    sent = event("Account", 1, 1, Name="A").to_message(INGESTION_EVENTS)
    plain = event("Account", 2, 1, Name="B").model_copy(update={"traceparent": None}).to_message(INGESTION_EVENTS)
    other = FOREIGN.replace("4bf92f", "aaaaaa")
    await rig.send_body(INGESTION_EVENTS, sent.body, "by-property", **{"traceparent": other, "Diagnostic-Id": FOREIGN})
    await rig.send_body(INGESTION_EVENTS, plain.body, "by-diagnostic-id", **{"Diagnostic-Id": other})
    await rig.step(INGESTION_EVENTS)
    assert {context(span).trace_id for span in processing(captured, INGESTION_EVENTS)} == {int(other[3:35], 16)}


async def test_a_replay_begins_a_trace_that_is_linked_to_the_old_one(rig: Rig, captured: Captured) -> None:
    await rig.run(event("Account", 1, 1, Name=["no name"]))
    [parked] = processing(captured, INGESTION_EVENTS)
    await replay(rig.services.replay, await rig.parked())
    await rig.step(INGESTION_EVENTS)

    again = processing(captured, INGESTION_EVENTS)[-1]
    begun = captured.span(f"create {INGESTION_EVENTS}")
    assert is_child(again, begun)
    assert context(again).trace_id != context(parked).trace_id
    for span in (begun, again):
        assert [link.context.trace_id for link in span.links] == [context(parked).trace_id]


async def test_without_an_sdk_a_replay_still_leads_from_the_new_trace_to_the_old(
    rig: Rig, captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command replays, and exports nothing; who consumes the message does."""
    await rig.run(event("Account", 1, 1, Name=["no name"]))
    with monkeypatch.context() as patch:
        patch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)
        await replay(rig.services.replay, await rig.parked())
    await rig.step(INGESTION_EVENTS)
    parked, again = processing(captured, INGESTION_EVENTS)
    assert context(again).trace_id != context(parked).trace_id
    assert [link.context.trace_id for link in again.links] == [context(parked).trace_id]


async def test_reconciling_begins_a_trace_that_is_linked_to_the_reconciler(rig: Rig, captured: Captured) -> None:
    await rig.send(event("Account", 1, 1, Name="Account 1"))
    await rig.step(INGESTION_EVENTS)
    [lost] = await rig.receive(SHARD_EMISSION)
    await rig.bus.complete([lost])
    rig.wait(1)
    with tracing.span("reconcile", {}):
        assert await reconcile(rig.services.reconciliation, after=timedelta(0)) == 1
    await rig.drain()

    begun = captured.span(f"create {SHARD_EMISSION}")
    assert begun.parent is None
    assert is_linked(begun, captured.span("reconcile"))
    [enriched] = processing(captured, SHARD_EMISSION)
    assert is_child(enriched, begun)


@pytest.mark.parametrize("sampled", [True, False])
async def test_a_span_of_the_host_neither_takes_over_nor_loses_ours(
    rig: Rig, captured: Captured, sampled: bool
) -> None:
    """With ``PYTHON_ENABLE_OPENTELEMETRY`` the worker attaches the host's span, whose sampling is its own affair."""
    host = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(int(sampled)))
    await rig.send(event("Account", 1, 1, Name="A"), event("Account", 2, 1, Name="B"))
    with trace.use_span(NonRecordingSpan(host)):
        await rig.step(INGESTION_EVENTS)
    batch = captured.span(f"process_batch {INGESTION_EVENTS}")
    assert batch.parent is None
    assert host.span_id in {link.context.span_id for link in batch.links}
    assert len(processing(captured, INGESTION_EVENTS)) == 2
    assert all(tracing.traceparent_of(context(one))[:35] == FOREIGN[:35] for one in processing(captured))


@pytest.mark.parametrize("sampler", [ParentBased(ALWAYS_OFF), DEFAULT_OFF, ALWAYS_OFF], ids=["root-off", "off", "all"])
async def test_what_is_not_sampled_is_not_sampled_anywhere(
    tmp_path: Any, chain_functions: None, monkeypatch: pytest.MonkeyPatch, sampler: Any
) -> None:
    with captured_telemetry(monkeypatch, sampler=sampler) as captured:
        rig = Rig(tmp_path / "data", telemetry=captured.telemetry)
        try:
            await rig.send(event("Account", 1, 1, Name="A").model_copy(update={"traceparent": None}))
            await rig.step(INGESTION_EVENTS)
            [message] = await rig.receive(SHARD_EMISSION)
            assert str(message.properties["traceparent"]).endswith("-00")
            await rig.call(SHARD_EMISSION, [message])
        finally:
            await rig.close()
        assert captured.spans() == []


async def test_a_batch_that_breaks_off_tells_so(rig: Rig, captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    class StopError(BaseException):
        """Ends the worker."""

    async def stop(*_: object) -> None:
        raise StopError

    monkeypatch.setattr(rig.store, "get_many", stop)
    await rig.send(event("Account", 1, 1, Name="A"), event("Account", 2, 1, Name="B"))
    with pytest.raises(StopError):
        await rig.step(INGESTION_EVENTS)
    spans = [captured.span(f"process_batch {INGESTION_EVENTS}"), *processing(captured)]
    assert len(spans) == 3
    assert {attributes(span)["shardline.outcome"] for span in spans} == {"broken-off"}
    assert {span.status.description for span in spans} == {"StopError"}
