"""What a lasting process of the host asks of the interpreter: threads that get in soon, a collector that rests."""

import gc
import sys
from typing import Final

SWITCH_INTERVAL: Final = 0.0005
"""Seconds that a thread may keep the interpreter while others want it. SQLite gives it up at each statement and must
get it back soon: with Python's 5 ms, a transaction beside a busy event loop takes many times as long."""

COLLECTOR_THRESHOLDS: Final = (20_000, 20, 50)
"""A batch makes tens of thousands of objects, hardly any in circles. Under Python's own 700 the collector goes over
them again and again, for a sixth of a stage's time."""


def settle_interpreter() -> None:
    """Call it once all is imported."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()  # what was imported stays, and need not be gone over
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
