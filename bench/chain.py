"""The real host on real worker processes: from the poll's request to the last shard or vector."""

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import composition
from bench.home import TENANT, BenchHome, ask_for_poll, make_home
from bench.machine import Usage, usage
from local.host.supervisor import HostOptions, Supervisor
from local.salesforce.server import SimulatorProcess
from messaging.queues import (
    EMBEDDING_JOBS,
    ENRICHMENT_JOBS,
    INGESTION_EVENTS,
    INGESTION_EVENTS_BULK,
    SHARD_EMISSION,
    SOURCE_WORK,
)
from messaging.sqlite_bus import SqliteMessageBus
from shards.sqlite_store import SqliteShardStore
from shards.store import StoreCounts

LOOK_EVERY = 0.05
"""Seconds between two looks at the queues: what a measured time may be too long by."""
PATIENCE = 1_800.0
HOST_JSON = Path(composition.__file__).with_name("host.json")

TO_SHARD = (SOURCE_WORK, INGESTION_EVENTS, INGESTION_EVENTS_BULK)
TO_VECTOR = (*TO_SHARD, SHARD_EMISSION, ENRICHMENT_JOBS, EMBEDDING_JOBS)


@dataclass(frozen=True, slots=True)
class ChainRun:
    """A run of *records* through *workers* processes, to shards or *to_vectors*: seconds, and what each worker used."""

    records: int
    workers: int
    to_vectors: bool
    seconds: float
    used: list[Usage]

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    @property
    def peak_mb(self) -> float:
        """The peak memory of the largest worker."""
        return max(one.peak_mb for one in self.used)

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU a record, of all workers with their start."""
        return sum(one.cpu_seconds for one in self.used) / self.records * 1e6


async def run_to_shard(data: Path, simulator: SimulatorProcess, records: int, workers: int) -> ChainRun:
    """Poll *records* into stored shards."""
    home = await make_home(data, simulator)
    return await _run(home, records, workers, app="bench.blueprint", queues=TO_SHARD, vectors=False)


async def run_to_vector(data: Path, simulator: SimulatorProcess, records: int, workers: int) -> ChainRun:
    """Poll *records* and take them through the whole app, until each chunk has its vector."""
    home = await make_home(data, simulator)
    return await _run(home, records, workers, app="function_app", queues=TO_VECTOR, vectors=True)


async def _run(
    home: BenchHome, records: int, workers: int, *, app: str, queues: tuple[str, ...], vectors: bool
) -> ChainRun:
    supervisor = Supervisor(
        HostOptions(
            state_dir=home.state_dir,
            port=0,
            workers=workers,
            app=app,
            host_json=HOST_JSON,
            environment=home.environment,
        ),
        report=_report,
    )
    await supervisor.start()
    bus, store = home.open_bus(), home.open_store()
    try:
        started = time.perf_counter()
        await ask_for_poll(home)
        await _until_done(bus, store, queues, records, vectors=vectors)
        seconds = time.perf_counter() - started
        used = [usage(process_id) for process_id in supervisor.worker_pids]
    finally:
        await bus.close()
        await store.close()
        await supervisor.stop()
    return ChainRun(records, workers, vectors, seconds, used)


async def _until_done(
    bus: SqliteMessageBus, store: SqliteShardStore, queues: tuple[str, ...], records: int, *, vectors: bool
) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        depths = await bus.depths()
        # What is scheduled is asked for again later, of records that are here already.
        if all(depths[queue].active + depths[queue].locked == 0 for queue in queues):
            counts = await store.counts(TENANT)
            if is_complete(counts, records, vectors=vectors):
                return
        await asyncio.sleep(LOOK_EVERY)
    raise TimeoutError(f"after {PATIENCE:g} s there are {await store.counts(TENANT)} and queues of {depths}")


def is_complete(counts: StoreCounts, records: int, *, vectors: bool) -> bool:
    """Whether all *records* are shards, and each has its chunks' vectors if those are asked for."""
    if counts.shards.get("c_contact", 0) != records:
        return False
    return not vectors or counts.chunks == counts.vectors >= records


def _report(line: str) -> None:
    if any(word in line for word in ("ERROR", "CRITICAL", "unexpectedly")):
        sys.stderr.write(f"{line}\n")
