"""Every message has an end that someone can see, whatever is wrong with it, its neighbours, the store or the bus."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from azure.functions.servicebus import ServiceBusMessage
from chain_rig import TENANT, Rig, event

from local.host.queue_pump import to_service_bus_message
from messaging.bus import BusUnavailableError, Message
from messaging.contracts import UNKNOWN_TENANT, IngestionEvent
from messaging.queues import INGESTION_EVENTS, QUEUES, SHARD_EMISSION
from operations.metrics import StageMeter
from processors.delivery import FIRST_DELAY, LONGEST_DELAY, MAX_ATTEMPTS, Delivery, DeliveryPorts, backoff, consume
from processors.normalization import normalize
from processors.outcome import DONE, Cause, Done, Later, Outcome, Park, PermanentError
from shards.store import ItemTooLargeError, StoreRefusedError, StoreUnavailableError

Deliveries = Sequence[Delivery[IngestionEvent]]


class Recorder:
    """A processor that is done with everything, or what *what_of* says, and remembers the batches it was given."""

    def __init__(self, what_of: Callable[[str], Outcome | Exception] = lambda _: DONE) -> None:
        self.batches: list[list[str]] = []
        self.redelivered: list[bool] = []
        self._what_of = what_of

    async def __call__(self, deliveries: Deliveries) -> list[Outcome]:
        self.batches.append([delivery.value.source_id for delivery in deliveries])
        self.redelivered += [delivery.redelivered for delivery in deliveries]
        outcomes: list[Outcome] = []
        for delivery in deliveries:
            what = self._what_of(delivery.value.source_id)
            if isinstance(what, Exception):
                raise what
            outcomes.append(what)
        return outcomes


def numbered(count: int) -> list[IngestionEvent]:
    return [event("Account", number, 1, Name=f"Account {number}") for number in range(count)]


async def deliver(
    rig: Rig,
    process: Callable[[Deliveries], Awaitable[Sequence[Outcome]]],
    *,
    ports: DeliveryPorts | None = None,
) -> list[Outcome]:
    """Give what can be received to *process* in one batch and complete it."""
    messages = await rig.receive(INGESTION_EVENTS)
    outcomes = await consume(
        [to_service_bus_message(message) for message in messages],
        INGESTION_EVENTS,
        IngestionEvent,
        process,
        ports or rig.services.delivery,
    )
    await rig.bus.complete(messages)
    return outcomes


async def test_a_fresh_batch_is_processed_as_one(rig: Rig) -> None:
    await rig.send(*numbered(5))
    process = Recorder()
    assert await deliver(rig, process) == [DONE] * 5
    assert [len(batch) for batch in process.batches] == [5]
    assert process.redelivered == [False] * 5


async def test_an_empty_batch_has_no_outcomes(rig: Rig) -> None:
    process = Recorder()
    assert await consume([], INGESTION_EVENTS, IngestionEvent, process, rig.services.delivery) == []
    assert process.batches == []


async def test_a_batch_that_comes_again_runs_one_message_at_a_time(rig: Rig) -> None:
    await rig.send(*numbered(3))
    await rig.give_back(INGESTION_EVENTS, 1)
    process = Recorder()
    assert await deliver(rig, process) == [DONE] * 3
    assert [len(batch) for batch in process.batches] == [1, 1, 1]
    assert process.redelivered == [True] * 3


async def test_one_redelivered_message_makes_its_whole_batch_run_one_by_one(rig: Rig) -> None:
    await rig.send(*numbered(2))
    await rig.give_back(INGESTION_EVENTS, 1)
    old = await rig.receive(INGESTION_EVENTS)
    await rig.send(event("Account", 9, 1, Name="New"))
    new = await rig.receive(INGESTION_EVENTS)
    assert [message.delivery_count for message in (*old, *new)] == [2, 2, 1]
    process = Recorder()
    batch = [to_service_bus_message(message) for message in (*new, *old)]
    await consume(batch, INGESTION_EVENTS, IngestionEvent, process, rig.services.delivery)
    assert [len(batch) for batch in process.batches] == [1, 1, 1]
    assert process.redelivered == [False, True, True]


async def test_the_last_delivery_but_one_is_parked_untried(rig: Rig) -> None:
    await rig.send(*numbered(2))
    await rig.give_back(INGESTION_EVENTS)
    process = Recorder()
    outcomes = [*await deliver(rig, process), *await deliver(rig, process)]
    assert process.batches == []
    assert [outcome.reason for outcome in outcomes if isinstance(outcome, Park)] == ["delivered-too-often"] * 2
    parked = await rig.parked()
    assert [message.reason for message in parked] == ["delivered-too-often"] * 2
    assert {message.delivery_count for message in parked} == {QUEUES[INGESTION_EVENTS].max_delivery_count - 1}
    depth = await rig.depth(INGESTION_EVENTS)
    assert (depth.active, depth.locked, depth.dead_lettered) == (0, 0, 0)


SIX = b'"tenantId":"acme","source":"salesforce","sourceId":"x","eventType":"update","observedAt":"2026-01-01T00:00:00Z"'

BROKEN_BODIES = {
    "no JSON": (b"<soap:Envelope/>", "invalid-message"),
    "nothing": (b"", "invalid-message"),
    "cut off": (b'{"tenantId": "acme", "sour', "invalid-message"),
    "a list": (b"[1, 2]", "invalid-message"),
    "a number": (b"7", "invalid-message"),
    "no field": (b"{}", "invalid-message"),
    "an unknown kind of event": (b"{" + SIX.replace(b"update", b"upsert") + b',"payload":{}}', "invalid-message"),
    "a payload that is a text": (b"{" + SIX + b',"payload":"x"}', "invalid-message"),
    "no tenant": (b"{" + SIX.replace(b'"acme"', b'""') + b',"payload":{}}', "invalid-message"),
    "a newer schema": (b"{" + SIX + b',"payload":{},"schemaVersion":2}', "newer-schema"),
    "lists too deep": (b"[" * 200_000, "invalid-message"),
    "objects too deep": (
        b"{" + SIX + b',"payload":' + b'{"a":' * 40_000 + b"1" + b"}" * 40_000 + b"}",
        "invalid-message",
    ),
    "a number beyond numbers": (
        b"{" + SIX + b',"payload":{"Amount":1e99999999999999999999}}',
        "invalid-message",
    ),
    "a whole number of 5,000 digits": (b"{" + SIX + b',"payload":{"Amount":' + b"9" * 5000 + b"}}", "invalid-message"),
    "bytes that are no text": (b"{" + SIX + b',"payload":{"Name":"\xff\xfe"}}', "invalid-message"),
}


@pytest.mark.parametrize("name", BROKEN_BODIES)
async def test_a_broken_message_is_parked_and_its_neighbours_are_not_held_back(rig: Rig, name: str) -> None:
    body, reason = BROKEN_BODIES[name]
    await rig.send(*numbered(1))
    await rig.send_body(INGESTION_EVENTS, body, "broken")
    await rig.send(event("Account", 7, 1, Name="After"))
    process = Recorder()
    outcomes = await deliver(rig, process)
    assert [type(outcome) for outcome in outcomes] == [Done, Park, Done]
    assert [len(batch) for batch in process.batches] == [2]
    [parked] = await rig.parked()
    assert parked.reason == reason
    assert parked.message_id == "broken"
    assert parked.queue == INGESTION_EVENTS
    assert parked.body == body.decode(errors="replace")
    assert "\n" not in parked.detail


async def test_a_message_whose_tenant_cannot_be_told_is_parked_without_one(rig: Rig) -> None:
    await rig.send_body(INGESTION_EVENTS, b"\x00\x01", "no-tenant")
    await rig.send_body(INGESTION_EVENTS, b"\x00\x01", "with-tenant", tenantId=TENANT)
    await deliver(rig, Recorder())
    assert {message.message_id: message.tenant_id for message in await rig.parked()} == {
        "no-tenant": UNKNOWN_TENANT,
        "with-tenant": TENANT,
    }


async def test_what_is_wrong_is_named_without_the_value(rig: Rig) -> None:
    await rig.send_body(INGESTION_EVENTS, b'{"tenantId":"acme","payload":"hunter2"}', "told")
    await deliver(rig, Recorder())
    [parked] = await rig.parked()
    assert "payload" in parked.detail
    assert "sourceId" in parked.detail
    assert "hunter2" not in parked.detail


async def test_a_failing_message_is_tried_later_and_parked_in_the_end(rig: Rig) -> None:
    bad = numbered(3)[1].source_id
    process = Recorder(lambda source_id: RuntimeError("no such luck") if source_id == bad else DONE)
    await rig.send(*numbered(3))
    outcomes = await deliver(rig, process)
    assert [type(outcome) for outcome in outcomes] == [Done, Later, Done]
    waits = [FIRST_DELAY]
    while not await rig.parked():
        depth = await rig.depth(INGESTION_EVENTS)
        assert (depth.active, depth.locked, depth.scheduled) == (0, 0, 1)
        rig.wait(waits[-1].total_seconds() - 1)
        assert await rig.receive(INGESTION_EVENTS) == [], "it came before its delay was over"
        rig.wait(1)
        [outcome] = await deliver(rig, process)
        if isinstance(outcome, Later):
            waits.append(outcome.delay)
    assert [wait.total_seconds() for wait in waits] == [5, 10, 20, 40, 80]
    assert len(waits) == MAX_ATTEMPTS - 1
    [parked] = await rig.parked()
    assert parked.reason == "failed"
    assert "RuntimeError: no such luck" in parked.detail
    assert process.batches.count([bad]) == MAX_ATTEMPTS
    depth = await rig.depth(INGESTION_EVENTS)
    assert (depth.active, depth.locked, depth.scheduled) == (0, 0, 0)


async def test_waiting_uses_up_no_tries(rig: Rig) -> None:
    """Six waits for a store that is away, six for others that are first; then one failure is the first failure."""
    await rig.send(*numbered(1))
    away, contended, failing = (
        Recorder(lambda _: StoreUnavailableError("no answer")),
        Recorder(lambda _: Later(timedelta(seconds=5), "not yet")),
        Recorder(lambda _: RuntimeError("a hiccup")),
    )
    for process in [away] * MAX_ATTEMPTS + [contended] * MAX_ATTEMPTS:
        [outcome] = await deliver(rig, process)
        assert isinstance(outcome, Later)
        rig.wait(outcome.delay.total_seconds())
    [outcome] = await deliver(rig, failing)
    assert outcome == Later(FIRST_DELAY, "RuntimeError: a hiccup", Cause.FAILURE)


async def test_an_outage_has_a_backoff_of_its_own(rig: Rig) -> None:
    await rig.send(*numbered(1))
    delays = []
    failing, away = Recorder(lambda _: RuntimeError("no")), Recorder(lambda _: StoreUnavailableError("no answer"))
    for process in (failing, failing, away, away):
        [outcome] = await deliver(rig, process)
        assert isinstance(outcome, Later)
        delays.append(outcome.delay.total_seconds())
        rig.wait(delays[-1])
    assert delays == [5, 10, 5, 10]


def test_the_delay_has_a_ceiling() -> None:
    assert backoff(1) == FIRST_DELAY
    assert backoff(50) == LONGEST_DELAY


async def test_a_permanent_error_parks_only_its_own_message(rig: Rig) -> None:
    bad = numbered(3)[2].source_id
    process = Recorder(lambda source_id: PermanentError("gone-for-good", "why") if source_id == bad else DONE)
    await rig.send(*numbered(3))
    outcomes = await deliver(rig, process)
    assert [type(outcome) for outcome in outcomes] == [Done, Done, Park]
    [parked] = await rig.parked()
    assert (parked.reason, parked.detail) == ("gone-for-good", "why")


async def test_what_the_store_can_never_keep_parks_only_its_own_message(rig: Rig) -> None:
    await rig.send(*numbered(3))
    bad = numbered(3)[1].source_id
    process = Recorder(lambda source_id: ItemTooLargeError("shard sh_1 has 3 MB") if source_id == bad else DONE)
    outcomes = await deliver(rig, process)
    assert outcomes == [DONE, Park("too-large", "shard sh_1 has 3 MB"), DONE]


async def test_what_the_store_refuses_is_parked_at_once_and_parks_only_its_own_message(rig: Rig) -> None:
    await rig.send(*numbered(3))
    bad = numbered(3)[1].source_id
    refusal = StoreRefusedError("query of container shards: refused with 400")
    process = Recorder(lambda source_id: refusal if source_id == bad else DONE)
    outcomes = await deliver(rig, process)
    assert outcomes == [DONE, Park("store-refused", "query of container shards: refused with 400"), DONE]


async def test_a_batch_that_broke_is_tried_again_as_one_that_may_have_done_part(rig: Rig) -> None:
    await rig.send(*numbered(2))
    calls = 0

    async def breaks_once(deliveries: Deliveries) -> list[Outcome]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("half way")
        assert [delivery.redelivered for delivery in deliveries] == [True]
        return [DONE]

    assert await deliver(rig, breaks_once) == [DONE, DONE]
    assert calls == 3


async def test_while_the_store_is_away_the_batch_comes_back_later(rig: Rig) -> None:
    await rig.send(*numbered(3))

    async def away(_: Deliveries) -> list[Outcome]:
        raise StoreUnavailableError("no answer")

    outcomes = await deliver(rig, away)
    assert [outcome.delay for outcome in outcomes if isinstance(outcome, Later)] == [FIRST_DELAY] * 3
    assert await rig.parked() == []
    rig.wait(FIRST_DELAY.total_seconds())
    process = Recorder()
    assert await deliver(rig, process) == [DONE] * 3
    assert process.redelivered == [True] * 3
    assert sorted(process.batches[0]) == [one.source_id for one in numbered(3)]


async def test_a_store_that_goes_away_between_single_messages_is_not_asked_for_each(rig: Rig) -> None:
    await rig.send(*numbered(5))
    first, bad = numbered(5)[0].source_id, numbered(5)[1].source_id
    singles: list[str] = []

    async def breaks_then_away(deliveries: Deliveries) -> list[Outcome]:
        if len(deliveries) > 1:
            raise RuntimeError("half way")
        singles.append(deliveries[0].value.source_id)
        if singles[-1] == bad:
            raise StoreUnavailableError("no answer")
        return [DONE]

    outcomes = await deliver(rig, breaks_then_away)
    assert singles == [first, bad]
    assert outcomes == [DONE] + [Later(FIRST_DELAY, "the store is unavailable", Cause.OUTAGE)] * 4


async def test_a_store_that_stays_away_parks_nothing(rig: Rig) -> None:
    """An outage of the store is nothing a message can help, however long it lasts."""
    await rig.send(*numbered(1))

    async def away(_: Deliveries) -> list[Outcome]:
        raise StoreUnavailableError("no answer")

    for _ in range(MAX_ATTEMPTS * 3):
        [outcome] = await deliver(rig, away)
        assert isinstance(outcome, Later)
        assert outcome.delay <= LONGEST_DELAY
        rig.wait(outcome.delay.total_seconds())
    assert await deliver(rig, Recorder()) == [DONE]


async def test_what_cannot_be_parked_now_comes_back_and_is_parked_then(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: object) -> None:
        raise StoreUnavailableError("no answer")

    await rig.send_body(INGESTION_EVENTS, b"{", "broken")
    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "park", away)
        await deliver(rig, Recorder())
    assert await rig.parked() == []
    rig.wait(FIRST_DELAY.total_seconds())
    await deliver(rig, Recorder())
    [parked] = await rig.parked()
    assert parked.reason == "invalid-message"
    assert parked.body == "{"


async def test_what_has_not_started_at_half_of_the_lock_goes_out_as_copies(rig: Rig) -> None:
    await rig.send(*numbered(3))
    await rig.give_back(INGESTION_EVENTS, 1)
    half = QUEUES[INGESTION_EVENTS].lock_duration / 2

    async def slow(deliveries: Deliveries) -> list[Outcome]:
        rig.wait(half.total_seconds())
        return [DONE] * len(deliveries)

    outcomes = await deliver(rig, slow)
    assert [type(outcome) for outcome in outcomes] == [Done, Later, Later]
    depth = await rig.depth(INGESTION_EVENTS)
    assert (depth.active, depth.locked, depth.scheduled) == (2, 0, 0)
    process = Recorder()
    assert await deliver(rig, process) == [DONE, DONE]
    assert [source for batch in process.batches for source in batch] == [one.source_id for one in numbered(3)[1:]]


async def test_what_a_failed_batch_leaves_no_time_for_goes_out_as_copies(rig: Rig) -> None:
    await rig.send(*numbered(30))
    began = rig.now
    half = QUEUES[INGESTION_EVENTS].lock_duration / 2
    starts: list[timedelta] = []

    async def slow_and_broken_by_the_first(deliveries: Deliveries) -> list[Outcome]:
        starts.append(rig.now - began)
        rig.wait(30)
        if numbered(1)[0].source_id in [delivery.value.source_id for delivery in deliveries]:
            raise RuntimeError("poison")
        return [DONE] * len(deliveries)

    outcomes = await deliver(rig, slow_and_broken_by_the_first)
    assert max(starts) < half
    assert len(starts) == half / timedelta(seconds=30)
    done = len(starts) - 2
    assert outcomes[1:] == [DONE] * done + [Later(timedelta(0), "the batch ran out of time")] * (29 - done)
    depth = await rig.depth(INGESTION_EVENTS)
    assert (depth.active, depth.scheduled) == (29 - done, 1)


class FailingBus:
    """The rig's bus, away for the first *failures* sends (for ever when None)."""

    def __init__(self, rig: Rig, failures: int | None) -> None:
        self._rig = rig
        self._failures = failures

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        if self._failures is None:
            raise BusUnavailableError("no answer")
        if self._failures > 0:
            self._failures -= 1
            raise BusUnavailableError("no answer")
        await self._rig.bus.send(queue, messages, delay=delay)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rig.bus, name)


def ports_with(rig: Rig, bus: Any, clock: Callable[[], datetime] | None = None) -> DeliveryPorts:
    return DeliveryPorts(bus, rig.store, rig.services.blobs, clock or rig.clock, StageMeter())


async def test_a_bus_that_comes_back_in_time_gets_the_copies(rig: Rig) -> None:
    await rig.send(*numbered(1))
    process = Recorder(lambda _: Later(timedelta(seconds=5), "not yet"))
    await deliver(rig, process, ports=ports_with(rig, FailingBus(rig, 2)))
    assert (await rig.depth(INGESTION_EVENTS)).scheduled == 1


async def test_a_bus_that_stays_away_raises_before_the_lock_is_over(rig: Rig) -> None:
    await rig.send(*numbered(1))
    began = rig.now

    def ticking() -> datetime:
        rig.wait(20)
        return rig.now

    process = Recorder(lambda _: Later(timedelta(seconds=5), "not yet"))
    with pytest.raises(BusUnavailableError):
        await deliver(rig, process, ports=ports_with(rig, FailingBus(rig, None), ticking))
    assert rig.now - began < QUEUES[INGESTION_EVENTS].lock_duration


async def test_the_next_stage_hears_of_a_shard_although_the_bus_was_away_when_it_was_written(rig: Rig) -> None:
    """The processor is called again after it has already written: then the emission must not be left out."""
    await rig.send(*numbered(2))
    flaky: Any = FailingBus(rig, 1)
    process = partial(normalize, ports=replace(rig.services.normalization, bus=flaky))
    assert await deliver(rig, process) == [DONE, DONE]
    assert (await rig.depth(SHARD_EMISSION)).active == 2


async def test_a_copy_carries_everything_on(rig: Rig) -> None:
    await rig.send(event("Account", 1, 1, Name="Whole"))
    await deliver(rig, Recorder(lambda _: Later(timedelta(seconds=5), "not yet")))
    rig.wait(5)
    [copy] = await rig.receive(INGESTION_EVENTS)
    original = event("Account", 1, 1, Name="Whole").to_message(INGESTION_EVENTS)
    assert copy.body == original.body
    assert copy.correlation_id == original.correlation_id
    assert copy.message_id != original.message_id
    assert copy.properties == {**original.properties, "generation": 1, "postponements": 1, "laterBecause": "not yet"}


async def test_stages_are_counted_by_message(rig: Rig) -> None:
    meter = StageMeter()
    await rig.send(*numbered(4))
    real = rig.services.delivery
    await deliver(rig, Recorder(), ports=replace(real, meter=meter))
    assert meter.messages == {"normalize": 4}
    assert meter.events == {"salesforce": 4}


async def test_a_copy_leaves_out_numbers_that_no_bus_carries_on(rig: Rig) -> None:
    """AMQP has numbers without a sign, and Service Bus hands them over; its SDK refuses to send them."""
    given = ServiceBusMessage(
        body=numbered(1)[0].to_bytes(),
        message_id="m1",
        sequence_number=1,
        delivery_count=1,
        application_properties={"generation": 2**63 - 1, "large": 2**63, "low": -(2**63) - 1, "most": 2**63 - 1},
        user_properties={},
    )
    process = Recorder(lambda _: Later(timedelta(seconds=5), "not yet"))
    [outcome] = await consume([given], INGESTION_EVENTS, IngestionEvent, process, rig.services.delivery)
    assert isinstance(outcome, Later)
    rig.wait(5)
    [copy] = await rig.receive(INGESTION_EVENTS)
    assert copy.properties == {"most": 2**63 - 1, "generation": 1, "postponements": 1, "laterBecause": "not yet"}
