"""Functions that log what reaches them, one JSON line each, so that a test can tell what the worker hands over."""

import asyncio
import json
import logging
from typing import Any, List  # noqa: UP035 - the worker indexes no list[…]

import azure.functions as func

app = func.FunctionApp()
log = logging.getLogger("echo")

Batch = List[func.ServiceBusMessage]  # noqa: UP006 - as above


def _said(message: func.ServiceBusMessage) -> dict[str, Any]:
    times = (message.enqueued_time_utc, message.expires_at_utc)
    return {
        "body": message.get_body().hex(),
        "messageId": message.message_id,
        "correlationId": message.correlation_id,
        "contentType": message.content_type,
        "subject": message.subject,
        "deliveryCount": message.delivery_count,
        "sequenceNumber": message.sequence_number,
        "lockToken": message.lock_token,
        "applicationProperties": dict(message.application_properties),
        "userProperties": dict(message.user_properties),
        "times": [str(time) for time in times],
    }


@app.service_bus_queue_trigger("message", "Bus", "one-text")
async def one_text(message: func.ServiceBusMessage) -> None:
    log.info(json.dumps(_said(message)))


@app.service_bus_queue_trigger("messages", "Bus", "many-texts", cardinality="many")
async def many_texts(messages: Batch) -> None:
    log.info(json.dumps([_said(message) for message in messages]))


@app.service_bus_queue_trigger("message", "Bus", "one-bytes", data_type=func.DataType.BINARY)
async def one_bytes(message: func.ServiceBusMessage) -> None:
    log.info(json.dumps(_said(message)))


@app.service_bus_queue_trigger("messages", "Bus", "many-bytes", cardinality="many", data_type=func.DataType.BINARY)
async def many_bytes(messages: Batch) -> None:
    log.info(json.dumps([_said(message) for message in messages]))


@app.service_bus_queue_trigger("messages", "Bus", "awkward", cardinality="many", data_type=func.DataType.BINARY)
async def awkward(messages: Batch) -> None:
    """Fails the first time it sees a message that says `fail`; takes for ever the first time one says `wait`."""
    log.info(json.dumps([_said(message) for message in messages]))
    for message in messages:
        if message.delivery_count == 1 and message.get_body() == b"fail":
            raise RuntimeError("as asked")
        if message.delivery_count == 1 and message.get_body() == b"wait":
            await asyncio.Event().wait()


@app.cosmos_db_trigger("documents", "Db", "db", "items", max_items_per_invocation=7)
@app.retry(strategy="fixed_delay", max_retry_count="3", delay_interval="00:00:02")
async def changes(documents: func.DocumentList, context: func.Context) -> None:
    log.info(json.dumps([dict(document) for document in documents]))
    log.info(json.dumps([context.retry_context.retry_count, context.retry_context.max_retry_count]))


@app.timer_trigger("timer", "%EVERY%")
async def tick(timer: func.TimerRequest) -> None:
    request: Any = timer  # the abstract class does not name what the worker's own has
    log.info(json.dumps([request.past_due, request.schedule_status]))


@app.route("items/{id}", methods=["POST"])
async def item(req: func.HttpRequest) -> func.HttpResponse:
    said = [req.method, req.url, dict(req.route_params), dict(req.params), dict(req.headers), req.get_body().hex()]
    return func.HttpResponse(json.dumps(said), status_code=201, headers={"X-Seen": "yes"})


@app.route("failing")
def failing(req: func.HttpRequest) -> func.HttpResponse:
    log.warning("about to fail")
    raise ValueError("no such thing")
