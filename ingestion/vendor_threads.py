"""Calls to vendors, which block, in threads of their own.

An event loop's own threads are few, and the embedding model and the files of payloads need them: sources that do not
answer would hold up what has nothing to do with them.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 32
"""Of one process: more than it has pieces of source work at once, some of which make a second call beside the first."""

_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, ThreadPoolExecutor] = WeakKeyDictionary()
"""By loop, as its own threads are: a process that was forked begins with a loop and with threads of its own."""


async def in_vendor_thread(call: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """What *call* returns, run in a thread for vendors, in the present context."""
    loop = asyncio.get_running_loop()
    pool = _pools.get(loop)
    if pool is None:
        pool = _pools[loop] = ThreadPoolExecutor(THREADS, thread_name_prefix="vendor")
    return await loop.run_in_executor(pool, partial(copy_context().run, call, *args, **options))
