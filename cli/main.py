"""``shardline``: the commands, and how they fail: one line, exit 2 for a wrong call, exit 1 for a failure."""

import logging
import os
import sys
from typing import Any

import apsw
import typer

from cli import operating, reading, running
from cli.home import CommandError, UsageError
from connections.connection import InvalidConnectionError
from messaging.bus import BusUnavailableError
from messaging.sqlite import DataFileError
from settings import SettingsError
from shards.store import StoreUnavailableError

app = typer.Typer(
    name="shardline",
    help="One graph of linked, embedded, searchable documents out of what a company writes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    running.up,
    running.demo,
    reading.status,
    reading.search,
    reading.show,
    reading.export,
    operating.parked,
    operating.replay,
    operating.sweep,
    operating.reconcile,
    operating.connections,
    operating.token,
):
    app.command()(command)

WrongCallError: Any = typer.BadParameter.__mro__[1]
"""The parser's own UsageError; which package it lives in depends on typer's version."""

FAILURES = (
    CommandError,
    SettingsError,
    DataFileError,
    InvalidConnectionError,
    StoreUnavailableError,
    BusUnavailableError,
    apsw.Error,
    OSError,
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        result = app(args=arguments, standalone_mode=False)
    except WrongCallError as error:
        return _fail(f"{error.format_message()} (see 'shardline --help')", 2)
    except UsageError as error:
        return _fail(f"{error} (see 'shardline --help')", 2)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # Nobody reads on, and the interpreter would fail again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except FAILURES as error:
        return _fail(str(error) or type(error).__name__, 1)
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"shardline: {' '.join(message.split())}\n")
    return code


def run() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
