"""The claim check: an ingestion event too large for the bus leaves its payload in the blob store and goes without it.

It is the same event with ``payloadRef`` in place of ``payload``, in both homes and from any producer; whoever consumes
it has it redeemed first.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from messaging import codec
from messaging.bus import Message, MessageBus
from messaging.bus_in_front import BusInFront
from messaging.concurrent_calls import results_of
from messaging.contracts import Contract, IngestionEvent
from messaging.queues import INGESTION_EVENTS, INGESTION_EVENTS_BULK

C = TypeVar("C", bound=Contract)

LARGEST_INLINE: Final = 192 * 1024
"""The most bytes of an event's whole body that still go over the bus. Service Bus Standard takes messages of 256 KB,
properties included."""

QUEUES_OF_EVENTS: Final = frozenset({INGESTION_EVENTS, INGESTION_EVENTS_BULK})

AT_ONCE: Final = 8
"""How many payloads are written at the same time."""

LARGEST_PAYLOAD: Final = 8 * 1024 * 1024
"""The most bytes of a payload that is redeemed. Whoever consumes a batch holds several of them in memory, eight at a
time 64 MB, and their fields in many times that; no record of so many bytes fits an item of the store (2 MB)."""


SPACE: Final = "messages"
"""The space of the blob store that payloads go to: what is in it ends by itself, once no message can name it."""


class PayloadInvalidError(Exception):
    """What a claim check names is no payload; the message says which and why."""


class Payloads(Protocol):
    """Where payloads are kept: the part of the blob store that the claim check needs, with its errors."""

    async def put(self, tenant_id: str, content: bytes, *, space: Literal["messages"]) -> str:
        """Keep *content* in the tenant's own part of *space* and return its reference."""

    async def get(self, tenant_id: str, reference: str, *, limit: int | None = None) -> bytes:
        """The content under a reference, which must be the tenant's own, of *limit* bytes at most."""


class ClaimCheckBus(BusInFront):
    """A bus that gives large ingestion events a claim check on the way in; the rest of it is *bus* itself.

    What had a claim check still has it as a dead letter. Closing it leaves the payloads open.
    """

    def __init__(self, bus: MessageBus, payloads: Payloads) -> None:
        super().__init__(bus)
        self._payloads = payloads

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        """See :meth:`messaging.bus.MessageBus.send`.

        Raises:
            BusUnavailableError, MessageTooLargeError: as the bus itself does.
            StoreUnavailableError: a payload could not be kept; nothing was sent.
        """
        if queue in QUEUES_OF_EVENTS and any(len(message.body) > LARGEST_INLINE for message in messages):
            turns = asyncio.Semaphore(AT_ONCE)
            messages = await results_of(self._checked(queue, message, turns) for message in messages)
        await self._bus.send(queue, messages, delay=delay)

    async def _checked(self, queue: str, message: Message, turns: asyncio.Semaphore) -> Message:
        if len(message.body) <= LARGEST_INLINE:
            return message
        async with turns:
            body = await without_payload(queue, message.body, self._payloads)
        return msgspec.structs.replace(message, body=body)


async def without_payload(queue: str, body: bytes, payloads: Payloads) -> bytes:
    """The body of a message of *queue* with its payload kept apart; as it is when it is small, or no event of anyone's.

    Raises:
        StoreUnavailableError: the payload could not be kept.
    """
    if queue not in QUEUES_OF_EVENTS or len(body) <= LARGEST_INLINE:
        return body
    try:
        event = codec.decode(body)
    except codec.DecodeError:
        return body
    match event:
        case {"tenantId": str(tenant_id), "payload": dict(payload)} if tenant_id:
            reference = await payloads.put(tenant_id, codec.canonical(payload), space=SPACE)
            return codec.encode(
                {name: value for name, value in event.items() if name != "payload"} | {"payloadRef": reference}
            )
        case _:
            return body


def is_claim_check(contract: Contract) -> bool:
    """Whether *contract* is an event that travels without its payload."""
    return isinstance(contract, IngestionEvent) and contract.payload is None


async def redeem(contract: C, payloads: Payloads) -> C:
    """*contract* with its payload, when it is an event that travels without; else as it is.

    Raises:
        PayloadInvalidError: what the claim check names is no JSON object.
        BlobMissingError: there is no such content, or the reference is malformed or another tenant's.
        BlobTooLargeError: the content has more bytes than :data:`LARGEST_PAYLOAD`.
        StoreUnavailableError: the store is away.
    """
    if not isinstance(contract, IngestionEvent) or contract.payload is not None or contract.payload_ref is None:
        return contract
    content = await payloads.get(contract.tenant_id, contract.payload_ref, limit=LARGEST_PAYLOAD)
    try:
        payload = codec.decode(content)
    except codec.DecodeError as error:
        raise PayloadInvalidError(f"{contract.payload_ref} is no JSON: {error}") from None
    if not isinstance(payload, dict):
        raise PayloadInvalidError(f"{contract.payload_ref} is JSON, but no object: a payload is the record's fields")
    return contract.model_copy(update={"payload": payload})
