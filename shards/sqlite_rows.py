"""Rows of the store's tables as plain values, several reads as one snapshot, and lists as one binding."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from messaging import codec

Bindings = Sequence[Any] | dict[str, Any]


def json_text(value: object) -> str:
    """*value* as the JSON text that ``json_each`` takes (bytes would be read as SQLite's binary JSON)."""
    return codec.encode(value).decode()


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
