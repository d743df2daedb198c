"""What a store charges: request units by the function that asked and the operation it asked for.

A process counts what it is charged itself (:class:`RequestCharges`); what all of a home's are charged is in its
:class:`ChargeBook`.
"""

from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from threading import Lock
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

CHARGE_HEADER = "x-ms-request-charge"

NO_FUNCTION = "-"
"""What asks outside any function: the command line, tests."""

_function: ContextVar[str] = ContextVar("charged_function", default=NO_FUNCTION)
_yields: ContextVar[bool] = ContextVar("yields", default=False)


@contextmanager
def charged_to(function: str) -> Generator[None]:
    """Count what is charged within to *function*."""
    token = _function.set(function)
    try:
        yield
    finally:
        _function.reset(token)


def charged(function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Count what *function*, one of the app's, is charged to its name."""
    name = function.__name__

    @wraps(function)
    async def counted(*args: P.args, **kwargs: P.kwargs) -> R:
        with charged_to(name):
            return await function(*args, **kwargs)

    return counted


@contextmanager
def yielding() -> Generator[None]:
    """Let requests within give way to others when throughput is short: for first loads and other floods."""
    token = _yields.set(True)
    try:
        yield
    finally:
        _yields.reset(token)


def gives_way() -> bool:
    """Whether this is within :func:`yielding`."""
    return _yields.get()


@dataclass(frozen=True, slots=True)
class Charge:
    """What one function's requests of one operation came to. *throttled* are those that were turned away for now."""

    function: str
    operation: str
    requests: int
    request_units: float
    throttled: int

    def plus(self, other: "Charge | None") -> "Charge":
        """This and another of the same function and operation."""
        return self if other is None else self._changed(other, 1)

    def since(self, earlier: "Charge | None") -> "Charge":
        """What came to it since it stood at *earlier*."""
        return self if earlier is None else self._changed(earlier, -1)

    def _changed(self, by: "Charge", sign: int) -> "Charge":
        return Charge(
            self.function,
            self.operation,
            self.requests + sign * by.requests,
            self.request_units + sign * by.request_units,
            self.throttled + sign * by.throttled,
        )


class RequestCharges:
    """Adds up charges; from any thread or task."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sums: dict[tuple[str, str], tuple[int, float, int]] = {}
        self._noticed: Callable[[], None] | None = None

    def notice(self, noticed: Callable[[], None]) -> None:
        """Have *noticed* called after each charge to a function, in the thread and task that was charged."""
        self._noticed = noticed

    def record(self, operation: str, headers: Mapping[str, str], *, throttled: bool = False) -> None:
        """Count a response with these headers to the function that is being run."""
        charge = float(headers.get(CHARGE_HEADER) or 0)
        key = (_function.get(), operation)
        with self._lock:
            requests, units, turned_away = self._sums.get(key, (0, 0.0, 0))
            self._sums[key] = (requests + 1, units + charge, turned_away + throttled)
        if self._noticed is not None and key[0] != NO_FUNCTION:
            self._noticed()

    def charges(self) -> list[Charge]:
        """What has been charged since the process began, by function and operation."""
        with self._lock:
            sums = sorted(self._sums.items())
        return [
            Charge(function, operation, requests, units, throttled)
            for (function, operation), (requests, units, throttled) in sums
        ]


@dataclass(frozen=True, slots=True)
class DayCharges:
    """What a home's functions were charged on one *day* (UTC, as ``2026-11-22``), by function and operation."""

    day: str
    charges: list[Charge]


class ChargeBook(Protocol):
    """What the functions of a home are charged, whichever processes run them; of a store that charges at all."""

    async def charges_by_day(self) -> list[DayCharges]:
        """The days that are kept, newest first. What was charged in the last minute may not be in it yet.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
