"""What a run has done, as `shardline demo` prints it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from composition import LocalServices, Services
from messaging.bus import QueueDepth
from messaging.queues import SOURCE_WORK
from processors.delivery import is_copy

SOURCES = ("salesforce", "slack", "gdrive")
STAGES = ("normalize", "enrich", "prepare", "embed")
LOOK_EVERY = 0.1
SOON = timedelta(seconds=20)
"""What sources are first asked for later than that is planned (another look in a minute, the end of a permission next
year): nothing waits for it. What goes on with something, and is no copy of a message, is due sooner."""
BOOKKEEPING = "integration."
"""The shard types that stand for no record: what connections remember."""


class StandstillError(Exception):
    """The pipeline can't become idle by itself; the message says what holds it and what to do."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Where the pipeline is: messages that wait, are worked on or are due later, and shards behind each stage."""

    waiting: int
    behind: dict[str, int]


async def until_idle(
    services: LocalServices, connection_ids: set[tuple[str, str]], seen: Callable[[Moment], None]
) -> None:
    """Wait until no message waits, is worked on or is due later, but for work that is planned for its own time.

    *seen* is told of each look.

    A stage sends what it makes before its own message is completed, so an empty bus is an idle pipeline.

    Raises:
        StandstillError: one of the connections has failed and waits for people.
    """
    while True:
        depths = await services.bus.depths()
        waiting = sum(_unfinished(depth) for depth in depths.values())
        if 0 < waiting == depths[SOURCE_WORK].scheduled:
            unplanned = await _unplanned(services)
            # Counted at two moments: between them one may have become due.
            waiting = unplanned if await services.bus.depths() == depths else waiting
        behind = {stage.value: count for stage, count in (await services.store.stages_behind()).items()}
        seen(Moment(waiting, behind))
        if not waiting:
            return
        for tenant_id, connection_id in connection_ids:
            connection = await services.connections.get(tenant_id, connection_id)
            if connection and connection.status == "failed":
                problem = connection.error_message
                raise StandstillError(f"connection {connection_id} of {tenant_id} has failed: {problem}")
        await asyncio.sleep(LOOK_EVERY)


async def _unplanned(services: LocalServices) -> int:
    """How many of the messages that sources have for later go on with something: what was tried, or is due soon."""
    soon = services.clock() + SOON
    scheduled = await services.queues.scheduled(SOURCE_WORK)
    return sum(is_copy(message.properties) or message.due_at <= soon for message in scheduled)


def _unfinished(depth: QueueDepth) -> int:
    return depth.active + depth.locked + depth.scheduled


async def left_undone(services: Services, tenant_id: str) -> list[str]:
    """What an idle pipeline has not done: stages that shards are behind, chunks of the tenant without a vector."""
    behind = await services.store.stages_behind()
    undone = [f"{count:,} shards are to be {stage.value}" for stage, count in behind.items() if count]
    counts = await services.store.counts(tenant_id)
    if counts.vectors < counts.chunks:
        undone.append(f"{counts.chunks - counts.vectors:,} of {counts.chunks:,} chunks have no vector")
    return undone


async def summarize(
    services: Services, tenant_id: str, *, seconds: float, events: Mapping[str, int], stages: Mapping[str, Any]
) -> dict[str, Any]:
    """The summary of a run: *events* and *stages* count the run, the rest counts what the store has of records."""
    counts = await services.store.counts(tenant_id)
    depths = await services.bus.depths()
    total = sum(events.values())
    return {
        "tenantId": tenant_id,
        "events": {source: events.get(source, 0) for source in SOURCES},
        "shards": {kind: count for kind, count in counts.shards.items() if not kind.startswith(BOOKKEEPING)},
        "deleted": counts.deleted,
        "links": counts.links,
        "linksPending": counts.links_pending,
        "chunks": counts.chunks,
        "vectors": counts.vectors,
        "queues": {
            # What is planned at a source is nothing that this run has left undone.
            name: depth.active + depth.locked if name == SOURCE_WORK else _unfinished(depth)
            for name, depth in depths.items()
        },
        "parked": sum((await services.store.parked_counts(tenant_id)).values()),
        "deadLettered": sum(depth.dead_lettered for depth in depths.values()),
        "seconds": round(seconds, 3),
        "recordsPerSecond": round(total / seconds, 1) if seconds > 0 else 0,
        "stages": {stage: stages.get(stage, {"messages": 0, "seconds": 0}) for stage in STAGES},
    }
