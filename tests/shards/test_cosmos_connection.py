"""Calls of Cosmos DB: what is waited out, what is an answer, and what is an error that says what to do."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError
from azure.cosmos.aio import CosmosClient
from azure.cosmos.exceptions import (
    CosmosBatchOperationError,
    CosmosClientTimeoutError,
    CosmosHttpResponseError,
    CosmosResourceNotFoundError,
)

from shards.cosmos_connection import CosmosConnection, RefusedError, cosmos_client
from shards.request_charges import RequestCharges, charged_to, yielding
from shards.store import ItemTooLargeError, StoreRefusedError, StoreUnavailableError


class Response:
    """What the SDK's errors read of an HTTP response."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status_code = status
        self.headers = headers
        self.reason = "reason"
        self.request = None
        self.content_type = "application/json"

    def text(self) -> str:
        return ""


def answered(status: int, *, sub_status: int | None = None, **headers: str) -> CosmosHttpResponseError:
    if sub_status is not None:
        headers["x-ms-substatus"] = str(sub_status)
    kind: type[CosmosHttpResponseError] = CosmosResourceNotFoundError if status == 404 else CosmosHttpResponseError
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return kind(message=f"the service says {status}", response=Response(status, named))


def no_client() -> CosmosClient:
    raise AssertionError("these calls need no client")


def connection(
    *, connect: Callable[[], Any] = no_client, patience: float = 5.0, bulk_bucket: int | None = None
) -> CosmosConnection:
    return CosmosConnection(connect, "shardline", charges=RequestCharges(), patience=patience, bulk_bucket=bulk_bucket)


class SlowClient:
    """A client that is opened once *ready* is set, or then fails with *error*."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked, self.ready = asyncio.Event(), asyncio.Event()
        self.error = error
        self.opened = self.closed = 0

    async def __aenter__(self) -> None:
        self.opened += 1
        self.asked.set()
        await self.ready.wait()
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closed += 1


class Attempts:
    """Fails in turn with each of the errors, then gives an answer."""

    def __init__(self, *errors: Exception) -> None:
        self.left = list(errors)
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        if self.left:
            raise self.left.pop(0)
        return "answer"


async def call(one: CosmosConnection, attempts: Attempts) -> str:
    return await one.call("read", attempts, where="container shards")


PASSING: dict[str, Callable[[], Exception]] = {
    "throttled": lambda: answered(429, x_ms_retry_after_ms="1"),
    "timed out": lambda: answered(408),
    "retry with": lambda: answered(449),
    "unavailable": lambda: answered(503),
    "broken": lambda: answered(500),
    "moved": lambda: answered(410, sub_status=1002),
    "behind its own reads": lambda: answered(404, sub_status=1002),
    "not sent": lambda: ServiceRequestError("no route"),
    "answer lost": lambda: ServiceResponseError("connection reset"),
    "too slow": CosmosClientTimeoutError,
    "cut off": lambda: aiohttp.ClientPayloadError("half an answer"),
    "reset": lambda: ConnectionResetError("reset by peer"),
}


@pytest.mark.parametrize("name", PASSING)
async def test_what_passes_is_waited_out(name: str) -> None:
    attempts = Attempts(PASSING[name](), PASSING[name]())
    assert await call(connection(), attempts) == "answer"
    assert attempts.made == 3


@pytest.mark.parametrize("name", PASSING)
async def test_what_does_not_pass_in_time_is_a_store_that_is_away(name: str) -> None:
    error = PASSING[name]()
    with pytest.raises(StoreUnavailableError, match="container shards") as raised:
        await call(connection(patience=0), Attempts(error, error, error))
    assert raised.value.__cause__ is error


async def test_the_services_own_wait_is_kept() -> None:
    with pytest.raises(StoreUnavailableError, match=r"throttled .* more request units"):
        await call(connection(patience=0.5), Attempts(answered(429, x_ms_retry_after_ms="600")))


@pytest.mark.parametrize("status", [404, 409, 412])
async def test_a_refusal_is_an_answer(status: int) -> None:
    attempts = Attempts(answered(status))
    with pytest.raises(RefusedError) as raised:
        await call(connection(), attempts)
    assert (raised.value.status, attempts.made) == (status, 1)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (answered(401), r"401\): check CosmosConnection"),
        (answered(403), r"role Cosmos DB Built-in Data Contributor .* firewall"),
        (answered(404, sub_status=1003), r"no container shards in the database shardline .* run `shardline provision`"),
        (ClientAuthenticationError("no identity is assigned"), "no token for Cosmos DB: .*no identity is assigned"),
    ],
)
async def test_a_service_that_lets_nobody_in_says_what_is_missing(error: Exception, message: str) -> None:
    attempts = Attempts(error)
    with pytest.raises(StoreUnavailableError, match=message):
        await call(connection(), attempts)
    assert attempts.made == 1


async def test_an_item_that_is_too_large_is_never_tried_again() -> None:
    attempts = Attempts(answered(413))
    with pytest.raises(ItemTooLargeError, match="container shards"):
        await call(connection(), attempts)
    assert attempts.made == 1


BATCH_ERROR: Any = CosmosBatchOperationError
"""Its constructor has no types."""


def refused_as(told: str, *, status: int = 400, sub_status: int | None = None) -> CosmosHttpResponseError:
    error = answered(status, sub_status=sub_status, x_ms_activity_id="0f1e2d")
    error.args = (f"(BadRequest) Message: {told}\r\nActivityId: 0f1e2d, Microsoft.Azure.Documents.Common/2.14.0",)
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (refused_as('{"errors":[{"code":"SC1001","message":"near \'hunter2\'"}]}'), "400, SC1001, activity 0f1e2d"),
        (refused_as('{"Errors":["The input \'hunter2\' is invalid"]}', sub_status=1001), "400/1001, activity 0f1e2d"),
        (refused_as("hunter2", status=405), "405, activity 0f1e2d"),
        (answered(400), "400"),
        (BATCH_ERROR(0, {}, 400, "hunter2", []), "400"),
    ],
)
async def test_what_is_refused_for_good_is_told_in_a_line_without_what_was_sent(error: Exception, told: str) -> None:
    attempts = Attempts(error)
    with pytest.raises(StoreRefusedError) as raised:
        await call(connection(), attempts)
    assert str(raised.value) == f"Cosmos DB refuses this read of container shards, whenever it is made ({told})"
    assert raised.value.__cause__ is error
    assert attempts.made == 1


class Answered:
    """What is read of a response in the SDK's pipeline."""

    def __init__(self, status: int, **headers: str) -> None:
        self.http_response = Response(status, {name.replace("_", "-"): value for name, value in headers.items()})


def test_every_answer_is_charged_to_the_function_that_asked() -> None:
    one = connection()
    with charged_to("normalize"):
        count = one.counting("read")["raw_response_hook"]
        count(Answered(429, x_ms_request_charge="0.38"))
        count(Answered(200, x_ms_request_charge="1.5"))
    count = one.counting("query")["raw_response_hook"]
    count(Answered(200, x_ms_request_charge="2.8"))
    count(Answered(404))
    assert [
        (charge.function, charge.operation, charge.requests, round(charge.request_units, 2), charge.throttled)
        for charge in one.charges.charges()
    ] == [("-", "query", 2, 2.8, 0), ("normalize", "read", 2, 1.88, 1)]


def test_only_floods_give_way() -> None:
    assert connection().courtesy() == {}
    with yielding():
        assert connection().courtesy() == {"priority": "Low"}
        assert connection(bulk_bucket=3).courtesy() == {"throughput_bucket": 3}
    assert connection().courtesy() == {}


async def test_a_closed_connection_is_away() -> None:
    one = connection()
    await one.close()
    await one.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await one.container("shards")


async def test_all_who_come_first_wait_for_one_opening_and_hear_how_it_ended() -> None:
    client = SlowClient(ServiceRequestError("nobody listens"))
    opened = connection(connect=lambda: client, patience=0)
    calls = [asyncio.create_task(opened.container(name)) for name in ("shards", "progress") * 10]
    await asyncio.sleep(0)
    calls[0].cancel()
    client.ready.set()
    first, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert {type(outcome) for outcome in others} == {StoreUnavailableError}
    assert (client.opened, client.closed) == (1, 1)


async def test_a_client_that_is_opened_when_the_connection_is_closed_is_closed_too() -> None:
    client = SlowClient()
    opened = connection(connect=lambda: client)
    call = asyncio.create_task(opened.container("shards"))
    await client.asked.wait()
    await opened.close()
    client.ready.set()
    with pytest.raises(StoreUnavailableError, match="is closed"):
        await call
    assert client.closed == 1


async def test_an_address_where_nobody_listens_is_a_store_that_is_away() -> None:
    def connect() -> CosmosClient:
        return cosmos_client("http://127.0.0.1:9/", "a2V5")

    one = CosmosConnection(connect, "shardline", charges=RequestCharges(), patience=0.2)
    with pytest.raises(StoreUnavailableError, match="no answer on container shards"):
        await one.container("shards")
    await one.close()


def test_a_client_sends_items_as_compact_as_they_are_counted() -> None:
    client: Any = cosmos_client("http://127.0.0.1:9/", "a2V5")
    assert client.client_connection._enable_compact_utf8_item_writes
    assert client.client_connection.connection_policy.ResponsePayloadOnWriteDisabled
