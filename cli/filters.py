"""Options that narrow what a command shows: a value that nothing can have is a wrong call, not an empty answer."""

from collections.abc import Collection, Iterable

from cli.home import UsageError
from composition import Services
from messaging.queues import QUEUES
from processors.normalization import SYSTEM_TYPES
from shards.types import SHARD_TYPES


def known_queue(queue: str | None) -> str | None:
    """*queue*, which is one of the bus's.

    Raises:
        UsageError: there is none of that name.
    """
    _check("--queue", [queue] if queue is not None else [], QUEUES)
    return queue


def known_sources(systems: list[str] | None) -> list[str] | None:
    """*systems*, which are systems that records come from.

    Raises:
        UsageError: one of them is none.
    """
    _check("--source", systems or (), SYSTEM_TYPES)
    return systems


async def check_types(services: Services, tenant_id: str, types: Iterable[str]) -> None:
    """Check that each of *types* is a core type, or a type that the tenant has shards of.

    Raises:
        UsageError: one of them is neither.
    """
    counts = await services.store.counts(tenant_id)
    _check("--type", types, {*SHARD_TYPES, *counts.shards})


async def check_reason(services: Services, tenant_id: str | None, reason: str | None) -> None:
    """Check that messages are parked for *reason*, where any are parked at all.

    Raises:
        UsageError: others are, but none for that.
    """
    present = await services.store.parked_counts(tenant_id)
    if present:
        _check("--reason", [reason] if reason is not None else [], present)


def _check(option: str, given: Iterable[str], known: Collection[str]) -> None:
    for value in given:
        if value not in known:
            raise UsageError(f"{option}: {value!r} is none of {', '.join(sorted(known))}")
