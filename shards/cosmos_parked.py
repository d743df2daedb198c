"""Parked messages in a container of their own."""

from collections.abc import Mapping, Sequence

import msgspec

from messaging.times import to_text
from shards.cosmos_container import check_size, together
from shards.cosmos_cursors import cursor_behind, place_behind
from shards.cosmos_documents import checked_id, is_legal_id, item_size, parked_item, parked_position, stored_parked
from shards.cosmos_open_store import CosmosOpenStore
from shards.cosmos_queries import (
    BEFORE_EVERYTHING,
    count_parked,
    next_parked_reason,
    parked_by_id,
    parked_in_order,
)
from shards.parked import ParkedMessage
from shards.store import Page


class CosmosParkedMessages(CosmosOpenStore):
    """The twin of :class:`shards.parked.ParkedMessages` on Cosmos DB."""

    async def park(self, messages: Sequence[ParkedMessage]) -> None:
        """Keep the messages; one without a time is parked now."""
        now = to_text(self._clock())
        dated = [
            message if message.parked_at else msgspec.structs.replace(message, parked_at=now) for message in messages
        ]
        items = [parked_item(message) for message in dated]
        for message, item in zip(dated, items, strict=True):
            check_size(item_size(item), f"parked message {checked_id(message.id)}")
        for tenant_id in {message.tenant_id for message in dated}:
            await self._enter(tenant_id)
        await together(self._parked.put(item) for item in items)

    async def parked(
        self,
        tenant_id: str | None = None,
        *,
        reason: str | None = None,
        queue: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[ParkedMessage]:
        """Parked messages, oldest first.

        Raises:
            InvalidCursorError: *cursor* is none of this listing's.
        """
        listing = ("parked", tenant_id, reason, queue)
        after = BEFORE_EVERYTHING if cursor is None else place_behind(listing, cursor)
        tenants = await self._tenant_ids() if tenant_id is None else [tenant_id]
        found = await together(
            self._parked.first(
                tenant,
                parked_in_order(tenant, reason=reason, queue=queue, after=after, limit=limit + 1),
                lambda item: item["position"],
                limit + 1,
            )
            for tenant in tenants
        )
        items = sorted((item for items in found for item in items), key=lambda item: item["position"])
        messages = [stored_parked(item) for item in items[:limit]]
        more = len(items) > limit and messages
        return Page(messages, cursor_behind(listing, parked_position(messages[-1])) if more else None)

    async def get_parked(self, parked_id: str, tenant_id: str | None = None) -> ParkedMessage | None:
        """One parked message; without its tenant asked of each, as its id does not say whose it is."""
        if not is_legal_id(parked_id):
            return None
        tenants = await self._tenant_ids() if tenant_id is None else [tenant_id]
        found = await together(self._parked.read((tenant, parked_id), parked_id) for tenant in tenants)
        return next((stored_parked(item) for item in found if item is not None), None)

    async def remove_parked(self, parked_ids: Sequence[str]) -> int:
        """Drop parked messages; how many there were."""
        wanted = list(filter(is_legal_id, parked_ids))
        removed = await together(self._remove_parked(tenant_id, wanted) for tenant_id in await self._tenant_ids())
        return sum(removed)

    async def _remove_parked(self, tenant_id: str, parked_ids: Sequence[str]) -> int:
        there = await self._parked.of_list(tenant_id, parked_ids, lambda ids: parked_by_id(tenant_id, ids))
        return sum(await together(self._parked.delete((tenant_id, one), one) for one in there))

    async def parked_counts(self, tenant_id: str | None = None) -> Mapping[str, int]:
        """How many are parked, by reason."""
        tenants = await self._tenant_ids() if tenant_id is None else [tenant_id]
        counts: dict[str, int] = {}
        for of_tenant in await together(self._parked_counts(tenant) for tenant in tenants):
            for reason, count in of_tenant.items():
                counts[reason] = counts.get(reason, 0) + count
        return counts

    async def _parked_counts(self, tenant_id: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        reason = BEFORE_EVERYTHING
        while found := await self._parked.rows(tenant_id, next_parked_reason(tenant_id, reason)):
            reason = min(found)
            counts[reason] = await self._parked.count(tenant_id, count_parked(tenant_id, reason))
        return counts
