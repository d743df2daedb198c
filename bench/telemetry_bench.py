"""What tracing and metrics cost: a hop of the chain, and with ``--chain`` the whole of it, switched off and on.

Run ``python -m bench.telemetry_bench``. The hop is all of a stage but its work: messages decoded, handed over, the next
stage's messages made and sent, each with its end; bus and exporter take everything and do nothing. The chain is that of
``python -m bench``, in processes of its own, with a collector on this machine that reads what it is sent.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio, Sampler, SamplingResult
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.chain import run_to_vector
from local.host.queue_pump import to_service_bus_message
from local.salesforce.server import SimulatorProcess
from messaging import tracing
from messaging.bus import DeadLetter, Message, QueueDepth, ReceivedMessage
from messaging.contracts import EnrichmentJob, ShardEmission
from messaging.queues import ENRICHMENT_JOBS, SHARD_EMISSION
from messaging.times import utc_now
from operations.metered_bus import MeteredBus
from operations.metrics import Metrics, StageMeter
from processors.delivery import Delivery, DeliveryPorts, consume
from processors.outcome import DONE, Outcome
from shards.folder_blobs import FolderBlobStore
from shards.sqlite_store import SqliteShardStore

BATCH = 256
ROUNDS = 5
MODES = ("off", "on, nothing sampled", "on, a tenth sampled", "on, all sampled")
RATIOS = (0.0, 0.1, 1.0)


class _NoBus:
    """Takes every message at once."""

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        """Nothing."""

    async def depths(self) -> dict[str, QueueDepth]:
        """No queue."""
        return {}

    async def dead_letters(self, queue: str, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:  # noqa: ARG002
        """None."""
        return []

    async def remove_dead_letters(self, queue: str, sequence_numbers: Sequence[int]) -> int:  # noqa: ARG002
        """None."""
        return 0

    async def close(self) -> None:
        """Nothing."""


class _NoExporter(SpanExporter):
    def export(self, spans: Sequence[Any]) -> SpanExportResult:  # noqa: ARG002
        """Drop them."""
        return SpanExportResult.SUCCESS


class _SetSampler(Sampler):
    """The sampler that is set: a process has one provider, and so one sampler, for good."""

    ratio = 1.0

    def should_sample(self, *arguments: Any, **options: Any) -> SamplingResult:
        """As the one of this ratio does."""
        return ParentBasedTraceIdRatio(self.ratio).should_sample(*arguments, **options)

    def get_description(self) -> str:
        """What it is."""
        return "set"


def sample_messages(count: int, *, sampled: bool | None) -> list[Any]:
    """Emissions as the bus gives them, in traces of their own; *sampled* says whether, None: in no trace yet."""
    now = utc_now()
    made = []
    for number in range(count):
        traceparent = f"00-{number + 1:032x}-00f067aa0ba902b7-{int(bool(sampled)):02x}" if sampled is not None else None
        emission = ShardEmission(
            tenant_id="bench",
            shard_id=f"sh_{number:040x}",
            shard_type_id="c_contact",
            revision=1,
            change_type="create",
            correlation_id=f"{number:032x}",
            traceparent=traceparent,
        )
        message = emission.to_message(SHARD_EMISSION)
        received = ReceivedMessage(
            SHARD_EMISSION,
            number,
            "token",
            message.body,
            message.message_id,
            message.correlation_id,
            message.properties,
            1,
            now,
            now + timedelta(minutes=5),
        )
        made.append(to_service_bus_message(received))
    return made


async def hop(messages: Sequence[Any], ports: DeliveryPorts) -> float:
    """Microseconds of CPU a message, of all threads."""

    async def pass_on(deliveries: Sequence[Delivery[ShardEmission]]) -> list[Outcome]:
        jobs = [
            EnrichmentJob(
                tenant_id=emission.tenant_id,
                shard_id=emission.shard_id,
                shard_type_id=emission.shard_type_id,
                revision=emission.revision,
                correlation_id=emission.correlation_id,
                traceparent=emission.traceparent,
            )
            for emission in (delivery.value for delivery in deliveries)
        ]
        await ports.bus.send(ENRICHMENT_JOBS, [job.to_message(ENRICHMENT_JOBS) for job in jobs])
        return [DONE] * len(deliveries)

    before = time.process_time()
    for start in range(0, len(messages), BATCH):
        await consume(messages[start : start + BATCH], SHARD_EMISSION, ShardEmission, pass_on, ports)
    return (time.process_time() - before) / len(messages) * 1e6


async def measure_hops(count: int) -> tuple[dict[str, float], float]:
    """The best of :data:`ROUNDS` in each mode, and what looking for a trace context costs a message, always."""
    with tempfile.TemporaryDirectory(prefix="shardline-bench-") as folder:
        store, blobs = SqliteShardStore(Path(folder) / "store.db"), FolderBlobStore(Path(folder) / "blobs")

        def ports(metrics: Metrics) -> DeliveryPorts:
            return DeliveryPorts(MeteredBus(_NoBus(), metrics), store, blobs, utc_now, StageMeter(metrics))

        try:
            found = {
                MODES[0]: min(
                    [await hop(sample_messages(count, sampled=True), ports(Metrics())) for _ in range(ROUNDS)]
                )
            }
            always = _looking(count)
            sampler = _SetSampler()
            provider = TracerProvider(sampler=sampler)
            provider.add_span_processor(BatchSpanProcessor(_NoExporter()))
            trace.set_tracer_provider(provider)
            metrics = Metrics(MeterProvider([InMemoryMetricReader()]).get_meter("bench"))
            for mode, ratio in zip(MODES[1:], RATIOS, strict=True):
                sampler.ratio = ratio
                sampled = {0.0: False, 1.0: True}.get(ratio)
                rounds = [await hop(sample_messages(count, sampled=sampled), ports(metrics)) for _ in range(ROUNDS)]
                found[mode] = min(rounds)
            return found, always
        finally:
            await store.close()


def _looking(count: int) -> float:
    messages = [(message.application_properties, None) for message in sample_messages(1000, sampled=True)]
    before = time.process_time()
    for _ in range(count // 1000):
        for properties, envelope in messages:
            tracing.carried(properties, envelope)
    return (time.process_time() - before) / (count // 1000 * 1000) * 1e6


@contextmanager
def _collector() -> Any:
    """A collector that reads what it is sent and forgets it; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def measure_chain(records: int) -> dict[str, tuple[float, float]]:
    """Records a second and microseconds of CPU a record of the whole chain with one worker, in each mode but one."""
    found: dict[str, tuple[float, float]] = {}
    with SimulatorProcess(["--contacts", str(records)]) as simulator, _collector() as address:
        for mode, ratio in (("off", None), ("off", None), (MODES[2], "0.1"), (MODES[3], "1")):
            on = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
            environment = {**on, "OTEL_TRACES_SAMPLER_ARG": ratio} if ratio else {}
            os.environ.update(environment)
            with tempfile.TemporaryDirectory(prefix="shardline-bench-") as folder:
                # The first run warms the simulator, which serialises each row once.
                run = asyncio.run(run_to_vector(Path(folder) / "home", simulator, records, 1))
            for name in environment:
                del os.environ[name]
            found[mode] = (run.rate, run.cpu_us)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.telemetry_bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="messages of the hop (default 20,000)")
    parser.add_argument("--chain", type=int, metavar="RECORDS", help="run the whole chain with so many records too")
    options = parser.parse_args()
    console = Console(width=132)
    hops, always = asyncio.run(measure_hops(options.messages))
    table = Table(title=f"Telemetry: CPU of a hop without its work, batches of {BATCH}, best of {ROUNDS}")
    for heading in ("mode", "µs a message", "of off"):
        table.add_column(heading, justify="left" if heading == "mode" else "right")
    for mode, cost in hops.items():
        table.add_row(mode, f"{cost:.1f}", f"{cost / hops[MODES[0]]:.2f}")
    table.add_row("within off: looking for a trace context", f"{always:.2f}", f"{always / hops[MODES[0]]:.3f}")
    console.print(table)
    if options.chain:
        chain = measure_chain(options.chain)
        table = Table(title=f"Telemetry: the whole chain to vectors, {options.chain:,} records, 1 worker, OTLP")
        for heading in ("mode", "records/s", "of off", "CPU µs a record"):
            table.add_column(heading, justify="left" if heading == "mode" else "right")
        for mode, (rate, cpu) in chain.items():
            table.add_row(mode, f"{rate:,.0f}", f"{rate / chain[MODES[0]][0]:.2f}", f"{cpu:.0f}")
        console.print(table)
    sys.stdout.flush()
    console.print(f"load average: {machine.load()}", highlight=False)


if __name__ == "__main__":
    main()
