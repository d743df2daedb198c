"""The peer's clock: the machine's time, moved forward by tests that wait for an expiry."""

import time


class MovableClock:
    """Seconds since 1970, plus what tests have moved it by."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        """The time now."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass at once."""
        self._ahead += seconds
