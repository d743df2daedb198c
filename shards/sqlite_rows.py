"""Rows in and out of the store's tables with few statements, and several reads as one snapshot.

A step of a statement costs far more than the row in it (see :mod:`messaging.sqlite`). So rows go in as long VALUES
lists; conditions on many ids go in as one JSON text; and many rows come out as one row that holds a JSON array.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any

import apsw

from messaging import codec

Bindings = Sequence[Any] | dict[str, Any]


def json_text(value: object) -> str:
    """*value* as the JSON text that ``json_each`` takes (bytes would be read as SQLite's binary JSON)."""
    return codec.encode(value).decode()


_BLOCKS = (256, 64, 16, 4, 1)
"""How many rows one VALUES list has: few different lengths, so that the statements stay prepared."""


def put_rows(
    connection: apsw.Connection, insert: str, rows: Sequence[tuple[Any, ...]], *, source: str = "", tail: str = ""
) -> None:
    """Run *insert* on all *rows*, which are of one length: ``{insert} VALUES (…), (…) {tail}``.

    With *source*, ``{insert} {source} {tail}``, where ``{rows}`` in *source* stands for the list in parentheses, a
    table whose columns are ``column1``, ``column2``, ….
    """
    start = 0
    for size in _BLOCKS:
        while len(rows) - start >= size:
            sql = _insert_sql(insert, source, tail, len(rows[start]), size)
            connection.execute(sql, list(chain.from_iterable(rows[start : start + size])))
            start += size


@cache
def _insert_sql(insert: str, source: str, tail: str, columns: int, rows: int) -> str:
    row = f"({','.join('?' * columns)})"
    values = f"VALUES {','.join([row] * rows)}"
    return f"{insert} {source.replace('{rows}', f'({values})') if source else values} {tail}"


def all_rows(connection: apsw.Connection, sql: str, bindings: Bindings = ()) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    return connection.execute(sql, bindings).fetchall()


def one_row(connection: apsw.Connection, sql: str, bindings: Bindings = ()) -> tuple[Any, ...]:
    """The only row of an aggregate query."""
    row = connection.execute(sql, bindings).fetchone()
    if row is None:
        raise AssertionError("an aggregate query always has a row")
    return tuple(row)


def json_rows(connection: apsw.Connection, sql: str, bindings: Bindings = ()) -> list[Any]:
    """The array that an aggregate query gives as its only value, one JSON text."""
    rows: list[Any] = codec.decode(one_row(connection, sql, bindings)[0])
    return rows


@contextmanager
def snapshot(connection: apsw.Connection) -> Generator[None]:
    """Several reads of one state of the file."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")
