"""Each stage alone: the host's own worker with one stage's functions, in a process of its own.

The stages run one after the other on one data folder: what one leaves on the queues is the next one's work. This module
is both sides: :func:`run_stage` starts the process, ``python -m bench.stages`` is it.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.home import BenchHome
from bench.machine import usage
from bench.time_shares import TimeShares
from composition import Services, local_services
from local.host.app_index import load_app
from local.host.worker import Worker
from messaging.queues import (
    EMBEDDING_JOBS,
    ENRICHMENT_JOBS,
    INGESTION_EVENTS,
    INGESTION_EVENTS_BULK,
    SHARD_EMISSION,
    SOURCE_WORK,
)
from processors import backpressure

QUEUES_OF_STAGE = {
    "poll": (SOURCE_WORK,),
    "normalize": (INGESTION_EVENTS, INGESTION_EVENTS_BULK),
    "enrich": (SHARD_EMISSION,),
    "prepare": (ENRICHMENT_JOBS,),
    "embed": (EMBEDDING_JOBS,),
}
"""The queues whose functions are the stage, in the order a record passes them."""

LOOK_EVERY = 0.05
GIVE_UP_AFTER = 1_800


@dataclasses.dataclass(frozen=True, slots=True)
class StageRun:
    """A stage alone on *records* records: elapsed and CPU seconds, peak memory of the process in MB.

    *shares* is CPU by area in seconds, empty unless it was asked for.
    """

    stage: str
    records: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    shares: dict[str, float]

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    @property
    def wall_us(self) -> float:
        """Microseconds a record."""
        return self.seconds / self.records * 1e6

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU a record, of all threads."""
        return self.cpu_seconds / self.records * 1e6


def run_stage(home: BenchHome, stage: str, records: int, *, with_shares: bool = False) -> StageRun:
    """Run *stage* on *home* until its queues are empty; for ``poll`` one must have been asked for.

    Raises:
        subprocess.CalledProcessError: the stage's process failed; what it said is on standard error.
    """
    done = subprocess.run(
        [*stage_command(home, stage, records), *(["--with-shares"] if with_shares else [])],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, **home.environment},
        stdout=subprocess.PIPE,
        check=True,
        timeout=GIVE_UP_AFTER,
        text=True,
    )
    return StageRun(**json.loads(done.stdout.splitlines()[-1]))


def stage_command(home: BenchHome, stage: str, records: int) -> list[str]:
    """The command of a process that runs *stage* on *home*."""
    return [sys.executable, "-m", "bench.stages", stage, "--data", str(home.data), "--records", str(records)]


async def _drained(ports: Services, stage: str, records: int) -> None:
    queues = QUEUES_OF_STAGE[stage]
    while True:
        depths = await ports.bus.depths()
        if stage == "poll":
            if depths[INGESTION_EVENTS].active + depths[INGESTION_EVENTS_BULK].active >= records:
                return
        elif not any(depths[queue].active + depths[queue].locked + depths[queue].scheduled for queue in queues):
            return
        await asyncio.sleep(LOOK_EVERY)


async def _run(stage: str, home: BenchHome, records: int, shares: TimeShares | None) -> dict[str, Any]:
    index = load_app("function_app")
    only = dataclasses.replace(
        index,
        http=(),
        timers=(),
        feeds=(),
        queues=tuple(function for function in index.queues if function.queue in QUEUES_OF_STAGE[stage]),
    )
    # The bulk lane gives way to the stages behind it, and here there are none.
    backpressure.MOST_UNFINISHED = sys.maxsize
    ports = local_services()
    if stage == "embed":
        await ports.model.embed(["loads the model"])
    worker = Worker(only, ports.queues, ports.store, home.state_dir, only_queues=True)
    if shares is not None:
        shares.begin()
    started, cpu_started = time.perf_counter(), time.process_time()
    stop = asyncio.Event()
    working = asyncio.create_task(worker.run(stop))
    draining = asyncio.create_task(_drained(ports, stage, records))
    await asyncio.wait({working, draining}, return_when=asyncio.FIRST_COMPLETED)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    stop.set()
    await working
    await draining
    await ports.close()
    return {
        "stage": stage,
        "records": records,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": usage(os.getpid()).peak_mb,
        "shares": {} if shares is None else shares.of(cpu_seconds),
    }


def main() -> None:
    """Run one stage in this process and print what it took as one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description=main.__doc__)
    parser.add_argument("stage", choices=tuple(QUEUES_OF_STAGE))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--with-shares", action="store_true", help="measure CPU by area as well, which costs time")
    options = parser.parse_args()
    shares = TimeShares() if options.with_shares else None
    home = BenchHome(options.data, {})
    sys.stdout.write(json.dumps(asyncio.run(_run(options.stage, home, options.records, shares))) + "\n")


if __name__ == "__main__":
    main()
