"""The connection to Cosmos DB: one client a process, calls that wait out what passes, errors that say what to do."""

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.request import getproxies

import aiohttp
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.core.pipeline import PipelineResponse
from azure.core.pipeline.transport import AioHttpTransport
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosHttpResponseError

from shards.request_charges import RequestCharges, gives_way
from shards.store import ItemTooLargeError, StoreRefusedError, StoreUnavailableError

log = logging.getLogger(__name__)

T = TypeVar("T")

Connect = Callable[[], CosmosClient]

PATIENCE = 20.0
"""For so many seconds a call waits out throttling and faults: a small part of a queue's lock of minutes."""

AT_ONCE = 32
"""How many requests of one process are under way at once."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0

RETRY_AFTER_HEADER = "x-ms-retry-after-ms"
ACTIVITY_HEADER = "x-ms-activity-id"

_ERROR_CODE = re.compile(r'"code":\s*"([A-Z]{2}\d{4})"')
"""A code of the query engine: SC1001 is a syntax error."""

NOT_FOUND, CONFLICT, PRECONDITION_FAILED, TOO_LARGE, FAILED_DEPENDENCY, THROTTLED = 404, 409, 412, 413, 424, 429
REFUSALS = frozenset({NOT_FOUND, CONFLICT, PRECONDITION_FAILED})
PASSING = frozenset({408, 410, THROTTLED, 449})
"""Timed out, moved, throttled, to be retried; whatever is 500 or above passes too."""

SESSION_NOT_AVAILABLE, OWNER_NOT_FOUND = 1002, 1003
"""Sub-statuses of a 404 that does not say that an item is missing: the replica is behind what this client has read;
the container or database is not there."""

DATA_ROLE = "Cosmos DB Built-in Data Contributor"


class RefusedError(Exception):
    """The service answered 404, 409 or 412: there is no such item, there is one, or it is another by now."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Cosmos DB answered {status}")
        self.status = status


def cosmos_client(endpoint: str, credential: str | AsyncTokenCredential, **options: Any) -> CosmosClient:
    """A client as the store wants it: items in compact UTF-8, no answer to a write but its headers, short waits.

    What passes is waited out here (:meth:`CosmosConnection.call`), where it is counted, rather than in the SDK.
    *options* are further keyword arguments of the client.
    """
    # Where the environment names no proxy, looking there costs two changes of thread a request.
    transport = AioHttpTransport(use_env_settings=bool(getproxies()))
    return CosmosClient(
        endpoint,
        credential,
        **{
            "transport": transport,
            "enable_compact_utf8_item_writes": True,
            "no_response_on_write": True,
            "connection_timeout": 5,
            "read_timeout": 15,
            "retry_total": 1,
            "retry_throttle_total": 1,
            "retry_throttle_backoff_max": 2,
            "retry_connect": 1,
            "retry_read": 1,
            "retry_backoff_factor": 0.1,
            **options,
        },
    )


class CosmosConnection:
    """One client on one database, opened by the first call.

    Args:
        connect: makes the client, closed by :meth:`close`.
        database: the database that has the containers.
        charges: counts what is charged.
        patience: see :data:`PATIENCE`; seconds.
        bulk_bucket: the throughput bucket of requests that give way; None: they are sent with low priority.
    """

    def __init__(
        self,
        connect: Connect,
        database: str,
        *,
        charges: RequestCharges,
        patience: float = PATIENCE,
        bulk_bucket: int | None = None,
    ) -> None:
        self.charges = charges
        self._connect = connect
        self._database = database
        self._patience = patience
        self._bulk_bucket = bulk_bucket
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._opening: dict[str, asyncio.Task[Any]] = {}
        """What is being opened: those who need it meanwhile wait for the same."""
        self._client: CosmosClient | None = None
        self._containers: dict[str, ContainerProxy] = {}
        self._closed = False

    async def container(self, name: str) -> ContainerProxy:
        """The container of this name, which is there.

        Raises:
            StoreUnavailableError: it is not there, or the service can't be reached; the message says what to do.
        """
        known = self._containers.get(name)
        if known is not None:
            return known
        return await self._opened_once(f"container {name}", partial(self._found, name))

    async def _opened_once(self, what: str, open_it: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What *open_it* returns, or its failure, for all who ask meanwhile.

        One after the other they would each wait out their own patience when the service is away. Whoever is cancelled
        leaves it to the others.
        """
        opening = self._opening.get(what)
        if opening is None:
            opening = self._opening[what] = asyncio.create_task(open_it())
            opening.add_done_callback(partial(self._settled, what))
        return await asyncio.shield(opening)

    def _settled(self, what: str, opening: asyncio.Task[Any]) -> None:
        del self._opening[what]
        if not opening.cancelled() and opening.exception() is not None:
            log.debug("%s was not opened: %s", what, opening.exception())

    async def _found(self, name: str) -> ContainerProxy:
        where = f"container {name}"

        async def attempt() -> ContainerProxy:
            client = await self._opened()
            container = client.get_database_client(self._database).get_container_client(name)
            await container.read()
            return container

        try:
            self._containers[name] = await self.call("open", attempt, where=where)
        except RefusedError as error:
            raise self._not_provisioned(name) from error
        return self._containers[name]

    async def _opened(self) -> CosmosClient:
        self._check_open()
        if self._client is None:
            return await self._opened_once("client", self._connected)
        return self._client

    async def _connected(self) -> CosmosClient:
        client = self._connect()
        try:
            await client.__aenter__()
            self._check_open()
        except BaseException:
            await client.close()
            raise
        self._client = client
        return client

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the connection to Cosmos DB is closed")

    def _not_provisioned(self, name: str) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"there is no container {name} in the database {self._database} of this Cosmos DB account:"
            " run `shardline provision`"
        )

    def courtesy(self) -> dict[str, Any]:
        """What a request says of its importance: nothing, unless it gives way."""
        if not gives_way():
            return {}
        return {"priority": "Low"} if self._bulk_bucket is None else {"throughput_bucket": self._bulk_bucket}

    def counting(self, operation: str) -> dict[str, Any]:
        """The arguments by which each response to a request of *operation* is counted with its charge.

        Of errors too, and of what the SDK asks again by itself: they are charged like others.
        """

        def count(response: PipelineResponse[Any, Any]) -> None:
            answer = response.http_response
            self.charges.record(operation, answer.headers, throttled=answer.status_code == THROTTLED)

        return {"raw_response_hook": count}

    async def call(self, operation: str, attempt: Callable[[], Awaitable[T]], *, where: str) -> T:
        """What *attempt* returns, tried again while the service is busy or out of reach, for as long as patience lasts.

        *attempt* must be one that may be carried out twice: nobody can tell whether a try that broke off was.

        Raises:
            RefusedError: the answer is 404, 409 or 412.
            ItemTooLargeError: the answer is 413.
            StoreRefusedError: the answer is another one that no waiting changes, such as 400.
            StoreUnavailableError: patience is at an end, or the service does not let this app in.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + self._patience
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._at_once:
                    return await attempt()
            except (AzureError, aiohttp.ClientError, OSError) as error:
                status = _status(error)
                self._refuse(error, status, operation, where)
                wait = _retry_after(error) or pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, no secret
                if clock() + wait > until:
                    raise StoreUnavailableError(_away(error, status, where, self._patience)) from error
                log.debug("%s of %s failed (%s); again in %.2f s", operation, where, status or error, wait)
                await asyncio.sleep(wait)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _refuse(self, error: Exception, status: int | None, operation: str, where: str) -> None:
        """Raise what no waiting helps against."""
        if isinstance(error, ClientAuthenticationError) and status is None:
            raise StoreUnavailableError(f"this app gets no token for Cosmos DB: {_first_line(error)}") from error
        if status is None or status in PASSING or status >= 500:
            return
        sub_status = getattr(error, "sub_status", None)
        if status == NOT_FOUND and sub_status == SESSION_NOT_AVAILABLE:
            return
        if status == NOT_FOUND and sub_status == OWNER_NOT_FOUND:
            raise self._not_provisioned(where.removeprefix("container ")) from error
        if status in REFUSALS:
            raise RefusedError(status) from error
        if status == TOO_LARGE:
            raise ItemTooLargeError(f"Cosmos DB keeps no item so large ({where}): {_first_line(error)}") from error
        if status == 401:
            raise StoreUnavailableError(
                f"Cosmos DB knows neither key nor token of this app (401): check CosmosConnection. {_first_line(error)}"
            ) from error
        if status == 403:
            raise StoreUnavailableError(
                f"Cosmos DB does not let this app at {where} (403): its identity needs the role {DATA_ROLE} on the"
                f" database, and its address must pass the account's firewall. {_first_line(error)}"
            ) from error
        raise StoreRefusedError(
            f"Cosmos DB refuses this {operation} of {where}, whenever it is made ({_reference(error, status)})"
        ) from error

    async def close(self) -> None:
        """Give back the client. Closing twice is harmless."""
        self._closed = True
        client, self._client = self._client, None
        self._containers.clear()
        if client is not None:
            await client.close()


def _status(error: Exception) -> int | None:
    """The HTTP status, None when there was no answer or half of one."""
    if isinstance(error, CosmosHttpResponseError | CosmosBatchOperationError | HttpResponseError):
        status = error.status_code
        return int(status) if status and int(status) >= 400 else None
    return None


def _retry_after(error: Exception) -> float:
    """The seconds that the service asks to wait, 0 when it does not say."""
    headers: Mapping[str, str] | None = getattr(error, "headers", None)
    return float((headers or {}).get(RETRY_AFTER_HEADER) or 0) / 1000


def _away(error: Exception, status: int | None, where: str, patience: float) -> str:
    if status == THROTTLED:
        return (
            f"Cosmos DB has throttled the requests to {where} for {patience:g} s: more request units a second are"
            " needed, or less work at once"
        )
    return f"Cosmos DB gave no answer on {where} for {patience:g} s: {_first_line(error)}"


def _reference(error: Exception, status: int) -> str:
    """What the service's own words can be found by. They themselves may quote what was sent."""
    sub_status = getattr(error, "sub_status", None)
    headers: Mapping[str, str] | None = getattr(error, "headers", None)
    activity = (headers or {}).get(ACTIVITY_HEADER)
    return ", ".join(
        [
            f"{status}/{sub_status}" if sub_status else f"{status}",
            *dict.fromkeys(_ERROR_CODE.findall(str(error))),
            *([f"activity {activity}"] if activity else []),
        ]
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:300]}"
