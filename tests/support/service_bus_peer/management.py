"""Answers to requests at ``$cbs`` and ``<entity>/$management``.

As in Microsoft's "AMQP 1.0 in Service Bus: request-response-based operations" and as azure-servicebus reads them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service_bus_peer.amqp_values import Array, Int, Symbol, Timestamp, encode
from service_bus_peer.broker import Entity, LockLostError, MessageNotFoundError, NotAllowedError
from service_bus_peer.encoded_message import EncodedMessage, sections_of

PREFIX = "com.microsoft:"
LOCK_LOST = PREFIX + "message-lock-lost"
MESSAGE_NOT_FOUND = PREFIX + "message-not-found"
ARGUMENT_ERROR = PREFIX + "argument-error"

# rcv-settle-mode "first" in a request for deferred messages asks for them to be deleted at once.
_RECEIVE_AND_DELETE = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A request at a management node."""

    message_id: Any
    operation: str
    properties: dict[str, Any]
    body: Any

    @classmethod
    def read(cls, data: bytes) -> "Request":
        """The request in an encoded message.

        Raises:
            MalformedError: *data* is no AMQP message.
        """
        sections = sections_of(data)
        properties = sections.get("application-properties") or {}
        message_id = (sections.get("properties") or [None])[0]
        return cls(message_id, str(properties.get("operation")), properties, sections.get("body"))


@dataclass(frozen=True, slots=True)
class Response:
    """What a request came to. *affected* and *size* are the messages it touched and their bytes, for the counters."""

    status: int
    description: str
    condition: str | None = None
    body: Any = None
    affected: int = 1
    size: int = 0

    def to_management(self, request: Request) -> bytes:
        """The encoded message that answers at ``$management``."""
        properties: dict[str, Any] = {"statusCode": Int(self.status), "statusDescription": self.description}
        if self.condition is not None:
            properties["errorCondition"] = Symbol(self.condition)
        return _answer(request, properties, self.body)

    def to_cbs(self, request: Request) -> bytes:
        """The encoded message that answers at ``$cbs``."""
        return _answer(request, {"status-code": Int(self.status), "status-description": self.description}, None)


def handle(entity: Entity, request: Request) -> Response:
    """Do what *request* asks of *entity*."""
    operation = _OPERATIONS.get(request.operation)
    if operation is None:
        return Response(501, f"The operation {request.operation} is not implemented.", "amqp:not-implemented")
    try:
        return operation(entity, request.body)
    except LockLostError:
        return Response(
            410,
            "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the"
            " queue.",
            LOCK_LOST,
        )
    except MessageNotFoundError as error:
        return Response(404, f"{error}.", MESSAGE_NOT_FOUND)
    except NotAllowedError as error:
        return Response(400, f"{error}.", "amqp:not-allowed")
    except (KeyError, TypeError, ValueError) as error:
        return Response(400, f"The request is malformed: {error!r}.", ARGUMENT_ERROR)


def _renew_lock(entity: Entity, body: dict[str, Any]) -> Response:
    tokens = body["lock-tokens"]
    until = entity.renew(tokens)
    return _done({"expirations": Array([Timestamp(each) for each in until])}, affected=len(tokens))


def _schedule(entity: Entity, body: dict[str, Any]) -> Response:
    contents = [EncodedMessage.cut(each["message"]) for each in body["messages"]]
    for content in contents:
        if content.scheduled_for is None:
            raise ValueError("a message without x-opt-scheduled-enqueue-time")
    numbers = entity.schedule([(content, content.scheduled_for or 0) for content in contents])
    return _done(
        {"sequence-numbers": Array(numbers)}, affected=len(contents), size=sum(content.size for content in contents)
    )


def _cancel(entity: Entity, body: dict[str, Any]) -> Response:
    entity.cancel(body["sequence-numbers"])
    return _done(None, affected=len(body["sequence-numbers"]))


def _peek(entity: Entity, body: dict[str, Any]) -> Response:
    messages = entity.peek(body["from-sequence-number"], body["message-count"])
    if not messages:
        return Response(204, "No Content", MESSAGE_NOT_FOUND, affected=0)
    encoded = [message.encoded(peeked=True) for message in messages]
    return _done(
        {"messages": [{"message": each} for each in encoded]}, affected=len(encoded), size=sum(map(len, encoded))
    )


def _receive_by_number(entity: Entity, body: dict[str, Any]) -> Response:
    delete = body["receiver-settle-mode"] == _RECEIVE_AND_DELETE
    messages = entity.receive_deferred(body["sequence-numbers"], delete=delete)
    encoded = [message.encoded() for message in messages]
    items = [
        {"message": each} if delete else {"message": each, "lock-token": message.lock_token}
        for message, each in zip(messages, encoded, strict=True)
    ]
    return _done({"messages": items}, affected=len(encoded), size=sum(map(len, encoded)))


def _update_disposition(entity: Entity, body: dict[str, Any]) -> Response:
    settle = _settling(entity, body)
    for token in body["lock-tokens"]:
        settle(token)
    return _done(None, affected=len(body["lock-tokens"]))


def _settling(entity: Entity, body: dict[str, Any]) -> Callable[[Any], None]:
    match body["disposition-status"]:
        case "completed":
            return entity.complete
        case "abandoned":
            return entity.abandon
        # The service's own spelling.
        case "defered":
            return entity.defer
        case "suspended":
            return lambda token: entity.dead_letter(
                token, body.get("deadletter-reason"), body.get("deadletter-description")
            )
        case other:
            raise ValueError(f"{other!r} is no disposition status")


_OPERATIONS: dict[str, Callable[[Entity, dict[str, Any]], Response]] = {
    PREFIX + "renew-lock": _renew_lock,
    PREFIX + "schedule-message": _schedule,
    PREFIX + "cancel-scheduled-message": _cancel,
    PREFIX + "peek-message": _peek,
    PREFIX + "receive-by-sequence-number": _receive_by_number,
    PREFIX + "update-disposition": _update_disposition,
}


def _done(body: Any, *, affected: int, size: int = 0) -> Response:
    return Response(200, "OK", body=body, affected=affected, size=size)


def _answer(request: Request, properties: dict[str, Any], body: Any) -> bytes:
    # The fields before the correlation id, sixth of the properties, are left out.
    answered = encode([None] * 5 + [request.message_id])
    return b"\x00\x53\x73" + answered + b"\x00\x53\x74" + encode(properties) + b"\x00\x53\x77" + encode(body)
