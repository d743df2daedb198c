"""Which Shardline a command talks to: the settings of the environment, or those of a data folder that `up` or `demo`
has made."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from composition import Services, build
from local.interrupts import stopped_by_interrupts
from settings import HOME_FILE, Settings, load_settings

T = TypeVar("T")

DEFAULT_DATA = Path(".shardline")

DataOption = Annotated[Path, typer.Option("--data", help="The data folder.", envvar="SHARDLINE_DATA_DIR")]
TenantOption = Annotated[str | None, typer.Option("--tenant", help="The tenant; needed where there are several.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class CommandError(Exception):
    """A command that failed; the message is the line its user sees."""


class UsageError(Exception):
    """A command that was called wrongly; the message is the line its user sees."""


def settings_of(data: Path) -> Settings:
    """The environment's settings where it says a home, else those of the data folder.

    Raises:
        CommandError: neither is there.
    """
    if "SHARDLINE_HOME" in os.environ:
        return load_settings()
    if not (data / HOME_FILE).is_file():
        raise CommandError(f"there is no Shardline in {data}: start one with 'shardline up', or name it with --data")
    return load_settings(data / HOME_FILE)


@asynccontextmanager
async def opened(data: Path) -> AsyncIterator[Services]:
    """The services behind the command."""
    services = build(settings_of(data))
    try:
        yield services
    finally:
        await services.close()


def run(data: Path, work: Callable[[Services], Awaitable[T]]) -> T:
    """Run *work* with the services of *data*."""

    async def within() -> T:
        async with opened(data) as services:
            return await work(services)

    return run_async(within())


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run *work* to its end. Ctrl-C cancels it.

    Raises:
        KeyboardInterrupt: it was cancelled so.
    """
    interrupted = False

    async def stoppable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None, "a loop runs tasks"  # noqa: S101

        def stop() -> None:
            nonlocal interrupted
            interrupted = True
            loop.call_soon_threadsafe(task.cancel)

        with stopped_by_interrupts(stop):
            return await work

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise


async def the_tenant(services: Services, named: str | None) -> str:
    """The tenant that is named, else the only one.

    Raises:
        UsageError: none is named, and there is none or are several; or the named one has nothing here.
    """
    tenants = await services.store.tenants()
    if named is not None:
        if named not in tenants:
            raise UsageError(f"there is no tenant {named!r} here; there are: {', '.join(tenants) or 'none'}")
        return named
    if len(tenants) == 1:
        return tenants[0]
    if not tenants:
        raise UsageError(
            "there is nothing here yet: connect a source ('shardline connect'), or play the sample company "
            "('shardline demo')"
        )
    raise UsageError(f"name one of the tenants with --tenant: {', '.join(tenants)}")
