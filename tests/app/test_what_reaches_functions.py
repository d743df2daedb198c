"""What the worker hands a function of what the host received: bodies, ids, properties, counts, of one message or many.

The functions are those of ``echo_app``, with the signatures that the product uses; the data are what Azure's host and
its extensions send (``functions_host.trigger_data``).
"""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from functions_host.environment import worker_python
from functions_host.trigger_data import (
    INCLUDE_EMPTY_ENTRIES,
    QueueMessage,
    TriggerValue,
    batch_of_messages,
    changed_documents,
    http_request,
    single_message,
    timer_tick,
)
from functions_host.worker import Invocation, Retry, Worker, returned_body

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("echo worker")]

MOMENT = datetime(2026, 3, 2, 9, 30, 1, 250_000, tzinfo=UTC)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    """A worker of the echo app."""
    output = tmp_path_factory.mktemp("echo") / "worker.log"
    started = await Worker.start(worker_python(), Path(__file__).with_name("echo_app"), {}, output)
    yield started
    await started.stop()


async def run(worker: Worker, name: str, trigger: TriggerValue, **more: Any) -> Invocation:
    done = await worker.invoke(worker.functions[name], trigger, **more)
    assert done.succeeded, done.stack
    return done


def said(invocation: Invocation) -> Any:
    """What the function logged."""
    return [json.loads(line.message) for line in invocation.logs if line.category == "echo"]


def message(number: int, body: bytes = b'{"n": 1}', **fields: Any) -> QueueMessage:
    given: dict[str, Any] = {
        "message_id": f"id-{number}",
        "correlation_id": f"story-{number}",
        "content_type": "application/json",
        "subject": "record",
        "properties": {"tenantId": "acme", "generation": number, "replayed": True},
        "delivery_count": number,
        "sequence_number": number * 2**40,
        "lock_token": f"00000000-0000-0000-0000-{number:012}",
        "enqueued_at": MOMENT,
        **fields,
    }
    return QueueMessage(body, **given)


def expected(number: int, body: bytes, times: list[str], **fields: Any) -> dict[str, Any]:
    properties = {"tenantId": "acme", "generation": number, "replayed": True}
    return {
        "body": body.hex(),
        "messageId": f"id-{number}",
        "correlationId": f"story-{number}",
        "contentType": "application/json",
        "subject": "record",
        "deliveryCount": number,
        "sequenceNumber": number * 2**40,
        "lockToken": f"00000000-0000-0000-0000-{number:012}",
        "applicationProperties": properties,
        "userProperties": properties,
        "times": times,
        **fields,
    }


# The host sends times without a zone, so they reach the function as naive ones.
TIMES = ["2026-03-02 09:30:01.250000", "9999-12-31 23:59:59.999999"]
TEXT = "größer 東京 🙂".encode()
NO_TEXT = b"\xff\xfe\x00"


@pytest.mark.parametrize(("name", "as_bytes"), [("one_text", False), ("one_bytes", True)])
async def test_one_message_reaches_the_function_whole(worker: Worker, name: str, as_bytes: bool) -> None:
    done = await run(worker, name, single_message(message(3, TEXT), as_bytes=as_bytes))
    assert said(done) == [expected(3, TEXT, TIMES)]


async def test_a_message_of_few_fields_reaches_the_function(worker: Worker) -> None:
    bare = QueueMessage(b"", None, sequence_number=5)
    done = await run(worker, "one_text", single_message(bare, as_bytes=False))
    [seen] = said(done)
    assert (seen["messageId"], seen["correlationId"], seen["body"]) == (None, None, "")
    assert (seen["deliveryCount"], seen["sequenceNumber"]) == (1, 5)


@pytest.mark.parametrize(("name", "as_bytes"), [("many_texts", False), ("many_bytes", True)])
async def test_each_message_of_a_batch_reaches_the_function_whole(worker: Worker, name: str, as_bytes: bool) -> None:
    numbers = [1, 2, 9]
    batch = batch_of_messages(
        [message(number, TEXT) for number in numbers], as_bytes=as_bytes, capabilities=worker.capabilities
    )
    done = await run(worker, name, batch)
    assert said(done) == [[expected(number, TEXT, TIMES) for number in numbers]]


async def test_bytes_that_are_no_text_reach_only_functions_that_ask_for_bytes(worker: Worker) -> None:
    messages = [message(1, NO_TEXT), message(2, b"")]
    batch = batch_of_messages(messages, as_bytes=True, capabilities=worker.capabilities)
    assert [one["body"] for one in said(await run(worker, "many_bytes", batch))[0]] == [NO_TEXT.hex(), ""]

    one = single_message(messages[0], as_bytes=False)
    [seen] = said(await run(worker, "one_text", one))
    assert bytes.fromhex(seen["body"]).decode().count("\N{REPLACEMENT CHARACTER}") == 2


async def test_an_empty_body_breaks_a_whole_batch_of_texts(worker: Worker) -> None:
    """Why the product's functions ask for bytes: the host leaves empty strings out, so bodies and messages no longer
    pair up."""
    batch = batch_of_messages([message(1, b""), message(2)], as_bytes=False, capabilities=worker.capabilities)
    done = await worker.invoke(worker.functions["many_texts"], batch)
    assert not done.succeeded
    assert "IndexError" in done.problem


async def test_ids_move_up_when_one_of_a_batch_has_none(worker: Worker) -> None:
    """A function can't tell which message such an id belongs to, so nothing may rest on it."""
    assert INCLUDE_EMPTY_ENTRIES not in worker.capabilities
    messages = [message(1, message_id=None), message(2, correlation_id=None), message(3)]
    batch = batch_of_messages(messages, as_bytes=True, capabilities=worker.capabilities)
    [seen] = said(await run(worker, "many_bytes", batch))
    assert [one["messageId"] for one in seen] == ["id-2", "id-3", None]
    assert [one["correlationId"] for one in seen] == ["story-1", "story-3", None]
    assert [one["sequenceNumber"] for one in seen] == [number * 2**40 for number in (1, 2, 3)]
    assert [one["applicationProperties"]["generation"] for one in seen] == [1, 2, 3]


async def test_an_empty_batch_is_an_empty_list(worker: Worker) -> None:
    batch = batch_of_messages([], as_bytes=True, capabilities=worker.capabilities)
    assert said(await run(worker, "many_bytes", batch)) == [[]]


async def test_changed_documents_and_the_try_reach_the_function(worker: Worker) -> None:
    documents: list[dict[str, Any]] = [{"id": "a", "amount": 12.5, "name": "東京"}, {"id": "b", "deletedAt": None}]
    done = await run(worker, "changes", changed_documents(documents), retry=Retry(2, 3))
    assert said(done) == [documents, [2, 3]]


async def test_a_tick_reaches_the_function(worker: Worker) -> None:
    tick = timer_tick(last=MOMENT, due=MOMENT, past_due=True)
    [[past_due, status]] = said(await run(worker, "tick", tick))
    assert past_due is True
    assert status["Next"] == "2026-03-02T09:30:01.25+00:00"


async def test_a_request_reaches_the_function_and_its_answer_comes_back(worker: Worker) -> None:
    request = http_request(
        "POST", "http://localhost/api/items/7?a=1&b=", route={"id": "7"}, headers={"X-Key": "k"}, body=NO_TEXT
    )
    done = await run(worker, "item", request)
    status, headers, body = returned_body(done)
    assert (status, headers["X-Seen"]) == (201, "yes")
    assert json.loads(body) == [
        "POST",
        "http://localhost/api/items/7?a=1&b=",
        {"id": "7"},
        {"a": "1"},
        {"x-key": "k"},
        NO_TEXT.hex(),
    ]


async def test_a_failure_comes_back_with_its_reason_and_its_log(worker: Worker) -> None:
    request = http_request("GET", "http://localhost/api/failing", route={}, headers={}, body=b"")
    done = await worker.invoke(worker.functions["failing"], request)
    assert not done.succeeded
    assert done.problem == "ValueError: no such thing"
    assert "function_app.py" in done.stack
    assert [line.message for line in done.logs if line.level == "WARNING"] == ["about to fail"]
