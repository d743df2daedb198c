"""How full the chain is: what can wait gives way to what is live."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta

from messaging.bus import MessageBus, QueueDepth
from messaging.queues import EMBEDDING_JOBS, ENRICHMENT_JOBS, INGESTION_EVENTS, SHARD_EMISSION

MOST_UNFINISHED = 2_000
"""Messages behind normalization at which the bulk lane waits: what is live then finds little in front of it."""

LONGEST_WAIT = timedelta(seconds=30)
"""A tenth of the lock. The lane goes on then, full or not: a stage that stands still must not look like a dead lane."""

LOOK_EVERY = timedelta(seconds=0.25)

STAGES = (SHARD_EMISSION, ENRICHMENT_JOBS, EMBEDDING_JOBS)
"""The queues behind normalization."""

_COUNTED = frozenset({"active", "locked", "scheduled"})


def unfinished(depths: Mapping[str, QueueDepth], queues: Iterable[str]) -> int:
    """How many messages of *queues* are not finished, whoever sent them.

    A count that the bus broke off is more than anyone knows: it counts as :data:`MOST_UNFINISHED`.
    """
    waiting = [depths[queue] for queue in queues if queue in depths]
    if any(depth.at_least & _COUNTED for depth in waiting):
        return MOST_UNFINISHED
    return sum(depth.active + depth.locked + depth.scheduled for depth in waiting)


def is_full(depths: Mapping[str, QueueDepth]) -> bool:
    """Whether the bulk lane had better wait: for the stages behind normalization, or for what is live before it.

    A live lane so long holds a flood that is still to be moved out of the others' way.
    """
    live = depths.get(INGESTION_EVENTS)
    waits = live is not None and ("active" in live.at_least or live.active + live.locked >= MOST_UNFINISHED)
    return waits or unfinished(depths, STAGES) >= MOST_UNFINISHED


async def until_the_chain_digests(bus: MessageBus) -> None:
    """Return when the chain has room for what can wait, or after :data:`LONGEST_WAIT`.

    Raises:
        BusUnavailableError: the bus does not tell.
    """
    waited = timedelta(0)
    while waited < LONGEST_WAIT and is_full(await bus.depths()):
        await asyncio.sleep(LOOK_EVERY.total_seconds())
        waited += LOOK_EVERY
