"""How commands speak: JSON for scripts, tables for people, plain lines in a log."""

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from messaging import codec

WIDE = 220


def console() -> Console:
    """Where people read; wide in a file or pipe, so that nothing is folded."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def print_json(value: object) -> None:
    """One JSON value on one line."""
    sys.stdout.write(codec.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_json_lines(values: Iterable[object]) -> None:
    """A JSON value a line."""
    for value in values:
        print_json(value)


def counted(number: int, noun: str) -> str:
    """So many of *noun*, which takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table; numbers stand to the right."""
    made = Table(title=title, title_justify="left", header_style="bold")
    listed = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numeric = bool(listed) and all(isinstance(row[index], int | float) for row in listed)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        made.add_row(*(_cell(cell) for cell in row))
    return made


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_pairs(pairs: Mapping[str, object]) -> None:
    """A line ``name: value`` for each, never folded: a token must stay one word."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        sys.stdout.write(f"{name + ':':<{width + 1}} {value}\n")
    sys.stdout.flush()
