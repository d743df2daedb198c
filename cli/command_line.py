"""``shardline``: the commands, and how they fail: one line, exit 2 for a wrong call, exit 1 for a failure."""

import logging
import os
import sys
from typing import Any

import apsw
import typer

from cli import backfilling, connecting, deploying, operating, reading, running
from cli.home import CommandError, UsageError
from connections.connection import InvalidConnectionError
from local.interrupts import INTERRUPTED, LINE
from messaging.bus import BusUnavailableError
from messaging.sqlite import DataFileError
from settings import SettingsError
from shards.store import StoreRefusedError, StoreUnavailableError

app = typer.Typer(
    name="shardline",
    help="One graph of linked, embedded, searchable documents out of what a company writes.",
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
    operating.reconcile,
    operating.sweep,
    operating.connections,
    connecting.disconnect,
    backfilling.backfill,
    operating.token,
    deploying.provision,
):
    app.command()(command)
app.add_typer(connecting.app, name="connect")

WrongCallError: Any = typer.BadParameter.__mro__[1]
"""The parser's own UsageError; which package it lives in depends on typer's version."""

FAILURES = (
    CommandError,
    SettingsError,
    DataFileError,
    InvalidConnectionError,
    StoreRefusedError,
    StoreUnavailableError,
    BusUnavailableError,
    apsw.Error,
    OSError,
)


def call(words: list[str]) -> int:
    """Do what *words* say; the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        _check_encoding(words)
        result = app(args=words or ["--help"], prog_name="shardline", standalone_mode=False)
    except WrongCallError as error:
        return _fail(f"{error.format_message().replace('Value error, ', '')} (see '{_help(words)}')", 2)
    except UsageError as error:
        return _fail(f"{error} (see '{_help(words)}')", 2)
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write(LINE)
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads on, and the interpreter would fail again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except FAILURES as error:
        return _fail(_words(error), 1)
    return result if isinstance(result, int) else 0


def _check_encoding(words: list[str]) -> None:
    """Check that each of *words* is text.

    Raises:
        UsageError: one has bytes that are none in UTF-8.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{word!r} is no text in UTF-8") from None


def _help(words: list[str]) -> str:
    """The call that tells of the command that *words* begin with."""
    group: Any = typer.main.get_command(app)
    path = ["shardline"]
    for word in words:
        group = getattr(group, "commands", {}).get(word)
        if group is None:
            break
        path.append(word)
    return " ".join([*path, "--help"])


def _words(error: Exception) -> str:
    """The failure as a sentence; the operating system's own have none."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error) or type(error).__name__
    problem = "it is no folder" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
    return f"{error.filename} can't be used ({problem}): check that it is there and yours, or name another path"


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"shardline: {' '.join(message.split())}\n")
    return code
