"""Requests at ``<queue>/$management`` of the Service Bus peer that the SDK does not make."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from service_bus_peer.amqp_values import Array, UnsignedInt, encode
from service_bus_peer.broker import Broker, Entity
from service_bus_peer.encoded_message import sections_of
from service_bus_peer.management import Request, Response, handle

from messaging.queues import QueueProperties
from messaging.times import utc_now


@pytest.fixture
def queue() -> Entity:
    entity = Broker({"work": QueueProperties("work", lock_duration=timedelta(minutes=1))}, utc_now).entity("work")
    assert entity is not None
    return entity


def request(operation: str, body: Any) -> Request:
    """The request as it is read off the wire."""
    return Request.read(
        b"\x00\x53\x73" + encode(["request-1"])
        # As the SDK and others write it: an operation among the application properties, and a map for a body.
        + b"\x00\x53\x74" + encode({"operation": f"com.microsoft:{operation}", "com.microsoft:server-timeout": 5})
        + b"\x00\x53\x77" + encode(body)
    )  # fmt: skip


def ask(queue: Entity, operation: str, body: Any) -> Response:
    return handle(queue, request(operation, body))


def test_an_operation_that_is_unknown_is_not_implemented(queue: Entity) -> None:
    response = ask(queue, "add-rule", {})
    assert (response.status, response.condition) == (501, "amqp:not-implemented")


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("peek-message", {"from-sequence-number": 1}),
        ("peek-message", None),
        ("renew-lock", {"lock-tokens": 5}),
        ("update-disposition", {"disposition-status": "lost", "lock-tokens": []}),
        ("schedule-message", {"messages": [{"message": b"no message"}]}),
        ("schedule-message", {"messages": [{"message": b"\x00\x53\x75" + encode(b"no time")}]}),
        ("cancel-scheduled-message", {}),
    ],
)
def test_a_malformed_request_is_told_so(queue: Entity, operation: str, body: Any) -> None:
    response = ask(queue, operation, body)
    assert (response.status, response.condition) == (400, "com.microsoft:argument-error")


def test_what_is_no_longer_there_is_told_as_the_service_does(queue: Entity) -> None:
    renewed = ask(queue, "renew-lock", {"lock-tokens": [uuid4()]})
    assert (renewed.status, renewed.condition) == (410, "com.microsoft:message-lock-lost")
    cancelled = ask(queue, "cancel-scheduled-message", {"sequence-numbers": Array([7])})
    assert (cancelled.status, cancelled.condition) == (404, "com.microsoft:message-not-found")
    deferred = {"sequence-numbers": Array([7]), "receiver-settle-mode": UnsignedInt(1)}
    assert ask(queue, "receive-by-sequence-number", deferred).status == 404
    assert ask(queue, "peek-message", {"from-sequence-number": 1, "message-count": 5}).status == 204
    assert queue.dead_letters is not None
    assert ask(queue.dead_letters, "schedule-message", {"messages": []}).condition == "amqp:not-allowed"


def test_an_answer_goes_to_its_request(queue: Entity) -> None:
    asked = request("add-rule", {})
    answer = sections_of(handle(queue, asked).to_management(asked))
    assert answer["properties"][5] == "request-1"
    assert answer["application-properties"]["statusCode"] == 501
    assert answer["application-properties"]["errorCondition"] == "amqp:not-implemented"
