"""The sweep of file texts that no shard names: one whose deletion failed, or of which a killed process sent no event.

A text is deleted only if it can be named by nothing any more:

- **No shard names it**, which is asked again right before it goes. What a shard has named before and names no longer,
  normalization deletes itself, at once.
- **No event in the queues names it.** Whoever puts a text sends its event within the same piece of work, minutes later,
  names it in no other for more than an hour, and the text is older than :data:`SAFE_AGE`: so its event, if there ever
  was one, was sent. Both lanes were then seen with nothing active, locked, scheduled or dead-lettered, once before and
  once after what is parked was read: one look may miss an event that moves between lanes, two do not. So the event has
  come to its end, and its shard was asked after that.
- **No parked event names it**, by its hash or, where its payload is kept apart, by its record.
- **Nobody has put it again**: the store deletes it only if it was not put since it was looked at.

What is no text of a file is left alone, and so is whatever can't be told.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from messaging.bus import MessageBus
from messaging.claim_check import QUEUES_OF_EVENTS
from messaging.concurrent_calls import results_of
from messaging.times import Clock
from operations.metrics import Metrics
from shards.blobs import BlobStore, space_of, tenant_of_space, tenant_space
from shards.file_text import text_owner
from shards.parked import ParkedMessage, ParkedMessages
from shards.store import ShardQuery, ShardStore

log = logging.getLogger(__name__)

SAFE_AGE: Final = timedelta(days=1)
"""How long a text is left alone: a worker or a command holds one for minutes before its event is sent."""

WORKS_FOR: Final = timedelta(minutes=4)
"""A timer's function is ended after nine and a half."""

READS_AT_ONCE: Final = 4
"""Texts in memory; one may have 16 MB."""

LOOKS: Final = 10
PAUSE: Final = timedelta(seconds=2)
"""How often, and after which pauses, the lanes are looked at until they are empty; if they never are, the next pass may
find them so. What was written before a pause is read after it, whichever replica of the store answers."""

PARKED_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class TextSweepPorts:
    """What the sweep reaches of the world."""

    store: ShardStore
    parked: ParkedMessages
    blobs: BlobStore
    bus: MessageBus
    clock: Clock
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that is old enough, whose it is, and the record that it is of."""

    reference: str
    tenant_id: str
    instance: str
    external_id: str

    @property
    def digest(self) -> str:
        return self.reference.rpartition("/")[2]


def slice_at(now: datetime) -> str:
    """Which texts are looked at in an hour: those whose hash begins so, a 256th of all.

    Every eleven days have all of them. An hour of the day has another slice each day, so that a machine which is on at
    the same hours only comes to all of them too.
    """
    days, hour = divmod(int(now.timestamp() // 3600), 24)
    return f"{(days + 11 * hour) % 256:02x}"


async def sweep_texts(ports: TextSweepPorts, beginning: str) -> int:
    """Delete the texts whose hash begins with *beginning* and that nothing names; how many there were.

    Raises:
        StoreUnavailableError, BusUnavailableError: the next pass finds what is left.
    """
    began = ports.clock()
    before = began - SAFE_AGE
    spaces = _Spaces(ports.store)
    deleted = 0
    async for page in ports.blobs.kept(beginning, before):
        if ports.clock() - began >= WORKS_FOR:
            log.warning("more file texts begin with %s than are looked at in %s: the rest waits", beginning, WORKS_FOR)
            break
        orphans: list[_Text] = []
        for start in range(0, len(page), READS_AT_ONCE):
            part = page[start : start + READS_AT_ONCE]
            found = await results_of(_orphan(reference, spaces, ports) for reference in part)
            orphans += [text for text in found if text is not None]
        if orphans:
            gone = await _delete(orphans, ports, before)
            ports.metrics.orphaned_texts(deleted=gone, left=len(orphans) - gone)
            log.info("%d file texts that no shard names: %d deleted, the others left", len(orphans), gone)
            deleted += gone
    return deleted


class _Spaces:
    """Whose each space of the blob store is."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store
        self._of_all: dict[str, str] | None = None

    async def tenant(self, reference: str) -> str | None:
        """The tenant whose content *reference* names; None when nobody can tell."""
        space = space_of(reference)
        if space is None:
            return None
        told = tenant_of_space(space)
        if told is None:
            if self._of_all is None:
                self._of_all = {tenant_space(tenant): tenant for tenant in await self._store.tenants()}
            told = self._of_all.get(space)
        return told


async def _orphan(reference: str, spaces: _Spaces, ports: TextSweepPorts) -> _Text | None:
    """The text under *reference* if no shard names it; None for all else that may be there."""
    tenant_id = await spaces.tenant(reference)
    owner = await text_owner(ports.blobs, tenant_id, reference) if tenant_id else None
    if tenant_id is None or owner is None:
        return None
    text = _Text(reference, tenant_id, *owner)
    return None if await _is_named(text, ports.store) else text


async def _is_named(text: _Text, store: ShardStore) -> bool:
    """Whether a shard of the record names the text; only a record's own shard can have its text read."""
    query = ShardQuery(text.tenant_id, instance=text.instance, external_id=text.external_id, include_deleted=True)
    cursor: str | None = None
    while True:
        page = await store.query(query, cursor=cursor)
        told = (shard.unstructured_data for shard in page.items)
        if any(data is not None and data.content_ref == text.reference for data in told):
            return True
        cursor = page.cursor
        if cursor is None:
            return False


async def _delete(orphans: Sequence[_Text], ports: TextSweepPorts, before: datetime) -> int:
    """Delete those of *orphans* that nothing names; how many there were."""
    deleted = 0
    by_tenant: dict[str, list[_Text]] = {}
    for text in orphans:
        by_tenant.setdefault(text.tenant_id, []).append(text)
    for tenant_id, texts in by_tenant.items():
        if not await _lanes_are_empty(ports.bus):
            break
        unparked = await _without_parked(tenant_id, texts, ports.parked)
        if not await _lanes_are_empty(ports.bus):
            break
        free = [text.reference for text in unparked if not await _is_named(text, ports.store)]
        deleted += await ports.blobs.delete(tenant_id, free, put_before=before)
    return deleted


async def _lanes_are_empty(bus: MessageBus) -> bool:
    """Whether one of :data:`LOOKS` finds no event in any lane, not even a dead letter that is still to be parked."""
    for _ in range(LOOKS):
        await asyncio.sleep(PAUSE.total_seconds())
        depths = await bus.depths()
        lanes = [depths[queue] for queue in QUEUES_OF_EVENTS]
        if not any(lane.active or lane.locked or lane.scheduled or lane.dead_lettered for lane in lanes):
            return True
    return False


async def _without_parked(tenant_id: str, texts: Sequence[_Text], parked: ParkedMessages) -> list[_Text]:
    """Those of *texts* that no parked event of the tenant can name."""
    left = list(texts)
    for queue in QUEUES_OF_EVENTS:
        cursor: str | None = None
        while left:
            page = await parked.parked(tenant_id, queue=queue, limit=PARKED_PAGE, cursor=cursor)
            for message in page.items:
                left = [text for text in left if not _may_name(message, text)]
            cursor = page.cursor
            if cursor is None:
                break
    return left


def _may_name(message: ParkedMessage, text: _Text) -> bool:
    """Whether a parked event may name the text: it does, or its payload is kept apart and is of the same record."""
    if text.digest in message.body:
        return True
    return "payloadRef" in message.body and message.content().get("sourceId") == text.external_id
