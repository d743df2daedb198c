"""The command that loads a connection's history now, and what it tells meanwhile."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cli.home import DEFAULT_DATA, CommandError, DataOption, JsonOption, TenantOption, UsageError
from cli.named_connection import refusing, the_connection
from cli.output import console, counted, print_json
from composition import Services
from connections.connection import Connection
from connections.state import StateMovedError
from ingestion import connecting
from ingestion.connecting import export_key
from ingestion.first_load import FirstLoadPorts, LoadBusyError, load_pages, note_asked
from ingestion.history_memory import HistoryNotes, history_key, load_memory, records_per_second, remaining_seconds
from ingestion.source import Pages
from messaging import codec

SLICE_SECONDS = 20
"""How long a first load works between two looks at whether it is to stop."""

LOOK_SECONDS = 1.0
"""How often a load is looked at that another worker drives."""

SAY_SECONDS = 2.0
"""Between two lines of progress in a log."""

STUCK_TIMES = 10
"""So many looks at the chain that show it as it was: about as many seconds."""


def backfill(
    connection: Annotated[str, typer.Argument(metavar="CONNECTION", help="The connection's id.")],
    data: DataOption = DEFAULT_DATA,
    tenant: TenantOption = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Load this export instead of asking the source: a Slack export (folder or .zip), Data Loader CSV "
            "files (several times for several), or a folder tree of Drive files.",
        ),
    ] = None,
    anew: Annotated[bool, typer.Option("--restart", help="Begin at the beginning.")] = False,
    json: JsonOption = False,
) -> None:
    """Load a connection's history now, as fast as the chain digests it; it goes on where it stopped."""
    for path in source or []:
        if not path.exists():
            raise UsageError(f"--from: there is no {path}")

    async def work(services: Services) -> tuple[HistoryNotes, bool]:
        known = await the_connection(services, tenant, connection)
        _must_be_active(known)
        ports = services.ingestion
        loading = FirstLoadPorts(ports.bus, ports.states, ports.clock)
        key = history_key(known)
        pages: Pages = partial(connecting.source_of(known, ports).history, known)
        if source:
            key = f"{key}/{export_key(source)}"
            pages = connecting.history_of_export(known, source, ports)
        is_left = await note_asked(known, loading, anew=anew, key=key)
        with _LoadProgress(known, local=services.settings.home == "local") as seen:
            while True:
                deadline = ports.clock() + timedelta(seconds=SLICE_SECONDS)
                try:
                    step = await load_pages(known, pages, loading, deadline=deadline, seen=seen, key=key)
                except LoadBusyError:
                    # The app's own worker, or another command: what it does is as good.
                    seen((await load_memory(known, ports.states, key=key)).metadata)
                    await asyncio.sleep(LOOK_SECONDS)
                except StateMovedError:
                    await asyncio.sleep(LOOK_SECONDS)
                else:
                    if step.again_in is None:
                        return step.notes, is_left
                    await asyncio.sleep(step.again_in.total_seconds())
                _must_be_active(await ports.registry.get(known.tenant_id, known.connection_id) or known)

    notes, was_left = refusing(data, work)
    if source and not notes.records:
        raise CommandError(f"nothing to load is in {', '.join(map(str, source))}: is it the export that is meant?")
    if json:
        print_json(codec.decode(codec.encode(notes)))
    elif not was_left:
        told = f"Nothing was left to load: {counted(notes.records, 'record')} had been, by {notes.finished_at}."
        console().print(f"{told} --restart begins at the beginning.", soft_wrap=True)
    else:
        loaded = f"{counted(notes.records, 'record')} in {counted(notes.pages, 'page')}"
        console().print(f"Loaded {loaded} and {notes.seconds:,.0f} s.")


def _must_be_active(connection: Connection) -> None:
    if connection.status == "active":
        return
    remedy = {
        "paused": f"'shardline connections --resume {connection.connection_id}' lets it go on",
        "disconnected": f"'shardline connect {connection.system}' connects it again",
    }.get(connection.status, connection.error_message or "connect it again")
    raise CommandError(f"{connection.connection_id} is {connection.status}: {remedy}")


class _LoadProgress:
    """Tells of each page and wait: a bar on a terminal, now and then a line in a log."""

    def __init__(self, connection: Connection, *, local: bool) -> None:
        self._name = connection.connection_id
        self._local = local
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._say_at = 0.0
        self._pauses = logging.getLogger("ingestion.patience")
        self._stuck: tuple[str | None, int] = (None, 0)

    def __enter__(self) -> Callable[[HistoryNotes], None]:
        # A line for each short pause of a call would bury what is told here.
        self._pauses.setLevel(logging.ERROR)
        if not self._err.is_terminal:
            return self._say
        columns = (SpinnerColumn(), BarColumn(bar_width=14), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=self._err, transient=True)
        self._bar.start()
        task = self._bar.add_task(f"loading {self._name}", total=None)
        bar = self._bar

        def advance(notes: HistoryNotes) -> None:
            bar.update(task, total=notes.total, completed=notes.records, description=self._words(notes))

        return advance

    def __exit__(self, *_: object) -> None:
        self._pauses.setLevel(logging.NOTSET)
        if self._bar is not None:
            self._bar.stop()

    def _say(self, notes: HistoryNotes) -> None:
        words = self._words(notes)
        now = time.monotonic()
        if notes.finished_at or now >= self._say_at:
            self._say_at = now + SAY_SECONDS
            self._err.print(f"{self._name}: {words}", markup=False)

    def _words(self, notes: HistoryNotes) -> str:
        """Where the load stands; when the chain stands still too, what may be the reason."""
        before, times = self._stuck
        self._stuck = (notes.waiting_for, times + 1 if notes.waiting_for == before else 0)
        words = standing(notes)
        if notes.waiting_for and self._local and self._stuck[1] >= STUCK_TIMES:
            words += " (nothing is digested: does 'shardline up' run?)"
        return words


def standing(notes: HistoryNotes) -> str:
    """Where a first load stands, in words."""
    words = counted(notes.records, "record")
    if notes.total:
        about = "about " if notes.estimated else ""
        words += f" of {about}{notes.total:,} ({min(100, int(100 * notes.records / notes.total))} %)"
    if notes.finished_at:
        return f"{words}, finished"
    rate = records_per_second(notes)
    if rate:
        words += f", {rate:,.0f} a second" if rate >= 1 else f", {rate * 60:,.1f} a minute"
    left = remaining_seconds(notes)
    if left:
        words += f", some {left / 60:,.0f} min left" if left > 90 else f", some {left:,.0f} s left"
    if notes.waiting_for:
        words += f"; waiting for {notes.waiting_for}"
    return words
