"""How full the chain is: what can wait gives way to what is live."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from weakref import WeakKeyDictionary

from messaging.bus import MessageBus, QueueDepth
from messaging.queues import EMBEDDING_JOBS, ENRICHMENT_JOBS, INGESTION_EVENTS, INGESTION_EVENTS_BULK, SHARD_EMISSION

MOST_UNFINISHED = 2_000
"""Messages behind normalization at which the bulk lane waits: what is live then finds little in front of it."""

LONGEST_WAIT = timedelta(seconds=30)
"""A tenth of the lock. The lane goes on then, full or not: a stage that stands still must not look like a dead lane."""

LOOK_EVERY = timedelta(seconds=0.25)
LOOKING_SHARE = 0.2
"""How much of the time a process looks at most: Service Bus has the messages of all queues read for it."""

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


def unfinished_events(depths: Mapping[str, QueueDepth]) -> int:
    """How many messages of the chain and its bulk lane are not finished, whoever sent them."""
    return unfinished(depths, (INGESTION_EVENTS_BULK, *STAGES))


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
    while waited < LONGEST_WAIT and await _was_full(bus):
        await asyncio.sleep(LOOK_EVERY.total_seconds())
        waited += LOOK_EVERY


@dataclass(slots=True)
class _Look:
    """The last look at a bus, which all who wait share, and how long it counts, in seconds of the event loop."""

    task: "asyncio.Task[bool] | None" = None
    until: float = 0.0


_looks: WeakKeyDictionary[MessageBus, _Look] = WeakKeyDictionary()


async def _was_full(bus: MessageBus) -> bool:
    """Whether the chain was full a moment ago."""
    look = _looks.setdefault(bus, _Look())
    loop = asyncio.get_running_loop()
    task = look.task
    if task is None or task.get_loop() is not loop or (task.done() and loop.time() >= look.until):
        task = look.task = asyncio.create_task(_looked(bus, look))
    # One that gives up must not take the others' look with it.
    return await asyncio.shield(task)


async def _looked(bus: MessageBus, look: _Look) -> bool:
    time = asyncio.get_running_loop().time
    look.until = began = time()
    full = is_full(await bus.depths())
    look.until = time() + max(LOOK_EVERY.total_seconds(), (time() - began) / LOOKING_SHARE)
    return full
