"""``python -m bench.slack_deliveries``: signed Slack deliveries while the chain works, beside Slack's own Bolt.

The local host runs whole: its HTTP door in one process, its worker with the chain in another at lower priority, the
Slack simulator and the generator of deliveries in processes of their own. Bolt runs on the same server (uvicorn), with
a handler that only counts. Exit code 1: an event was lost or handled twice, or something false was taken.
``python -m bench.peers install bolt`` makes Bolt's environment.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import composition
from bench import machine, peers
from bench.home import NEVER
from composition import build_local
from connections.secrets import environment_variable
from connections.slack_connection import SlackAuth, SlackConnection
from ingestion import connecting
from local.home import prepare_home
from local.host.supervisor import HostOptions, Supervisor
from local.sandbox import SAMPLE_COMPANY, UNHURRIED
from local.slack.server import SlackSimulatorProcess
from settings import HOME_FILE, load_settings
from shards.store import ShardQuery

TENANT = "bench"
DELIVERIES = 10_000
RATE = 500
TARGET_MS = 20.0
"""Within which 99 of 100 deliveries are to be acknowledged; Slack itself waits for 3 seconds."""
WARM_UP = 300
"""Deliveries before those that count: the worker's first load the embedding model and make the files grow."""
LOWER_PRIORITY = 10
PATIENCE = 900.0
HOST_JSON = Path(composition.__file__).with_name("host.json")


@dataclass(frozen=True, slots=True)
class Run:
    """What the generator saw, and what became of the events."""

    sent: dict[str, Any]
    handled: int
    distinct: int
    note: str


def main() -> int:
    """Measure both and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.slack_deliveries", description=__doc__)
    parser.add_argument("--deliveries", type=int, default=DELIVERIES, help=f"how many (default {DELIVERIES:,})")
    parser.add_argument("--rate", type=int, default=RATE, help=f"a second (default {RATE})")
    options = parser.parse_args()
    console = Console(width=132)
    for line in machine.description():
        console.print(line, highlight=False)
    ours = asyncio.run(_shardline(options.deliveries, options.rate))
    bolt, why_not = None, ""
    try:
        bolt = _bolt(options.deliveries, options.rate)
    except (peers.PeerError, OSError) as error:
        why_not = str(error)
    _print(console, options, ours, bolt, why_not)
    return 0 if _is_right(ours) else 1


async def _shardline(count: int, rate: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="shardline-bench-") as folder, contextlib.ExitStack() as stack:
        slack = stack.enter_context(SlackSimulatorProcess(["--company", SAMPLE_COMPANY]))
        slack.control("/settings", {"rateScale": None})
        data = Path(folder)
        environment = {
            **prepare_home(data, simulators={"slack": slack.base_url}),
            "SHARDLINE_POLL_SCHEDULE": NEVER,
            "SHARDLINE_LOG_LEVEL": "ERROR",
            environment_variable(TENANT, "bot"): slack.credentials.bot_token,
            environment_variable(TENANT, "signing"): slack.credentials.signing_secret,
        }
        os.environ.update(environment)
        services = build_local(load_settings(data / HOME_FILE))
        supervisor = Supervisor(
            HostOptions(state_dir=data / "host", port=0, workers=1, host_json=HOST_JSON, environment=environment),
            report=_report,
        )
        try:
            connection = SlackConnection(
                connection_id="slack-bench",
                tenant_id=TENANT,
                name="bench",
                auth=SlackAuth(bot_token=f"secret:{TENANT}/bot", signing_secret=f"secret:{TENANT}/signing"),
                events_per_second=rate,
                calls_per_minute=dict.fromkeys(UNHURRIED, 100_000),
            )
            checked = await connecting.check(connection, services.ingestion)
            established = await services.connections.save(
                SlackConnection(**{**_fields(connection), **checked.found, "instance": checked.instance})
            )
            await supervisor.start()
            for process_id in supervisor.worker_pids:
                _lower(process_id)
            listed = slack.client().conversations_list(types="public_channel", exclude_archived=True, limit=200)
            members = slack.client().users_list(limit=100)
            given = {
                "url": f"http://127.0.0.1:{supervisor.port}/api/webhooks/slack",
                "secret": slack.credentials.signing_secret,
                "team": established.instance,
                "app": "A0BENCH0001",
                "channels": [one["id"] for one in listed["channels"]][:8],
                "users": [one["id"] for one in members["members"] if not one.get("is_bot")][:12],
                "rate": rate,
            }
            await asyncio.to_thread(_generate, {**given, "first": 0, "count": WARM_UP})
            await _until_idle(services)
            stored_before, revisions_before = await _messages(services)
            sent = await asyncio.to_thread(_generate, {**given, "first": WARM_UP, "count": count})
            began = time.perf_counter()
            await _until_idle(services)
            stored, revisions = await _messages(services)
            parked = sum((await services.store.parked_counts(TENANT)).values())
            note = f"chain idle {time.perf_counter() - began:.0f} s after the last answer; parked {parked}"
            return Run(sent, revisions - revisions_before + parked, stored - stored_before + parked, note)
        finally:
            await supervisor.stop()
            await services.close()


def _lower(process_id: int) -> None:
    """Give way: on Linux each thread has a priority of its own, and only those made later take their maker's."""
    for thread in Path(f"/proc/{process_id}/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), LOWER_PRIORITY)


def _report(line: str) -> None:
    if any(word in line for word in ("ERROR", "CRITICAL", "unexpectedly")):
        sys.stderr.write(f"{line}\n")


def _fields(connection: SlackConnection) -> dict[str, Any]:
    return {name: getattr(connection, name) for name in connection.__struct_fields__}


async def _until_idle(services: composition.LocalServices) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        depths = await services.bus.depths()
        if not any(depth.active + depth.locked + depth.scheduled for depth in depths.values()):
            return
        await asyncio.sleep(0.2)
    raise TimeoutError(f"the chain is not idle after {PATIENCE:g} s: {depths}")


async def _messages(services: composition.LocalServices) -> tuple[int, int]:
    """How many of the load's messages are stored, and how often they were written: once each, if all is well."""
    stored = revisions = 0
    cursor: str | None = None
    query = ShardQuery(TENANT, shard_type_ids=("c_message",))
    while True:
        page = await services.store.query(query, limit=500, cursor=cursor)
        stored += len(page.items)
        revisions += sum(message.revision for message in page.items)
        cursor = page.cursor
        if cursor is None:
            return stored, revisions


def _bolt(count: int, rate: int) -> Run:
    python = peers.python_of("bolt")
    if python is None:
        raise peers.PeerError("not installed: python -m bench.peers install bolt")
    secret = "bench-signing-secret"
    process = subprocess.Popen(
        [python, peers.PROGRAMS / "bolt_deliveries.py", secret],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        started = json.loads(process.stdout.readline() or "{}")
        if "port" not in started:
            raise peers.PeerError("Bolt's server did not start")
        given = {
            "url": f"http://127.0.0.1:{started['port']}/slack/events",
            "secret": secret,
            "team": "T0BENCH",
            "app": "A0BENCH0001",
            "channels": ["C0BENCH0001"],
            "users": ["U0BENCH0001"],
            "first": 0,
            "count": count,
            "rate": rate,
        }
        sent = _generate(given)
        process.stdin.close()
        told = json.loads(process.stdout.readline())
        versions = ", ".join(f"{name} {version}" for name, version in started["versions"].items())
        return Run(sent, told["handled"], told["distinct"], f"{versions}; the handler counts, nothing else")
    finally:
        process.stdin.close()
        process.wait(30)


def _generate(given: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.delivery_generator"],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
        cwd=Path(__file__).resolve().parents[1],
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _is_right(run: Run) -> bool:
    """Whether every good event was handled once, and nothing else was taken."""
    return run.distinct == run.handled == run.sent["distinct"] and _false_taken(run) == 0


def _false_taken(run: Run) -> int:
    statuses: dict[str, int] = run.sent["statuses"]
    return sum(
        number
        for said, number in statuses.items()
        if said.rpartition(" ")[0] in ("bad signature", "stale", "malformed")
        and said.rpartition(" ")[2].startswith("2")
    )


def _print(console: Console, options: argparse.Namespace, ours: Run, bolt: Run | None, why_not: str) -> None:
    table = Table(title=f"{options.deliveries:,} signed deliveries at {options.rate} a second")
    for heading in ("receiver", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "good events", "handled", "false taken"):
        table.add_column(heading, justify="left" if heading == "receiver" else "right")
    for name, run in (("Shardline, queued durably", ours), ("Slack Bolt", bolt)):
        if run is None:
            table.add_row(name, f"left out: {why_not}")
            continue
        ms = run.sent["ms"]
        times = [f"{ms[share]:.1f}" for share in ("p50", "p99", "p99.9", "max")]
        table.add_row(name, *times, f"{run.sent['distinct']:,}", f"{run.handled:,}", str(_false_taken(run)))
    console.print(table)
    for name, run in (("Shardline", ours), ("Bolt", bolt)):
        if run is not None:
            said = ", ".join(f"{kind}: {number:,}" for kind, number in run.sent["statuses"].items())
            pace = f"{run.sent['rate']:.0f}/s sent, at most {run.sent['latestMs']:.0f} ms late"
            console.print(f"{name}: {pace}; {said}. {run.note}.", highlight=False)
    reached = ours.sent["ms"]["p99"] <= TARGET_MS
    console.print(
        f"target p99 {TARGET_MS:g} ms: {'reached' if reached else 'MISSED'}; each good event once, nothing false: "
        f"{'reached' if _is_right(ours) else 'MISSED'}",
        highlight=False,
    )


if __name__ == "__main__":
    sys.exit(main())
