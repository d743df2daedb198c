"""What Ctrl-C does to a command or a simulator: it ends it at once and quietly, but lets its work stop in order.

Python's own way, a KeyboardInterrupt wherever the process happens to be, becomes other errors and tracebacks amid an
import or a finalizer. This module loads next to nothing, as it is there to be in time for the rest.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
"""The exit code: what a shell says of a command that Ctrl-C has ended."""
LINE = "shardline: interrupted\n"


def take_interrupts() -> None:
    """Have Ctrl-C end this process quietly from now on, unless it is ignored, as in a shell's background job."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.write(2, LINE.encode())
    # The kernel gives back every lock, and what was started from here ends with its standard input.
    os._exit(INTERRUPTED)


@contextmanager
def raised_interrupts() -> Iterator[None]:
    """Let Ctrl-C, if it is taken, be a KeyboardInterrupt: what asks people puts their terminal right again."""
    before = signal.getsignal(signal.SIGINT)
    if getattr(before, "__module__", None) != __name__:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def stopped_by_interrupts(stop: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C call *stop* meanwhile, if it is taken; a second one ends the process."""

    def ask(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, _end)
        stop()

    if signal.getsignal(signal.SIGINT) is not _end:
        yield
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _end)
