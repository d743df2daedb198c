"""``python -m bench.azure_cost``: what a record costs on Azure, and what a home costs that has nothing to do.

The whole app runs in Microsoft's worker against peers of Service Bus, Cosmos DB and blob storage, and what they are
asked for is counted on the wire. Nothing is timed. The peers must be installed: ``make worker node-peers proton``.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from pydantic import HttpUrl
from rich.console import Console
from rich.table import Table

from api.status import pipeline_status
from bench.home import CONNECTION_ID, SECRET_NAME, TENANT, bench_connection
from composition import Services
from connections.secrets import environment_variable
from ingestion.asking import enqueue_due
from ingestion.work import handle_source_work
from local.company import default_org_id
from local.salesforce.contacts import FIRST_STAMP, contacts_company, numbered_id
from local.salesforce.server import SimulatorProcess
from messaging.bus import Message, MessageBus
from messaging.contracts import IngestionEvent, SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import from_text, to_text, utc_now
from operations.dead_letters import drain
from operations.metrics import Metrics
from operations.reconciliation import observe, reconcile
from processors.outcome import DONE, Later

# The peers are the tests' own.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from azure_home import AzureHome, azure_settings, settings_of
from azurite import Azurite
from cosmos_peer import CosmosPeer
from functions_host.environment import worker_python
from functions_host.host import FunctionsHost
from node_process import require_node_peers
from service_bus_peer.peer import ServiceBusPeer
from service_bus_peer.proton_requirement import require_proton

from azure_composition import provision_azure
from bench.azure_meters import Meters, Reading
from composition import build

PER = 1_000
"""Records that the figures are told for."""
WHEN_ASKED = 1e9
"""The pause of the feed in seconds: it is followed when the bench says so, as each look is charged by itself."""
OTHERS = 10_000_000
"""Where the numbers of records begin that no other case has."""
LARGE = 300_000
"""Bytes of a payload that goes apart from its message."""
CONSISTENCY = "Strong"
"""What the deployment gives the account."""
PARTS = {
    "read": ("read",),
    "query": ("query", "query-plan"),
    "write": ("create", "replace", "upsert", "patch", "batch", "delete"),
    "change feed": ("change-feed",),
}


@dataclass(frozen=True, slots=True)
class Case:
    """Some records that met the same lot, and what that took."""

    name: str
    records: int
    taken: Reading


class _OwnWork:
    """A bus that keeps what it is to carry to ``source-work``: a deployed worker calls vendors, and no simulators."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self.kept: list[SourceWork] = []

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        """Keep messages of ``source-work``, send others; see :meth:`messaging.bus.MessageBus.send`."""
        if queue == SOURCE_WORK:
            self.kept += [SourceWork.from_bytes(message.body) for message in messages]
        else:
            await self._bus.send(queue, messages, delay=delay)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)


class _Bench:
    def __init__(self, home: AzureHome, records: int, singles: int) -> None:
        self._home = home
        self._meters = Meters(home.bus, home.cosmos, home.azurite, home.host)
        self._rows = [dict(row) for row in contacts_company(records + singles + 1).tables["Contact"].records]
        self._together = self._rows[:records]
        self._singles = self._rows[records : records + singles]
        self._readings = 0

    async def cases(self) -> tuple[list[Case], list[Case]]:
        """What records take that come together, and one by one."""
        await self._run([self._rows[-1]])  # opens what a process opens once
        return await self._lots(self._together, self._run), await self._lots(self._singles, self._run_singly)

    async def _lots(self, rows: list[dict[str, Any]], run: Callable[..., Awaitable[None]]) -> list[Case]:
        return [
            await self._case("new", rows, run),
            await self._case("again, unchanged", rows, run),
            await self._case("other text", rows, run, version=1, text="dolor sit amet, consectetur " * 6),
            await self._case("version only", rows, run, version=2, text="dolor sit amet, consectetur " * 6),
            await self._case("deleted", rows, run, version=3, deleted=True),
        ]

    async def large(self, records: int) -> Case:
        """Records whose payload is too large for a message."""
        rows = [row | {"Id": numbered_id("003", OTHERS + number)} for number, row in enumerate(self._rows[:records])]
        return await self._case("new, 300 KB", rows, self._run, text="lorem ipsum " * (LARGE // 12))

    async def _case(
        self, name: str, rows: list[dict[str, Any]], run: Callable[..., Awaitable[None]], **lot: Any
    ) -> Case:
        before = self._meters.read()
        await run(rows, **lot)
        [feed] = self._home.host.feeds
        await feed.catch_up()
        case = Case(name, len(rows), self._meters.read().since(before))
        problems = [*self._home.dead_letters(), *await self._home.parked()]
        if problems:
            raise RuntimeError(f"{name}: {problems[0]} and {len(problems) - 1} more")
        return case

    async def _run(self, rows: Sequence[dict[str, Any]], **lot: Any) -> None:
        self._readings += 1
        await self._home.send([self._event(row, **lot) for row in rows])
        await self._home.until_idle()

    async def _run_singly(self, rows: Sequence[dict[str, Any]], **lot: Any) -> None:
        for row in rows:
            await self._run([row], **lot)

    def _event(
        self, row: dict[str, Any], *, version: int = 0, text: str | None = None, deleted: bool = False
    ) -> IngestionEvent:
        """What a poll sends of *row*, in a reading of its own."""
        stamp = to_text(from_text(row["SystemModstamp"]) + timedelta(days=version))
        payload = row | {"SystemModstamp": stamp, "IsDeleted": deleted}
        if text is not None:
            payload["Description"] = text
        read_at = to_text(FIRST_STAMP + timedelta(days=100, seconds=self._readings))
        return IngestionEvent(
            tenant_id=TENANT,
            source="salesforce",
            source_id=row["Id"],
            event_type="delete" if deleted else "update",
            observed_at=read_at,
            payload=payload,
            event_id=f"{stamp}.{self._readings}",
            connection_id=CONNECTION_ID,
            instance=default_org_id(TENANT),
            object_type="Contact",
            source_version=stamp,
            read_at=read_at,
            correlation_id=f"{self._readings:032x}",
            traceparent=f"00-{self._readings:032x}-{self._readings:016x}-01",
        )

    # What runs when nothing happens

    async def idle(self, simulator: SimulatorProcess) -> list[Case]:
        """What each thing takes that is done again and again, with one tenant and one connection."""
        home = self._home
        simulated = home.services.settings.model_copy(update={"salesforce_simulator": HttpUrl(simulator.base_url)})
        own = _OwnWork(home.services.bus)
        services = replace(home.services, settings=simulated, bus=own)
        await services.connections.save(bench_connection(simulator))
        await self._poll(services, own)
        reconciliation = replace(services.reconciliation, metrics=Metrics(MeterProvider().get_meter("bench")))

        async def tick() -> None:
            await enqueue_due(services.ingestion)

        async def reconciled() -> None:
            await drain(services.dead_letters)
            await reconcile(reconciliation, after=timedelta(minutes=2))
            await observe(reconciliation)

        async def look() -> None:
            await home.host.feeds[0].catch_up()

        async def polled() -> None:
            await self._poll(services, own)
            await look()

        async def status() -> None:
            await pipeline_status(services)

        done = [
            ("tick of poll_due", tick),
            ("tick of reconcile_stages", reconciled),
            ("poll that finds nothing, and its look at the feed", polled),
            ("look at the change feed that finds nothing", look),
            ("GET status", status),
        ]
        cases = []
        for name, work in done:
            await work()  # what is asked for once is asked for now
            before = self._meters.read()
            await work()
            cases.append(Case(name, 1, self._meters.read().since(before)))
        return cases

    async def _poll(self, services: Services, own: _OwnWork) -> None:
        """Do a poll, and what it asks for, as their function does it; the function itself, and its messages, are not
        run."""
        poll = SourceWork(tenant_id=TENANT, connection_id=CONNECTION_ID, work="poll", due_at=to_text(utc_now()))
        own.kept = [poll]
        while own.kept:
            work = own.kept.pop()
            while isinstance(outcome := await handle_source_work(work, services.ingestion), Later):
                pass
            if outcome != DONE:
                raise RuntimeError(f"{work.work} ended as {outcome}")
        await self._home.until_idle()


@asynccontextmanager
async def _home(folder: Path) -> AsyncIterator[AzureHome]:
    """A home whose feed is followed when asked, and whose blob requests are counted."""
    require_proton()
    require_node_peers()
    worker_python()
    async with AsyncExitStack() as stack:
        bus = stack.enter_context(ServiceBusPeer())
        # As a new account has it; each look at the change feed is charged for each partition.
        cosmos = stack.enter_context(CosmosPeer(partitions=1))
        cosmos.set_consistency(CONSISTENCY)
        azurite = Azurite(counting=True)
        stack.callback(azurite.end)
        environment = azure_settings(bus, cosmos, azurite)
        settings = settings_of(environment)
        await provision_azure(settings)
        services = build(settings)
        stack.push_async_callback(services.close)
        host = FunctionsHost(environment, folder, feed_poll_delay=WHEN_ASKED)
        stack.push_async_callback(host.close)
        await host.add_instance()
        await host.follow_feeds()
        yield AzureHome(bus, cosmos, azurite, services, host)


async def _measure(records: int, singles: int, console: Console) -> None:
    with (
        SimulatorProcess(["--contacts", "200"]) as simulator,
        tempfile.TemporaryDirectory(prefix="azure-cost-") as name,
    ):
        secret = {environment_variable(TENANT, SECRET_NAME): simulator.credentials.consumer_secret}
        with patch.dict(os.environ, secret):
            async with _home(Path(name)) as home:
                bench = _Bench(home, records, singles)
                together, single = await bench.cases()
                console.print(_records_table(f"Per {PER:,} records that come {records:,} at once", together))
                console.print(_records_table(f"Per {PER:,} records that come one at a time", single))
                console.print(_idle_table(await bench.idle(simulator)))
                console.print(_records_table(f"Per {PER:,} records of 300 KB, 20 at once", [await bench.large(20)]))


Count = Callable[[Reading], float]


def _records_table(title: str, cases: Sequence[Case]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("meter")
    for case in cases:
        table.add_column(case.name, justify="right")
    for section in _sections(cases):
        for name, count in section.items():
            counts = [count(case.taken) * PER / case.records for case in cases]
            if any(counts):
                table.add_row(name, *(f"{one:,.0f}" for one in counts))
        table.add_section()
    return table


def _sections(cases: Sequence[Case]) -> list[dict[str, Count]]:
    """The rows of a table by their names, in groups."""
    readings = [case.taken for case in cases]

    def names(of: Callable[[Reading], Iterable[str]]) -> list[str]:
        return sorted({name for reading in readings for name in of(reading)})

    def operations(kind: str) -> Count:
        return lambda taken: taken.operations[kind]

    def units(container: str, *kinds: str) -> Count:
        return lambda taken: taken.units_of(container, *kinds)

    def executions(function: str) -> Count:
        return lambda taken: taken.executions[function]

    def stored(container: str) -> Count:
        return lambda taken: taken.stored[container]

    kinds = names(lambda taken: taken.operations)
    containers = names(lambda taken: (name.split("/")[0] for name in taken.request_units))
    functions = names(lambda taken: taken.executions)
    return [
        {"Service Bus operations": lambda taken: taken.operations.total()}
        | {f"  {kind}": operations(kind) for kind in kinds},
        {"request units": lambda taken: sum(taken.request_units.values())}
        | {f"  {place}: {part}": units(place, *of_part) for place in containers for part, of_part in PARTS.items()}
        | {"requests to Cosmos DB": lambda taken: taken.requests.total()},
        {"executions": lambda taken: taken.executions.total()}
        | {f"  {function}": executions(function) for function in functions},
        {"blob requests": lambda taken: taken.blobs.total()}
        | {f"bytes of items in {place}": stored(place) for place in names(lambda taken: taken.stored)},
    ]


def _idle_table(cases: Sequence[Case]) -> Table:
    table = Table(title="What is done again and again, each time (one tenant, one connection)", title_justify="left")
    for heading in ("what", "Service Bus operations", "request units", "requests to Cosmos DB", "executions"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for case in cases:
        taken = case.taken
        table.add_row(
            case.name,
            f"{taken.operations.total():,}",
            f"{sum(taken.request_units.values()):,.1f}",
            f"{taken.requests.total():,}",
            f"{taken.executions.total():,}",
        )
    return table


def report(console: Console, *, records: int = 1_000, singles: int = 50) -> None:
    """Measure and print, or say what is missing."""
    try:
        asyncio.run(_measure(records, singles, console))
    except pytest.skip.Exception as missing:
        console.print(f"what a record costs on Azure is left out: {missing}", highlight=False)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.azure_cost", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000, help="records that come at once (default 1,000)")
    parser.add_argument("--singles", type=int, default=50, help="records that come one at a time (default 50)")
    options = parser.parse_args()
    report(Console(width=132), records=options.records, singles=options.singles)


if __name__ == "__main__":
    main()
