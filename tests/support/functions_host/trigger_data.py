"""What the Functions host hands a worker for each kind of trigger: the value, and the metadata beside it.

Names and kinds are those of the host and its extensions: ``ServiceBusTriggerBindingStrategy`` names a message's
metadata, ``GrpcMessageConversionExtensions`` chooses the kind of TypedData, ``ScriptInvocationContextExtensions``
leaves out what is null. One habit of theirs bites: a ``string[]`` goes over **without its null and empty entries**
unless the worker asks for them (``IncludeEmptyEntriesInMessagePayload``), which the Python worker does not. So a
message without a correlation id in the middle of a batch moves up the ids of all that follow.
"""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

TypedData = dict[str, Any]

INCLUDE_EMPTY_ENTRIES = "IncludeEmptyEntriesInMessagePayload"
NEVER = "9999-12-31T23:59:59.9999999"
""".NET's greatest time, which stands for a message that does not expire."""


@dataclass(frozen=True, slots=True)
class TriggerValue:
    """What an invocation gets: the trigger's value and the metadata."""

    value: TypedData
    metadata: Mapping[str, TypedData] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A message as the broker gave it to the host. *delivery_count* counts this delivery too, so the first is 1."""

    body: bytes
    message_id: str | None
    sequence_number: int = 1
    lock_token: str = "00000000-0000-0000-0000-000000000001"
    correlation_id: str | None = None
    content_type: str | None = None
    subject: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    delivery_count: int = 1
    enqueued_at: datetime = datetime(2026, 3, 2, 9, tzinfo=UTC)
    expires_at: datetime | None = None


def single_message(message: QueueMessage, *, as_bytes: bool) -> TriggerValue:
    """One message for a function of cardinality ``one``."""
    properties = {"json": _json(dict(message.properties))}
    fields: dict[str, str | None] = {
        "LockToken": message.lock_token,
        "MessageId": message.message_id,
        "ContentType": message.content_type,
        "Subject": message.subject,
        "Label": message.subject,
        "CorrelationId": message.correlation_id,
    }
    return TriggerValue(
        _body(message.body, as_bytes=as_bytes),
        {
            **_CLIENT_OBJECTS,
            "DeliveryCount": {"json": _json(message.delivery_count)},
            "SequenceNumber": {"json": _json(message.sequence_number)},
            "ExpiresAtUtc": {"json": _json(_expires(message))},
            "ExpiresAt": {"json": _json(_expires(message) + "+00:00")},
            "EnqueuedTimeUtc": {"json": _json(_dot_net(message.enqueued_at))},
            "EnqueuedTime": {"json": _json(_dot_net(message.enqueued_at) + "+00:00")},
            **{name: {"string": value} for name, value in fields.items() if value is not None},
            "ApplicationProperties": properties,
            "UserProperties": properties,
        },
    )


def batch_of_messages(
    messages: Sequence[QueueMessage], *, as_bytes: bool, capabilities: Mapping[str, str]
) -> TriggerValue:
    """Messages for a function of cardinality ``many``."""
    keep_empty = bool(capabilities.get(INCLUDE_EMPTY_ENTRIES))

    def strings(values: Sequence[str | None]) -> TypedData:
        return {"collection_string": [value or "" for value in values if value or keep_empty]}

    def each(values: Sequence[Any]) -> TypedData:
        return {"json": _json(list(values))}

    properties = each([dict(message.properties) for message in messages])
    subjects = strings([message.subject for message in messages])
    absent = strings([None] * len(messages))
    if as_bytes:
        value: TypedData = {"collection_bytes": [b64encode(message.body).decode() for message in messages]}
    else:
        value = strings([message.body.decode(errors="replace") for message in messages])
    return TriggerValue(
        value,
        {
            **_CLIENT_OBJECTS,
            "DeliveryCountArray": each([message.delivery_count for message in messages]),
            "DeadLetterSourceArray": absent,
            "LockTokenArray": strings([message.lock_token for message in messages]),
            "ExpiresAtUtcArray": each([_expires(message) for message in messages]),
            "ExpiresAtArray": each([_expires(message) + "+00:00" for message in messages]),
            "EnqueuedTimeUtcArray": each([_dot_net(message.enqueued_at) for message in messages]),
            "EnqueuedTimeArray": each([_dot_net(message.enqueued_at) + "+00:00" for message in messages]),
            "MessageIdArray": strings([message.message_id for message in messages]),
            "ContentTypeArray": strings([message.content_type for message in messages]),
            "ReplyToArray": absent,
            "SequenceNumberArray": {"collection_sint64": [message.sequence_number for message in messages]},
            "ToArray": absent,
            "SubjectArray": subjects,
            "LabelArray": subjects,
            "CorrelationIdArray": strings([message.correlation_id for message in messages]),
            "ApplicationPropertiesArray": properties,
            "UserPropertiesArray": properties,
            "SessionIdArray": absent,
            "ReplyToSessionIdArray": absent,
            "PartitionKeyArray": absent,
            "TransactionPartitionKeyArray": absent,
        },
    )


def timer_tick(*, last: datetime, due: datetime, past_due: bool = False) -> TriggerValue:
    """A tick of a timer."""
    status = {"Last": _zoned(last), "LastUpdated": _zoned(last), "Next": _zoned(due)}
    return TriggerValue(
        {"json": _json({"Schedule": {"AdjustForDST": True}, "ScheduleStatus": status, "IsPastDue": past_due})}
    )


def http_request(
    method: str, url: str, *, route: Mapping[str, str], headers: Mapping[str, str], body: bytes
) -> TriggerValue:
    """A request; *route* are the parameters of the route."""
    value: TypedData = {
        "http": {
            "method": method,
            "url": url,
            "headers": {name.lower(): text for name, text in headers.items()},
            # Without the worker's asking, parameters without a value are left out.
            "query": {name: text for name, text in parse_qsl(urlsplit(url).query, keep_blank_values=True) if text},
            "params": dict(route),
            "body": {"bytes": b64encode(body).decode()} if body else {},
        }
    }
    return TriggerValue(value)


def changed_documents(documents: Sequence[Mapping[str, Any]]) -> TriggerValue:
    """A batch of the change feed."""
    return TriggerValue({"json": _json(list(documents))})


_CLIENT_OBJECTS: Mapping[str, TypedData] = {
    name: {"json": "{}"} for name in ("MessageReceiver", "MessageSession", "MessageActions", "SessionActions")
} | {"ReceiveActions": {"json": "{}"}, "Client": {"json": '{"IsClosed":false}'}}
"""Objects of the extension that mean something in its own process only; the host sends what its JSON makes of them."""


def _body(body: bytes, *, as_bytes: bool) -> TypedData:
    if as_bytes:
        return {"bytes": b64encode(body).decode()}
    return {"string": body.decode(errors="replace")}


def _expires(message: QueueMessage) -> str:
    return NEVER if message.expires_at is None else _dot_net(message.expires_at)


def _dot_net(moment: datetime) -> str:
    """A UTC time as .NET writes one that knows no zone: without one, and without zeros at the end."""
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return text.rstrip("0").rstrip(".")


def _zoned(moment: datetime) -> str:
    return _dot_net(moment) + "+00:00"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
