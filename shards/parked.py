"""The port to parked messages: what could not be processed, kept with its reason until someone replays or drops it."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, Protocol

import msgspec

from messaging import codec
from messaging.contracts import UNKNOWN_TENANT, is_tenant_id
from shards.store import Page

LARGEST_BODY: Final = 1_250_000
"""The most bytes that a body may take as a JSON text. Cosmos DB keeps items of 2 MB, and a message's properties, which
have up to 64 KB on Service Bus, may take six times that."""
_LONGEST_ESCAPE: Final = 6
"""The bytes that one character takes at most in a JSON text."""
_LONGEST_DETAIL: Final = 4_000


def parked_id(queue: str, key: str) -> str:
    """The id under which *queue*'s message about *key* is parked: parked again, it replaces itself."""
    return "pk_" + blake2b(f"{queue}\x1f{key}".encode(), digest_size=15).hexdigest()


class ParkedMessage(msgspec.Struct, rename="camel", kw_only=True):
    """A message that was parked. *reason* is a stable word, *detail* the sentence for people, *queue* its origin."""

    id: str
    tenant_id: str
    queue: str
    reason: str
    detail: str
    body: str
    message_id: str
    correlation_id: str | None = None
    properties: dict[str, str | int | bool] = msgspec.field(default_factory=dict)
    delivery_count: int = 1
    generation: int = 0
    parked_at: str = ""

    def content(self) -> dict[str, Any]:
        """The JSON object in the body; empty when there is none, which is one of the reasons to be parked."""
        return _content(self.body)


def parked_message(
    *,
    queue: str,
    body: bytes,
    message_id: str,
    correlation_id: str | None,
    properties: Mapping[str, str | int | bool],
    delivery_count: int,
    reason: str,
    detail: str,
    parked_at: str,
) -> ParkedMessage:
    """The message as it is parked.

    The tenant is the one that its properties or its body name, else :data:`messaging.contracts.UNKNOWN_TENANT`. A
    message about a shard is parked under that shard, so that whatever is emitted for it again finds it there.

    Whatever the message is, it can be kept: a body above :data:`LARGEST_BODY` is cut, and the detail says so.
    """
    content = _content(body)
    tenant = properties.get("tenantId") or content.get("tenantId")
    shard = content.get("shardId")
    generation = properties.get("generation", 0)
    text = body.decode(errors="replace")
    detail = detail[:_LONGEST_DETAIL]
    if len(text) * _LONGEST_ESCAPE > LARGEST_BODY and len(codec.encode(text)) > LARGEST_BODY:
        text = text[: LARGEST_BODY // _LONGEST_ESCAPE]
        detail = (
            f"{detail} (the body has {len(body):,} bytes, too many to be kept, and is cut to its first {len(text):,}"
            " characters: have it sent again)"
        )
    return ParkedMessage(
        id=parked_id(queue, f"{tenant}|{shard or message_id}"),
        tenant_id=tenant if is_tenant_id(tenant) else UNKNOWN_TENANT,
        queue=queue,
        reason=reason,
        detail=detail,
        body=text,
        message_id=message_id,
        correlation_id=correlation_id,
        properties=dict(properties),
        delivery_count=delivery_count,
        generation=generation if isinstance(generation, int) else 0,
        parked_at=parked_at,
    )


def _content(body: bytes | str) -> dict[str, Any]:
    try:
        content = codec.decode(body)
    except codec.DecodeError:
        return {}
    return content if isinstance(content, dict) else {}


class ParkedMessages(Protocol):
    """All calls raise ``StoreUnavailableError`` when the store is away."""

    async def park(self, messages: Sequence[ParkedMessage]) -> None:
        """Keep the messages; one that is parked again under its id replaces itself."""

    async def parked(
        self,
        tenant_id: str | None = None,
        *,
        reason: str | None = None,
        queue: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[ParkedMessage]:
        """Parked messages, oldest first, of one tenant or (operators) of all."""

    async def get_parked(self, parked_id: str, tenant_id: str | None = None) -> ParkedMessage | None:
        """One parked message, of this tenant or (operators, and at a read a tenant) of any."""

    async def remove_parked(self, parked_ids: Sequence[str]) -> int:
        """Drop parked messages; how many there were."""

    async def parked_counts(self, tenant_id: str | None = None) -> Mapping[str, int]:
        """How many are parked, by reason."""
