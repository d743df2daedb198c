"""Runs a query over the items of a partition, page by page.

A continuation says how many rows were given and where the last one stood, by the item's creation or by the values of
ORDER BY, so that it holds while items come and go, and in the partitions that come of a split.
"""

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

from cosmos_peer.answers import RefusedError, bad_request
from cosmos_peer.json_values import UNDEFINED, Reversed, SortKey, canonical, decode, encode
from cosmos_peer.partitions import Item
from cosmos_peer.query_plan import is_scored, root_alias, sort_order
from cosmos_peer.sql_evaluation import Compiled, QueryContext, QueryProgram, Row, indexed_paths
from cosmos_peer.sql_syntax import Query, path_of

MAX_PAGE_BYTES = 4 * 1024 * 1024
"""The most that one answer holds (service limit)."""


class Found(NamedTuple):
    """One row of an answer, as JSON; *place* is where it stands, for a continuation."""

    data: bytes
    place: list[Any]


@dataclass(slots=True)
class Page:
    """Some rows, the continuation behind them, and what it took to find them."""

    rows: list[bytes]
    continuation: str | None
    scanned: int = 0
    scanned_bytes: int = 0
    matched: int = 0
    matched_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a page starts: so many rows were given, the last at *place*."""

    given: int
    place: list[Any]


def query_page(
    query: Query, context: QueryContext, items: Iterable[Item], *, continuation: str | None, most: int, salt: str = ""
) -> Page:
    """The page of the query that comes behind *continuation*, of at most *most* rows.

    Raises:
        RefusedError: 400, what the query asks can't be answered, or the continuation is not its own.
    """
    if query.rank:
        raise bad_request("ORDER BY RANK is only answered through the query plan.")
    run = _Run(query, context)
    digest = blake2b(canonical([repr(query), salt]), digest_size=8).hexdigest()
    start = _start(continuation, digest)
    page = Page([], None)
    rows = run.rows(_counted(items, page), start)
    size = 0
    given = start.given
    last: list[Any] = start.place
    for row in rows:
        if page.rows and (len(page.rows) == most or size + len(row.data) > MAX_PAGE_BYTES):
            token = encode({"q": digest, "n": given, "p": last})
            page.continuation = base64.urlsafe_b64encode(token).decode()
            break
        page.rows.append(row.data)
        size += len(row.data)
        given += 1
        last = row.place
    page.matched, page.matched_bytes = run.matched, run.matched_bytes
    if page.matched == 0 and page.rows:
        page.matched = len(page.rows)
    return page


def _counted(items: Iterable[Item], page: Page) -> Iterator[Item]:
    for item in items:
        page.scanned += 1
        page.scanned_bytes += item.size
        yield item


def _start(continuation: str | None, digest: str) -> _Start:
    if not continuation:
        return _Start(0, [])
    try:
        token = decode(base64.urlsafe_b64decode(continuation))
        if token["q"] != digest:
            raise ValueError("it is another query's")
        return _Start(token["n"], token["p"])
    except (ValueError, KeyError, TypeError, RefusedError) as error:
        raise bad_request(f"Invalid Continuation Token: {error}") from error


class _Run:
    """One run of a query over some items."""

    def __init__(self, query: Query, context: QueryContext) -> None:
        self._query = query
        self._program = QueryProgram(query, context)
        self._order = _Order(query, self._program, context) if query.order_by else None
        self._skip = self._program.count(query.offset) or 0
        self._most = self._program.count(query.top if query.top is not None else query.limit)
        self.matched = 0
        self.matched_bytes = 0

    def rows(self, items: Iterator[Item], start: _Start) -> Iterator[Found]:
        """The rows behind *start*."""
        left = None if self._most is None else max(self._most - start.given, 0)
        if left == 0:
            return iter(())
        if self._program.grouped or self._query.distinct:
            every = self._whole(items)
            begin = self._skip + start.given
            return islice(every, begin, None if left is None else begin + left)
        found = self._streamed(items, start) if self._order is None else self._sorted(items, start, self._order)
        begin = 0 if start.place else self._skip
        return islice(found, begin, None if left is None else begin + left)

    def _rows_of(self, item: Item) -> Iterator[Row]:
        first = True
        for row in self._program.bindings([item.body]):
            if first:
                self.matched += 1
                self.matched_bytes += item.size
                first = False
            yield row

    def _data(self, item: Item, row: Row) -> bytes | None:
        value = self._program.projected(row)
        if value is item.body:
            return item.data
        return None if value is UNDEFINED else encode(value)

    def _streamed(self, items: Iterator[Item], start: _Start) -> Iterator[Found]:
        number, index = start.place or (0, -1)
        for item in items:
            if item.number < number:
                continue
            for place, row in enumerate(self._rows_of(item)):
                if item.number == number and place <= index:
                    continue
                data = self._data(item, row)
                if data is not None:
                    yield Found(data, [item.number, place])

    def _sorted(self, items: Iterator[Item], start: _Start, order: "_Order") -> Iterator[Found]:
        ordered = []
        for item in items:
            for place, row in enumerate(self._rows_of(item)):
                keys = order.keys(row)
                if keys is not None:
                    ordered.append((order.sortable(keys), item.number, place, keys, item, row))
        ordered.sort(key=lambda entry: entry[:3])
        behind = None
        if start.place:
            keys, number, index = start.place
            behind = (order.sortable([key[0] if key else UNDEFINED for key in keys]), number, index)
        for entry in ordered:
            if behind is not None and not behind < entry[:3]:
                continue
            _, number, place, keys, item, row = entry
            data = self._data(item, row)
            if data is not None:
                yield Found(data, [[[] if key is UNDEFINED else [key] for key in keys], number, place])

    def _whole(self, items: Iterator[Item]) -> Iterator[Found]:
        rows = (row for item in items for row in self._rows_of(item))
        if self._order is not None:
            order = self._order
            keyed = [(order.sortable(keys), row) for row in rows if (keys := order.keys(row)) is not None]
            rows = (row for _, row in sorted(keyed, key=lambda entry: entry[0]))
        grouped = self._program.grouped
        values = self._program.groups(rows) if grouped else (self._program.projected(row) for row in rows)
        seen: set[bytes] = set()
        for value in values:
            if value is UNDEFINED:
                continue
            if self._query.distinct:
                key = canonical(value)
                if key in seen:
                    continue
                seen.add(key)
            yield Found(encode(value), [0])


class _Order:
    """ORDER BY, held to what the container's indexes can serve."""

    def __init__(self, query: Query, program: QueryProgram, context: QueryContext) -> None:
        indexing = context.definition.indexing
        self._keys: list[Compiled] = [program.compiled(item.expression) for item in query.order_by]
        self._descending = [sort_order(item, program) == "Descending" for item in query.order_by]
        self._with_undefined = len(query.order_by) > 1
        if program.grouped:
            raise bad_request("ORDER BY together with GROUP BY or aggregates is not supported.")
        if is_scored(query.order_by[0].expression):
            self._check_score(query)
            return
        paths = []
        for item in query.order_by:
            path = path_of(item.expression)
            if path is None or path[0] != root_alias(query) or not path[1]:
                raise bad_request(
                    "Unsupported ORDER BY clause. ORDER BY item expression could not be mapped to a document path."
                )
            paths.append(path[1])
        if len(paths) > 1:
            wanted = [
                (path, "descending" if descending else "ascending")
                for path, descending in zip(paths, self._descending, strict=True)
            ]
            if not indexing.orders(wanted):  # type: ignore[arg-type]  # the directions are those two words
                raise bad_request(
                    "The order by query does not have a corresponding composite index that it can be served from."
                )
            return
        if paths[0] not in (("id",), ("_ts",)) and not indexing.indexes(paths[0]):
            raise bad_request("The index path corresponding to the specified order-by item is excluded.")
        # A wildcard's index has no entry for what lacks the path; an index of the path itself has.
        self._with_undefined = indexing.names(paths[0])

    def _check_score(self, query: Query) -> None:
        if len(query.order_by) > 1:
            raise bad_request("ORDER BY a score takes no other items.")
        if query.order_by[0].direction is not None and not query.order_by[0].expression.function.startswith("_"):  # type: ignore[union-attr]  # a score is a call
            raise bad_request("ORDER BY VectorDistance takes neither ASC nor DESC: the most alike come first.")
        if query.order_by[0].expression.function == "_VECTORSCORE" and query.order_by[0].direction is not None:  # type: ignore[union-attr]  # a score is a call
            self._descending = [query.order_by[0].descending]

    def keys(self, row: Row) -> list[Any] | None:
        """The values that a row is ordered by; None: no index has it, so it is no answer."""
        keys = [key(row) for key in self._keys]
        if not self._with_undefined and keys[0] is UNDEFINED:
            return None
        return keys

    def sortable(self, keys: list[Any]) -> list[SortKey | Reversed]:
        """The same, to be compared."""
        return [
            Reversed(SortKey(key)) if descending else SortKey(key)
            for key, descending in zip(keys, self._descending, strict=True)
        ]


def scans(query: Query, context: QueryContext) -> bool:
    """Whether the conditions speak of a path without an index, so that every item is read to answer."""
    if query.where is None:
        return True
    alias = root_alias(query)
    indexing = context.definition.indexing
    return any(
        not (path in (("id",), ("_ts",)) or _indexed(path, indexing.indexes))
        for path in indexed_paths(query.where, alias)
        if path not in context.definition.texts and path not in context.definition.vectors
    )


def _indexed(path: tuple[str, ...], indexes: Callable[[tuple[str, ...]], bool]) -> bool:
    return indexes(path) or indexes((*path, "[]"))
