"""How many calls a minute may be made as a user, shared by all workers: each takes some at a time, and makes them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from connections.state import StateMovedError, StateStore
from ingestion.connection_memory import SourceMemory
from ingestion.errors import BudgetExhaustedError, TransientError
from messaging.times import Clock, from_milliseconds, from_text, to_milliseconds, to_text

LOTS = 60
"""Into so many lots the calls of a minute are parted: a worker asks the store once for each."""
LOT_HOLDS = timedelta(seconds=5)
"""How long a lot holds, so that a worker soon hears of a pause that another was told."""
MINUTE = timedelta(minutes=1)


class CallsOfMinute(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """*minute* is when it begins; *taken* of its calls were taken by workers. Until *refused_until* there are none."""

    minute: str = ""
    taken: int = 0
    refused_until: str | None = None


class CallMemory(SourceMemory, frozen=True, kw_only=True):
    """The calls made as one user."""

    metadata: CallsOfMinute = CallsOfMinute()


class CallBudget:
    """The calls that one worker may make as one user."""

    def __init__(
        self, states: StateStore, *, tenant_id: str, key: str, empty: CallMemory, most: Callable[[], int], clock: Clock
    ) -> None:
        self._states = states
        self._tenant_id = tenant_id
        self._key = key
        self._empty = empty
        self._most = most
        self._clock = clock
        self._minute = datetime.min.replace(tzinfo=UTC)
        self._holds_until = self._minute
        self._left = 0

    async def take(self) -> None:
        """Take one call.

        Raises:
            BudgetExhaustedError: the calls of this minute are taken.
            TransientError: Drive has asked for a pause.
        """
        now = self._clock()
        minute = from_milliseconds(to_milliseconds(now) // 60_000 * 60_000)
        if minute != self._minute or self._left < 1 or now >= self._holds_until:
            self._left = await self._reserved(minute, now)
            self._minute, self._holds_until = minute, now + LOT_HOLDS
        self._left -= 1

    async def refuse(self, pause: timedelta) -> None:
        """Let no worker call as this user for so long: Drive has asked for that.

        Raises:
            TransientError: others keep counting; this worker will be told to pause again.
        """
        until = to_text(self._clock() + pause)
        self._left = 0

        def refused(memory: CallMemory) -> CallMemory:
            stood = memory.metadata
            if stood.refused_until is not None and stood.refused_until >= until:
                return memory
            return msgspec.structs.replace(memory, metadata=msgspec.structs.replace(stood, refused_until=until))

        await self._change(refused)

    async def _reserved(self, minute: datetime, now: datetime) -> int:
        most = self._most()
        lot = 0

        def reserved(memory: CallMemory) -> CallMemory:
            nonlocal lot
            stood = memory.metadata
            if stood.refused_until is not None and (until := from_text(stood.refused_until)) > now:
                raise TransientError("Drive has asked for a pause", until - now)
            taken = stood.taken if stood.minute == to_text(minute) else 0
            lot = min(max(most // LOTS, 1), most - taken)
            if lot < 1:
                raise BudgetExhaustedError(f"the {most:,} calls a minute of this user are made", minute + MINUTE)
            return msgspec.structs.replace(memory, metadata=CallsOfMinute(minute=to_text(minute), taken=taken + lot))

        await self._change(reserved)
        return lot

    async def _change(self, change: Callable[[CallMemory], CallMemory]) -> None:
        try:
            await self._states.change(self._tenant_id, self._key, self._empty, change)
        except StateMovedError:
            raise TransientError("many workers count this user's calls at once", timedelta(seconds=1)) from None
