"""A small FunctionApp with every kind of trigger; it writes down what it is given, one JSON line each."""

import asyncio
import importlib
import json
import os
import time
import typing
from pathlib import Path

import azure.functions as func

from messaging.bus import Message

app = func.FunctionApp()


def note(**what: object) -> None:
    line = json.dumps(what | {"pid": os.getpid()}).encode() + b"\n"
    evidence = os.open(Path(os.environ["HOSTED_DATA"]) / "evidence.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(evidence, line)
    finally:
        os.close(evidence)


@app.route("hello/{name}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def hello(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(json.dumps({"name": req.route_params["name"], "pid": os.getpid()}))


@app.route("stuck", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
def stuck_request(req: func.HttpRequest) -> func.HttpResponse:
    time.sleep(600)
    return func.HttpResponse("never")


@app.timer_trigger(arg_name="timer", schedule="* * * * * *")
def every_second(timer: func.TimerRequest) -> None:
    note(kind="tick", past_due=timer.past_due)


@app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="first", cardinality="many")
async def pass_on(messages: typing.List[func.ServiceBusMessage]) -> None:  # noqa: UP006 - the worker indexes no list[…]
    ids = [message.message_id for message in messages]
    note(kind="first", ids=ids, counts=[message.delivery_count for message in messages])
    bus = importlib.import_module("hosted_services").services().queues
    await bus.send("second", [Message(message.get_body(), message.message_id) for message in messages])


@app.service_bus_queue_trigger(arg_name="message", connection="C", queue_name="second")
def take(message: func.ServiceBusMessage) -> None:
    note(kind="second", id=message.message_id, count=message.delivery_count)


@app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="slow", cardinality="many")
async def slow(messages: typing.List[func.ServiceBusMessage]) -> None:  # noqa: UP006 - the worker indexes no list[…]
    ids = [message.message_id for message in messages]
    note(kind="slow-begun", ids=ids, counts=[message.delivery_count for message in messages])
    await asyncio.sleep(1)
    while Path(os.environ["HOSTED_DATA"], "hold").exists():  # noqa: ASYNC110, ASYNC240 - a test in another process has it
        await asyncio.sleep(0.02)
    note(kind="slow-ended", ids=ids)


@app.service_bus_queue_trigger(arg_name="message", connection="C", queue_name="stuck")
def stuck(message: func.ServiceBusMessage) -> None:
    note(kind="stuck", count=message.delivery_count)
    if message.delivery_count == 1:
        time.sleep(600)
    note(kind="unstuck", count=message.delivery_count)


@app.cosmos_db_trigger(
    arg_name="documents",
    connection="C",
    database_name="shardline",
    container_name="shards",
    feed_poll_delay=100,
    start_from_beginning=True,  # type: ignore[arg-type]  # annotated as a time; the extension takes a boolean
)
def follow(documents: func.DocumentList) -> None:
    note(kind="feed", ids=[document["id"] for document in documents])
