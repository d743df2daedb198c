"""Messages of the port as azure-servicebus sends and receives them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage
from azure.servicebus._pyamqp.types import TYPE, VALUE, AMQPTypes
from azure.servicebus.amqp import AmqpMessageBodyType

from messaging.bus import DeadLetter, Message, Property, is_property
from messaging.tracing import DIAGNOSTIC_ID, TRACEPARENT

CONTENT_TYPE: Final = "application/json"

_OF_THE_BUS: Final = frozenset({"DeadLetterReason", "DeadLetterErrorDescription", DIAGNOSTIC_ID})
"""Properties that no sender of the port has given the message."""


def outgoing(message: Message) -> ServiceBusMessage:
    """*message* as the SDK sends it. Its subject is the tenant, which is what tools that list a queue show of it.

    Raises:
        ValueError: the message id is longer than 128 characters.
    """
    properties: dict[Any, Any] = {name: _amqp_value(value) for name, value in message.properties.items()}
    if traceparent := message.properties.get(TRACEPARENT):
        # Under this name Azure's own libraries look for the trace that a message belongs to.
        properties[DIAGNOSTIC_ID] = traceparent
    tenant = message.properties.get("tenantId")
    return ServiceBusMessage(
        message.body,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        content_type=CONTENT_TYPE,
        subject=tenant if isinstance(tenant, str) else None,
        application_properties=properties,
    )


def _amqp_value(value: Property) -> Any:
    """*value* as the SDK is to send it: it makes 32-bit numbers of whole ones, and fails on those that are larger."""
    if isinstance(value, int) and not -(2**31) <= value < 2**31:
        return {TYPE: AMQPTypes.long, VALUE: value}
    return value


def size_of(message: Message) -> int:
    """The bytes of *message* that are its sender's own; AMQP's come on top."""
    texts = [message.message_id, message.correlation_id or ""]
    texts += [text for name, value in message.properties.items() for text in (name, str(value))]
    return len(message.body) + sum(len(text.encode()) for text in texts)


def body_of(message: ServiceBusReceivedMessage) -> bytes:
    """The body. A foreign sender's may be a value of AMQP's own in place of bytes."""
    body: Any = message.body
    if message.body_type is AmqpMessageBodyType.DATA:
        return b"".join(body)
    return body if isinstance(body, bytes) else str(body).encode()


def properties_of(message: ServiceBusReceivedMessage) -> dict[str, Property]:
    """What the sender gave the message along: the SDK has names and texts as bytes.

    Kinds of property that the port does not have are left out; the functions get them neither.
    """
    given: Mapping[Any, Any] = message.application_properties or {}
    decoded = {_text(name): _text(value) if isinstance(value, bytes) else value for name, value in given.items()}
    return {name: value for name, value in decoded.items() if name not in _OF_THE_BUS and is_property(value)}


def message_id_of(message: ServiceBusReceivedMessage) -> str:
    """The message id; empty when its sender gave none."""
    return _identifier(message.message_id) or ""


def correlation_id_of(message: ServiceBusReceivedMessage) -> str | None:
    """The correlation id, if its sender gave one."""
    return _identifier(message.correlation_id)


def _identifier(value: Any) -> str | None:
    """A foreign sender's id may be a number, a UUID or bytes."""
    return None if value is None else _text(value) if isinstance(value, bytes) else str(value)


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def enqueued_at(message: ServiceBusReceivedMessage) -> datetime:
    """When the queue took the message."""
    moment = message.enqueued_time_utc
    if moment is None:
        raise ValueError(f"message {message.sequence_number} came without the time it was enqueued at")
    return moment.astimezone(UTC)


def dead_letter(queue: str, message: ServiceBusReceivedMessage) -> DeadLetter:
    """The dead letter that was peeked in the sub-queue of *queue*."""
    return DeadLetter(
        queue=queue,
        sequence_number=message.sequence_number or 0,
        body=body_of(message),
        message_id=message_id_of(message),
        correlation_id=correlation_id_of(message),
        properties=properties_of(message),
        delivery_count=message.delivery_count or 0,
        enqueued_at=enqueued_at(message),
        dead_lettered_at=None,
        reason=message.dead_letter_reason or "",
        description=message.dead_letter_error_description or "",
    )
