"""Calls that belong together, made at the same time: what they return, or the first failure and no call going on."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def results_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What the calls return, in their order.

    When one fails, or the caller is cancelled, the others are cancelled and have ended before this raises: the failure
    itself, not a group of them, so that callers catch what the calls say they raise.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
