"""Rate limits: so many calls a minute of each method, by its published tier, with bursts tolerated."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

TIER_2: Final = 20
TIER_3: Final = 50
TIER_4: Final = 100
_OTHER = TIER_3
"""Calls a minute; Slack promises no fewer."""

RATES: Mapping[str, int] = {
    "auth.test": 600,
    "chat.getPermalink": 600,
    "conversations.list": TIER_2,
    "users.list": TIER_2,
    "conversations.members": TIER_4,
    "users.info": TIER_4,
}
RESTRICTED_METHODS: Final = frozenset({"conversations.history", "conversations.replies"})
RESTRICTED_RATE: Final = 1
RESTRICTED_PAGE: Final = 15
"""For apps sold outside the Marketplace since 2025-05-29: a call a minute, and 15 items in it."""


class RateLimits:
    """What is left of each method's limit. A minute's calls may come at once.

    *scale* multiplies the rates; None lifts them. *restricted* is the regime of a call a minute on history and replies,
    whatever the scale.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.scale: float | None = 1.0
        self.restricted = False
        self._clock = clock
        self._left: dict[str, tuple[float, datetime]] = {}

    def take(self, method: str) -> int | None:
        """Count a call; where there is none left, the whole seconds to wait instead."""
        rate: float | None
        if self.restricted and method in RESTRICTED_METHODS:
            rate = RESTRICTED_RATE
        else:
            rate = None if self.scale is None else RATES.get(method, _OTHER) * self.scale
        if rate is None:
            return None
        now = self._clock()
        most = max(rate, 1.0)
        left, then = self._left.get(method, (most, now))
        left = min(most, left + max(0.0, (now - then).total_seconds()) * rate / 60)
        if left < 1:
            self._left[method] = (left, now)
            return max(1, math.ceil((1 - left) * 60 / rate))
        self._left[method] = (left - 1, now)
        return None

    def clear(self) -> None:
        """Forget the calls so far."""
        self._left.clear()
