"""The API budget of an org: how many calls are left to Shardline before it must leave the rest to others.

Salesforce says with every answer how many of the org's calls of the last 24 hours are used (``Sforce-Limit-Info:
api-usage=891/15000``), whoever made them; that count can lag by a few calls. Shardline's own calls are counted beside
it, by hour, so that its share is kept too.
"""

from datetime import datetime, timedelta

import msgspec

from messaging.times import from_text, to_text

WINDOW = timedelta(hours=24)
"""Salesforce's limit is over a rolling day."""

RECHECK = timedelta(minutes=15)
"""How long a count that is over the limit is believed; then one call is spent to learn the new one."""


class ApiUsage(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """What is known of an org's calls. *calls* counts Shardline's own by hour (``2026-11-22T19``)."""

    used: int = 0
    limit: int = 0
    observed_at: str | None = None
    refused_until: str | None = None
    calls: dict[str, int] = msgspec.field(default_factory=dict)


class ApiBudget:
    """A budget in use: asked before each call, told of each answer.

    Args:
        usage: what was stored.
        reserve_share: share of the org's calls that is left to others.
        own_share: share of the org's calls that Shardline may use in 24 hours.
    """

    def __init__(self, usage: ApiUsage, *, reserve_share: float, own_share: float) -> None:
        self.usage = msgspec.structs.replace(usage, calls=dict(usage.calls))
        self.made = 0
        """Calls made since this budget was loaded."""
        self._reserve_share = reserve_share
        self._own_share = own_share
        self._new_calls: dict[str, int] = {}

    @property
    def changed(self) -> bool:
        """Whether there is something to store."""
        return bool(self._new_calls)

    def closed_until(self, now: datetime) -> datetime | None:
        """When the next call may be made; None: now."""
        usage = self.usage
        if usage.refused_until and (refused := from_text(usage.refused_until)) > now:
            return refused
        if not usage.limit or usage.observed_at is None:
            return None
        if usage.used >= usage.limit * (1 - self._reserve_share):
            recheck = from_text(usage.observed_at) + RECHECK
            if recheck > now:
                return recheck
        return self._own_share_until(now)

    def left(self, now: datetime) -> int | None:
        """How many calls Shardline may still make; None: the org has not said what its limit is."""
        usage = self.usage
        if not usage.limit:
            return None
        of_org = usage.limit * (1 - self._reserve_share) - usage.used
        of_own = usage.limit * self._own_share - sum(count for _, count in self._counted(now))
        return max(0, int(min(of_org, of_own)))

    def count_call(self, now: datetime) -> None:
        """A call is being made."""
        hour = to_text(now)[:13]
        for calls in (self.usage.calls, self._new_calls):
            calls[hour] = calls.get(hour, 0) + 1
        self.made += 1

    def observe(self, used: int, limit: int, now: datetime) -> None:
        """An answer said that *used* of *limit* calls are used."""
        self.usage.used, self.usage.limit, self.usage.observed_at = used, limit, to_text(now)
        self.usage.refused_until = None

    def refuse(self, until: datetime) -> None:
        """The org refused a call because its limit is reached; nobody asks again before *until*."""
        self.usage.refused_until = to_text(until)

    def merge_into(self, stored: ApiUsage, now: datetime) -> ApiUsage:
        """What to store over *stored*: this budget's new calls added to it, the newer count kept, old hours dropped."""
        oldest = to_text(now - WINDOW)[:13]
        calls = {hour: count for hour, count in stored.calls.items() if hour >= oldest}
        for hour, count in self._new_calls.items():
            calls[hour] = calls.get(hour, 0) + count
        newer = max(self.usage, stored, key=lambda usage: usage.observed_at or "")
        return ApiUsage(
            used=newer.used,
            limit=newer.limit,
            observed_at=newer.observed_at,
            refused_until=newer.refused_until or self.usage.refused_until,
            calls=calls,
        )

    def _own_share_until(self, now: datetime) -> datetime | None:
        counted = self._counted(now)
        excess = sum(count for _, count in counted) - self.usage.limit * self._own_share
        if excess < 0:
            return None
        for hour, count in counted:
            excess -= count
            if excess < 0:
                return from_text(f"{hour}:00:00Z") + WINDOW + timedelta(hours=1)
        return now + RECHECK

    def _counted(self, now: datetime) -> list[tuple[str, int]]:
        """Shardline's own calls of the last day, by hour."""
        oldest = to_text(now - WINDOW)[:13]
        return sorted((hour, count) for hour, count in self.usage.calls.items() if hour >= oldest)
