"""The calls that Slack allows, by method and workspace, shared by all workers of a connection.

Kept in ``integration.state`` and reserved in small lots, so that it is not written at each call. Slack's limits are of
one method for one workspace: one that is closed keeps no other back.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from connections.slack_connection import SlackConnection
from connections.state import StateMovedError, StateStore
from ingestion.errors import BudgetExhaustedError, TransientError
from ingestion.patience import LONGEST_WAIT
from messaging.times import Clock, to_milliseconds

log = logging.getLogger(__name__)

TIERS: Final[Mapping[str, int]] = {
    "auth.test": 100,
    "conversations.list": 20,
    "users.list": 20,
    "conversations.members": 100,
    "users.info": 100,
}
"""Calls a minute that Slack publishes; :data:`OTHER` for the rest. It promises no fewer, and tolerates bursts."""
OTHER: Final = 50

RESTRICTED_METHODS: Final = frozenset({"conversations.history", "conversations.replies"})
RESTRICTED_PAGE: Final = 15
"""Apps that are sold outside Slack's Marketplace have a call a minute of these, with 15 items. Slack's pages disagree
on which installations are meant, so a refusal is what tells."""
PLENTY: Final = 20
"""Calls a minute, from which on some may be made that are only likely to tell something new."""
RESTRICTED_FROM: Final = timedelta(seconds=20)
"""A refusal for at least this long, when few calls were made, tells that a call a minute is all there is."""
RESTRICTED_FOR: Final = timedelta(hours=1)
"""How long that is believed before more is tried again; twice as long after each time in vain."""
LONGEST_RESTRICTED: Final = timedelta(hours=24)

_MINUTE: Final = 60_000
_LOT_FOR: Final = 10_000
_LOTS_A_MINUTE: Final = 12
_SAVE_TRIES: Final = 8


class MethodCalls(msgspec.Struct, rename="camel", omit_defaults=True):
    """One method's calls, in milliseconds since 1970.

    *free_at* is when all its calls will be free again: each call moves it on by its share of a minute. It is closed
    until *closed_until*, and goes by a call a minute until *restricted_until*, for the *restricted*-th time in a row.
    """

    free_at: int = 0
    closed_until: int = 0
    restricted_until: int = 0
    restricted: int = 0


class TeamCalls(msgspec.Struct, rename="camel"):
    """The calls of a workspace by method. *integration_id* is the connection's."""

    integration_id: str
    methods: dict[str, MethodCalls] = msgspec.field(default_factory=dict)


class CallBudget:
    """The calls of one connection's workspace, as this process knows them."""

    def __init__(self, connection: SlackConnection, states: StateStore, clock: Clock) -> None:
        self._tenant_id = connection.tenant_id
        self._integration_id = connection.connection_id
        self._key = f"slack/{connection.instance or connection.connection_id}/calls"
        self._rates = connection.calls_per_minute
        self._history_page = connection.history_page
        self._states = states
        self._clock = clock
        self._lots: dict[str, tuple[int, int]] = {}
        """By method: calls that are reserved, and until when."""
        self._known: dict[str, MethodCalls] = {}
        self._turn = asyncio.Lock()

    def rate(self, method: str) -> int:
        """Calls a minute of *method*: as the connection says, else by its tier."""
        return self._rates.get(method) or TIERS.get(method, OTHER)

    def history_page(self, method: str) -> int:
        """How many items a page of *method* is asked for with."""
        return min(self._history_page, RESTRICTED_PAGE) if self._is_restricted(method) else self._history_page

    def has_plenty(self, method: str) -> bool:
        """Whether *method* may be called for what is only likely to tell something new."""
        return self.rate(method) >= PLENTY and not self._is_restricted(method)

    def _is_restricted(self, method: str) -> bool:
        calls = self._known.get(method)
        return calls is not None and self._now() < calls.restricted_until

    async def take(self, method: str) -> None:
        """Take one call of *method*.

        Raises:
            TransientError, BudgetExhaustedError: none is left now; they say when one is.
        """
        async with self._turn:
            reserved, until = self._lots.get(method, (0, 0))
            if reserved and self._now() < until:
                self._lots[method] = (reserved - 1, until)
                return
            lot = await self._update(method, lambda calls: self._reserve(method, calls))
            self._lots[method] = (lot - 1, self._now() + _LOT_FOR)

    async def refused(self, method: str, after: timedelta) -> TransientError | BudgetExhaustedError:
        """Slack refused a call of *method* for so long: no worker makes another until then. What to raise."""
        async with self._turn:
            self._lots.pop(method, None)
            await self._update(method, lambda calls: self._close(method, calls, after))
        return pause(method, after, self._clock())

    def _now(self) -> int:
        return to_milliseconds(self._clock())

    def _reserve(self, method: str, calls: MethodCalls) -> int:
        now = self._now()
        rate, burst = self.rate(method), _MINUTE
        if now < calls.restricted_until:
            rate = 1
        elif calls.restricted and now > calls.restricted_until + _milliseconds(RESTRICTED_FOR):
            calls.restricted = 0
        interval = _MINUTE // rate or 1
        closed = calls.closed_until - now
        if closed > 0:
            raise self._wait(method, closed)
        free_at = max(calls.free_at, now)
        for lot in (max(1, rate // _LOTS_A_MINUTE), 1):
            if free_at + lot * interval - now <= max(burst, interval):
                calls.free_at = free_at + lot * interval
                return lot
        raise self._wait(method, free_at + interval - now - max(burst, interval))

    def _close(self, method: str, calls: MethodCalls, after: timedelta) -> int:
        now = self._now()
        calls.closed_until = max(calls.closed_until, now + _milliseconds(after))
        few = calls.free_at - now < _MINUTE // 2
        if method in RESTRICTED_METHODS and after >= RESTRICTED_FROM and (few or now < calls.restricted_until):
            if now >= calls.restricted_until:
                calls.restricted += 1
                length = min(RESTRICTED_FOR * 2 ** min(calls.restricted - 1, 10), LONGEST_RESTRICTED)
                calls.restricted_until = now + _milliseconds(length)
                log.warning("Slack allows a call of %s a minute to %s: going by it for %s", method, self._key, length)
            calls.free_at = calls.closed_until
        return 0

    def _wait(self, method: str, milliseconds: int) -> TransientError | BudgetExhaustedError:
        return pause(method, timedelta(milliseconds=max(1, milliseconds)), self._clock())

    async def _update(self, method: str, change: Callable[[MethodCalls], int]) -> int:
        for _ in range(_SAVE_TRIES):
            saved = await self._states.load(self._tenant_id, self._key, TeamCalls(self._integration_id))
            calls = saved.value.methods.setdefault(method, MethodCalls())
            self._known[method] = calls
            result = change(calls)
            try:
                await self._states.save(self._tenant_id, self._key, saved, saved.value)
            except StateMovedError:
                continue
            return result
        raise TransientError(f"{self._key} is being written by others", timedelta(seconds=1))


def _milliseconds(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)


def pause(method: str, after: timedelta, now: datetime) -> TransientError | BudgetExhaustedError:
    """What it means that *method* may be called no sooner than *after*: a pause, or that the work waits its turn."""
    told = f"no call of {method} is left for {after.total_seconds():.0f} s"
    return TransientError(told, after) if after <= LONGEST_WAIT else BudgetExhaustedError(told, now + after)
