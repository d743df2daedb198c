"""What the app counts and measures: each metric is defined here, and docs/telemetry.md has a row for each.

The event pipeline and the general integration system are counted apart. No attribute of a metric holds a record's
content, a secret or an address.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from time import monotonic
from typing import Final, Literal

from opentelemetry.metrics import CallbackOptions, Meter, NoOpMeter, Observation

from messaging.bus import Message, QueueDepth
from messaging.contracts import Contract, EmbeddingJob, IngestionEvent
from messaging.queues import (
    EMBEDDING_JOBS,
    ENRICHMENT_JOBS,
    INGESTION_EVENTS,
    INGESTION_EVENTS_BULK,
    SHARD_EMISSION,
    SOURCE_WORK,
)
from messaging.times import from_text
from processors.outcome import Done, Later, Outcome, Park
from shards.request_charges import Charge

STAGE_OF_QUEUE: Final = {
    INGESTION_EVENTS: "normalize",
    INGESTION_EVENTS_BULK: "normalize",
    SHARD_EMISSION: "enrich",
    ENRICHMENT_JOBS: "prepare",
    EMBEDDING_JOBS: "embed",
    SOURCE_WORK: "read",
}
"""The stage that consumes each queue."""

CHANGE_FEED: Final = "change-feed"
"""Stands for a queue where the changes of the store are counted."""

EVENTS: Final = "events"
INTEGRATION: Final = "integration"

QUEUE: Final = "messaging.destination.name"
PIPELINE: Final = "shardline.pipeline"
STAGE: Final = "shardline.stage"
OUTCOME: Final = "shardline.outcome"
CAUSE: Final = "shardline.cause"
REASON: Final = "shardline.reason"
STATE: Final = "shardline.state"
OPERATION: Final = "shardline.operation"
FUNCTION: Final = "shardline.function"
TENANT: Final = "shardline.tenant_id"
CONNECTION: Final = "shardline.connection_id"
SYSTEM: Final = "shardline.system"
INSTANCE: Final = "shardline.instance"
OBJECT_TYPE: Final = "shardline.object_type"
WORK: Final = "shardline.work"
KIND: Final = "shardline.kind"
NAME: Final = "shardline.name"

Attributes = Mapping[str, str]

INTEGRATION_FUNCTIONS: Final = frozenset({"prepare_changed_shards"})
"""The functions that work for the general integration system."""

_DURATIONS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 150)
_LAGS: Final = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: *unit* in UCUM, what each of its points tells apart by *attributes*, the bounds of its *buckets*."""

    name: str
    kind: Literal["counter", "histogram", "gauge", "observed counter"]
    unit: str
    attributes: tuple[str, ...]
    description: str
    buckets: tuple[float, ...] = ()


MESSAGES: Final = Metric(
    "shardline.messages", "counter", "{message}", (QUEUE, STAGE, OUTCOME, PIPELINE),
    "Messages that came to an end in a stage: done, later or parked",
)  # fmt: skip
RETRIED: Final = Metric(
    "shardline.messages.retried", "counter", "{message}", (QUEUE, CAUSE, PIPELINE),
    "Copies that go out for another try, by what kept the message from its end",
)  # fmt: skip
PARKED: Final = Metric(
    "shardline.messages.parked", "counter", "{message}", (QUEUE, REASON, PIPELINE),
    "Messages that were parked",
)  # fmt: skip
BATCH_SIZE: Final = Metric(
    "shardline.batch.size", "histogram", "{message}", (QUEUE, PIPELINE),
    "Messages that a function was given at once",
    _SIZES,
)  # fmt: skip
BATCH_DURATION: Final = Metric(
    "shardline.batch.duration", "histogram", "s", (QUEUE, STAGE, PIPELINE),
    "How long a batch took, until each of its messages had an end",
    _DURATIONS,
)  # fmt: skip
LAG_STORED: Final = Metric(
    "shardline.lag.stored", "histogram", "s", (PIPELINE,),
    "From the moment a change was observed at its source until its shard stood in the store",
    _LAGS,
)  # fmt: skip
LAG_EMBEDDED: Final = Metric(
    "shardline.lag.embedded", "histogram", "s", (PIPELINE,),
    "From the moment a change was observed at its source until its vectors stood in the store",
    _LAGS,
)  # fmt: skip
VECTORS: Final = Metric(
    "shardline.vectors", "counter", "{vector}", (PIPELINE,),
    "Vectors that were made and stored",
)  # fmt: skip
REQUEST_UNITS: Final = Metric(
    "shardline.store.request_units", "observed counter", "{request_unit}", (FUNCTION, OPERATION, PIPELINE),
    "Request units that Cosmos DB charged",
)  # fmt: skip
STORE_REQUESTS: Final = Metric(
    "shardline.store.requests", "observed counter", "{request}", (FUNCTION, OPERATION, PIPELINE),
    "Requests that Cosmos DB answered",
)  # fmt: skip
THROTTLED: Final = Metric(
    "shardline.store.throttled", "observed counter", "{request}", (FUNCTION, OPERATION, PIPELINE),
    "Requests that Cosmos DB refused because too many request units were asked for (429)",
)  # fmt: skip
BUS_SENDS: Final = Metric(
    "shardline.bus.sends", "counter", "{call}", (QUEUE,),
    "Calls that sent messages",
)  # fmt: skip
BUS_SENT: Final = Metric(
    "shardline.bus.sent", "counter", "{message}", (QUEUE, PIPELINE),
    "Messages that were sent",
)  # fmt: skip
SOURCE_CALLS: Final = Metric(
    "shardline.source.calls", "counter", "{call}", (TENANT, CONNECTION, SYSTEM, WORK, PIPELINE),
    "Calls to a source's API",
)  # fmt: skip
SOURCE_ROWS: Final = Metric(
    "shardline.source.rows", "counter", "{row}", (TENANT, CONNECTION, SYSTEM, WORK, PIPELINE),
    "Rows that a source's API gave; ids, where it is a sweep",
)  # fmt: skip
SOURCE_EVENTS: Final = Metric(
    "shardline.source.events", "counter", "{message}", (TENANT, CONNECTION, SYSTEM, WORK, PIPELINE),
    "Events that were sent about what a source's API gave",
)  # fmt: skip
SOURCE_DURATION: Final = Metric(
    "shardline.source.duration", "histogram", "s", (TENANT, CONNECTION, SYSTEM, WORK, PIPELINE),
    "How long one piece of work against a source took",
    _DURATIONS,
)  # fmt: skip
CONNECTION_LAG: Final = Metric(
    "shardline.connection.lag", "gauge", "s", (TENANT, CONNECTION, SYSTEM, PIPELINE),
    "Time since a connection's last poll that read something; of one that failed too",
)  # fmt: skip
BUDGET_LEFT: Final = Metric(
    "shardline.api_budget.left", "gauge", "{call}", (SYSTEM, INSTANCE, PIPELINE),
    "Calls that Shardline may still make to an org's API in the running day",
)  # fmt: skip
EMPTY_PASSES: Final = Metric(
    "shardline.full_pass.empty", "counter", "{pass}", (TENANT, CONNECTION, SYSTEM, OBJECT_TYPE, WORK, PIPELINE),
    "Readings of all records of an object that gave none, of which records are stored",
)  # fmt: skip
EXPIRY_LEFT: Final = Metric(
    "shardline.expiry.left", "gauge", "d", (TENANT, KIND, NAME),
    "Days until a secret expires, or a watch that a source was asked for",
)  # fmt: skip
OLDEST_AGE: Final = Metric(
    "shardline.queue.oldest_age", "gauge", "s", (QUEUE, PIPELINE),
    "Age of the oldest message of a queue that waits or is worked on",
)  # fmt: skip
DEPTH: Final = Metric(
    "shardline.queue.depth", "gauge", "{message}", (QUEUE, STATE, PIPELINE),
    "Messages of a queue: active, locked, scheduled or dead-lettered",
)  # fmt: skip
DEAD_LETTERS: Final = Metric(
    "shardline.dead_letters", "counter", "{message}", (QUEUE, PIPELINE),
    "Dead letters that were found on a queue and parked",
)  # fmt: skip
PARKED_NOW: Final = Metric(
    "shardline.parked", "gauge", "{message}", (REASON,),
    "Messages that are parked now",
)  # fmt: skip
BEHIND: Final = Metric(
    "shardline.shards.behind", "gauge", "{shard}", (STAGE,),
    "Shards that a stage has not finished",
)  # fmt: skip

ORPHANED_TEXTS: Final = Metric(
    "shardline.texts.orphaned", "counter", "{text}", (OUTCOME,),
    "Texts of files that no shard names: deleted, or left for later because an event may still name them",
)  # fmt: skip

METRICS: Final = (
    MESSAGES, RETRIED, PARKED, BATCH_SIZE, BATCH_DURATION, LAG_STORED, LAG_EMBEDDED, VECTORS,
    REQUEST_UNITS, STORE_REQUESTS, THROTTLED, BUS_SENDS, BUS_SENT,
    SOURCE_CALLS, SOURCE_ROWS, SOURCE_EVENTS, SOURCE_DURATION, CONNECTION_LAG, BUDGET_LEFT, EMPTY_PASSES, EXPIRY_LEFT,
    OLDEST_AGE, DEPTH, DEAD_LETTERS, PARKED_NOW, BEHIND, ORPHANED_TEXTS,
)  # fmt: skip
"""All there are."""


def pipeline_of(pipeline: object) -> str:
    """The pipeline as metrics name it; what names none is the events'."""
    return INTEGRATION if pipeline == INTEGRATION else EVENTS


FRESH_FOR: Final = 360.0
"""Seconds that a measured value is exported: longer than the reconciler's pauses. An older one says nothing of now."""


class _Measured:
    """The points of a gauge, each as long as it is fresh."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._points: dict[tuple[tuple[str, str], ...], tuple[float, float]] = {}

    def set(self, value: float, attributes: Attributes) -> None:
        """This point is so now."""
        with self._lock:
            self._points[tuple(attributes.items())] = (value, self._clock())

    def replace(self, points: Iterable[tuple[float, Attributes]]) -> None:
        """These are all points that there are now."""
        now = self._clock()
        with self._lock:
            self._points = {tuple(attributes.items()): (value, now) for value, attributes in points}

    def observations(self, _: CallbackOptions) -> list[Observation]:
        """What is fresh, for an export."""
        oldest = self._clock() - FRESH_FOR
        with self._lock:
            self._points = {key: point for key, point in self._points.items() if point[1] >= oldest}
            return [Observation(value, dict(key)) for key, (value, _at) in self._points.items()]


@dataclass(frozen=True, slots=True)
class SourceRun:
    """What one piece of work against a source did."""

    tenant_id: str
    connection_id: str
    system: str
    work: str
    calls: int
    rows: int
    events: int
    seconds: float


class Metrics:
    """The instruments of a process. Without a *meter* they take nothing, and *on* tells callers to collect nothing.

    *clock* counts seconds.
    """

    def __init__(self, meter: Meter | None = None, *, clock: Callable[[], float] = monotonic) -> None:
        self.on = meter is not None
        self._meter = meter or NoOpMeter("shardline")
        self._counters = {
            metric: self._meter.create_counter(metric.name, metric.unit, metric.description)
            for metric in METRICS
            if metric.kind == "counter"
        }
        self._histograms = {
            metric: self._meter.create_histogram(
                metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
            )
            for metric in METRICS
            if metric.kind == "histogram"
        }
        # Not the SDK's own gauges: some of its versions export their last value for ever, others once.
        self._gauges = {metric: _Measured(clock) for metric in METRICS if metric.kind == "gauge"}
        for metric, measured in self._gauges.items():
            self._meter.create_observable_gauge(metric.name, [measured.observations], metric.unit, metric.description)

    def processed(
        self,
        queue: str,
        contracts: Sequence[Contract | None],
        outcomes: Sequence[Outcome],
        *,
        seconds: float,
        at: datetime,
    ) -> None:
        """A batch came to its end *at* a moment, after *seconds*. A contract is None where a body was none."""
        if not self.on:
            return
        stage = STAGE_OF_QUEUE.get(queue, queue)
        sizes: Counter[str] = Counter()
        ends: Counter[tuple[str, str]] = Counter()
        retried: Counter[tuple[str, str]] = Counter()
        parked: Counter[tuple[str, str]] = Counter()
        for contract, outcome in zip(contracts, outcomes, strict=True):
            pipeline = pipeline_of(contract.pipeline if contract else None)
            sizes[pipeline] += 1
            match outcome:
                case Done():
                    ends["done", pipeline] += 1
                    self._lag(contract, at, pipeline)
                case Later(cause=cause):
                    ends["later", pipeline] += 1
                    retried[cause.name.lower(), pipeline] += 1
                case Park(reason=reason):
                    ends["parked", pipeline] += 1
                    parked[reason, pipeline] += 1
        for pipeline, size in sizes.items():
            self._histograms[BATCH_SIZE].record(size, {QUEUE: queue, PIPELINE: pipeline})
            self._histograms[BATCH_DURATION].record(seconds, {QUEUE: queue, STAGE: stage, PIPELINE: pipeline})
        for (end, pipeline), count in ends.items():
            self._counters[MESSAGES].add(count, {QUEUE: queue, STAGE: stage, OUTCOME: end, PIPELINE: pipeline})
        for (cause_name, pipeline), count in retried.items():
            self._counters[RETRIED].add(count, {QUEUE: queue, CAUSE: cause_name, PIPELINE: pipeline})
        for (reason, pipeline), count in parked.items():
            self._counters[PARKED].add(count, {QUEUE: queue, REASON: reason, PIPELINE: pipeline})

    def _lag(self, contract: Contract | None, at: datetime, pipeline: str) -> None:
        if isinstance(contract, IngestionEvent):
            metric, observed_at = LAG_STORED, contract.observed_at
        elif isinstance(contract, EmbeddingJob) and contract.observed_at:
            metric, observed_at = LAG_EMBEDDED, contract.observed_at
        else:
            return
        try:
            lag = (at - from_text(observed_at)).total_seconds()
        except (ValueError, OverflowError):
            return  # a producer's time that its event could do without
        self._histograms[metric].record(max(lag, 0.0), {PIPELINE: pipeline})

    def followed(self, *, done: int, failed: int, seconds: float) -> None:
        """Changes that others wrote came from the store; those that *failed* go on as jobs of their own."""
        attributes = {QUEUE: CHANGE_FEED, PIPELINE: INTEGRATION}
        self._histograms[BATCH_SIZE].record(done + failed, attributes)
        self._histograms[BATCH_DURATION].record(seconds, {**attributes, STAGE: "prepare"})
        for outcome, count in (("done", done), ("later", failed)):
            if count:
                self._counters[MESSAGES].add(count, {**attributes, STAGE: "prepare", OUTCOME: outcome})

    def embedded(self, vectors: int, pipeline: str | None) -> None:
        """So many vectors were made and stored."""
        self._counters[VECTORS].add(vectors, {PIPELINE: pipeline_of(pipeline)})

    def sent(self, queue: str, messages: Sequence[Message]) -> None:
        """The bus took *messages* in one call."""
        if not self.on:
            return
        self._counters[BUS_SENDS].add(1, {QUEUE: queue})
        counts = Counter(pipeline_of(message.properties.get("pipeline")) for message in messages)
        for pipeline, count in counts.items():
            self._counters[BUS_SENT].add(count, {QUEUE: queue, PIPELINE: pipeline})

    def source_read(self, run: SourceRun) -> None:
        """A piece of work against a source came to its end, or as far as there was time."""
        attributes = {
            TENANT: run.tenant_id,
            CONNECTION: run.connection_id,
            SYSTEM: run.system,
            WORK: run.work,
            PIPELINE: EVENTS,
        }
        self._counters[SOURCE_CALLS].add(run.calls, attributes)
        self._counters[SOURCE_ROWS].add(run.rows, attributes)
        self._counters[SOURCE_EVENTS].add(run.events, attributes)
        self._histograms[SOURCE_DURATION].record(run.seconds, attributes)

    def budget_left(self, system: str, instance: str, calls: int) -> None:
        """An org's API may be called so often yet."""
        self._gauges[BUDGET_LEFT].set(calls, {SYSTEM: system, INSTANCE: instance, PIPELINE: EVENTS})

    def connection_lag(self, tenant_id: str, connection_id: str, system: str, lag: timedelta) -> None:
        """A connection's last poll that read something is so long ago."""
        attributes = {TENANT: tenant_id, CONNECTION: connection_id, SYSTEM: system, PIPELINE: EVENTS}
        self._gauges[CONNECTION_LAG].set(max(lag.total_seconds(), 0.0), attributes)

    def empty_pass(self, tenant_id: str, connection_id: str, system: str, work: str, object_type: str) -> None:
        """A reading of all records of an object gave none, and records of it are stored."""
        attributes = {
            TENANT: tenant_id,
            CONNECTION: connection_id,
            SYSTEM: system,
            OBJECT_TYPE: object_type,
            WORK: work,
            PIPELINE: EVENTS,
        }
        self._counters[EMPTY_PASSES].add(1, attributes)

    def secret_expires(self, tenant_id: str, name: str, left: timedelta) -> None:
        """A secret, *name* as its reference has it, expires after *left*."""
        self._expires(tenant_id, "secret", name, left)

    def watch_expires(self, tenant_id: str, connection_id: str, left: timedelta) -> None:
        """What a source was asked to push to a connection ends after *left*."""
        self._expires(tenant_id, "watch", connection_id, left)

    def _expires(self, tenant_id: str, kind: str, name: str, left: timedelta) -> None:
        self._gauges[EXPIRY_LEFT].set(left / timedelta(days=1), {TENANT: tenant_id, KIND: kind, NAME: name})

    def queues(self, depths: Mapping[str, QueueDepth], now: datetime) -> None:
        """The queues stand so."""
        ages: list[tuple[float, Attributes]] = []
        counts: list[tuple[float, Attributes]] = []
        for queue, depth in depths.items():
            attributes = {QUEUE: queue, PIPELINE: _pipeline_of_queue(queue)}
            age = (now - depth.oldest_enqueued_at).total_seconds() if depth.oldest_enqueued_at else 0.0
            ages.append((max(age, 0.0), attributes))
            for state, count in (
                ("active", depth.active),
                ("locked", depth.locked),
                ("scheduled", depth.scheduled),
                ("dead-lettered", depth.dead_lettered),
            ):
                counts.append((count, {**attributes, STATE: state}))
        self._gauges[OLDEST_AGE].replace(ages)
        self._gauges[DEPTH].replace(counts)

    def dead_letters(self, queue: str, count: int) -> None:
        """So many dead letters were found on *queue* and parked."""
        self._counters[DEAD_LETTERS].add(count, {QUEUE: queue, PIPELINE: _pipeline_of_queue(queue)})

    def parked(self, counts: Mapping[str, int]) -> None:
        """So many messages are parked now, by reason."""
        self._gauges[PARKED_NOW].replace((count, {REASON: reason}) for reason, count in counts.items())

    def behind(self, counts: Mapping[str, int]) -> None:
        """So many shards wait for each stage."""
        self._gauges[BEHIND].replace((count, {STAGE: stage}) for stage, count in counts.items())

    def orphaned_texts(self, *, deleted: int, left: int) -> None:
        """So many texts that no shard names were found: *left* are those that an event may still name."""
        for outcome, count in (("deleted", deleted), ("later", left)):
            if count:
                self._counters[ORPHANED_TEXTS].add(count, {OUTCOME: outcome})

    def observe_store(self, charges: Callable[[], Sequence[Charge]]) -> None:
        """Export what *charges* has added up by then, at each export."""
        self._observe(REQUEST_UNITS, charges, lambda charge: charge.request_units)
        self._observe(STORE_REQUESTS, charges, lambda charge: charge.requests)
        self._observe(THROTTLED, charges, lambda charge: charge.throttled)

    def _observe(
        self, metric: Metric, charges: Callable[[], Sequence[Charge]], total: Callable[[Charge], float]
    ) -> None:
        def observations(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(total(charge), _of_charge(charge)) for charge in charges()]

        self._meter.create_observable_counter(metric.name, [observations], metric.unit, metric.description)


def _of_charge(charge: Charge) -> Attributes:
    pipeline = INTEGRATION if charge.function in INTEGRATION_FUNCTIONS else EVENTS
    return {FUNCTION: charge.function, OPERATION: charge.operation, PIPELINE: pipeline}


def _pipeline_of_queue(queue: str) -> str:
    return INTEGRATION if queue.startswith("sync-") else EVENTS


class StageMeter:
    """What this process has done since it started, by stage and source, beside the metrics.

    Seconds are elapsed time within the stage; stages overlap.
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self.messages: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.events: Counter[str] = Counter()

    def record(
        self,
        queue: str,
        contracts: Sequence[Contract | None],
        outcomes: Sequence[Outcome],
        *,
        seconds: float,
        at: datetime,
    ) -> None:
        """See :meth:`Metrics.processed`; what could not be decoded counts for no stage and no source."""
        stage = STAGE_OF_QUEUE.get(queue, queue)
        decoded = [contract for contract in contracts if contract is not None]
        self.messages[stage] += len(decoded)
        self.seconds[stage] += seconds
        for contract in decoded:
            if isinstance(contract, IngestionEvent):
                self.events[contract.source] += 1
        self.metrics.processed(queue, contracts, outcomes, seconds=seconds, at=at)
