"""The hostile cursor, and a kill in the middle of a poll: what each tool loses, doubles and reads again.

Four polls of 1,000 to 1,460 rows (:mod:`local.salesforce.hostile`). Shardline polls the simulator through the vendor's
own protocol; the peers poll the same rows from a plain paged endpoint, by small sources of ours and not by the
vendors' own Salesforce connectors. ``python -m bench.hostile`` runs this alone.
"""

import asyncio
import dataclasses
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import peers
from bench.home import CONNECTION_ID, TENANT, BenchHome, ask_for_poll, make_home
from bench.page_server import PageServer
from bench.stages import QUEUES_OF_STAGE, stage_command
from composition import LocalServices, Services, build_local
from local.host.app_index import load_app
from local.host.worker import Worker
from local.salesforce.contacts import numbered_id
from local.salesforce.hostile import HostileEpoch, hostile_epochs
from local.salesforce.server import SimulatorProcess
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import to_text, utc_now
from settings import load_settings
from shards.model import Shard
from shards.store import ShardQuery

SWEEPS = 2
"""A record is gone once two complete listings have missed it."""

KILLED_AT_CALL = 8
CRASH_EPOCH = 2
"""1,460 rows: 15 pages of 100."""
CRASH_DELAY = 0.15
"""Seconds a call takes while a kill is waited for."""

TIES = range(1000, 1050)
LATE = range(1050, 1070)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What a tool has in the end, beside the truth. *repeats*: rows sent again by the poll that had nothing new."""

    name: str
    lost_ties: int
    lost_late: int
    lost_others: int
    stale: int
    duplicates: str
    soft_missed: int
    ghosts: str
    calls: list[int]
    repeats: str = ""


Rows = Mapping[str, Mapping[str, Any]]
"""By id: Name, and IsDeleted where the tool keeps it."""


def judge(
    name: str, got: Rows, epoch: HostileEpoch, calls: list[int], *, duplicates: str, repeats: str = "", ghosts: str = ""
) -> Verdict:
    """Compare what a tool has *got* with what the org holds."""
    truth = {str(record["Id"]): record for record in epoch.records.values()}
    lost = truth.keys() - got.keys()
    ties, late = ({numbered_id("003", number) for number in numbers} for numbers in (TIES, LATE))
    live = [key for key in truth if key in got and not truth[key]["IsDeleted"]]
    return Verdict(
        name,
        lost_ties=len(lost & ties),
        lost_late=len(lost & late),
        lost_others=len(lost - ties - late),
        stale=sum(got[key]["Name"] != truth[key]["Name"] for key in live),
        duplicates=duplicates,
        soft_missed=sum(
            bool(record["IsDeleted"]) and key in got and not got[key].get("IsDeleted") for key, record in truth.items()
        ),
        ghosts=ghosts or str(len(_ghosts(got, truth))),
        calls=calls,
        repeats=repeats,
    )


def _ghosts(got: Rows, truth: Mapping[str, Any]) -> list[str]:
    return [key for key in got if key not in truth and not got[key].get("IsDeleted")]


class _OwnWorker:
    """Shardline's worker in this process: polls, sweeps and normalizes."""

    def __init__(self, ports: LocalServices, state_dir: Path) -> None:
        self._ports = ports
        index = load_app("function_app")
        wanted = {*QUEUES_OF_STAGE["poll"], *QUEUES_OF_STAGE["normalize"]}
        only = dataclasses.replace(
            index, http=(), timers=(), feeds=(), queues=tuple(one for one in index.queues if one.queue in wanted)
        )
        self._queues = wanted
        self._worker = Worker(only, ports.queues, ports.store, state_dir, only_queues=True)
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "_OwnWorker":
        self._running = asyncio.create_task(self._worker.run(self._stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        if self._running is not None:
            await self._running

    async def do(self, work: str) -> None:
        """A ``poll`` or a ``sweep``, and all events that come of it."""
        asked = SourceWork.model_validate(
            {"tenantId": TENANT, "connectionId": CONNECTION_ID, "work": work, "dueAt": to_text(utc_now())}
        )
        await self._ports.bus.send(SOURCE_WORK, [asked.to_message(SOURCE_WORK)])
        while True:
            depths = await self._ports.bus.depths()
            if not any(depths[name].active + depths[name].locked + depths[name].scheduled for name in self._queues):
                return
            await asyncio.sleep(0.02)


async def own_verdict(folder: Path) -> Verdict:
    """Shardline's row. The environment of this process leads to the home from here on."""
    calls: list[int] = []
    epochs = hostile_epochs()
    with SimulatorProcess(["--hostile"]) as simulator:
        home = await make_home(folder, simulator)
        os.environ.update(home.environment)
        ports = build_local(load_settings())
        async with _OwnWorker(ports, home.state_dir) as worker:
            events = 0
            for epoch in epochs:
                simulator.control("/epoch", {"epoch": epoch.number})
                events = ports.meter.messages["normalize"]
                await worker.do("poll")
                calls.append(simulator.control("/calls")["total"])
            repeats = ports.meter.messages["normalize"] - events
            before, _ = await _own_rows(ports)
            for _ in range(SWEEPS):
                await worker.do("sweep")
            rows, duplicates = await _own_rows(ports)
        await ports.close()
    truth = {str(record["Id"]): record for record in epochs[-1].records.values()}
    return judge(
        "Shardline",
        rows,
        epochs[-1],
        calls,
        duplicates=str(duplicates),
        repeats=str(repeats),
        ghosts=f"{len(_ghosts(rows, truth))} (before the sweep {len(_ghosts(before, truth))})",
    )


async def _own_rows(ports: Services) -> tuple[dict[str, dict[str, Any]], int]:
    """What the store has of the contacts, and how many shards beyond one a contact."""
    rows: dict[str, dict[str, Any]] = {}
    shards: list[Shard] = []
    cursor: str | None = None
    while True:
        page = await ports.store.query(
            ShardQuery(TENANT, shard_type_ids=("c_contact",), include_deleted=True), limit=500, cursor=cursor
        )
        shards.extend(page.items)
        cursor = page.cursor
        if cursor is None:
            break
    for shard in shards:
        rows[shard.external_relationships[0].external_id] = {
            "Name": shard.structured_data.get("name"),
            "IsDeleted": shard.status == "deleted",
        }
    return rows, len(shards) - len(rows)


def peer_verdict(label: str, name: str, program: str, *options: str) -> Verdict:
    """A peer's row.

    Raises:
        peers.PeerError: it is not installed, or failed.
    """
    got: dict[str, Any] = {}
    calls: list[int] = []
    answer: dict[str, Any] = {}
    epochs = hostile_epochs()
    with PageServer() as server, tempfile.TemporaryDirectory(prefix="shardline-bench-") as folder:
        for epoch in epochs:
            server.get(f"/epoch?number={epoch.number}&failing=1")
            answer = peers.run_program(name, program, server.url, folder, *options)
            got.update(answer["rows"])
            calls.append(server.get("/calls")["calls"])
    stored = "duplicates" in answer
    return judge(
        f"{answer['version']}, {label}",
        answer["rows"] if stored else got,
        epochs[-1],
        calls,
        duplicates=str(answer["duplicates"]) if stored else "left to the destination",
        repeats="" if stored else str(answer["emitted"]),
    )


PEERS = (
    ("rest_api, defaults", "dlt", "dlt_hostile.py"),
    ("rest_api, lag=300", "dlt", "dlt_hostile.py", "300"),
    ("cursor, no look-back", "airbyte", "airbyte_hostile.py"),
    ("cursor, look-back PT5M", "airbyte", "airbyte_hostile.py", "PT5M"),
    ("RESTStream", "singer", "singer_hostile.py"),
)


def own_crash(folder: Path) -> tuple[int, int]:
    """Shardline's poll killed at the eighth page of 15: the pages read by then, and those read after the restart.

    Raises:
        subprocess.CalledProcessError: after the restart there are not as many events as rows.
    """
    rows = len(hostile_epochs()[CRASH_EPOCH].records)
    with SimulatorProcess(["--hostile"]) as simulator:
        home = asyncio.run(_home_with_work(folder, simulator))
        simulator.control("/epoch", {"epoch": CRASH_EPOCH})
        simulator.control("/faults", method="DELETE")
        simulator.control("/faults", {"kind": "slow", "delay": CRASH_DELAY, "path": "/query", "times": None})
        command, environment = stage_command(home, "poll", rows), {**os.environ, **home.environment}
        root = Path(__file__).resolve().parents[1]
        with subprocess.Popen(command, cwd=root, env=environment) as process:
            while _pages(simulator) < KILLED_AT_CALL:
                if process.poll() is not None:
                    raise RuntimeError("the poll ended before it could be killed")
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        killed_at = _pages(simulator)
        subprocess.run(command, cwd=root, env=environment, check=True, timeout=300, stdout=subprocess.DEVNULL)
        return killed_at, _pages(simulator) - killed_at


async def _home_with_work(folder: Path, simulator: SimulatorProcess) -> BenchHome:
    home = await make_home(folder, simulator)
    await ask_for_poll(home)
    return home


def _pages(simulator: SimulatorProcess) -> int:
    return int(simulator.control("/calls")["queries"].get("Contact", 0))


def peer_crash(name: str, program: str) -> tuple[int, int]:
    """As :func:`own_crash`, for a peer.

    Raises:
        peers.PeerError: it is not installed, or failed after the restart.
    """
    python = peers.python_of(name)
    if python is None:
        raise peers.PeerError(f"not installed: python -m bench.peers install {name}")
    with PageServer() as server, tempfile.TemporaryDirectory(prefix="shardline-bench-") as folder:
        server.get(f"/epoch?number={CRASH_EPOCH}&delay={CRASH_DELAY}")
        command = [str(python), str(peers.PROGRAMS / program), server.url, folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while server.get("/calls")["calls"] < KILLED_AT_CALL:
                if process.poll() is not None:
                    raise peers.PeerError(f"{program} ended before it could be killed")
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        killed_at = server.get("/calls")["calls"]
        peers.run_program(name, program, server.url, folder)
        return killed_at, server.get("/calls")["calls"] - killed_at


def report(console: Console) -> None:
    """Run all rows and print them."""
    table = Table(title="Hostile cursor: four polls, 1,000 to 1,460 rows, rows in the end beside the org's own")
    headings = (
        "tool",
        "lost (ties/late/other)",
        "stale",
        "duplicates",
        "soft deletes missed",
        "ghosts",
        "API calls a poll",
        "rows re-sent by the idle poll",
    )
    for heading in headings:
        table.add_column(heading)
    with tempfile.TemporaryDirectory(prefix="shardline-bench-") as folder:
        verdicts = [asyncio.run(own_verdict(Path(folder) / "home"))]
    missing: list[str] = []
    for label, name, program, *options in PEERS:
        try:
            verdicts.append(peer_verdict(label, name, program, *options))
        except peers.PeerError as error:
            missing.append(f"{name} ({label}): {error}")
    for one in verdicts:
        lost = one.lost_ties + one.lost_late + one.lost_others
        table.add_row(
            one.name,
            f"{lost} ({one.lost_ties}/{one.lost_late}/{one.lost_others})",
            str(one.stale),
            one.duplicates,
            str(one.soft_missed),
            one.ghosts,
            ", ".join(map(str, one.calls)),
            one.repeats or "not counted",
        )
    console.print(table)
    crashes = Table(title="kill -9 at page 8 of 15, then a restart")
    for heading in ("tool", "pages read when killed", "pages read after the restart"):
        crashes.add_column(heading)
    with tempfile.TemporaryDirectory(prefix="shardline-bench-") as folder:
        crashes.add_row("Shardline", *map(str, own_crash(Path(folder) / "home")))
    for name, program in (("dlt", "dlt_hostile.py"), ("singer", "singer_hostile.py")):
        try:
            crashes.add_row(name, *map(str, peer_crash(name, program)))
        except peers.PeerError as error:
            missing.append(f"{name} (crash): {error}")
    console.print(crashes)
    for line in missing:
        console.print(f"[yellow]left out:[/] {line}")


if __name__ == "__main__":
    report(Console(width=160))
