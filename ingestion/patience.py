"""Calls to a source asked again a few times, with short pauses, while their errors are of the kind that pass."""

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import TypeVar

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from ingestion.errors import RepeatError, TransientError

T = TypeVar("T")

log = logging.getLogger(__name__)

ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT = timedelta(seconds=5)
"""A pause that is longer is not waited for here: the work comes back later."""
NO_MORE_AFTER = timedelta(minutes=1)
"""A call that failed so long after the first is not made again: a source that lets each one run into its time limit
would keep the work beyond the connection's lease."""

_asked: ContextVar[str] = ContextVar("asked")


async def patiently(what: str, call: Callable[[], Awaitable[T]]) -> T:
    """*call*'s result, asked for up to four times within a minute, with short pauses, while the errors are of the kind
    that pass.

    *what* names the call in the log, where each pause after a failure is a line.
    """
    _asked.set(what)
    async for attempt in stamina.retry_context(
        on=_pause,
        attempts=ATTEMPTS,
        timeout=NO_MORE_AFTER,
        wait_initial=FIRST_WAIT_SECONDS,
        wait_max=LONGEST_WAIT,
        wait_jitter=FIRST_WAIT_SECONDS,
    ):
        with attempt:
            return await call()
    raise AssertionError("unreachable: the last attempt returns or raises")


def _log_retry(details: RetryDetails) -> None:
    if isinstance(details.caused_by, TransientError) and details.caused_by.after is not None:
        # A limit that is kept is no failure, and a first load keeps one at every other call.
        log.debug("%s: waits %.1f s: %s", _asked.get(details.name), details.wait_for, details.caused_by)
        return
    log.warning(
        "%s: try %d of %d failed, the next is in %.1f s: %s",
        _asked.get(details.name),
        details.retry_num,
        ATTEMPTS,
        details.wait_for,
        details.caused_by,
    )


# In place of the library's own line, which names neither the call nor the cause.
set_on_retry_hooks([_log_retry])


def _pause(error: Exception) -> bool | timedelta:
    if isinstance(error, RepeatError):
        return True
    if not isinstance(error, TransientError) or error.smaller:
        return False
    if error.after is None:
        return True
    return error.after if error.after <= LONGEST_WAIT else False
