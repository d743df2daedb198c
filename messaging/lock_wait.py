"""Waiting for a lock on a SQLite file that another connection holds."""

import time

LOOKS_FOR_LOCK = (0.0003, 0.001)
"""Seconds between two looks whether a lock is free, the first and the longest; a write holds it for some milliseconds.
SQLite's own pauses grow to 25 ms and more: with three writers on a file one of them is then left out for a second."""


class LockWait:
    """A connection's busy handler, which gives up after *patience* seconds; it is called on the connection's thread."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._since = 0.0

    def __call__(self, looks: int) -> bool:
        """Wait a little for another's lock; False once a statement has waited for as long as it may."""
        now = time.monotonic()
        if looks == 0:
            self._since = now
        if now - self._since > self.patience:
            return False
        first, longest = LOOKS_FOR_LOCK
        time.sleep(min(first * (looks + 1), longest))
        return True
