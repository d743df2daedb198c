"""One container: items by their full key, conditional writes, batches within a partition, and a tenant's queries."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, TypeVar

from azure.core import MatchConditions
from azure.cosmos.exceptions import CosmosBatchOperationError

from shards.cosmos_connection import (
    CONFLICT,
    FAILED_DEPENDENCY,
    NOT_FOUND,
    PRECONDITION_FAILED,
    REFUSALS,
    THROTTLED,
    CosmosConnection,
    RefusedError,
)
from shards.cosmos_queries import MAX_LISTED, Query
from shards.store import InvalidCursorError, ItemTooLargeError

T = TypeVar("T")

Item = dict[str, Any]
Key = tuple[str, str]
"""A full partition key."""

MAX_ITEM_BYTES = 2 * 1024 * 1024
MAX_BATCH_OPERATIONS = 100
MAX_BATCH_BYTES = 1_200_000
"""What one transactional batch takes; the service's limit is above that, and counts its own envelope."""

PAGE_ITEMS = 1000

FEW = 3
"""Up to so many items are read one by one at about 1 RU each; a query for more is one request, at less each."""

Operation = tuple[str, tuple[Any, ...], dict[str, Any]]
"""One operation of a batch, as ``execute_item_batch`` takes it."""


class BatchRefusedError(Exception):
    """An operation of a batch was refused with 404, 409 or 412, so none was carried out."""

    def __init__(self, index: int, status: int) -> None:
        super().__init__(f"operation {index} of the batch was refused with {status}")
        self.index = index
        self.status = status


class Sized(NamedTuple):
    """An operation of a batch and the bytes of what it carries."""

    operation: Operation
    size: int


FeedPosition = list[tuple[dict[str, Any], str | None]]
"""Where a change feed stands: each range of the container with the continuation behind what was read of it."""


class FeedPage(NamedTuple):
    """Some changes, and the position behind them."""

    items: list[Item]
    position: FeedPosition


class CosmosContainer:
    """A container of *connection*, opened by the first call."""

    def __init__(self, connection: CosmosConnection, name: str) -> None:
        self._connection = connection
        self.name = name
        self._where = f"container {name}"

    # Items

    async def read(self, key: Key, item_id: str) -> Item | None:
        """The item, None when there is none. 1 RU for an item of 1 KB."""
        container = await self._connection.container(self.name)

        async def attempt() -> Item:
            return dict(
                await container.read_item(
                    item_id,
                    partition_key=list(key),
                    **self._connection.counting("read"),
                    **self._connection.courtesy(),
                )
            )

        try:
            return await self._connection.call("read", attempt, where=self._where)
        except RefusedError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def create(self, item: Item) -> str | None:
        """Create the item; its etag, None when there is one under its id."""
        container = await self._connection.container(self.name)

        async def attempt() -> str:
            made = await container.create_item(
                item,
                no_response=True,
                **self._connection.counting("create"),
                **self._connection.courtesy(),
            )
            return str(made.get_response_headers()["etag"])

        try:
            return await self._connection.call("create", attempt, where=self._where)
        except RefusedError as error:
            if error.status == CONFLICT:
                return None
            raise

    async def replace(self, item: Item, etag: str) -> str | None:
        """Replace the item over this etag; its new one, None when it has another by now or is gone."""
        container = await self._connection.container(self.name)

        async def attempt() -> str:
            made = await container.replace_item(
                item["id"],
                item,
                etag=etag,
                match_condition=MatchConditions.IfNotModified,
                no_response=True,
                **self._connection.counting("replace"),
                **self._connection.courtesy(),
            )
            return str(made.get_response_headers()["etag"])

        try:
            return await self._connection.call("replace", attempt, where=self._where)
        except RefusedError as error:
            if error.status in (NOT_FOUND, PRECONDITION_FAILED):
                return None
            raise

    async def put(self, item: Item) -> None:
        """Create or replace the item, whatever was there."""
        container = await self._connection.container(self.name)

        async def attempt() -> None:
            await container.upsert_item(
                item,
                no_response=True,
                **self._connection.counting("upsert"),
                **self._connection.courtesy(),
            )

        await self._connection.call("upsert", attempt, where=self._where)

    async def delete(self, key: Key, item_id: str) -> bool:
        """Delete the item; whether there was one. A delete whose answer was lost and that is done again says no."""
        container = await self._connection.container(self.name)

        async def attempt() -> None:
            await container.delete_item(
                item_id,
                partition_key=list(key),
                **self._connection.counting("delete"),
                **self._connection.courtesy(),
            )

        try:
            await self._connection.call("delete", attempt, where=self._where)
        except RefusedError as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return True

    async def batch(self, key: Key, operations: Sequence[Operation]) -> None:
        """Carry out all of the operations on the partition or none.

        Raises:
            BatchRefusedError: the first that was refused with 404, 409 or 412.
        """
        container = await self._connection.container(self.name)

        async def attempt() -> None:
            # The SDK takes options out of the operations' dicts: a second try needs its own.
            fresh = [(kind, arguments, dict(options)) for kind, arguments, options in operations]
            try:
                await container.execute_item_batch(
                    fresh,
                    partition_key=list(key),
                    no_response=True,
                    **self._connection.counting("batch"),
                    **self._connection.courtesy(),
                )
            except CosmosBatchOperationError as error:
                index, status = _first_refusal(error)
                if status in REFUSALS:
                    raise BatchRefusedError(index, status) from error
                error.status_code = status
                raise

        try:
            await self._connection.call("batch", attempt, where=self._where)
        except RefusedError as error:
            raise BatchRefusedError(0, error.status) from error

    # Queries

    async def pages(
        self, tenant_id: str, query: Query, *, key: Key | None = None, local_ranks: bool = False
    ) -> list[list[Any]]:
        """All rows of a query of one tenant, or of one partition, in the pages that they come in.

        A page is of one physical partition. With *local_ranks* a FullTextScore is by the tenant's own words. Each page
        is tried again by itself: of many, one is always throttled when others are, and a query that begins anew with
        each of them has no end.
        """
        container = await self._connection.container(self.name)
        scope: dict[str, Any] = {"full_text_score_scope": "Local"} if local_ranks else {}

        def asked() -> AsyncIterator[AsyncIterator[Any]]:
            return container.query_items(
                query=query.text,
                parameters=query.parameters or None,
                partition_key=[tenant_id] if key is None else list(key),
                max_item_count=PAGE_ITEMS,
                **self._connection.counting("query"),
                **scope,
                **self._connection.courtesy(),
            ).by_page()

        if local_ranks:

            async def ranking() -> list[list[Any]]:
                # The SDK makes it of several answers, and can't take up what broke off between them.
                return [[row async for row in page] async for page in asked()]

            return await self._connection.call("query", ranking, where=self._where)

        left = asked()

        async def next_page() -> list[Any] | None:
            page = await anext(left, None)
            return None if page is None else [row async for row in page]

        found: list[list[Any]] = []
        while (page := await self._connection.call("query", next_page, where=self._where)) is not None:
            found.append(page)
        return found

    async def rows(self, tenant_id: str, query: Query, *, key: Key | None = None) -> list[Any]:
        """All rows of a query, in no order."""
        return [row for page in await self.pages(tenant_id, query, key=key) for row in page]

    async def first(self, tenant_id: str, query: Query, order: Callable[[Any], Any], limit: int) -> list[Any]:
        """The first *limit* rows of a query that is ordered by what *order* takes of a row.

        Each physical partition answers for itself, so what they say is merged and cut here.
        """
        return sorted(await self.rows(tenant_id, query), key=order)[:limit]

    async def count(self, tenant_id: str, query: Query) -> int:
        """The sum of a ``VALUE COUNT``, of which each page has a part."""
        return sum(await self.rows(tenant_id, query))

    async def of_list(
        self,
        tenant_id: str,
        values: Iterable[str],
        query: Callable[[Sequence[str]], Query],
        *,
        key: Key | None = None,
    ) -> list[Any]:
        """The rows of *query* for all *values*, asked in lists that are not too long; of one partition by its *key*."""
        distinct = list(dict.fromkeys(values))
        slices = [distinct[start : start + MAX_LISTED] for start in range(0, len(distinct), MAX_LISTED)]
        found = await together(self.rows(tenant_id, query(part), key=key) for part in slices)
        return [row for rows in found for row in rows]

    async def some(
        self,
        tenant_id: str,
        item_ids: Iterable[str],
        *,
        key: Callable[[str], Key],
        query: Callable[[Sequence[str]], Query],
    ) -> list[Item]:
        """Those of the items that there are: a few are read by their *key*, more are asked for by *query*.

        Items of one partition are asked of it alone: a tenant may have grown over several physical ones.
        """
        wanted = list(dict.fromkeys(item_ids))
        if len(wanted) > FEW:
            keys = {key(item_id) for item_id in wanted}
            return await self.of_list(tenant_id, wanted, query, key=keys.pop() if len(keys) == 1 else None)
        found = await together(self.read(key(item_id), item_id) for item_id in wanted)
        return [item for item in found if item is not None]

    # Change feed

    async def changes(self, position: FeedPosition | None, limit: int) -> FeedPage:
        """The first changes behind *position*, None for the beginning; none when there are no more.

        Each range of the container has a continuation of its own: one that the SDK makes of several ranges can't be
        taken up again before there was something in each.

        Raises:
            InvalidCursorError: this is no position of the container's feed.
        """
        ranges = await self._feed_ranges() if position is None else list(position)
        for _ in range(len(ranges)):
            feed_range, continuation = ranges.pop(0)
            items, behind = await self._changes_of(feed_range, continuation, limit)
            # The one that was asked comes last next time, so that none is kept waiting.
            ranges.append((feed_range, behind))
            if items:
                return FeedPage(items, ranges)
        return FeedPage([], ranges)

    async def _feed_ranges(self) -> FeedPosition:
        container = await self._connection.container(self.name)

        async def attempt() -> FeedPosition:
            return [(feed_range, None) async for feed_range in container.read_feed_ranges()]

        return await self._connection.call("feed ranges", attempt, where=self._where)

    async def _changes_of(
        self, feed_range: dict[str, Any], continuation: str | None, limit: int
    ) -> tuple[list[Item], str]:
        """The first changes of a range, and the continuation behind them."""
        container = await self._connection.container(self.name)
        answered: list[Mapping[str, Any]] = []

        def hook(headers: Mapping[str, Any], _: Any) -> None:
            answered.append(headers)

        async def attempt() -> tuple[list[Item], str]:
            answered.clear()
            start: dict[str, Any] = {"continuation": continuation}
            if continuation is None:
                start = {"feed_range": feed_range, "start_time": "Beginning"}
            feed = container.query_items_change_feed(
                max_item_count=limit,
                response_hook=hook,
                **start,
                **self._connection.counting("change feed"),
                **self._connection.courtesy(),
            )
            items: list[Item] = []
            async for page in feed.by_page():
                items = [item async for item in page]
                break
            # The SDK puts the continuation into the headers of the last response.
            return items, str(answered[-1]["etag"])

        try:
            return await self._connection.call("change feed", attempt, where=self._where)
        except (ValueError, KeyError, TypeError) as error:
            if continuation is None:
                raise
            raise InvalidCursorError("this is no position of this change feed") from error


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What the calls return. All of them come to their end, even when one fails; then the first failure is raised."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


def interleaved(pages: Sequence[Sequence[T]]) -> list[T]:
    """Rankings of several partitions as one: the first of each, then the second of each."""
    missing = object()
    rows = zip_longest(*pages, fillvalue=missing)
    return [row for rank in rows for row in rank if row is not missing]  # type: ignore[misc]  # the fill value is not of T


def in_batches(operations: Iterable[Sized]) -> list[list[Operation]]:
    """The operations in batches that the service takes."""
    batches: list[list[Operation]] = []
    size = 0
    for operation, bytes_ in operations:
        if not batches or len(batches[-1]) == MAX_BATCH_OPERATIONS or size + bytes_ > MAX_BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(operation)
        size += bytes_
    return batches


def check_size(size: int, what: str) -> None:
    """Refuse an item of *size* bytes that the service would refuse.

    Raises:
        ItemTooLargeError: it is too large; the message names *what* it is.
    """
    if size > MAX_ITEM_BYTES:
        raise ItemTooLargeError(f"{what} has {size:,} bytes, and Cosmos DB keeps items of up to {MAX_ITEM_BYTES:,}")


def _first_refusal(error: CosmosBatchOperationError) -> tuple[int, int]:
    """The operation that made the batch fail, and its status: the others failed for its sake."""
    for index, response in enumerate(error.operation_responses or []):
        status = int(response["statusCode"])
        if status >= 400 and status != FAILED_DEPENDENCY:
            return index, status
    return int(error.error_index or 0), int(error.status_code or THROTTLED)
