"""The messages of a batch as the host hands them over, each under ids that are its own."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec


class HostMessage(Protocol):
    """What is read of the host's message object (``azure.functions.ServiceBusMessage``)."""

    @property
    def message_id(self) -> str | None: ...
    @property
    def correlation_id(self) -> str | None: ...
    @property
    def sequence_number(self) -> int | None: ...
    @property
    def delivery_count(self) -> int | None: ...
    @property
    def application_properties(self) -> Mapping[str, Any]: ...
    def get_body(self) -> bytes: ...


# A struct for the same reason as the bus's own messages: one is made of each at every hop.
class IncomingMessage(msgspec.Struct, frozen=True, gc=False):
    """A message under ids that are its own."""

    message_id: str
    correlation_id: str | None
    delivery_count: int
    application_properties: Mapping[str, Any]
    body: bytes

    def get_body(self) -> bytes:
        """The body."""
        return self.body


def incoming(messages: Sequence[HostMessage], queue: str) -> list[IncomingMessage]:
    """*messages*, received from *queue* together.

    The Functions host hands over a batch's ids as lists, and leaves out of them what is null or empty. So a message
    that its producer gave no id moves up the ids of all that follow it, and of such a batch no id can be trusted: its
    messages go by their sequence numbers, of which each has one, and by no correlation id.
    """
    named = all(message.message_id for message in messages)
    correlated = all(message.correlation_id for message in messages)
    return [
        IncomingMessage(
            message_id=message.message_id if named and message.message_id else f"{queue}/{message.sequence_number}",
            correlation_id=message.correlation_id if correlated else None,
            delivery_count=message.delivery_count or 1,
            application_properties=message.application_properties,
            body=message.get_body(),
        )
        for message in messages
    ]
