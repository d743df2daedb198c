"""Commands that run the app on this machine: up and demo."""

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from cli.home import DEFAULT_DATA, CommandError, DataOption, JsonOption, UsageError, run_async
from cli.output import console, print_json, print_pairs, table

if TYPE_CHECKING:
    from composition import LocalServices, Services
    from local.sandbox import Sandbox
    from local.summary import Moment

CompanyOption = Annotated[
    Path | None, typer.Option("--company", help="The company directory to play; the sample company when left out.")
]
STEPS = {"enriched": "enrich", "prepared": "prepare", "embedded": "embed"}
"""What is to be done to a shard that is behind a stage."""
NAMES = {"salesforce": "Salesforce", "slack": "Slack", "gdrive": "Google Drive"}
SAY_EVERY = 2.0
"""Seconds between two lines of progress in a log."""


def up(
    data: DataOption = DEFAULT_DATA,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port of the HTTP door; 0 takes a free one.")] = 7071,
    sandbox: Annotated[bool, typer.Option(help="Play a company through the vendor simulators.")] = True,
    company: CompanyOption = None,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Worker processes.")] = 1,
) -> int:
    """The local host: every function of the app, timers and queues; ingests the sandbox and keeps serving."""
    _check(company, sandbox)
    with (
        _told(),
        _home(data),
        _sandbox(company, sandbox, pushes=True) as played,
        _environment(data, played) as environment,
    ):
        run_async(_serve(data, port, workers, environment, played))
    return 0


def demo(
    data: DataOption = DEFAULT_DATA,
    company: CompanyOption = None,
    json: JsonOption = False,
) -> int:
    """Ingest the sandbox until the pipeline is idle, print the summary, exit."""
    _check(company, sandbox=True)
    with _told(), _home(data), _sandbox(company, wanted=True) as played:
        if played is None:
            raise AssertionError("the sandbox was asked for")
        with _environment(data, played) as environment:
            summary, undone = run_async(_ingest(data, environment, played))
    if json:
        print_json(summary)
    else:
        _print_summary(summary)
    undone += [f"{count:,} messages are left in {queue}" for queue, count in summary["queues"].items() if count]
    if summary["deadLettered"]:
        undone.append(f"{summary['deadLettered']:,} messages are dead-lettered")
    if undone:
        raise CommandError(f"the pipeline is idle, but {'; '.join(undone)}: see 'shardline status'")
    return 0


def _check(company: Path | None, sandbox: bool) -> None:
    home = os.environ.get("SHARDLINE_HOME", "local")
    if home != "local":
        raise UsageError(f"up and demo run the local home only, but SHARDLINE_HOME is {home}: unset it")
    if company is not None and not sandbox:
        raise UsageError("--company plays a company, --no-sandbox plays none: give one of them")
    if company is not None and not company.is_dir():
        raise UsageError(f"--company: {company} is no directory")


@contextmanager
def _home(data: Path) -> "Iterator[None]":
    from local.home import held_home

    with held_home(data):
        yield


@contextmanager
def _sandbox(company: Path | None, wanted: bool, *, pushes: bool = False) -> "Iterator[Sandbox | None]":
    from local.sandbox import SAMPLE_COMPANY, play

    with ExitStack() as stack:
        yield stack.enter_context(play(company or SAMPLE_COMPANY, pushes=pushes)) if wanted else None


@contextmanager
def _told() -> "Iterator[None]":
    """What keeps the company, the host or the pipeline from running, as a failure of the command."""
    from connections.secrets import SecretError
    from local.company import CompanyError
    from local.home import HomeInUseError
    from local.host.errors import HostError
    from local.simulator_process import SimulatorError
    from local.summary import StandstillError

    try:
        yield
    except (HomeInUseError, CompanyError, SimulatorError, SecretError, HostError, StandstillError) as error:
        raise CommandError(str(error)) from None


@contextmanager
def _environment(data: Path, played: "Sandbox | None") -> "Iterator[dict[str, str]]":
    """The environment of the app's processes, this one included. Secrets are where other commands find them too."""
    from connections.secrets import keep_secret
    from local.home import SECRETS_FOLDER, prepare_home

    environment = prepare_home(data, simulators=played.addresses if played else {})
    secrets = played.secrets if played else {}
    kept = [keep_secret(data / SECRETS_FOLDER, variable, value) for variable, value in secrets.items()]
    try:
        yield environment
    finally:
        for file in kept:
            file.unlink(missing_ok=True)


async def _ingest(data: Path, environment: Mapping[str, str], played: "Sandbox") -> tuple[dict[str, Any], list[str]]:
    """Run the app in this process until the company is ingested: the summary, and what is left undone."""
    from composition import local_services
    from local.host.app_index import load_app
    from local.host.worker import run_worker
    from local.summary import left_undone, summarize

    os.environ.update(environment)
    services = local_services()
    index = load_app("function_app")
    stop = asyncio.Event()
    started = time.perf_counter()
    await services.queues.release_dead_owners()
    await _register(services, played)
    worker = asyncio.create_task(run_worker(index, services.queues, services.store, data / "host", stop))
    idle: asyncio.Task[None] | None = None
    try:
        with _progress() as seen:
            idle = asyncio.create_task(_until_done(services, played, seen))
            await asyncio.wait({idle, worker}, return_when=asyncio.FIRST_COMPLETED)
            if worker.done():
                await worker
            await idle
        seconds = time.perf_counter() - started
        meter = services.meter
        stages = {
            stage: {"messages": meter.messages[stage], "seconds": round(meter.seconds[stage], 3)}
            for stage in list(meter.messages)
        }
        summary = await summarize(services, played.tenant_id, seconds=seconds, events=meter.events, stages=stages)
        return summary, await left_undone(services, played.tenant_id)
    finally:
        stop.set()
        if idle is not None:
            idle.cancel()
            await asyncio.gather(idle, return_exceptions=True)
        await asyncio.gather(worker, return_exceptions=True)
        await services.close()


async def _until_done(services: "LocalServices", played: "Sandbox", seen: "Callable[[Moment], None]") -> None:
    """Wait until the pipeline is idle; what stayed behind then, as a killed run leaves it, is emitted again once."""
    from local.summary import left_undone, until_idle
    from operations.reconciliation import reconcile

    connections = _ids(played)
    await until_idle(services, connections, seen)
    if await left_undone(services, played.tenant_id):
        await reconcile(services.reconciliation, after=timedelta(0))
        await until_idle(services, connections, seen)


def _ids(played: "Sandbox") -> set[tuple[str, str]]:
    return {(one.tenant_id, one.connection_id) for one in played.connections}


async def _register(services: "Services", played: "Sandbox") -> None:
    """Connect the sandbox's sources, and ask for polls at once, though the last ones be a moment ago.

    A source whose history its polls don't read is asked for that too.
    """
    from connections.salesforce_connection import SalesforceConnection
    from ingestion import connecting
    from ingestion.asking import ask

    ports = services.ingestion
    for connection in played.connections:
        if isinstance(connection, SalesforceConnection):
            await services.connections.save(connection)
            await ask([connection], "poll", ports)
            continue
        checked = await connecting.check(connection, ports)
        if not checked.is_usable:
            told = "; ".join(f"{one.what}: {one.remedy}" for one in checked.findings if one.state == "error")
            raise CommandError(f"the sandbox's {connection.system} can't be read: {told}")
        await connecting.establish(connection, checked, ports, load=True)


async def _serve(data: Path, port: int, workers: int, environment: Mapping[str, str], played: "Sandbox | None") -> None:
    """Run the host's processes until SIGINT or SIGTERM."""
    from composition import build_local
    from local.host.supervisor import HostOptions, run_host
    from settings import HOME_FILE, load_settings

    # The connections are tested from here before the app's own processes have these.
    os.environ.update(environment)
    out = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
    services = build_local(load_settings(data / HOME_FILE))
    started = time.perf_counter()
    try:
        if played:
            await services.queues.release_dead_owners()
            await _register(services, played)
        await run_host(
            HostOptions(state_dir=data / "host", port=port, workers=workers, environment=environment),
            report=lambda line: out.print(line, markup=False),
            serving=lambda port: _tell(services, data, port, played, started),
        )
    finally:
        await services.close()


async def _tell(services: "LocalServices", data: Path, port: int, played: "Sandbox | None", started: float) -> None:
    """Show the first ingestion, then what there is and where."""
    from local.home import FUNCTION_KEY_FILE
    from local.summary import StandstillError, summarize, until_idle

    if played:
        await asyncio.to_thread(played.push_to, port)
    pairs: dict[str, object] = {"Serving": f"http://localhost:{port}/api  (health, search, shards, status)"}
    if played:
        try:
            with _progress() as seen:
                await until_idle(services, _ids(played), seen)
        except StandstillError as error:
            sys.stderr.write(f"shardline: {error}\n")
        seconds = time.perf_counter() - started
        summary = await summarize(services, played.tenant_id, seconds=seconds, events={}, stages={})
        _print_summary(summary)
        for system, address in played.addresses.items():
            pairs[f"{NAMES[system]} simulator"] = address
        reader = await _some_reader(services, played.tenant_id)
        if reader:
            pairs["A reader's token"] = services.token_key.sign(played.tenant_id, reader, now=services.clock())
            pairs["Try"] = f"shardline search 'renewal at risk' --data {shlex.quote(str(data))}"
    pairs["Function key (status)"] = data / FUNCTION_KEY_FILE
    pairs["Stop with"] = "Ctrl-C"
    print_pairs(pairs)
    sys.stdout.flush()


async def _some_reader(services: "Services", tenant_id: str) -> str | None:
    """The address of one of the company's users."""
    from shards.store import ShardQuery

    page = await services.store.query(ShardQuery(tenant_id, shard_type_ids=("c_user",)), limit=50)
    addresses = (user.structured_data.get("email") for user in page.items)
    return next((address for address in addresses if isinstance(address, str)), None)


@contextmanager
def _progress() -> "Iterator[Any]":
    """Tells of each look at the pipeline: a bar on a terminal, now and then a plain line in a log."""
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    if err.is_terminal:
        columns = (SpinnerColumn(), BarColumn(bar_width=14), TimeElapsedColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=err, transient=True) as bar:
            yield partial(_advance, bar, bar.add_task("starting", total=None))
        return
    said = time.perf_counter()

    def say(moment: "Moment") -> None:
        nonlocal said
        if time.perf_counter() - said >= SAY_EVERY:
            said = time.perf_counter()
            err.print(_words(moment), markup=False)

    yield say


def _advance(bar: Progress, task: TaskID, moment: "Moment") -> None:
    """Fill the bar by the most messages that were unfinished at once; no source tells beforehand how many will come."""
    most = max(bar.tasks[0].total or 0, moment.waiting)
    bar.update(task, total=most or None, completed=most - moment.waiting, description=_words(moment))


def _words(moment: "Moment") -> str:
    behind = ", ".join(f"{STEPS[stage]} {count:,}" for stage, count in moment.behind.items() if count)
    return f"{moment.waiting:,} unfinished" + (f"; to {behind}" if behind else "")


def _print_summary(summary: dict[str, Any]) -> None:
    out = console()
    out.print(table(f"Live shards of {summary['tenantId']}", ["type", "shards"], sorted(summary["shards"].items())))
    out.print(table("Links", ["type", "links"], sorted(summary["links"].items())))
    if any(stage["messages"] for stage in summary["stages"].values()):
        out.print(
            table(
                "Stages of this run",
                ["stage", "messages", "seconds"],
                [[name, stage["messages"], stage["seconds"]] for name, stage in summary["stages"].items()],
            )
        )
    pairs = {
        "Deleted": f"{summary['deleted']:,}",
        "Links waiting for their target": f"{summary['linksPending']:,}",
        "Chunks with a vector": f"{summary['vectors']:,} of {summary['chunks']:,}",
        "Parked": f"{summary['parked']:,}",
        "Seconds": summary["seconds"],
    }
    total = sum(summary["events"].values())
    if total:
        pairs["Events"] = f"{total:,} ({summary['recordsPerSecond']:,} a second)"
    print_pairs(pairs)
