"""``kill -9`` at random moments: a host that is killed again and again must end as one that never was.

``python tests/support/kill_campaign.py --kills 20`` runs it long; exit code 0: nothing was lost or doubled.
Only processes that this program has started are killed, each by its own id.
"""

import argparse
import asyncio
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chain_rig import shard_picture
from shardline_command import command_environment, command_line

from composition import Services, build
from connections.connection import Schedule
from connections.salesforce_connection import SalesforceAuth, SalesforceConnection
from connections.secrets import environment_variable
from local.company import load_company
from local.home import prepare_home
from local.salesforce.org import Org
from local.salesforce.server import SalesforceSimulator
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from settings import HOME_FILE, load_settings
from shards.store import ShardQuery

PAGE_SIZE = 100
PATIENCE = 180.0
"""Seconds until a host that nobody kills must be idle."""
WORKING = b"Host.Worker: running"
"""What the host's log says when its queues are served."""
BUSY_SECONDS = 3.0
"""A kill falls at most so long after that. Far less, and no worker lives until it has loaded its model: what is killed
so often that no try has a chance is parked in the end, as it shall be."""
STARTING_SECONDS = 3.0
"""The kills that may fall into the start fall within this time of it."""
WORDS = ["contract", "renewal", "pump", "valve", "service", "outage", "invoice", "audit", "training", "delivery"]


def make_company(folder: Path, rows: int, seed: int) -> Path:
    """A company of *rows* accounts, contacts and opportunities each, with references and some long texts."""
    choose = random.Random(seed)
    exports = folder / "salesforce"
    exports.mkdir(parents=True)

    def said(words: int) -> str:
        return " ".join(choose.choice(WORDS) for _ in range(words)).capitalize() + "."

    def write(name: str, header: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
        with (exports / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *lines])

    write("User", ["Id", "LastName", "Email"], [(f"U{n}", f"Owner {n}", f"owner{n}@acme.example") for n in range(10)])
    write(
        "Account",
        ["Id", "Name", "Description", "ParentId", "OwnerId"],
        [
            (
                f"A{n}",
                f"Account {n}",
                said(400) if n % 50 == 0 else said(20),
                f"A{choose.randrange(rows)}" if n % 3 == 0 else "",
                f"U{n % 10}",
            )
            for n in range(rows)
        ],
    )
    write(
        "Contact",
        ["Id", "LastName", "Email", "AccountId"],
        [(f"C{n}", f"Person {n}", f"person{n}@acme.example", f"A{choose.randrange(rows)}") for n in range(rows)],
    )
    write(
        "Opportunity",
        ["Id", "Name", "StageName", "Amount", "AccountId", "Description", "IsDeleted"],
        [
            (
                f"O{n}",
                f"Deal {n}",
                "Prospecting",
                n * 10,
                f"A{choose.randrange(rows)}",
                said(30),
                "true" if n % 40 == 0 else "false",
            )
            for n in range(rows)
        ],
    )
    return folder


@dataclass
class Ending:
    """What a run left: each shard with its links, chunks and vectors, and what the simulator was asked for."""

    shards: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: Any = None
    unfinished: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    parked: list[str] = field(default_factory=list)
    behind: dict[str, int] = field(default_factory=dict)
    pages: Counter[str] = field(default_factory=Counter)
    kills: list[str] = field(default_factory=list)
    seconds: float = 0.0


class HostRun:
    """The host on one data folder, against one simulator, started and killed as often as asked for."""

    def __init__(self, folder: Path, company: Path, *, workers: int = 1, busy_seconds: float = BUSY_SECONDS) -> None:
        self._folder = folder
        self._company = load_company(company)
        self._workers = workers
        self._busy_seconds = busy_seconds
        self._log = folder / "up.log"

    async def run(self, kills: int, moments: random.Random) -> Ending:
        """Start the host, kill it *kills* times at moments of *moments*, restart it, and let it become idle."""
        ending = Ending()
        began = time.monotonic()
        with SalesforceSimulator(Org(self._company)) as simulator:
            prepare_home(self._folder, simulators={"salesforce": simulator.base_url})
            self._log.touch()
            tenant = self._company.tenant_id
            environment = command_environment(
                **{
                    "SHARDLINE_SALESFORCE_SIMULATOR": simulator.base_url,
                    environment_variable(tenant, "campaign"): simulator.credentials.consumer_secret,
                }
            )
            services = build(load_settings(self._folder / HOME_FILE))
            try:
                await self._ask_for_a_poll(services, simulator)
                for number in range(kills):
                    if await self._run_and_kill(services, environment, moments, ending):
                        break
                    print(f"kill {number + 1} of {kills}: {ending.kills[-1]}", file=sys.stderr, flush=True)
                host = self._start(environment)
                try:
                    await _until_idle(services, host)
                finally:
                    _kill(descendants(host.pid))
                    host.wait()
                await _look(services, tenant, ending)
            finally:
                await services.close()
            ending.pages = Counter(
                call.soql or call.path
                for call in simulator.api.calls
                if call.status == 200 and "/query" in call.path and call.object != "Organization"
            )
        ending.seconds = time.monotonic() - began
        return ending

    async def _ask_for_a_poll(self, services: Services, simulator: SalesforceSimulator) -> None:
        tenant = self._company.tenant_id
        connection = await services.connections.save(
            SalesforceConnection(
                connection_id="campaign",
                tenant_id=tenant,
                system="salesforce",
                name="Campaign",
                auth=SalesforceAuth(
                    flow="client-credentials",
                    domain="sandbox.my",
                    consumer_key=simulator.credentials.consumer_key,
                    consumer_secret=f"secret:{tenant}/campaign",
                ),
                # One poll is all there is, so that each page that is read twice was read twice by it.
                schedule=Schedule(poll_seconds=86_400),
                page_size=PAGE_SIZE,
            )
        )
        # Due when the timer will find it due, so that the timer's own message is a duplicate of this one.
        work = SourceWork(tenant_id=tenant, connection_id="campaign", work="poll", due_at=connection.created_at)
        await services.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)])

    def _start(self, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command_line(
                    "up", "--no-sandbox", "--data", self._folder, "--port", "0", "--workers", str(self._workers)
                ),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def _run_and_kill(
        self, services: Services, environment: dict[str, str], moments: random.Random, ending: Ending
    ) -> bool:
        """Start the host and kill it, or one of its workers, some moment later; whether it was done before."""
        logged = self._log.stat().st_size
        host = self._start(environment)
        try:
            if moments.random() < 0.2:
                delay = moments.random() * STARTING_SECONDS
                await asyncio.sleep(delay)
                ending.kills.append(f"all, {delay:.3f} s after its start")
                return False
            while WORKING not in self._log.read_bytes()[logged:]:
                assert host.poll() is None, "the host has ended by itself"
                await asyncio.sleep(0.005)
            delay = moments.random() * self._busy_seconds
            await asyncio.sleep(delay)
            depths = await services.bus.depths()
            if not any(depth.active or depth.locked or depth.scheduled for depth in depths.values()):
                return True
            if moments.random() < 0.25:
                _kill(worker_processes(host.pid))
                ending.kills.append(f"the workers, {delay:.3f} s into the work")
                await asyncio.sleep(moments.random())
            ending.kills.append(f"all, {delay:.3f} s into the work")
            return False
        finally:
            _kill(descendants(host.pid))
            host.wait()


async def _until_idle(services: Services, host: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + PATIENCE
    while True:
        depths = await services.bus.depths()
        if not any(depth.active or depth.locked or depth.scheduled for depth in depths.values()):
            return
        assert host.poll() is None, "the host has ended by itself"
        assert time.monotonic() < until, f"the host does not become idle: {depths}"
        await asyncio.sleep(0.1)


async def _look(services: Services, tenant: str, ending: Ending) -> None:
    store = services.store
    cursor: str | None = None
    while True:
        page = await store.query(ShardQuery(tenant, include_deleted=True), limit=500, cursor=cursor)
        for shard in page.items:
            if shard.shard_type_id.startswith("integration."):
                continue
            picture = shard_picture(shard, await store.chunks(tenant, shard.id))
            for relationship in picture["external_relationships"]:
                relationship.pop("readAt")
            picture["revision"] = shard.revision
            ending.shards[shard.id] = picture
        cursor = page.cursor
        if cursor is None:
            break
    counts = await store.counts(tenant)
    ending.counts = (counts.shards, counts.deleted, counts.chunks, counts.vectors, counts.links, counts.links_pending)
    ending.unfinished = {
        name: (depth.active, depth.locked, depth.scheduled, depth.dead_lettered)
        for name, depth in (await services.bus.depths()).items()
        if depth.active or depth.locked or depth.scheduled or depth.dead_lettered
    }
    ending.parked = [
        f"{message.queue}: {message.reason}: {message.detail}: {message.body}"
        for message in (await store.parked(limit=1000)).items
    ]
    ending.behind = {stage.value: count for stage, count in (await store.stages_behind()).items() if count}


def descendants(pid: int) -> list[int]:
    """The process and all that stem from it, as the kernel lists them now."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for known in found:
        found.extend(parents.get(known, []))
    return found


def worker_processes(pid: int) -> list[int]:
    """Those of the processes that stem from *pid* that run a worker."""
    workers = []
    for child in descendants(pid)[1:]:
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"local.host.worker" in command:
            workers.append(child)
    return workers


def _kill(processes: Iterable[int]) -> None:
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def differences(undisturbed: Ending, killed: Ending) -> list[str]:
    """What a killed run left otherwise than an undisturbed one; empty when nothing was lost or doubled."""
    found = []
    if killed.unfinished or killed.parked or killed.behind:
        parked = f"{len(killed.parked)} parked {killed.parked[:2]!s:.800}"
        found.append(f"unfinished {killed.unfinished}, behind {killed.behind}, {parked}")
    if killed.counts != undisturbed.counts:
        found.append(f"counts {killed.counts}, undisturbed {undisturbed.counts}")
    missing = undisturbed.shards.keys() - killed.shards.keys()
    added = killed.shards.keys() - undisturbed.shards.keys()
    if missing or added:
        found.append(f"{len(missing)} shards missing, {len(added)} too many: {sorted(missing | added)[:5]}")
    for identifier in undisturbed.shards.keys() & killed.shards.keys():
        one, other = undisturbed.shards[identifier], killed.shards[identifier]
        fields = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
        if fields:
            told = "; ".join(f"{name}: {one.get(name)!s:.300} became {other.get(name)!s:.300}" for name in fields)
            found.append(f"{identifier} differs in {told}")
    if killed.pages.keys() != undisturbed.pages.keys() and not killed.kills:
        found.append("other pages were read")
    again = {page: count for page, count in killed.pages.items() if count > 1}
    repeats = sum(count - 1 for count in again.values())
    if repeats > len(killed.kills):
        found.append(f"{repeats} pages read again after {len(killed.kills)} kills: {list(again.items())[:3]}")
    return found


async def campaign(
    folder: Path, *, kills: int, rows: int, seed: int, workers: int = 1, busy_seconds: float = BUSY_SECONDS
) -> tuple[Ending, Ending]:
    """An undisturbed run and one that is killed *kills* times, of the same company."""
    company = make_company(folder / "company", rows, seed)
    undisturbed = await HostRun(folder / "undisturbed", company, workers=workers).run(0, random.Random(seed))
    disturbed = HostRun(folder / "killed", company, workers=workers, busy_seconds=busy_seconds)
    return undisturbed, await disturbed.run(kills, random.Random(seed))


def main() -> int:
    """The long campaign."""
    parser = argparse.ArgumentParser(prog="kill_campaign.py", description=main.__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often the host is killed")
    parser.add_argument("--rows", type=int, default=12_000, help="accounts, contacts and opportunities each")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the host")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="what the moments are made of")
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="kill-campaign-") as folder:
        undisturbed, killed = asyncio.run(
            campaign(Path(folder), kills=options.kills, rows=options.rows, seed=options.seed, workers=options.workers)
        )
    found = differences(undisturbed, killed)
    repeats = sum(count - 1 for count in killed.pages.values())
    print(
        f"{len(undisturbed.shards):,} shards; undisturbed {undisturbed.seconds:.1f} s, "
        f"killed {len(killed.kills)} times {killed.seconds:.1f} s; "
        f"{sum(killed.pages.values())} pages read, {repeats} of them again; "
        f"{len(found)} differences (seed {options.seed})"
    )
    for difference in found[:20]:
        print(difference)
    return 1 if found or len(killed.kills) < options.kills else 0


if __name__ == "__main__":
    sys.exit(main())
