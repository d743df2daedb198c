"""The port to parked messages: what could not be processed, kept with its reason until someone replays or drops it."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Protocol

import msgspec

from shards.store import Page

UNKNOWN_TENANT = "unknown"
"""Where a message is parked whose tenant can't be told."""


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

    async def get_parked(self, parked_id: str) -> ParkedMessage | None:
        """One parked message."""

    async def remove_parked(self, parked_ids: Sequence[str]) -> int:
        """Drop parked messages; how many there were."""

    async def parked_counts(self, tenant_id: str | None = None) -> Mapping[str, int]:
        """How many are parked, by reason."""
