"""``python -m bench.fairness``: what one tenant waits for while 50,000 events of another do.

The local host runs whole, with one worker. The quiet tenant sends five events a second: for a minute to an idle chain,
and while the flood of the other tenant waits, which comes once through the app's own bus, as from a source, and once
straight onto the live lane, as from an adapter. Exit code 1: the target is missed, or an event is lost.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import composition
from bench import machine
from bench.home import NEVER
from composition import LocalServices, build_local
from local.company import default_org_id
from local.home import prepare_home
from local.host.supervisor import HostOptions, Supervisor
from local.salesforce.contacts import contacts_company, numbered_id
from messaging.bus import Message, MessageBus
from messaging.contracts import IngestionEvent
from messaging.queues import INGESTION_EVENTS
from messaging.times import to_text, utc_now
from settings import HOME_FILE, load_settings
from shards.identity import shard_id

LOUD, QUIET = "loud", "quiet"
FLOOD = 50_000
A_SECOND = 5
SECONDS = 60
TARGET_SECONDS = 5.0
"""Within which 95 of 100 events of the quiet tenant are to be stored."""
PAGE = 2_000
"""Events that a source sends at once."""
LOOK_EVERY = 0.05
"""Seconds between two looks at the store: what a measured time may be too long by."""
PATIENCE = 900.0
HOST_JSON = Path(composition.__file__).with_name("host.json")


@dataclass(slots=True)
class Watched:
    """Events of the quiet tenant by shard: when each was sent, stored, and had its vector (seconds of one clock)."""

    sent: dict[str, float] = field(default_factory=dict)
    stored: dict[str, float] = field(default_factory=dict)
    embedded: dict[str, float] = field(default_factory=dict)

    def waits(self, reached: dict[str, float], until: float) -> list[float]:
        """How long each event that was sent before *until* took, shortest first."""
        return sorted(reached[one] - sent for one, sent in self.sent.items() if sent < until)


@dataclass(frozen=True, slots=True)
class Run:
    """What the quiet tenant waited for, in seconds, and what became of the flood."""

    name: str
    to_shard: list[float]
    to_vector: list[float]
    flood: str = ""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--flood", type=int, default=FLOOD, help=f"events of the loud tenant (default {FLOOD:,})")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"of an idle chain (default {SECONDS})")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default 1)")
    options = parser.parse_args()
    console = Console(width=132)
    for line in machine.description():
        console.print(line, highlight=False)
    return report(console, options.flood, options.seconds, options.workers)


def report(console: Console, flood: int = FLOOD, seconds: int = SECONDS, workers: int = 1) -> int:
    """Measure each in a home of its own and print; the exit code."""
    ways = ("through the app's bus", "straight onto the live lane")
    idle = asyncio.run(_measured("idle chain", 0, seconds, workers))
    runs = [asyncio.run(_measured(f"{flood:,} events {way}", flood, seconds, workers, way=way)) for way in ways]
    table = Table(title=f"Another tenant's {A_SECOND} events a second, {workers} worker(s): seconds from send to …")
    for heading in ("while there wait", "events", "shard p50", "p95", "max", "of idle p95", "vector p50", "p95", "max"):
        table.add_column(heading, justify="left" if heading == "while there wait" else "right")
    for run in (idle, *runs):
        ratio = _share(run.to_shard, 0.95) / _share(idle.to_shard, 0.95)
        table.add_row(run.name, f"{len(run.to_shard)}", *_cells(run.to_shard), f"{ratio:.1f}", *_cells(run.to_vector))
    console.print(table)
    missed = False
    for run in runs:
        reached = _share(run.to_shard, 0.95) <= TARGET_SECONDS
        missed |= not reached
        console.print(
            f"{run.name}: {run.flood}; the other tenant's p95 to the shard at most {TARGET_SECONDS:g} s: "
            f"{'reached' if reached else 'MISSED'}",
            highlight=False,
        )
    return int(missed)


async def _measured(name: str, flood: int, seconds: int, workers: int, *, way: str = "") -> Run:
    with tempfile.TemporaryDirectory(prefix="shardline-bench-") as folder:
        data = Path(folder)
        environment = {**prepare_home(data), "SHARDLINE_POLL_SCHEDULE": NEVER, "SHARDLINE_LOG_LEVEL": "WARNING"}
        os.environ.update(environment)
        services = build_local(load_settings(data / HOME_FILE))
        supervisor = Supervisor(
            HostOptions(state_dir=data / "host", port=0, workers=workers, host_json=HOST_JSON, environment=environment),
            report=_report,
        )
        try:
            await supervisor.start()
            await _warm(services)
            return await _watched(name, services, flood, seconds, to=services.queues if "straight" in way else None)
        finally:
            await supervisor.stop()
            await services.close()


async def _watched(name: str, services: LocalServices, flood: int, seconds: int, *, to: MessageBus | None) -> Run:
    messages = _messages(LOUD, flood)
    watched = Watched()
    stop = asyncio.Event()
    sending = asyncio.create_task(_send_quietly(services.bus, watched, stop))
    watching = asyncio.create_task(_watch(services, watched, stop))
    began = time.monotonic()
    if flood:
        for start in range(0, flood, PAGE):
            await (to or services.bus).send(INGESTION_EVENTS, messages[start : start + PAGE])
        queued = time.monotonic() - began
        stored, embedded = await _until_taken(services, flood, began)
        until = began + stored
        told = (
            f"queued in {queued:.1f} s, in shards after {stored:.0f} s ({flood / stored:,.0f}/s), in vectors after "
            f"{embedded:.0f} s ({flood / embedded:,.0f}/s)"
        )
    else:
        await asyncio.sleep(seconds)
        until, told = time.monotonic(), ""
    stop.set()
    await asyncio.gather(sending, watching)
    parked = sum((await services.store.parked_counts()).values())
    if parked:
        raise RuntimeError(f"{parked} messages are parked")
    watched.sent = {one: sent for one, sent in watched.sent.items() if sent >= began}
    return Run(name, watched.waits(watched.stored, until), watched.waits(watched.embedded, until), told)


async def _send_quietly(bus: MessageBus, watched: Watched, stop: asyncio.Event) -> None:
    """Send an event at a time, at moments that keep no step with the chain."""
    number, spread = 0, random.Random(5)
    messages = _messages(QUIET, 20_000)
    while not stop.is_set():
        watched.sent[_shard(QUIET, number)] = time.monotonic()
        await bus.send(INGESTION_EVENTS, [messages[number]])
        number += 1
        await asyncio.sleep(spread.uniform(0.5, 1.5) / A_SECOND)


async def _watch(services: LocalServices, watched: Watched, stop: asyncio.Event) -> None:
    """Note when each event of the quiet tenant is stored and has its vector, until all have."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        pending = [one for one in watched.sent if one not in watched.embedded]
        if not pending and stop.is_set():
            return
        found = await services.store.progress(QUIET, pending)
        now = time.monotonic()
        for one, progress in found.items():
            if progress.normalized:
                watched.stored.setdefault(one, now)
            if progress.embedded:
                watched.embedded.setdefault(one, now)
        await asyncio.sleep(LOOK_EVERY)
    raise TimeoutError(f"{len(pending)} events of the quiet tenant have no vector after {PATIENCE:g} s")


async def _until_taken(services: LocalServices, flood: int, began: float) -> tuple[float, float]:
    """Seconds from *began* until all shards of the flood are stored, and until they have their vectors."""
    stored = 0.0
    while time.monotonic() - began < PATIENCE:
        counts = await services.store.counts(LOUD)
        if not stored and counts.shards.get("c_contact", 0) >= flood:
            stored = time.monotonic() - began
        if stored and counts.vectors >= flood:
            return stored, time.monotonic() - began
        await asyncio.sleep(0.5)
    raise TimeoutError(f"the flood is not in vectors after {PATIENCE:g} s: {await services.store.counts(LOUD)}")


async def _warm(services: LocalServices) -> None:
    """Have the worker load what the first record needs."""
    await services.bus.send(INGESTION_EVENTS, _messages("warm", 1))
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if (await services.store.counts("warm")).vectors:
            return
        await asyncio.sleep(LOOK_EVERY)
    raise TimeoutError("the first record got no vector")


def _messages(tenant_id: str, count: int) -> list[Message]:
    """Contacts of about 950 bytes as events of *tenant_id*."""
    rows: Sequence[dict[str, Any]] = contacts_company(count, tenant_id).tables["Contact"].records
    now = to_text(utc_now())
    return [
        IngestionEvent(
            tenant_id=tenant_id,
            source="salesforce",
            source_id=row["Id"],
            event_type="create",
            observed_at=now,
            payload=row,
            instance=default_org_id(tenant_id),
            object_type="Contact",
        ).to_message(INGESTION_EVENTS)
        for row in rows
    ]


def _shard(tenant_id: str, number: int) -> str:
    return shard_id(tenant_id, "salesforce", default_org_id(tenant_id), "Contact", numbered_id("003", number))


def _cells(waits: Sequence[float]) -> list[str]:
    return [f"{_share(waits, 0.5):.2f}", f"{_share(waits, 0.95):.2f}", f"{waits[-1]:.2f}"]


def _share(waits: Sequence[float], share: float) -> float:
    """What *share* of all waits do not exceed."""
    return waits[min(len(waits) - 1, int(len(waits) * share))]


def _report(line: str) -> None:
    if any(word in line for word in ("ERROR", "CRITICAL", "unexpectedly")):
        sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
