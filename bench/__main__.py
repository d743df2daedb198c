"""``python -m bench``: Shardline's rates beside its floors and its peers, in one run on this machine.

Every figure of Shardline is of whole processes: the worker of the local host with the real bus, store, model and
client library, polling the simulator, which runs in a process of its own as the peers' page server does.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from bench import bus_bench, hostile, import_time, machine, peers
from bench.chain import ChainRun, run_to_shard, run_to_vector
from bench.floors import Floor, run_floor
from bench.home import ask_for_poll, make_home, stored_texts
from bench.page_server import PageServer
from bench.stages import QUEUES_OF_STAGE, StageRun, run_stage
from local.salesforce.server import SimulatorProcess

T = TypeVar("T")

ChainMeasure = Callable[[Path, SimulatorProcess, int, int], Coroutine[Any, Any, ChainRun]]
"""Takes a folder for the data, the simulator, how many records and how many workers."""

WORKERS = (1, 2)
FLOOR_RATE = {1: 1_500, 2: 2_700}
"""Records a second of the whole chain that must be reached, by worker processes."""
FLOOR_MB = 250
FLOOR_EFFICIENCY = 0.7
FLOOR_OF_PEER = 0.5
HOP_BATCH = 256
"""Messages a batch: as many as the host gives a function."""
SHARED_RECORDS = 10_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--records", type=int, default=50_000, help="contacts of about 950 bytes (default 50,000)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds a rate; the median one is shown (default 1)")
    parser.add_argument("--skip-hostile", action="store_true", help="leave the hostile cursor out")
    parser.add_argument("--skip-faults", action="store_true", help="leave the stories of failures on Azure out")
    options = parser.parse_args()
    console = Console(width=132)
    for line in machine.description():
        console.print(line, highlight=False)
    bench = _Bench(options.records, options.rounds, console)
    bench.run()
    import_time.report(console)
    # In a process of its own: once a process has an SDK it keeps it.
    subprocess.run([sys.executable, "-m", "bench.telemetry_bench"], check=True)
    # It says itself whether the target is missed, which is no reason to leave out the rest.
    subprocess.run([sys.executable, "-m", "bench.fairness"], check=False)
    subprocess.run([sys.executable, "-m", "bench.slack_deliveries"], check=False)
    # The peers of Azure's services take no part in what is measured above, and say so where they are not installed.
    subprocess.run([sys.executable, "-m", "bench.azure_cost"], check=True)
    if not options.skip_faults:
        subprocess.run([sys.executable, "-m", "bench.azure_faults"], check=True)
    console.print(f"load average at the end: {machine.load()} (this bench alone makes about 2)", highlight=False)
    if not options.skip_hostile:
        hostile.report(console)


class _Bench:
    def __init__(self, records: int, rounds: int, console: Console) -> None:
        self._records = records
        self._rounds = rounds
        self._console = console

    def run(self) -> None:
        """All tables, each printed as soon as it is measured."""
        with SimulatorProcess(["--contacts", str(self._records)]) as simulator:
            self._warm(simulator)
            to_shard = [self._chain(run_to_shard, simulator, workers) for workers in WORKERS]
            to_vector = [self._chain(run_to_vector, simulator, workers) for workers in WORKERS]
            rounds = [self._once(lambda folder: self._stages(simulator, folder)) for _ in range(self._rounds)]
        stages = {
            name: _middle([runs[name] for runs, _ in rounds], lambda run: run.seconds) for name in QUEUES_OF_STAGE
        }
        model = _middle([floor for _, floor in rounds], lambda floor: floor.seconds)
        floor, peer, why_not = self._floors()
        self._print_rates([*to_shard, *to_vector], floor, peer, why_not)
        self._print_efficiency(to_vector, sum(run.wall_us for run in stages.values()))
        self._print_stages(stages, model)
        self._print_hops(stages)
        self._print_shares()

    def _once(self, measure: Callable[[Path], T]) -> T:
        with tempfile.TemporaryDirectory(prefix="shardline-bench-") as folder:
            return measure(Path(folder))

    def _warm(self, simulator: SimulatorProcess) -> None:
        """Have each row asked for once: the simulator serialises it then, and floors and peers get ready pages too."""

        def poll(folder: Path) -> None:
            home = asyncio.run(make_home(folder / "home", simulator))
            asyncio.run(ask_for_poll(home))
            run_stage(home, "poll", self._records)

        self._once(poll)

    def _chain(self, measure: ChainMeasure, simulator: SimulatorProcess, workers: int) -> ChainRun:
        runs = [
            self._once(lambda folder: asyncio.run(measure(folder / "home", simulator, self._records, workers)))
            for _ in range(self._rounds)
        ]
        return _middle(runs, lambda one: one.seconds)

    def _stages(
        self, simulator: SimulatorProcess, folder: Path, *, with_shares: bool = False
    ) -> tuple[dict[str, StageRun], Floor]:
        """Each stage alone, one after the other on one folder, and the model alone on the texts they made."""
        home = asyncio.run(make_home(folder / "home", simulator))
        asyncio.run(ask_for_poll(home))
        runs = {stage: run_stage(home, stage, self._records, with_shares=with_shares) for stage in QUEUES_OF_STAGE}
        texts = folder / "texts.json"
        texts.write_text(json.dumps(stored_texts(home)))
        return runs, run_floor("model", texts)

    def _floors(self) -> tuple[Floor, dict[str, Any] | None, str]:
        """The JSON and SQLite floor, and dlt's run or why there is none."""
        floors: list[Floor] = []
        runs: list[dict[str, Any]] = []
        why_not = ""
        with PageServer(self._records) as server:
            for _ in range(self._rounds):
                floors.append(self._once(lambda folder: run_floor("json", server.url, folder / "floor.db")))
                try:
                    runs.append(
                        self._once(lambda folder: peers.run_program("dlt", "dlt_contacts.py", server.url, folder))
                    )
                except (peers.PeerError, subprocess.TimeoutExpired) as error:
                    why_not = str(error)
        peer = _middle(runs, lambda run: float(run["seconds"])) if runs else None
        return _middle(floors, lambda floor: floor.seconds), peer, why_not

    def _print_rates(self, runs: list[ChainRun], floor: Floor, peer: dict[str, Any] | None, why_not: str) -> None:
        peer_rate = peer["records"] / peer["seconds"] if peer else None
        table = Table(title=f"{self._records:,} records, whole processes, median of {self._rounds}")
        for heading in (
            "path",
            "records/s",
            "CPU µs a record",
            "peak MB a process",
            "of the floor",
            "of dlt",
            "target",
        ):
            table.add_column(heading, justify="left" if heading == "path" else "right")

        def add(name: str, rate: float, cpu_us: float, peak_mb: float, target: str = "") -> None:
            of_peer = f"{rate / peer_rate:.2f}" if peer_rate else ""
            table.add_row(
                name, f"{rate:,.0f}", f"{cpu_us:.0f}", f"{peak_mb:.0f}", f"{rate / floor.rate:.2f}", of_peer, target
            )

        for run in runs:
            workers = f"{run.workers} worker{'s' * (run.workers > 1)}"
            name = f"{'whole chain to vectors' if run.to_vectors else 'poll → stored shard'}, {workers}"
            add(name, run.rate, run.cpu_us, run.peak_mb, _target(run, peer_rate))
        add("floor: pages → JSON rows in SQLite", floor.rate, floor.cpu_us, floor.peak_mb)
        if peer and peer_rate:
            add(
                f"dlt → duckdb, parquet, merge ({peer['versions']})",
                peer_rate,
                peer["cpu_seconds"] / peer["records"] * 1e6,
                peer["peak_mb"],
            )
        else:
            table.add_row("dlt → duckdb, parquet, merge", f"left out: {why_not}")
        self._console.print(table)

    def _print_efficiency(self, runs: list[ChainRun], stage_us: float) -> None:
        for run in runs:
            cores = min(run.workers, machine.cores())
            efficiency = run.rate * stage_us / 1e6 / cores
            self._console.print(
                f"{run.workers} worker{'s' * (run.workers > 1)}: {run.rate:,.0f}/s is {efficiency:.0%} of {cores} ÷ "
                f"{stage_us:.0f} µs (the stages alone, added up) = {cores / stage_us * 1e6:,.0f}/s; "
                f"target {FLOOR_EFFICIENCY:.0%}: {_verdict(efficiency >= FLOOR_EFFICIENCY)}",
                highlight=False,
            )

    def _print_stages(self, stages: dict[str, StageRun], model: Floor) -> None:
        table = Table(title="Each stage alone, in a worker process of its own")
        for heading in ("stage", "records/s", "µs a record", "CPU µs a record", "peak MB"):
            table.add_column(heading, justify="left" if heading == "stage" else "right")
        for name, run in stages.items():
            table.add_row(name, f"{run.rate:,.0f}", f"{run.wall_us:.0f}", f"{run.cpu_us:.0f}", f"{run.peak_mb:.0f}")
        wall, cpu = sum(run.wall_us for run in stages.values()), sum(run.cpu_us for run in stages.values())
        table.add_row("all, added up", f"{1e6 / wall:,.0f}", f"{wall:.0f}", f"{cpu:.0f}", "")
        table.add_row(
            "the embedding model alone",
            f"{model.rate:,.0f}",
            f"{1e6 / model.rate:.0f}",
            f"{model.cpu_us:.0f}",
            f"{model.peak_mb:.0f}",
        )
        self._console.print(table)

    def _print_hops(self, stages: dict[str, StageRun]) -> None:
        """What the bus costs a message, and what four of them are of the chain."""
        messages = bus_bench.sample_messages(min(self._records, 20_000), 1_024)
        hops = [
            self._once(lambda folder: asyncio.run(bus_bench.bus_round(folder, messages, HOP_BATCH)))["whole hop"]
            for _ in range(3)
        ]
        hop = min(hops, key=lambda cost: cost.cpu)
        chain_cpu = sum(run.cpu_us for run in stages.values())
        self._console.print(
            f"A durable hop (send, receive, complete; 1 KiB, batches of {HOP_BATCH}): {hop.wall:.1f} µs, "
            f"{hop.cpu:.1f} µs of CPU a record; the chain's four hops are {4 * hop.cpu / chain_cpu:.0%} of its "
            f"{chain_cpu:.0f} µs.",
            highlight=False,
        )

    def _print_shares(self) -> None:
        """Where the CPU goes, measured on fewer records in runs of their own, as the stopwatches cost time."""
        records, self._records = self._records, min(self._records, SHARED_RECORDS)
        with SimulatorProcess(["--contacts", str(self._records)]) as simulator:
            self._warm(simulator)
            stages, _ = self._once(lambda folder: self._stages(simulator, folder, with_shares=True))
        by_area: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for name, run in stages.items():
            for area, seconds in run.shares.items():
                by_area[area][name] = seconds / run.records * 1e6
        total = sum(sum(of_stage.values()) for of_stage in by_area.values())
        table = Table(title=f"Where the CPU goes (µs a record, stopwatches included; {self._records:,} records)")
        table.add_column("area")
        for heading in (*stages, "all", "share"):
            table.add_column(heading, justify="right")
        for area, of_stage in sorted(by_area.items(), key=lambda item: -sum(item[1].values())):
            spent = sum(of_stage.values())
            cells = [f"{of_stage[name]:.1f}" if name in of_stage else "" for name in stages]
            table.add_row(area, *cells, f"{spent:.1f}", f"{spent / total:.0%}")
        self._console.print(table)
        self._records = records


def _middle(runs: list[T], key: Callable[[T], float]) -> T:
    """The run of the median key; of two in the middle the slower."""
    return sorted(runs, key=key)[len(runs) // 2]


def _target(run: ChainRun, peer_rate: float | None) -> str:
    """What the run must reach, and whether it did."""
    if not run.to_vectors:
        if peer_rate is None:
            return f"{FLOOR_OF_PEER} of dlt, which is not installed"
        return f"{FLOOR_OF_PEER} of dlt: {_verdict(run.rate >= FLOOR_OF_PEER * peer_rate)}"
    wanted = FLOOR_RATE[run.workers]
    if run.workers > 1:
        return f"{wanted:,}: {_verdict(run.rate >= wanted)}"
    return f"{wanted:,} in {FLOOR_MB} MB: {_verdict(run.rate >= wanted and run.peak_mb <= FLOOR_MB)}"


def _verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED"


if __name__ == "__main__":
    main()
